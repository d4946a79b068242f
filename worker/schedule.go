package worker

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// schedule holds jobs until their ETA, outside the prefetch window. It keeps them in memory only: in Redis they are
// unacked, and go back to their queue when the worker stops or dies.
type schedule struct {
	changed func(waiting int)
	wakeC   chan struct{} // sent by add, received by run, never closed; capacity 1: one wake-up is enough for many adds

	mu   sync.Mutex // guards jobs
	jobs etaHeap
}

func newSchedule(changed func(int)) *schedule {
	return &schedule{changed: changed, wakeC: make(chan struct{}, 1)}
}

// add puts a job aside until its ETA.
func (s *schedule) add(j *job) {
	s.mu.Lock()
	heap.Push(&s.jobs, j)
	first, n := s.jobs[0] == j, len(s.jobs)
	s.mu.Unlock()
	s.changed(n)
	if first {
		select {
		case s.wakeC <- struct{}{}:
		default:
		}
	}
}

func (s *schedule) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.jobs)
}

// clear takes all jobs out.
func (s *schedule) clear() []*job {
	s.mu.Lock()
	defer s.mu.Unlock()
	jobs := s.jobs
	s.jobs = nil
	return jobs
}

// run calls due for each job whose ETA has come, the earliest first, until ctx ends.
func (s *schedule) run(ctx context.Context, due func(*job)) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(s.release(time.Now(), due))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wakeC:
		}
	}
}

// release hands out what is due and returns the time until the next one is.
func (s *schedule) release(now time.Time, due func(*job)) time.Duration {
	for {
		s.mu.Lock()
		if len(s.jobs) == 0 {
			s.mu.Unlock()
			return time.Hour
		}
		if wait := s.jobs[0].eta.Sub(now); wait > 0 {
			s.mu.Unlock()
			return min(wait, time.Hour) // looked at again at least once an hour: the system's clock may be set
		}
		j := heap.Pop(&s.jobs).(*job)
		n := len(s.jobs)
		s.mu.Unlock()
		s.changed(n)
		due(j)
	}
}

// etaHeap is a container/heap of jobs, the earliest ETA first.
type etaHeap []*job

func (h etaHeap) Len() int           { return len(h) }
func (h etaHeap) Less(i, k int) bool { return h[i].eta.Before(h[k].eta) }
func (h etaHeap) Swap(i, k int)      { h[i], h[k] = h[k], h[i] }

// Push implements heap.Interface.
func (h *etaHeap) Push(x any) { *h = append(*h, x.(*job)) }

// Pop implements heap.Interface.
func (h *etaHeap) Pop() any {
	old := *h
	last := len(old) - 1
	j := old[last]
	old[last] = nil
	*h = old[:last]
	return j
}
