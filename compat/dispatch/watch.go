package dispatch

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// healthInterval is how often a silent subscription is probed; go-redis reconnects and subscribes again when the answer stays away.
const healthInterval = 3 * time.Second

// event is what watch reports: a message, or that there may have been one.
type event struct {
	// payload is the message's text.
	payload string
	// gap is true at the start, after each reconnection, and at each tick: messages may have been missed.
	gap bool
}

// watch subscribes to a channel of Redis until ctx ends, and reports its messages, one at a time. It survives restarts of Redis by itself.
// every > 0 adds a gap event each time it passes. It returns nil.
func (s *Store) watch(ctx context.Context, channel string, every time.Duration, report func(event)) error {
	sub := s.client.Subscribe(ctx, channel)
	defer func() {
		if err := sub.Close(); err != nil {
			s.logger.Debug("subscription closed", "err", err)
		}
	}()
	// The channel also carries a redis.Subscription each time that go-redis has subscribed, the first time included.
	messageC := sub.ChannelWithSubscriptions(redis.WithChannelHealthCheckInterval(healthInterval))
	var tickC <-chan time.Time
	if every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		tickC = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tickC:
			report(event{gap: true})
		case message, ok := <-messageC:
			if !ok {
				return nil
			}
			switch m := message.(type) {
			case *redis.Subscription:
				report(event{gap: true})
			case *redis.Message:
				report(event{payload: m.Payload})
			}
		}
	}
}
