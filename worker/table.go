package worker

import "sync"

// table lists the jobs that the worker holds, in the order taken, for remote control and for the stop.
type table struct {
	mu    sync.Mutex
	first *job
	last  *job
	n     int
}

func (t *table) add(j *job) {
	t.mu.Lock()
	j.prev = t.last
	if t.last == nil {
		t.first = j
	} else {
		t.last.next = j
	}
	t.last = j
	t.n++
	t.mu.Unlock()
}

func (t *table) remove(j *job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case j.prev == nil && t.first != j:
		return // not in the table
	case j.prev == nil:
		t.first = j.next
	default:
		j.prev.next = j.next
	}
	if j.next == nil {
		t.last = j.prev
	} else {
		j.next.prev = j.prev
	}
	j.prev, j.next = nil, nil
	t.n--
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// all are the jobs, the oldest first.
func (t *table) all() []*job {
	t.mu.Lock()
	defer t.mu.Unlock()
	jobs := make([]*job, 0, t.n)
	for j := t.first; j != nil; j = j.next {
		jobs = append(jobs, j)
	}
	return jobs
}

// in are the jobs of some phases.
func (t *table) in(phases ...phase) []*job {
	var jobs []*job
	for _, j := range t.all() {
		at, _, _ := j.state()
		for _, p := range phases {
			if at == p {
				jobs = append(jobs, j)
				break
			}
		}
	}
	return jobs
}
