package redisbroker

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// delayQueue keeps deliveries that go back to their queues later, ordered by time.
type delayQueue struct {
	mu       sync.Mutex  // guards items and flushing
	items    []delayedOp // earliest first
	flushing bool        // the consumer stops: everything is due

	wakeC chan struct{} // add sends, runDelays receives; capacity 1: it looks at the first item again
}

type delayedOp struct {
	op  operation
	due time.Time
}

func (q *delayQueue) init() { q.wakeC = make(chan struct{}, 1) }

func (q *delayQueue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

func (q *delayQueue) add(item delayedOp) {
	q.mu.Lock()
	i, _ := slices.BinarySearchFunc(q.items, item.due, func(d delayedOp, t time.Time) int {
		return cmp.Or(d.due.Compare(t), -1) // behind those of the same time
	})
	q.items = slices.Insert(q.items, i, item)
	q.mu.Unlock()
	select {
	case q.wakeC <- struct{}{}:
	default:
	}
}

// due removes the operations whose time has come and returns the time until the next one.
func (q *delayQueue) due(now time.Time) (ready []delayedOp, next time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.items) && (q.flushing || !q.items[n].due.After(now)) {
		n++
	}
	ready = slices.Clone(q.items[:n])
	q.items = slices.Delete(q.items, 0, n)
	if len(q.items) == 0 {
		return ready, time.Hour
	}
	return ready, q.items[0].due.Sub(now)
}

// delay accepts a requeue for later. The delivery counts as being settled from now on.
func (c *Consumer) delay(d *Delivery, op operation, due time.Time) error {
	if !d.state.CompareAndSwap(stateHeld, stateSettling) {
		return ErrSettled
	}
	select {
	case <-c.settler.doneC:
		d.state.Store(stateHeld)
		return ErrClosed
	default:
	}
	op.d = d
	c.delayed.add(delayedOp{op: op, due: due})
	c.wake() // it may no longer count as held
	return nil
}

// runDelays hands delayed requeues to the settler when their time has come.
func (c *Consumer) runDelays(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		ready, next := c.delayed.due(time.Now())
		c.requeueDelayed(ctx, ready)
		timer.Reset(next)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-c.delayed.wakeC:
		}
	}
	c.flushDelays(context.WithoutCancel(ctx))
}

// flushDelays requeues everything now, and what comes later at once: the consumer stops.
func (c *Consumer) flushDelays(ctx context.Context) {
	c.delayed.mu.Lock()
	c.delayed.flushing = true
	c.delayed.mu.Unlock()
	ready, _ := c.delayed.due(time.Now())
	c.requeueDelayed(ctx, ready)
}

func (c *Consumer) requeueDelayed(ctx context.Context, ready []delayedOp) {
	for _, item := range ready {
		op := item.op
		op.ctx = context.WithoutCancel(ctx)
		if op.d.lost.Load() {
			c.finish(op.d, &op, ErrLost)
			continue
		}
		if err := c.settler.submit(ctx, &op); err != nil {
			// It is held again: the stop of the consumer restores it, or the visibility timeout does.
			c.b.logger.Warn("redisbroker: delayed requeue", "queue", op.d.Queue, "delivery_tag", op.d.Tag, "err", err)
		}
	}
}
