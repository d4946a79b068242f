package gateway

import (
	"context"
	"math/rand/v2"
	"time"
)

// drain closes every window with CloseGoingAway, spread over Config.DrainWindow, and returns when all are gone or had their time.
// New handshakes are refused from now on. An end of ctx (something that the windows need failed) skips the spreading.
func (g *Gateway) drain(ctx context.Context) {
	g.enter(phaseRunning, phaseDraining)
	close(g.drainC)
	list := g.windows.all()
	g.log.Info("gateway drains", "windows", len(list), "over", max(g.cfg.DrainWindow, 0))
	// In random order: neither the oldest nor one shard is always first.
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	g.closeStaggered(ctx, list)
	for _, w := range g.windows.all() { // handshakes that were on their way
		w.close(CloseGoingAway)
	}
	g.awaitNoWindows(g.cfg.CloseTimeout + g.cfg.WriteTimeout)
	for _, w := range g.windows.all() {
		w.cut(CloseGoingAway)
	}
}

// closeStaggered spreads the closes evenly.
func (g *Gateway) closeStaggered(ctx context.Context, list []*window) {
	if g.cfg.DrainWindow <= 0 {
		for _, w := range list {
			w.close(CloseGoingAway)
		}
		return
	}
	const step = 20 * time.Millisecond
	steps := max(int(g.cfg.DrainWindow/step), 1)
	tick := time.NewTicker(step)
	defer tick.Stop()
	for i, done := 1, 0; done < len(list); i++ {
		end := min(len(list)*i/steps, len(list))
		for ; done < end; done++ {
			list[done].close(CloseGoingAway)
		}
		if done == len(list) || g.stats.windows.Load() == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			i = steps
		}
	}
}

// awaitNoWindows waits until the last window is gone, but not longer than limit.
func (g *Gateway) awaitNoWindows(limit time.Duration) {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for g.stats.windows.Load() > 0 {
		select {
		case <-deadline.C:
			return
		case <-tick.C:
		}
	}
}
