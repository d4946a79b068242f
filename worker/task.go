package worker

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

// Task is a handler of a plain Celery task, registered by [HandleTask]. A is the struct of its arguments: positional ones
// fill the fields in their order, keywords by name. R is anything celeryproto.EncodeValue takes.
type Task[A, R any] struct {
	// Name of the task, such as "demo.add", as Python's send_task and signatures have it.
	Name string
	// Queue that the worker consumes for it. Empty: the setting dfws.go_queue. A task is run from whichever of the
	// worker's queues it comes: this only adds the queue to them.
	Queue string
	// Timeout ends the context of Run; zero means Config.HandlerTimeout. The message's own time limits count as well.
	Timeout time.Duration
	// IgnoreResult stores neither results nor failures, unless the message asks for them.
	IgnoreResult bool
	// Run does the work. Its result is what AsyncResult.get() returns in Python; its error is raised there, as the class
	// that an *Exception names, else as RuntimeError.
	Run func(ctx context.Context, call *TaskCall, args A) (R, error)
}

// taskHandler is a Task with its types erased.
type taskHandler struct {
	task         string
	queue        string
	name         string
	timeout      time.Duration
	ignoreResult bool
	run          func(ctx context.Context, call *TaskCall) (any, error)
}

// HandleTask registers the handler of a task. Mistakes in t are reported together by Run.
func HandleTask[A, R any](w *Worker, t Task[A, R]) {
	p, err := planFor(reflect.TypeFor[A]())
	switch {
	case t.Name == "" || t.Name == compat.TaskName:
		w.fault(fmt.Errorf("task %q: not a name for a task", t.Name))
		return
	case t.Run == nil:
		w.fault(fmt.Errorf("task %q: no Run", t.Name))
		return
	case t.Timeout < 0:
		w.fault(fmt.Errorf("task %q: Timeout is negative", t.Name))
		return
	case err != nil:
		w.fault(fmt.Errorf("task %q: %w", t.Name, err))
		return
	}
	h := &taskHandler{task: t.Name, queue: t.Queue, name: funcName(t.Run), timeout: t.Timeout, ignoreResult: t.IgnoreResult}
	h.run = func(ctx context.Context, call *TaskCall) (any, error) {
		var args A
		if err := p.bind(reflect.ValueOf(&args).Elem(), call.Task.Args, call.Task.Kwargs); err != nil {
			return nil, bindFailure{err}
		}
		return t.Run(ctx, call, args)
	}
	w.addTask(h)
}

// TaskCall is one task on its way to its handler. It is valid until the handler returns.
type TaskCall struct {
	// Task is the message: ID, Retries, ParentID, headers and the arguments as they came. It must not be changed.
	Task *celeryproto.Task
	// Queue is where it was taken from.
	Queue string
	// Redelivered is true when another worker may have begun this task before.
	Redelivered bool

	sender Sender
	log    func() *slog.Logger
}

// Logger returns a logger that carries the task's name, its ID and the queue.
func (c *TaskCall) Logger() *slog.Logger { return loggerOf(c.log) }
