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

// othersInterval is how often a gateway that waits for the others to take its windows makes sure that there are any.
const othersInterval = 500 * time.Millisecond

// awaitNoWindows waits until the last window is gone, but not longer than limit.
func (g *Gateway) awaitNoWindows(limit time.Duration) {
	g.await(context.Background(), limit, func() bool { return g.stats.windows.Load() == 0 })
}

// await waits for a condition, but not longer than limit.
func (g *Gateway) await(ctx context.Context, limit time.Duration, ok func() bool) {
	if ok() {
		return
	}
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return
		case <-deadline.C:
			return
		case <-tick.C:
		}
	}
}

// handOver ends the time of the parked windows. If another gateway takes new windows, they go on collecting until it has claimed
// them, for Config.DrainLinger at most. What is left then is written to Redis; a message that comes later is lost to its window.
func (g *Gateway) handOver(ctx context.Context) {
	waiting := func() bool { return g.parking.len() > 0 || g.handover.busy() }
	if g.cfg.DrainLinger > 0 && waiting() {
		g.log.Info("gateway waits for its windows to come back elsewhere", "windows", g.parking.len(), "for", g.cfg.DrainLinger)
		for end := time.Now().Add(g.cfg.DrainLinger); waiting() && time.Now().Before(end) && g.hasOthers(ctx); {
			g.await(ctx, min(othersInterval, time.Until(end)), func() bool { return !waiting() })
		}
	}
	left := g.parking.close()
	g.observer.parked(-len(left))
	g.handover.sweep(time.Now().Add(trailTime)) // all trails
	for _, w := range left {
		g.handover.leave(w)
	}
	g.await(ctx, g.cfg.PublishDrainTimeout, func() bool { return !g.handover.busy() })
	if g.handover.busy() {
		g.log.Error("parked windows could not be written to Redis in time; what they have missed is lost")
	}
	g.log.Info("parked windows are handed over", "left_in_redis", len(left))
}

func (g *Gateway) hasOthers(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	ctx, cancel := g.handover.bounded(ctx)
	defer cancel()
	n, err := g.ports.parked.Others(ctx)
	if err != nil {
		g.log.Warn("it is not known whether there are other gateways; parked windows are written to Redis at once", "err", err)
	}
	return n > 0
}
