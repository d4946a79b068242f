package redisbroker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxWaiters bounds the connections that wait. The keys of the first priority step of every queue come first; a message
	// in a list beyond the bound is found by the look that is taken every polling interval in any case.
	maxWaiters = 64
)

// idleWait lets a consumer without messages sleep until one arrives.
//
// A script cannot block, and a blocking pop would have the message in this process' memory only. So one goroutine per list,
// each on a connection of its own, waits with BLMOVE list list RIGHT RIGHT: a move that changes nothing and holds nothing.
// It returns at once when a message arrives, and the take script is run. The waiters only wait while the consumer is idle.
//
// While a queue rests no wait on its lists begins: it would return at once, again and again, where a message is left. One
// that is under way when the rest begins does no harm: Redis serves the clients blocked on a list in the order in which they
// blocked, and all in one go as long as the list has elements, so the move hands on to a Python worker behind it in BRPOP
// before this process can take anything.
type idleWait struct {
	b      *Broker
	client *redis.Client
	lists  []string
	queues []string // list i is of queue i % len(queues)
	rests  *rests
	wake   func()

	mu   sync.Mutex
	idle bool
	cond sync.Cond // idle or stopped became true
	done bool
}

func (c *Consumer) newIdleWait(queues []string) *idleWait {
	lists := c.b.keys.takeOrder(queues)
	lists = lists[:min(len(lists), maxWaiters)]
	w := &idleWait{b: c.b, client: c.b.waitClient(max(len(lists), 1)), lists: lists, queues: queues, rests: &c.rests, wake: c.wake}
	w.cond.L = &w.mu
	return w
}

// start starts the waiters; they end after stop.
func (w *idleWait) start(ctx context.Context, wg *sync.WaitGroup) {
	for i, list := range w.lists {
		wg.Go(func() { w.watch(ctx, w.queues[i%len(w.queues)], list) })
	}
}

// stop makes the waiters end. Closing their client ends a wait in flight, which holds no message.
func (w *idleWait) stop() error {
	w.mu.Lock()
	w.done = true
	w.cond.Broadcast()
	w.mu.Unlock()
	return opError("close", w.client.Close())
}

// wait returns when a message may be there: a list has one, anybody woke the consumer, a rest is over, or the polling interval has
// passed.
func (w *idleWait) wait(ctx context.Context, wakeC <-chan struct{}) {
	w.setIdle(true)
	defer w.setIdle(false)
	timer := time.NewTimer(w.rests.next(time.Now(), w.b.opts.PollingInterval))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-wakeC:
	case <-timer.C:
	}
}

func (w *idleWait) setIdle(idle bool) {
	w.mu.Lock()
	w.idle = idle
	if idle {
		w.cond.Broadcast()
	}
	w.mu.Unlock()
}

// awaitIdle returns when the consumer is idle and queue does not rest. At the end of a rest the consumer looks at the queue
// and becomes idle anew, which wakes this. It reports false after stop.
func (w *idleWait) awaitIdle(queue string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.done && (!w.idle || w.rests.resting(queue, time.Now())) {
		w.cond.Wait()
	}
	return !w.done
}

// watch waits for messages in one list of queue.
func (w *idleWait) watch(ctx context.Context, queue, list string) {
	var pause backoff
	for w.awaitIdle(queue) {
		err := w.client.BLMove(context.WithoutCancel(ctx), list, list, "RIGHT", "RIGHT", w.b.opts.PollingInterval).Err()
		switch {
		case err == nil:
			pause.reset()
			w.setIdle(false)
			w.wake()
		case errors.Is(err, redis.Nil):
			pause.reset()
		case errors.Is(err, redis.ErrClosed):
			return
		default:
			w.b.obs.disconnected("wait", err)
			if !pause.wait(ctx) {
				return
			}
		}
	}
}
