package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultReload is how often the registry is read although no change was announced.
const DefaultReload = 30 * time.Second

// RegistryConfig configures a Registry.
type RegistryConfig struct {
	// Store is where the entries are; nil makes a registry that only Set fills, for tests.
	Store *Store
	// Reload is the time between two readings without an announced change; 0 means DefaultReload.
	Reload time.Duration
	// Logger gets lifecycle and trouble; nil discards.
	Logger *slog.Logger
	// Observer gets the counts.
	Observer Observer
}

// Registry knows which handlers there are in both languages. It is a snapshot in memory that Run keeps fresh; reading it takes no lock.
type Registry struct {
	cfg     RegistryConfig
	current atomic.Pointer[snapshot]
	ready   atomic.Bool

	mu       sync.Mutex // serializes replace
	reported map[string]bool
}

// NewRegistry returns a registry that knows nothing yet.
func NewRegistry(cfg RegistryConfig) *Registry {
	if cfg.Reload <= 0 {
		cfg.Reload = DefaultReload
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Registry{cfg: cfg, reported: map[string]bool{}}
	r.current.Store(newSnapshot(nil))
	return r
}

// Ready reports whether the registry was read at least once.
func (r *Registry) Ready() bool { return r.ready.Load() }

// HasPython reports whether the Python site has registered its handlers. Without it, a signal that nobody registered may still have
// handlers in Python.
func (r *Registry) HasPython() bool { return r.current.Load().python }

// Lookup returns the handlers of a signal, Python's first, then those of Go applications by name. The result must not be changed.
func (r *Registry) Lookup(signal string) []Handler {
	if route := r.current.Load().routes[signal]; route != nil {
		return route.handlers
	}
	return nil
}

// Signals returns the names of all signals, sorted.
func (r *Registry) Signals() []string {
	return slices.Sorted(maps.Keys(r.current.Load().routes))
}

// Entries returns what each publisher has registered, sorted by publisher. They must not be changed.
func (r *Registry) Entries() []*Entry { return slices.Clone(r.current.Load().entries) }

// PythonOnlyQueues returns the queues whose signals have handlers only in Python, sorted: a Go worker has no reason to consume them.
func (r *Registry) PythonOnlyQueues() []string {
	languages := r.current.Load().queueLanguages()
	var queues []string
	for queue, set := range languages {
		if set == inPython {
			queues = append(queues, queue)
		}
	}
	slices.Sort(queues)
	return queues
}

// CheckConflicts reports, joined, each (signal, queue) of e that has a handler in the other language already. A Go worker asks before it
// publishes.
func (r *Registry) CheckConflicts(e *Entry) error {
	entries := slices.DeleteFunc(r.Entries(), func(other *Entry) bool { return other.Publisher == e.Publisher })
	return errors.Join(newSnapshot(append(entries, withPublisher(e))).conflictErrors(e.Publisher)...)
}

// Set replaces the whole registry. It is for tests and for programs without a Store.
func (r *Registry) Set(entries ...*Entry) {
	own := make([]*Entry, len(entries))
	for i, e := range entries {
		own[i] = withPublisher(e)
	}
	r.replace(own, nil)
}

// Refresh reads the registry once. Its error is one of Redis; entries that cannot be read are logged and keep their last good version.
func (r *Registry) Refresh(ctx context.Context) error {
	if r.cfg.Store == nil {
		return errors.New("dispatch: registry: no store")
	}
	entries, faults, err := r.cfg.Store.LoadRegistry(ctx)
	if err != nil {
		return err
	}
	r.replace(entries, faults)
	return nil
}

// Run keeps the registry fresh until ctx ends: it reads it at the start, at each announced change, after each reconnection, and every
// Reload. It returns nil; trouble with Redis is logged and waited out.
func (r *Registry) Run(ctx context.Context) error {
	if r.cfg.Store == nil {
		return errors.New("dispatch: registry: no store")
	}
	failing := false
	refresh := func(event) {
		err := r.Refresh(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			r.cfg.Observer.registryFailed()
			r.cfg.Logger.Log(ctx, levelOnce(failing), "registry cannot be read", "err", err)
		case failing:
			r.cfg.Logger.Info("registry can be read again")
		}
		failing = err != nil
	}
	refresh(event{gap: true}) // the subscription reports nothing while Redis is away
	return r.cfg.Store.watch(ctx, r.cfg.Store.keys.registryChanged(), r.cfg.Reload, refresh)
}

// levelOnce is warn for the first failure in a row and debug for the following.
func levelOnce(failing bool) slog.Level {
	if failing {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// replace installs new entries; the publishers of faults keep their old entry.
func (r *Registry) replace(entries []*Entry, faults []*EntryError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.current.Load()
	for _, e := range old.entries {
		if slices.ContainsFunc(faults, func(f *EntryError) bool { return f.Publisher == e.Publisher }) {
			entries = append(entries, e)
		}
	}
	next := newSnapshot(entries)
	r.current.Store(next)
	r.ready.Store(true)
	if next.digest != old.digest {
		r.cfg.Observer.registryChanged(len(next.routes))
		r.cfg.Logger.Info("registry changed", "publishers", next.publishers(), "signals", len(next.routes))
	}
	r.report(next, faults)
}

// report says once what is wrong with the registry: entries that cannot be read, and conflicts.
func (r *Registry) report(s *snapshot, faults []*EntryError) {
	wrong := s.conflictErrors("")
	for _, fault := range faults {
		r.cfg.Observer.registryFailed()
		wrong = append(wrong, fault)
	}
	now := make(map[string]bool, len(wrong))
	for _, err := range wrong {
		text := err.Error()
		now[text] = true
		if !r.reported[text] {
			r.cfg.Logger.Error("registry", "err", err)
		}
	}
	r.reported = now
}

// withPublisher returns a copy of e whose handlers know their publisher.
func withPublisher(e *Entry) *Entry {
	own := *e
	own.Signals = make(map[string][]Handler, len(e.Signals))
	for signal, handlers := range e.Signals {
		handlers = slices.Clone(handlers)
		for i := range handlers {
			handlers[i].Publisher, handlers[i].Language = e.Publisher, e.Language
		}
		own.Signals[signal] = handlers
	}
	return &own
}
