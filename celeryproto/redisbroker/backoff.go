package redisbroker

import (
	"context"
	"time"

	"github.com/dfws/dfws/internal/redisconn"
)

// backoff is the pause between attempts while Redis is away.
type backoff struct{ redisconn.Backoff }

func (b *backoff) reset() { b.Reset() }

// pause returns how long to wait before the next attempt.
func (b *backoff) pause() time.Duration { return b.Pause() }

// wait pauses, and reports false when ctx ended first.
func (b *backoff) wait(ctx context.Context) bool { return b.Wait(ctx) }

// sleep reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool { return redisconn.Sleep(ctx, d) }
