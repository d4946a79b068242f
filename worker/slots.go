package worker

import "sync"

// maxAbandoned bounds the handlers that may go on after their hard time limit or a terminate, each with a goroutine of its own
// that no slot waits for: beyond it their slots stay taken.
const maxAbandoned = 1000

// slots are the goroutines that run jobs, Celery's pool, with the queue of the jobs that wait for one. The queue is bounded by the
// prefetch window.
type slots struct {
	run     func(*job) // runs a job to its end
	changed func(size, busy int)

	wg sync.WaitGroup // of the goroutines, those of abandoned handlers included

	mu        sync.Mutex // guards all below
	cond      sync.Cond  // jobs, size or closed changed
	jobs      []*job
	head      int // of jobs
	size      int // wanted goroutines
	alive     int // goroutines that run jobs or wait for them
	busy      int
	abandoned int  // goroutines whose job was ended without them
	idle      int  // goroutines that wait for a job
	waking    bool // one of them was told of a job and has not looked yet
	closed    bool
}

func newSlots(run func(*job), changed func(size, busy int)) *slots {
	s := &slots{run: run, changed: changed}
	s.cond.L = &s.mu
	return s
}

// resize sets the number of slots. Those that run a job when there are too many end after it.
func (s *slots) resize(n int) {
	s.mu.Lock()
	s.size = max(n, 0)
	s.fillLocked()
	s.cond.Broadcast()
	size, busy := s.size, s.busy
	s.mu.Unlock()
	s.changed(size, busy)
}

// fillLocked starts missing goroutines.
func (s *slots) fillLocked() {
	for s.alive < s.size && !s.closed {
		s.alive++
		s.wg.Go(s.loop)
	}
}

// counts returns the number of slots, of those that run a job, and of jobs that wait.
func (s *slots) counts() (size, busy, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size, s.busy, len(s.jobs) - s.head
}

// push adds a job; false when the slots are closed.
func (s *slots) push(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.jobs = append(s.jobs, j)
	s.wakeLocked()
	return true
}

// wakeLocked lets an idle goroutine look for a job, one after the other: each that takes one wakes the next while jobs are left.
// So jobs that end at once are run by few goroutines, and others by as many as there are.
func (s *slots) wakeLocked() {
	if !s.waking && s.idle > 0 && s.head < len(s.jobs) {
		s.waking = true
		s.cond.Signal()
	}
}

// next waits for a job; nil ends the goroutine.
func (s *slots) next() *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.closed || s.alive > s.size:
			s.alive--
			s.cond.Broadcast() // to wait
			return nil
		case s.head < len(s.jobs):
			j := s.jobs[s.head]
			s.jobs[s.head] = nil
			if s.head++; s.head == len(s.jobs) {
				s.jobs, s.head = s.jobs[:0], 0
			}
			s.busy++
			s.wakeLocked()
			return j
		}
		s.idle++
		s.cond.Wait()
		s.idle--
		s.waking = false
	}
}

// loop runs jobs. A handler that ends its goroutine (runtime.Goexit) ends the loop: another takes its place.
func (s *slots) loop() {
	var j *job
	defer func() {
		if j != nil { // Goexit
			s.returned(j, true)
		}
	}()
	for j = s.next(); j != nil; j = s.next() {
		s.run(j)
		if !s.returned(j, false) {
			j = nil
			return
		}
	}
}

// returned notes that the handlers of a job have returned; false when somebody else has the slot now.
func (s *slots) returned(j *job, goexit bool) bool {
	abandoned := j.isAbandoned()
	s.mu.Lock()
	defer s.mu.Unlock()
	if abandoned {
		s.abandoned--
		return false
	}
	s.busy--
	if goexit {
		s.alive--
		s.fillLocked()
		s.cond.Broadcast() // to wait
	}
	return true
}

// abandon frees the slot of a job that ended without its handler's return: another goroutine takes it. False when there are too many
// such handlers: then the slot stays taken until its handler returns.
func (s *slots) abandon() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.abandoned >= maxAbandoned {
		return false
	}
	s.abandoned++
	s.busy--
	s.alive--
	s.fillLocked()
	s.cond.Broadcast() // to wait
	return true
}

// close ends the goroutines as they become idle and returns the jobs that none has begun.
func (s *slots) close() []*job {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	left := append([]*job(nil), s.jobs[s.head:]...)
	s.jobs, s.head = nil, 0
	s.cond.Broadcast()
	return left
}

// wait returns when all goroutines have ended, but those of abandoned handlers; it tells how many of these go on.
func (s *slots) wait() (abandoned int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.alive > 0 {
		s.cond.Wait()
	}
	return s.abandoned
}
