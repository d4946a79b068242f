package gocelery

import (
	"context"
	"fmt"
	"reflect"

	"github.com/dfws/dfws/worker"
)

// CeleryTask is gocelery's: what has these methods implements both. One that was registered as a value is shared by all its
// calls, so they run one after the other; register a func() CeleryTask to have them run side by side.
type CeleryTask interface {
	// ParseKwargs is given the keyword arguments, never a nil map. Its error is the task's failure.
	ParseKwargs(kwargs map[string]any) error
	// RunTask returns the task's result, anything encoding/json takes.
	RunTask() (any, error)
}

// runner is a registered task.
type runner interface {
	run(ctx context.Context, call *worker.TaskCall, args worker.RawArgs) (any, error)
}

// newRunner tells what was registered; its order is gocelery's, for a function type that is a CeleryTask as well.
func newRunner(task any) (runner, error) {
	switch task := task.(type) {
	case CeleryTask:
		if v := reflect.ValueOf(task); v.Kind() == reflect.Pointer && v.IsNil() {
			return nil, fmt.Errorf("a nil %T", task)
		}
		return &sharedTask{task: task, turnC: make(chan struct{}, 1)}, nil
	case func() CeleryTask:
		if task == nil {
			return nil, fmt.Errorf("a nil %T", task)
		}
		return taskFactory(task), nil
	default:
		return newFunction(task)
	}
}

// sharedTask is a CeleryTask whose fields each call overwrites.
type sharedTask struct {
	task  CeleryTask
	turnC chan struct{} // a call sends before it runs and receives after it; capacity 1
}

func (s *sharedTask) run(ctx context.Context, call *worker.TaskCall, args worker.RawArgs) (any, error) {
	select {
	case s.turnC <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("gocelery: waiting for the task's turn: %w", context.Cause(ctx))
	}
	defer func() { <-s.turnC }()
	return runTask(s.task, call, args)
}

// taskFactory makes a CeleryTask for each call.
type taskFactory func() CeleryTask

func (f taskFactory) run(_ context.Context, call *worker.TaskCall, args worker.RawArgs) (any, error) {
	return runTask(f(), call, args)
}

// runTask does what gocelery's RunTask does with a CeleryTask.
func runTask(task CeleryTask, call *worker.TaskCall, args worker.RawArgs) (any, error) {
	if n := len(args.Args); n > 0 {
		call.Logger().Warn("positional arguments ignored: a CeleryTask takes keyword arguments", "arguments", n)
	}
	kwargs := map[string]any{}
	if len(args.Kwargs) > 0 {
		decoded, err := decode(call.Task.Kwargs)
		if err != nil {
			return nil, misfit("keyword arguments: %v", err)
		}
		kwargs, _ = decoded.(map[string]any) // it has members
	}
	if err := task.ParseKwargs(kwargs); err != nil {
		return nil, err
	}
	value, err := task.RunTask()
	if err != nil {
		return nil, err
	}
	return result(value)
}
