package worker

import (
	"context"
	"sync"
	"time"
)

const (
	// autoscaleEvery is how often the number of slots is looked at (celery 5.7, worker/autoscale.py).
	autoscaleEvery = time.Second
	// autoscaleKeepalive is how long slots are kept after the last time that more were needed (AUTOSCALE_KEEPALIVE there).
	autoscaleKeepalive = 30 * time.Second
)

// autoscaler adapts the number of slots to the tasks that the worker holds, between two bounds.
type autoscaler struct {
	e *engine

	mu       sync.Mutex
	min, max int
	grown    time.Time // the last time
}

func newAutoscaler(least, most int, e *engine) *autoscaler {
	return &autoscaler{e: e, min: min(least, most), max: most}
}

func (a *autoscaler) run(ctx context.Context) {
	ticker := time.NewTicker(autoscaleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			a.scale(now)
		}
	}
}

// scale does what celery 5.7, worker/autoscale.py (_maybe_scale), does.
func (a *autoscaler) scale(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	size, busy, waiting := a.e.slots.counts()
	wanted := busy + waiting
	switch grow, shrink := min(wanted, a.max), max(wanted, a.min); {
	case grow > size:
		a.grown = now
		a.e.resize(grow)
	case shrink < size && now.Sub(a.grown) > autoscaleKeepalive:
		a.e.resize(shrink)
	}
}

// set changes the bounds, 0 leaves one, and returns them.
func (a *autoscaler) set(least, most int) (int, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if most > 0 {
		a.e.source.addPrefetch(a.e.cfg.prefetchOf(most - a.max))
		a.max = most
	}
	if least > 0 {
		a.min = least
	}
	a.min = min(a.min, a.max)
	size, _, _ := a.e.slots.counts()
	if bounded := min(max(size, a.min), a.max); bounded != size {
		a.e.resize(bounded)
	}
	return a.min, a.max
}

// bounds are the least and the most slots.
func (a *autoscaler) bounds() (least, most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.min, a.max
}
