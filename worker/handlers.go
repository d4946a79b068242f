package worker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

// handlers is what was registered. It is filled before Run and only read afterwards.
type handlers struct {
	mu       sync.Mutex // guards all fields until frozen; then they are only read
	frozen   bool
	signals  map[string][]*signalHandler // by signal name, in order of registration
	tasks    map[string]*taskHandler
	order    []*signalHandler
	controls map[string]command               // of the program
	index    map[signalQueue][]*signalHandler // of signals, made by freeze

	limits       celeryproto.Limits // of messages, with the site's accept_content
	site         sitePolicy         // what freeze resolves the tasks' options with
	annotate     annotator          // what freeze changes them with
	signalPolicy policy             // of df_websockets' task: each handler of a signal has a timeout of its own
	faults       []error
}

// signalQueue is what the seven arguments of a signal's task select handlers by.
type signalQueue struct{ signal, queue string }

// annotator gives the options of a task those that the site's operators set.
type annotator func(task string, o TaskOptions) (TaskOptions, error)

func newHandlers(cfg *Config, limits celeryproto.Limits) *handlers {
	return &handlers{
		signals: map[string][]*signalHandler{}, tasks: map[string]*taskHandler{}, controls: map[string]command{}, limits: limits,
		site: cfg.sitePolicy(), annotate: cfg.annotated,
	}
}

var errRunning = errors.New("registered after Run was called")

func (w *Worker) fault(err error) {
	h := w.handlers
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, fmt.Errorf("worker: %w", err))
}

func (w *Worker) addSignal(s *signalHandler) {
	h := w.handlers
	if s.queue == "" {
		s.queue = w.cfg.Settings.DFWS.GoQueue
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.frozen {
		w.log.Error("handler ignored", "signal", s.signal, "err", errRunning)
		return
	}
	h.signals[s.signal] = append(h.signals[s.signal], s)
	h.order = append(h.order, s)
}

func (w *Worker) addTask(t *taskHandler) {
	h := w.handlers
	if t.task == "" || t.task == compat.TaskName {
		w.fault(fmt.Errorf("task %q: not a name for a task", t.task))
		return
	}
	if err := t.options.check(); err != nil {
		w.fault(fmt.Errorf("task %q: %w", t.task, err))
		return
	}
	if t.queue == "" {
		t.queue = w.cfg.Settings.DFWS.GoQueue
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.frozen:
		w.log.Error("handler ignored", "task", t.task, "err", errRunning)
	case h.tasks[t.task] != nil:
		h.faults = append(h.faults, fmt.Errorf("worker: task %q: two handlers", t.task))
	default:
		h.tasks[t.task] = t
	}
}

func (w *Worker) addControl(name string, c command) {
	h := w.handlers
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.frozen:
		w.log.Error("handler ignored", "control", name, "err", errRunning)
	case h.controls[name] != nil:
		h.faults = append(h.faults, fmt.Errorf("worker: control command %q: two functions", name))
	default:
		h.controls[name] = c
	}
}

// isSignals tells whether a task is the one that carries df_websockets' signals, and this worker has handlers for some.
func (h *handlers) isSignals(task string) bool { return task == compat.TaskName && len(h.signals) > 0 }

// policyOf is how a task is run here; nil for one that this worker does not have.
func (h *handlers) policyOf(task string) *policy {
	if t := h.tasks[task]; t != nil {
		return &t.policy
	}
	if h.isSignals(task) {
		return &h.signalPolicy
	}
	return nil
}

// names are the tasks of this worker, sorted.
func (h *handlers) names() []string {
	names := slices.Collect(maps.Keys(h.tasks))
	if h.isSignals(compat.TaskName) {
		names = append(names, compat.TaskName)
	}
	slices.Sort(names)
	return names
}

// freeze ends registration. Its error joins every mistake made in it.
func (h *handlers) freeze() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.frozen {
		h.frozen = true
		if len(h.signals) == 0 && len(h.tasks) == 0 && len(h.faults) == 0 {
			h.faults = append(h.faults, errors.New("worker: no handler is registered"))
		}
		h.addBuiltins()
	}
	h.index = map[signalQueue][]*signalHandler{}
	for _, s := range h.order {
		key := signalQueue{s.signal, s.queue}
		h.index[key] = append(h.index[key], s)
	}
	for name, t := range h.tasks {
		var err error
		if t.options, err = h.annotate(name, t.options); err != nil {
			h.faults = append(h.faults, fmt.Errorf("worker: task %q: %w", name, err))
		}
		t.site = &h.site
		t.policy.resolve(t.options, &h.site)
	}
	h.signalPolicy.resolve(TaskOptions{}, &h.site)
	return errors.Join(h.faults...)
}

// queues lists the handlers' queues, sorted.
func (h *handlers) queues() []string {
	set := map[string]bool{}
	for _, s := range h.order {
		set[s.queue] = true
	}
	for _, t := range h.tasks {
		if !t.builtin {
			set[t.queue] = true
		}
	}
	names := make([]string, 0, len(set))
	for name := range set {
		names = append(names, name)
	}
	slices.SortFunc(names, strings.Compare)
	return names
}
