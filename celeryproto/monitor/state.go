package monitor

import (
	"cmp"
	"container/list"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// Limits of what a State remembers. The zero value of each is Celery's default.
type Limits struct {
	// MaxWorkers is 5000 when 0, MaxTasks 10,000: the ones seen first are forgotten first.
	MaxWorkers, MaxTasks int
}

const (
	defaultMaxWorkers = 5000
	defaultMaxTasks   = 10_000
	// maxChildren bounds the children of one task.
	maxChildren = 10_000
	// maxTypes bounds the names of tasks.
	maxTypes = 10_000
	// maxName is the longest ID or name of a worker; events with longer ones are only counted.
	maxName = 1024
	// maxText is how much is kept of the texts in an event: arguments, results, tracebacks.
	maxText = 64 << 10
)

// shorten cuts a text after maxText bytes, between two characters.
func shorten(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "")
}

// State is what events have told so far. It is safe for concurrent use.
type State struct {
	limits Limits

	mu      sync.Mutex // guards all below
	workers table[Worker]
	tasks   table[task]
	types   map[string]struct{}
	events  int64
	started int64
}

// table is a bounded map in order of insertion.
type table[T any] struct {
	byKey map[string]*list.Element // of entry[T]
	order list.List
}

type entry[T any] struct {
	key   string
	value T
}

func (t *table[T]) get(key string) *T {
	if e, ok := t.byKey[key]; ok {
		return &e.Value.(*entry[T]).value
	}
	return nil
}

// make adds a value, and forgets the oldest one beyond limit.
func (t *table[T]) make(key string, limit int) *T {
	if t.byKey == nil {
		t.byKey = map[string]*list.Element{}
	}
	for t.order.Len() >= limit {
		oldest := t.order.Front()
		delete(t.byKey, oldest.Value.(*entry[T]).key)
		t.order.Remove(oldest)
	}
	e := &entry[T]{key: key}
	t.byKey[key] = t.order.PushBack(e)
	return &e.value
}

func (t *table[T]) each(f func(*T)) {
	for e := t.order.Front(); e != nil; e = e.Next() {
		f(&e.Value.(*entry[T]).value)
	}
}

// New returns a State that knows nothing.
func New(l Limits) *State {
	if l.MaxWorkers <= 0 {
		l.MaxWorkers = defaultMaxWorkers
	}
	if l.MaxTasks <= 0 {
		l.MaxTasks = defaultMaxTasks
	}
	return &State{limits: l, types: map[string]struct{}{}}
}

// Apply takes an event that was received at a time. Events of other groups than worker and task are only counted.
func (s *State) Apply(e *celeryproto.Event, received time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events++
	group, subject, _ := strings.Cut(e.Type, "-")
	switch group {
	case "worker":
		s.workerEvent(e, subject, received)
	case "task":
		s.taskEvent(e, subject)
	}
}

func (s *State) workerEvent(e *celeryproto.Event, subject string, received time.Time) {
	if e.Hostname == "" || len(e.Hostname) > maxName {
		return
	}
	w := s.workers.get(e.Hostname)
	if w == nil {
		if subject == subjectOffline {
			return
		}
		w = s.workers.make(e.Hostname, s.limits.MaxWorkers)
		*w = newWorker(e.Hostname)
	}
	w.update(e)
	if subject == subjectOffline {
		w.Heartbeats = nil
		return
	}
	if e.Timestamp != 0 {
		w.beat(received)
	}
}

const (
	subjectOffline  = "offline"
	subjectSent     = "sent"
	subjectReceived = "received"
)

func (s *State) taskEvent(e *celeryproto.Event, subject string) {
	f := fields(e.Fields)
	id := f.text("uuid")
	if id == "" || len(id) > maxName || len(e.Hostname) > maxName {
		return
	}
	t := s.tasks.get(id)
	if t == nil {
		t = s.tasks.make(id, s.limits.MaxTasks)
		t.ID, t.State = id, celeryproto.StatusPending
	}
	origin := e.Hostname
	if subject == subjectSent {
		t.Client = e.Hostname
	} else {
		w := s.workers.get(e.Hostname)
		if w == nil {
			w = s.workers.make(e.Hostname, s.limits.MaxWorkers)
			*w = newWorker(e.Hostname)
		}
		t.Worker = e.Hostname
		if at := e.Time(); !at.IsZero() {
			w.beat(at)
		}
		origin = w.ID()
	}
	t.seen(order{clock: valueOf(e.Clock), timestamp: e.Timestamp, origin: origin, arrived: s.events})
	if subject == subjectReceived {
		s.started++
	}
	t.apply(e, subject)
	if _, known := s.types[t.Name]; t.Name != "" && !known && len(s.types) < maxTypes && len(t.Name) <= maxName {
		s.types[t.Name] = struct{}{}
	}
}

// Counts are how many events there were, and how many of them were task-received.
func (s *State) Counts() (events, received int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events, s.started
}

// Worker returns what is known of a worker.
func (s *State) Worker(hostname string) (Worker, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.workers.get(hostname); w != nil {
		return w.copy(), true
	}
	return Worker{}, false
}

// Workers lists all workers, the one that was seen first coming first.
func (s *State) Workers() []Worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Worker, 0, s.workers.order.Len())
	s.workers.each(func(w *Worker) { all = append(all, w.copy()) })
	return all
}

// AliveWorkers lists the workers of which a heartbeat came lately.
func (s *State) AliveWorkers(now time.Time) []Worker {
	return slices.DeleteFunc(s.Workers(), func(w Worker) bool { return !w.Alive(now) })
}

// Task returns what is known of a task.
func (s *State) Task(id string) (Task, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tasks.get(id); t != nil {
		return t.Task, true
	}
	return Task{}, false
}

// Children lists the IDs of the tasks that a task has sent.
func (s *State) Children(id string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	s.tasks.each(func(t *task) {
		if t.ParentID == id && t.ID != id && len(ids) < maxChildren {
			ids = append(ids, t.ID)
		}
	})
	return ids
}

// Tasks lists tasks, the one with the newest event first; at most limit, all when that is 0.
func (s *State) Tasks(limit int) []Task { return s.list(limit, func(*task) bool { return true }) }

// TasksByType lists the tasks of one name, as Tasks.
func (s *State) TasksByType(name string, limit int) []Task {
	return s.list(limit, func(t *task) bool { return t.Name == name })
}

// TasksByWorker lists the tasks of one worker, as Tasks.
func (s *State) TasksByWorker(hostname string, limit int) []Task {
	return s.list(limit, func(t *task) bool { return t.Worker == hostname })
}

func (s *State) list(limit int, want func(*task) bool) []Task {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []*task
	s.tasks.each(func(t *task) {
		if want(t) {
			found = append(found, t)
		}
	})
	slices.SortStableFunc(found, func(a, b *task) int { return b.last.compare(a.last) })
	if limit > 0 {
		found = found[:min(limit, len(found))]
	}
	tasks := make([]Task, len(found))
	for i, t := range found {
		tasks[i] = t.Task
	}
	return tasks
}

// TaskTypes lists the names of all tasks that were seen, sorted.
func (s *State) TaskTypes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.types))
	for name := range s.types {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Clear forgets all workers and the tasks that have ended; with all also those that have not.
func (s *State) Clear(all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workers = table[Worker]{}
	old := s.tasks
	s.tasks = table[task]{}
	s.events, s.started = 0, 0
	if all {
		return
	}
	old.each(func(t *task) {
		if !t.Ready() {
			*s.tasks.make(t.ID, s.limits.MaxTasks) = *t
		}
	})
}

// order is the place of an event among those of all senders (kombu 5.7, clocks.py, timetuple).
type order struct {
	clock     int64
	timestamp float64
	origin    string
	arrived   int64 // of events that are equal, the one that comes later is the newer
}

func (o order) compare(other order) int {
	if o.clock != 0 && other.clock != 0 {
		return cmp.Or(cmp.Compare(o.clock, other.clock), cmp.Compare(o.origin, other.origin), cmp.Compare(o.arrived, other.arrived))
	}
	return cmp.Or(cmp.Compare(o.timestamp, other.timestamp), cmp.Compare(o.arrived, other.arrived))
}

// valueOf is what a pointer points to, zero for nil.
func valueOf[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
