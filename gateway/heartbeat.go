package gateway

import (
	"context"
	"time"
)

// heartbeatVisits is how often each window is looked at per ping interval; it bounds how late a ping or a drop can be.
const heartbeatVisits = 4

// runHeartbeat pings every window that was silent for Config.PingInterval, or has got messages since it last answered, and closes those
// that did not answer within Config.PongTimeout. One ticker serves all windows, those that wait for their next socket as well: a timer
// for each would cost memory, and pings spread themselves.
func (g *Gateway) runHeartbeat(ctx context.Context) error {
	tick := time.NewTicker(max(g.cfg.PingInterval/heartbeatVisits/windowShards, time.Millisecond))
	defer tick.Stop()
	var buf []*window
	for shard := 0; ; shard = (shard + 1) % windowShards {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := time.Now()
		g.expireParked(now)
		g.checkProbes(now)
		g.handover.sweep(now)
		buf = g.windows.inShard(buf[:0], shard)
		for _, w := range buf {
			g.checkAlive(w, now.UnixNano())
			w.out.merged(now)
		}
		clear(buf) // keeps no closed window alive
	}
}

// checkAlive pings or drops one window. Whatever the window sends counts as an answer.
func (g *Gateway) checkAlive(w *window, now int64) {
	seen := w.seen.Load()
	switch {
	case w.pinged > seen: // a ping waits for its answer
		if now-w.pinged >= int64(g.cfg.PongTimeout) {
			w.close(CloseNoPong)
		}
	case now-max(seen, w.pinged) >= int64(g.cfg.PingInterval), w.out.unproven():
		w.pinged = now
		w.ping()
	}
}
