package gateway

import (
	"slices"
	"sync"
	"time"
)

// probe is a new window of a page whose earlier sockets do not say whether they live. The new one is held until that is clear: what a
// dead socket has swallowed must come first, and a living one is not robbed.
type probe struct {
	win      *window
	suspects []*window
	since    time.Time
	again    bool // a suspect that was not open itself has been asked again
}

// probes are few: those of the last seconds.
type probes struct {
	mu   sync.Mutex
	list []*probe
}

// probeSuspects asks the sockets for a sign of life. checkProbes goes on.
func (g *Gateway) probeSuspects(win *window, suspects []*window) {
	since := time.Now()
	for _, w := range suspects {
		w.ping()
	}
	g.probes.mu.Lock()
	defer g.probes.mu.Unlock()
	g.probes.list = append(g.probes.list, &probe{win: win, suspects: suspects, since: since})
}

// checkProbes opens the windows whose suspects have answered, or are gone, or had their time. The heartbeat goroutine calls it.
func (g *Gateway) checkProbes(now time.Time) {
	g.probes.mu.Lock()
	defer g.probes.mu.Unlock()
	g.probes.list = slices.DeleteFunc(g.probes.list, func(p *probe) bool { return g.judgeProbe(p, now) })
}

// judgeProbe says whether a probe is over.
func (g *Gateway) judgeProbe(p *probe, now time.Time) bool {
	waiting := false
	for _, w := range p.suspects {
		switch {
		case w.out.alive() && w.seen.Load() > max(p.since.UnixNano(), w.since.Load()): // it lives
		case w.out.alive():
			if now.Sub(p.since) >= probeTimeout {
				w.cut(CloseNoPong)
			}
			if w.since.Load() > p.since.UnixNano() && !p.again {
				p.again = true
				w.ping()
			}
			waiting = true
		case !w.out.ended() && !g.parking.has(w): // its reader is about to park it
			waiting = true
		}
	}
	if waiting && now.Sub(p.since) < 2*probeTimeout {
		return false
	}
	if p.win.out.held() { // else it has ended, and the others go on waiting
		g.inherit(p.win, p.suspects)
		p.win.opened()
	}
	return true
}
