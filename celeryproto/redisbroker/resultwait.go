package redisbroker

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
)

const (
	// pubsubCheck is how often the shared connection is tested while it is quiet.
	pubsubCheck = 3 * time.Second
	// pubsubBuffer is for bursts of results; the receiver only hands them on.
	pubsubBuffer = 1000
)

// subscription is one channel with those who wait for it.
type subscription struct {
	confirmed bool // Redis has confirmed it at least once
	waiters   map[*waiter]struct{}
}

// waiter is one call of Wait. The mutex of Results guards its fields.
type waiter struct {
	wakeC     chan struct{} // deliver sends, Wait receives; capacity 1: Wait looks at both fields
	published []byte        // the newest result published
	check     bool          // the subscription holds since now: the key should be read, a result may have come before
}

func (w *waiter) wake() {
	select {
	case w.wakeC <- struct{}{}:
	default:
	}
}

// Wait returns the result of a task when it is ready: SUCCESS, FAILURE or REVOKED. It learns of it by push, over one
// connection that all calls share: SUBSCRIBE, then GET, then what is published. After a lost connection the subscription is
// made again and the key read again. ctx bounds the wait.
func (r *Results) Wait(ctx context.Context, taskID string) (*celeryproto.ResultMeta, error) {
	channel := r.Key(taskID)
	w, err := r.subscribe(ctx, channel)
	if err != nil {
		return nil, err
	}
	defer r.unsubscribe(ctx, channel, w)
	var pause backoff
	var retryC <-chan time.Time
	for {
		published, check := []byte(nil), true
		select {
		case <-ctx.Done():
			return nil, opError("wait for result", context.Cause(ctx))
		case <-r.stopC:
			return nil, ErrClosed
		case <-retryC:
		case <-w.wakeC:
			published, check = r.news(w)
		}
		meta, err := r.ready(ctx, taskID, published, check)
		if meta != nil {
			return meta, nil
		}
		retryC = nil
		switch {
		case err == nil:
		case ctx.Err() == nil && Retryable(err):
			r.obs.disconnected("wait", err)
			retryC = time.After(pause.pause())
		default:
			return nil, err
		}
	}
}

func (r *Results) news(w *waiter) (published []byte, check bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	published, check = w.published, w.check
	w.published, w.check = nil, false
	return published, check
}

// ready returns the result when it is final, nil when it is not there yet.
func (r *Results) ready(ctx context.Context, taskID string, published []byte, check bool) (*celeryproto.ResultMeta, error) {
	if published != nil {
		meta, err := r.decodeMeta(published)
		if err != nil || celeryproto.IsReady(meta.Status) {
			return meta, err
		}
	}
	if !check {
		return nil, nil
	}
	meta, err := r.Get(ctx, taskID)
	if errors.Is(err, ErrNoResult) || err == nil && !celeryproto.IsReady(meta.Status) {
		return nil, nil
	}
	return meta, err
}

// subscribe registers a waiter, and subscribes to the channel when it is the first one.
func (r *Results) subscribe(ctx context.Context, channel string) (*waiter, error) {
	w := &waiter{wakeC: make(chan struct{}, 1)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	if sub, ok := r.subs[channel]; ok {
		sub.waiters[w] = struct{}{}
		if sub.confirmed {
			w.check = true
			w.wake()
		}
		return w, nil
	}
	r.subs[channel] = &subscription{waiters: map[*waiter]struct{}{w: {}}}
	ctx = context.WithoutCancel(ctx)
	if r.pubsub == nil {
		r.pubsub = r.client.Subscribe(ctx, channel)
		received := r.pubsub.ChannelWithSubscriptions(
			redis.WithChannelHealthCheckInterval(max(r.opts.HealthCheckInterval, 0)), redis.WithChannelSize(pubsubBuffer))
		r.wg.Go(func() { r.runReceive(received) })
	} else if err := r.pubsub.Subscribe(ctx, channel); err != nil {
		// go-redis keeps the channel and subscribes when the connection is back.
		r.obs.disconnected("wait", err)
	}
	return w, nil
}

func (r *Results) unsubscribe(ctx context.Context, channel string, w *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sub := r.subs[channel]
	delete(sub.waiters, w)
	if len(sub.waiters) > 0 {
		return
	}
	delete(r.subs, channel)
	if r.closed {
		return
	}
	if err := r.pubsub.Unsubscribe(context.WithoutCancel(ctx), channel); err != nil {
		r.obs.disconnected("wait", err)
	}
}

// runReceive hands on what arrives on the shared connection, until it is closed.
func (r *Results) runReceive(received <-chan any) {
	for item := range received {
		switch item := item.(type) {
		case *redis.Subscription:
			if item.Kind == "subscribe" { // the first one, or after a reconnect
				r.deliver(item.Channel, nil)
			}
		case *redis.Message:
			r.deliver(item.Channel, []byte(item.Payload))
		}
	}
}

// deliver tells the waiters of a channel what was published, or (nil) that the subscription holds.
func (r *Results) deliver(channel string, published []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sub, ok := r.subs[channel]
	if !ok {
		return
	}
	if published == nil {
		sub.confirmed = true
	}
	for w := range sub.waiters {
		if published == nil {
			w.check = true
		} else {
			w.published = published
		}
		w.wake()
	}
}
