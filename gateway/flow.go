package gateway

import (
	"sync"
	"time"
)

// publishPatience is how long a window waits for room in the publisher's queue while that is full: a burst passes, a broker that
// hangs does not.
const publishPatience = time.Second

// flow bounds what waits for the broker. Each window has one for its signals, so that a window which sends faster than the
// broker takes fills its own share and TCP window and not the queue of all; the gateway has one for the bytes of all.
type flow struct {
	mu    sync.Mutex
	held  int
	freeC chan struct{} // not nil while somebody waits; closed by leave
}

// enter takes n of limit. When there is no room it returns what is closed once a good part of limit is free. More than limit
// goes in alone.
func (f *flow) enter(n, limit int) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held == 0 || f.held+n <= limit {
		f.held += n
		return nil
	}
	if f.freeC == nil {
		f.freeC = make(chan struct{})
	}
	return f.freeC
}

// leave gives n back.
func (f *flow) leave(n, limit int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held -= n
	if f.freeC != nil && f.held <= limit/2 {
		close(f.freeC)
		f.freeC = nil
	}
}

// waitForPlace lets the reader of a window wait until one more of its signals may wait for the broker. The publisher ends
// each wait: within its deadline it is done with every signal, one way or the other.
func (w *window) waitForPlace() {
	for {
		freeC := w.flow.enter(1, w.g.cfg.SignalsInFlight)
		if freeC == nil {
			return
		}
		w.g.observer.throttled()
		<-freeC
	}
}

// waitForRoom lets the reader of a window wait until the publisher's queue has room for n bytes, and says whether it came in time.
func (g *Gateway) waitForRoom(n int) bool {
	freeC := g.queued.enter(n, g.cfg.PublishBytes)
	if freeC == nil {
		return true
	}
	timer := time.NewTimer(publishPatience)
	defer timer.Stop()
	for freeC != nil {
		g.observer.throttled()
		select {
		case <-freeC:
			freeC = g.queued.enter(n, g.cfg.PublishBytes)
		case <-timer.C:
			return false
		case <-g.drainC:
			return false
		}
	}
	return true
}
