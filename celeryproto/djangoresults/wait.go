package djangoresults

import (
	"context"
	"errors"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// waiter is one call of Wait.
type waiter struct {
	answerC chan answer // runPoll sends once; capacity 1: Wait may have gone
	due     time.Time   // of the next look; the backend's mutex guards it
	pause   time.Duration
}

type answer struct {
	meta *celeryproto.ResultMeta
	err  error
}

// Wait returns the result of a task when it is ready: SUCCESS, FAILURE or REVOKED. Nothing tells of a row that Python writes, so
// the database is asked again and again: after MinPollInterval, and each time twice that up to Options.PollInterval. All calls
// share one statement. While the database is away it is asked on; ctx bounds the wait.
func (b *Backend) Wait(ctx context.Context, taskID string) (*celeryproto.ResultMeta, error) {
	const op = "wait for result"
	w := &waiter{answerC: make(chan answer, 1)}
	if !b.register(ctx, taskID, w) {
		return nil, b.wrap(op, ErrClosed)
	}
	defer b.unregister(taskID, w)
	select {
	case a := <-w.answerC:
		return a.meta, b.wrap(op, a.err)
	case <-b.stopC:
		return nil, b.wrap(op, ErrClosed)
	case <-ctx.Done():
		return nil, b.wrap(op, context.Cause(ctx))
	}
}

// register adds a waiter, and starts the poller for the first one.
func (b *Backend) register(ctx context.Context, taskID string, w *waiter) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	if b.waiters[taskID] == nil {
		b.waiters[taskID] = make(map[*waiter]struct{})
	}
	b.waiters[taskID][w] = struct{}{}
	if !b.polling {
		b.polling = true
		ctx := context.WithoutCancel(ctx) // it works for all who wait
		b.wg.Go(func() { b.runPoll(ctx) })
	}
	b.kick()
	return true
}

func (b *Backend) unregister(taskID string, w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.waiters[taskID], w)
	if len(b.waiters[taskID]) == 0 {
		delete(b.waiters, taskID)
	}
	if len(b.waiters) == 0 {
		b.kick() // the poller can go
	}
}

// arrived makes the poller look for a result that this process has stored.
func (b *Backend) arrived(taskID string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.waiters[taskID] {
		w.due = time.Time{}
		b.kick()
	}
}

func (b *Backend) kick() {
	select {
	case b.kickC <- struct{}{}:
	default:
	}
}

// runPoll asks for what is waited for, until nobody waits.
func (b *Backend) runPoll(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b.wg.Go(func() { // Close does not wait for a database that hangs
		select {
		case <-b.stopC:
			cancel()
		case <-ctx.Done():
		}
	})
	failed := false
	for {
		ids, next, ok := b.due(time.Now())
		if !ok {
			return
		}
		if len(ids) > 0 {
			err := b.look(ctx, ids)
			if err != nil && !failed {
				b.log.WarnContext(ctx, "results cannot be read, trying again", "err", err)
			}
			failed = err != nil
			continue
		}
		timer := time.NewTimer(time.Until(next))
		select {
		case <-timer.C:
		case <-b.kickC:
		case <-b.stopC:
		}
		timer.Stop()
	}
}

// due returns the tasks to ask for now, and when the next ones are due; not ok means that the poller has ended.
func (b *Backend) due(now time.Time) (ids []string, next time.Time, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || len(b.waiters) == 0 {
		b.polling = false
		return nil, next, false
	}
	for id, waiters := range b.waiters {
		for w := range waiters {
			if now.Before(w.due) {
				if next.IsZero() || w.due.Before(next) {
					next = w.due
				}
				continue
			}
			w.pause = min(max(2*w.pause, MinPollInterval), b.opts.PollInterval)
			w.due = now.Add(w.pause)
			if n := len(ids); n == 0 || ids[n-1] != id { // another one who waits for the same
				ids = append(ids, id)
			}
		}
	}
	return ids, next, true
}

// look asks for some tasks and answers those who wait for them. The error is one that passes by itself.
func (b *Backend) look(ctx context.Context, ids []string) error {
	var found []taskRow
	err := b.do(ctx, "look for results", func(ctx context.Context) (err error) {
		found, err = b.tasks(ctx, b.db, ids, true)
		return err
	})
	if Retryable(err) {
		return err
	}
	if err != nil {
		for _, id := range ids {
			b.answer(id, answer{err: errors.Unwrap(err)})
		}
		return nil
	}
	for i := range found {
		m, err := b.meta(&found[i])
		b.answer(found[i].id, answer{meta: m, err: err})
	}
	return nil
}

func (b *Backend) answer(taskID string, a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for w := range b.waiters[taskID] {
		select {
		case w.answerC <- a:
		default: // it has one, and has not gone yet
		}
	}
}
