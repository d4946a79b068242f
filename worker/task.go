package worker

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"

	"github.com/dfws/dfws/celeryproto"
)

// Task is a handler of a plain Celery task, registered by [HandleTask]. A is the struct of its arguments: positional ones
// fill the fields in their order, keywords by name. R is anything celeryproto.EncodeValue takes.
type Task[A, R any] struct {
	// Name of the task, such as "demo.add", as Python's send_task and signatures have it.
	Name string
	// Queue that the worker consumes for it. Empty: the setting dfws.go_queue. A task is run from whichever of the
	// worker's queues it comes: this only adds the queue to them.
	Queue string
	// Options are the attributes of the task: limits, retries, acknowledgement.
	Options TaskOptions
	// Run does the work. Its result is what AsyncResult.get() returns in Python; its error is raised there, as the class
	// that an *Exception names, else as RuntimeError. A *RetryError, a *RejectError, ErrIgnore and what Replace returns steer the
	// task instead.
	Run func(ctx context.Context, call *TaskCall, args A) (R, error)
}

// taskHandler is a Task with its types erased.
type taskHandler struct {
	task      string
	queue     string
	name      string
	options   TaskOptions
	params    []string                // names of the positional arguments, where they have any
	policy    policy                  // of the options on the site, filled in before the worker consumes
	limiter   atomic.Pointer[limiter] // nil: no rate limit was ever set
	rateLimit atomic.Pointer[string]  // that remote control has set; nil: none
	site      *sitePolicy
	builtin   bool                         // one that every Celery worker has
	accepts   func(*celeryproto.Task) bool // nil: every message with its name
	run       func(ctx context.Context, call *TaskCall) (any, error)
}

// HandleTask registers the handler of a task. Mistakes in t are reported together by Run.
func HandleTask[A, R any](w *Worker, t Task[A, R]) {
	h, err := newTaskHandler(t)
	if err != nil {
		w.fault(fmt.Errorf("task %q: %w", t.Name, err))
		return
	}
	w.addTask(h)
}

// newTaskHandler erases the types of a task.
func newTaskHandler[A, R any](t Task[A, R]) (*taskHandler, error) {
	p, err := planFor(reflect.TypeFor[A]())
	if err != nil {
		return nil, err
	}
	if t.Run == nil {
		return nil, errors.New("no Run")
	}
	return &taskHandler{
		task: t.Name, queue: t.Queue, name: funcName(t.Run), options: t.Options, params: fieldNames(p.fields),
		run: func(ctx context.Context, call *TaskCall) (any, error) {
			var args A
			if err := p.bind(reflect.ValueOf(&args).Elem(), call.Task.Args, call.Task.Kwargs); err != nil {
				return nil, bindFailure{err}
			}
			return t.Run(ctx, call, args)
		},
	}, nil
}

// rate is the task's rate limit per second at the start, 0 for none. The text was checked.
func (t *taskHandler) rate() float64 {
	if t.site.noRateLimits {
		return 0
	}
	rate, _ := ParseRate(t.rateText())
	return rate
}

// rateText is the rate limit in effect, "" for none.
func (t *taskHandler) rateText() string {
	if set := t.rateLimit.Load(); set != nil {
		return *set
	}
	if t.options.RateLimit != "" {
		return t.options.RateLimit
	}
	return t.site.rateLimit
}

// fieldNames are the names of arguments in their order.
func fieldNames(fields []planField) []string {
	names := make([]string, len(fields))
	for i := range fields {
		names[i] = fields[i].name
	}
	return names
}
