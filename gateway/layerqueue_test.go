package gateway

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/channelslayer"
)

// callsFunc is a dispatch.Publisher.
type callsFunc func(ctx context.Context, calls ...redisbroker.Message) error

func (f callsFunc) Publish(ctx context.Context, calls ...redisbroker.Message) error {
	return f(ctx, calls...)
}

func callsTo(queues ...string) []redisbroker.Message {
	var calls []redisbroker.Message
	for _, q := range queues {
		calls = append(calls, redisbroker.Message{Queue: q, Envelope: []byte("[]")})
	}
	return calls
}

func TestLayerQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent []string
		var away atomic.Bool
		publish := callsFunc(func(_ context.Context, calls ...redisbroker.Message) error {
			if calls[0].Queue == "full" {
				return channelslayer.ErrChannelFull
			}
			if calls[0].Queue == "bad" {
				return errors.New("never")
			}
			if away.Load() {
				return context.DeadlineExceeded
			}
			sent = append(sent, calls[0].Queue)
			return nil
		})
		q := newLayerQueue(&Config{PublishMessages: 4, PublishBytes: 100, PublishDeadline: time.Second, PublishDrainTimeout: time.Second}, publish)
		var outcomes []error
		done := func(err error) { outcomes = append(outcomes, err) }
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		enqueue := func(calls ...string) {
			t.Helper()
			if err := q.Enqueue(callsTo(calls...), done); err != nil {
				t.Error(err)
			}
		}
		enqueue("a", "b")
		enqueue("c", "full")
		if err := q.Enqueue(callsTo("d"), done); !errors.Is(err, redisbroker.ErrPublishQueueFull) {
			t.Errorf("a fifth call: %v", err)
		}
		go func() { ended <- q.Run(ctx) }()
		synctest.Wait()
		if !slices.Equal(sent, []string{"a", "b", "c"}) || len(outcomes) != 2 || outcomes[0] != nil || !errors.Is(outcomes[1], channelslayer.ErrChannelFull) {
			t.Errorf("sent %q, outcomes %v", sent, outcomes)
		}
		enqueue("bad")
		synctest.Wait()
		away.Store(true) // Redis is away, for a while and then for too long
		enqueue("later")
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		pass(550 * time.Millisecond)
		away.Store(false)
		pass(200 * time.Millisecond)
		away.Store(true)
		enqueue("never")
		pass(2 * time.Second)
		if len(outcomes) != 5 || outcomes[2] == nil || outcomes[3] != nil || !errors.Is(outcomes[4], redisbroker.ErrPublishDeadline) || sent[len(sent)-1] != "later" {
			t.Errorf("sent %q, outcomes %v", sent, outcomes)
		}
		away.Store(false)
		enqueue("last")
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := q.Enqueue(callsTo("e"), done); !errors.Is(err, redisbroker.ErrClosed) {
			t.Errorf("after Run: %v", err)
		}
		if got := strings.Join(sent, ","); got != "a,b,c,later,last" || len(outcomes) != 6 || q.count != 0 || q.bytes != 0 {
			t.Errorf("sent %s, %d outcomes, %d calls of %d bytes left", got, len(outcomes), q.count, q.bytes)
		}
	})
}
