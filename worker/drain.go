package worker

import (
	"sync"
	"time"
)

// stops are how hard a worker was asked to stop.
type stops struct {
	coldC chan struct{} // closed: running handlers get SoftShutdownTimeout only
	nowC  chan struct{} // closed: nor that
	hardC chan struct{} // closed: nothing is waited for

	mu    sync.Mutex // guards level and closes
	level int        // how many of the three are closed, in this order
}

func (s *stops) init() {
	s.coldC, s.nowC, s.hardC = make(chan struct{}), make(chan struct{}), make(chan struct{})
}

// ask notes a request. A second cold one ends the wait that the first one left.
func (s *stops) ask(mode StopMode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	to := s.level
	switch mode {
	case Cold:
		const hard = 3 // is not reached by asking for cold stops
		to = min(s.level+1, hard-1)
	case Hard:
		to = 3
	}
	steps := [...]chan struct{}{s.coldC, s.nowC, s.hardC}
	for ; s.level < to; s.level++ {
		close(steps[s.level])
	}
}

// stop ends the worker as its context would, or harder.
func (e *engine) stop(mode StopMode) {
	e.stops.ask(mode)
	e.phases.stopFetch(errStopped)
}

// drain waits for what runs and for what is being written, within the stop timeouts.
func (e *engine) drain(p *phases) error {
	idleC := make(chan struct{})
	var waiter sync.WaitGroup // left behind together with the handlers when they are stuck
	abandoned := 0            // read after idleC is closed
	waiter.Go(func() {
		abandoned = e.slots.wait()
		e.mu.Lock()
		e.closed = true
		close(e.settleC)
		e.mu.Unlock()
		e.settling.Wait()
		close(idleC)
	})
	ended := func() error {
		if abandoned > 0 {
			e.log.Error("handlers still run whose tasks are over, left behind", "handlers", abandoned)
			return ErrStuck
		}
		return nil
	}
	if e.awaitHandlers(idleC) {
		return ended()
	}
	p.stopWork(errStopped)
	if e.withinUnlessHard(e.cfg.HardStopTimeout, idleC) {
		return ended()
	}
	p.stopSettle(errStopped)
	if e.withinUnlessHard(e.cfg.HardStopTimeout, idleC) {
		e.log.Warn("Redis did not take in time how tasks ended: they will run again")
		return ended()
	}
	select {
	case <-e.stops.hardC:
		e.log.Error("hard shutdown: handlers are not waited for")
	default:
		e.log.Error("handlers ignore the end of their context, left behind", "after", e.cfg.HardStopTimeout)
	}
	return ErrStuck
}

// awaitHandlers waits for what runs, as long as a warm stop may take, or a harder one once that is asked for.
func (e *engine) awaitHandlers(idleC <-chan struct{}) bool {
	var warmC <-chan time.Time
	if e.cfg.SoftStopTimeout >= 0 {
		timer := time.NewTimer(e.cfg.SoftStopTimeout)
		defer timer.Stop()
		warmC = timer.C
	}
	select {
	case <-idleC:
		return true
	case <-warmC:
		e.log.Warn("tasks still run, the contexts of their handlers end now", "after", e.cfg.SoftStopTimeout)
		return false
	case <-e.stops.coldC:
	}
	if soft := e.cfg.SoftShutdownTimeout; soft > 0 {
		e.log.Warn("soft shutdown: tasks that still run after it are cancelled", "timeout", soft)
		if withinUnless(soft, idleC, e.stops.nowC) {
			return true
		}
	}
	e.log.Warn("cold shutdown: the contexts of running handlers end now")
	return false
}

// withinUnlessHard waits for c to be closed; not after a request for a hard stop.
func (e *engine) withinUnlessHard(d time.Duration, c <-chan struct{}) bool {
	return withinUnless(d, c, e.stops.hardC)
}

// within waits for c to be closed.
func within(d time.Duration, c <-chan struct{}) bool { return withinUnless(d, c, nil) }

// withinUnless waits for c to be closed, until endC is.
func withinUnless(d time.Duration, c, endC <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-endC:
	case <-timer.C:
	}
	select {
	case <-c: // both at once
		return true
	default:
		return false
	}
}
