package redisbroker

import (
	"context"
	"strconv"
	"time"
)

// refreshesPerTimeout: a delivery is refreshed this often within the visibility timeout, so that one or two failed attempts
// do no harm.
const refreshesPerTimeout = 3

// runRefresh renews the scores of everything held, so that no restorer (of Python or ours) takes a long task or one that
// waits for its ETA for abandoned. Python does not do this.
func (c *Consumer) runRefresh(ctx context.Context) {
	ticker := time.NewTicker(max(c.b.opts.VisibilityTimeout/refreshesPerTimeout, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			c.refresh(ctx)
		}
	}
}

func (c *Consumer) refresh(ctx context.Context) {
	held := c.snapshot()
	if len(held) == 0 {
		return
	}
	now, err := c.b.client.Time(ctx).Result()
	if err != nil {
		c.b.obs.disconnected("refresh", err)
		return
	}
	n := 0
	for i, d := range held {
		if d.lost.Load() {
			continue
		}
		op := &operation{kind: opRefresh, d: d, ctx: ctx, value: formatScore(now.Add(time.Duration(i) * time.Microsecond))}
		if err := c.settler.submit(ctx, op); err != nil {
			return
		}
		n++
	}
	c.b.obs.refreshed(n)
}

// formatScore is a time as a score of unacked_index: seconds with microseconds, as Python's time() has it.
func formatScore(t time.Time) []byte {
	us := t.UnixMicro()
	b := strconv.AppendInt(nil, us/1e6, 10)
	b = append(b, '.')
	fraction := strconv.Itoa(int(us % 1e6))
	const digits = 6
	for range digits - len(fraction) {
		b = append(b, '0')
	}
	return append(b, fraction...)
}
