package redisbroker

import (
	"context"
	"time"
)

const (
	backoffMin = 10 * time.Millisecond
	backoffMax = 500 * time.Millisecond
)

// backoff is the pause between attempts while Redis is away: short enough to resume at once after a restart.
type backoff struct {
	next time.Duration
}

func (b *backoff) reset() { b.next = 0 }

// pause returns how long to wait before the next attempt.
func (b *backoff) pause() time.Duration {
	b.next = min(max(2*b.next, backoffMin), backoffMax)
	return b.next
}

// wait pauses, and reports false when ctx ended first.
func (b *backoff) wait(ctx context.Context) bool { return sleep(ctx, b.pause()) }

// sleep reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
