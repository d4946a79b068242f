package gateway

import "sync"

// flow bounds the signals of one window that wait for the broker, so that a window that sends faster than the broker takes
// fills its own share and TCP window, and not the queue of all.
type flow struct {
	mu    sync.Mutex
	held  int
	freeC chan struct{} // not nil while the reader waits; closed by leave
}

// enter takes a place. When there is none it returns what is closed once half of the places are free.
func (f *flow) enter(limit int) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.held < limit {
		f.held++
		return nil
	}
	if f.freeC == nil {
		f.freeC = make(chan struct{})
	}
	return f.freeC
}

// leave gives a place back.
func (f *flow) leave(limit int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held--
	if f.freeC != nil && f.held <= limit/2 {
		close(f.freeC)
		f.freeC = nil
	}
}

// waitForPlace lets the reader of a window wait until one more of its signals may wait for the broker. The publisher ends
// each wait: within its deadline it is done with every signal, one way or the other.
func (w *window) waitForPlace() {
	for {
		freeC := w.flow.enter(w.g.cfg.SignalsInFlight)
		if freeC == nil {
			return
		}
		w.g.observer.throttled()
		<-freeC
	}
}
