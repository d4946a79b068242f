package redisconn

import (
	"context"
	"time"
)

const (
	backoffMin = 10 * time.Millisecond
	backoffMax = 500 * time.Millisecond
)

// Backoff is the pause between attempts while Redis is away: short enough to resume at once after a restart. The zero value is
// ready.
type Backoff struct {
	next time.Duration
}

// Reset makes the next pause the shortest one.
func (b *Backoff) Reset() { b.next = 0 }

// Pause returns how long to wait before the next attempt.
func (b *Backoff) Pause() time.Duration {
	b.next = min(max(2*b.next, backoffMin), backoffMax)
	return b.next
}

// Wait pauses, and reports false when ctx ended first.
func (b *Backoff) Wait(ctx context.Context) bool { return Sleep(ctx, b.Pause()) }

// Sleep reports false when ctx ended first.
func Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
