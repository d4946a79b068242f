package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat/dispatch"
)

// layerRetry is the pause between two attempts while the channel layer is away.
const layerRetry = 100 * time.Millisecond

// layerQueue is the publisher of a site whose workers are Channels' (WEBSOCKET_WORKERS = "channels"): the calls of signals go
// to channels of the layer, in order, without their windows waiting for Redis.
type layerQueue struct {
	calls    dispatch.Publisher
	max      int           // calls
	maxBytes int64         // of their arguments
	deadline time.Duration // of one entry
	drain    time.Duration

	mu     sync.Mutex
	queue  []*layerEntry
	count  int
	bytes  int64
	closed bool
	wakeC  chan struct{} // capacity 1: queue is not empty; sent by Enqueue, received by Run
}

type layerEntry struct {
	calls []redisbroker.Message // not sent yet
	count int                   // of all
	bytes int64
	until time.Time
	done  func(error)
}

func newLayerQueue(cfg *Config, calls dispatch.Publisher) *layerQueue {
	return &layerQueue{
		calls: calls, max: cfg.PublishMessages, maxBytes: 2 * int64(cfg.PublishBytes), deadline: cfg.PublishDeadline,
		drain: cfg.PublishDrainTimeout, wakeC: make(chan struct{}, 1),
	}
}

// Enqueue implements publisher.
func (q *layerQueue) Enqueue(calls []redisbroker.Message, done func(error)) error {
	e := &layerEntry{calls: calls, count: len(calls), done: done, until: time.Now().Add(q.deadline)}
	for _, c := range calls {
		e.bytes += int64(len(c.Envelope))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return redisbroker.ErrClosed
	case q.count+e.count > q.max, q.bytes+e.bytes > q.maxBytes:
		return redisbroker.ErrPublishQueueFull
	}
	q.queue = append(q.queue, e)
	q.count += e.count
	q.bytes += e.bytes
	select {
	case q.wakeC <- struct{}{}:
	default:
	}
	return nil
}

// Run implements publisher.
func (q *layerQueue) Run(ctx context.Context) error {
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(q.drain, abandon) })()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-q.wakeC:
		}
		q.sendAll(work)
	}
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.sendAll(work)
	return nil
}

// sendAll sends what is queued, oldest first. When ctx has ended, what is left is given up.
func (q *layerQueue) sendAll(ctx context.Context) {
	for {
		q.mu.Lock()
		if len(q.queue) == 0 {
			q.queue = nil
			q.mu.Unlock()
			return
		}
		e := q.queue[0]
		q.queue = q.queue[1:]
		q.mu.Unlock()
		err := q.send(ctx, e)
		q.mu.Lock()
		q.count -= e.count
		q.bytes -= e.bytes
		q.mu.Unlock()
		e.done(err)
	}
}

// send tries until it succeeds, the entry's time is over, or trying again is of no use: workers that are too far behind will
// not catch up while everybody else waits.
func (q *layerQueue) send(ctx context.Context, e *layerEntry) error {
	ctx, cancel := context.WithDeadline(ctx, e.until)
	defer cancel()
	for len(e.calls) > 0 {
		err := q.calls.Publish(ctx, e.calls[0])
		switch {
		case err == nil:
			e.calls = e.calls[1:]
			continue
		case errors.Is(err, channelslayer.ErrChannelFull), ctx.Err() == nil && !channelslayer.Retryable(err):
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", redisbroker.ErrPublishDeadline, err)
		case <-time.After(layerRetry):
		}
	}
	return nil
}
