package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/worker"
)

// once are the options of tasks with max_retries=1.
var once = worker.TaskOptions{MaxRetries: 1}

// retryTasks are those that are retried.
func (s suite) retryTasks() {
	s.taskWith("retry", worker.TaskOptions{RetryDelay: time.Second}, (&attempts{}).retry, "return_value")
	s.taskWith("retry_unpickleable", worker.TaskOptions{RetryDelay: time.Second}, retryUnpickleable, "foo", "bar", "retry_kwargs")
	s.taskWith("retry_with_args_after_kwargs", once, retryWithArgs, "foo", "bar", "label")
	s.taskWith("retry_with_kwargs_after_args", once, retryWithKwargs, "foo", "bar")
	s.retryOnce("retry_once", func(call *worker.TaskCall) (any, error) { return call.Task.Retries, nil })
	s.retryOnce("retry_once_priority", func(call *worker.TaskCall) (any, error) { return call.Task.Properties.Priority, nil })
	s.retryOnce("retry_once_headers", func(call *worker.TaskCall) (any, error) {
		return celeryproto.Raw(call.Task.ExtraHeaders.Append(nil)), nil
	})
	s.taskWith("retry_once_ignore_result", worker.TaskOptions{IgnoreResult: worker.Yes}, retryAtOnce)
	s.taskWith("retry_once_with_result", worker.TaskOptions{IgnoreResult: worker.No}, retryAtOnce)
	worker.HandleFunc(s.w, worker.Func{
		Name: "auto_retry_class_task",
		Options: worker.TaskOptions{
			MaxRetries: 1, RetryBackoff: time.Second,
			AutoRetry: func(err error) bool { return errors.Is(err, &worker.Exception{Type: "ValueError"}) },
		},
		Run: func(_ context.Context, call *worker.TaskCall) (int, error) {
			if call.Task.Retries > 0 {
				return call.Task.Retries, nil
			}
			return 0, &worker.Exception{Type: "ValueError"}
		},
	})
}

// attempts is the attribute that the task retry keeps on itself.
type attempts struct {
	mu sync.Mutex
	n  int // guarded by mu
}

func (a *attempts) retry(_ context.Context, returnValue *any) (any, error) {
	const enough = 3
	if returnValue != nil && truth(*returnValue) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.n >= enough {
			a.n = 0
			return *returnValue, nil
		}
		a.n++
	}
	return nil, worker.Retry(expected(), 5*time.Second)
}

func retryUnpickleable(_ context.Context, foo, bar celeryproto.Raw, retryKwargs map[string]any) error {
	retry := &worker.RetryError{Err: unpickleable(foo)}
	for name, value := range retryKwargs {
		switch name {
		case "countdown":
			retry.After = countdown(value)
		case "max_retries":
			retry.MaxRetries = maxRetries(value)
		default:
			return fmt.Errorf("retry_kwargs: %q is not implemented in this worker", name)
		}
	}
	return retry
}

// countdown is a RetryError's After for Python's countdown.
func countdown(seconds any) time.Duration {
	x, _ := float(seconds)
	if x <= 0 {
		return -1
	}
	return time.Duration(x * float64(time.Second))
}

// maxRetries is a RetryError's MaxRetries for Python's max_retries.
func maxRetries(n any) int {
	x, ok := float(n)
	switch {
	case !ok:
		return 0
	case x == 0:
		return worker.NoRetries
	default:
		return int(x)
	}
}

func retryWithArgs(_ context.Context, call *worker.TaskCall, foo, bar int64, label *any) (map[string]any, error) {
	if call.Task.Retries == 0 {
		return nil, &worker.RetryError{Args: []any{foo + 1, bar + 1}, After: -1}
	}
	report := retried(call, foo, bar)
	report["label"] = label
	return report, nil
}

func retryWithKwargs(_ context.Context, call *worker.TaskCall, foo, bar int64) (map[string]any, error) {
	if call.Task.Retries == 0 {
		return nil, &worker.RetryError{Kwargs: map[string]any{"foo": foo + 1}, After: -1}
	}
	return retried(call, foo, bar), nil
}

func retried(call *worker.TaskCall, foo, bar int64) map[string]any {
	return map[string]any{"foo": foo, "bar": bar, "retries": call.Task.Retries, "is_eager": false}
}

// retryOnce registers one of the tasks with the parameters *args, expires, max_retries=1 and countdown=0.1; result is what they
// return the second time.
func (s suite) retryOnce(name string, result func(*worker.TaskCall) (any, error)) {
	taskOf(s, name, once, func(_ context.Context, call *worker.TaskCall, args worker.RawArgs) (any, error) {
		k := keywords{function: name, members: args.Kwargs}
		expires, _ := float(k.take("expires", nil))
		retry := &worker.RetryError{After: countdown(k.take("countdown", 0.1)), MaxRetries: maxRetries(k.take("max_retries", int64(1)))}
		if err := k.end(); err != nil {
			return nil, err
		}
		if call.Task.Retries > 0 {
			return result(call)
		}
		if name == "retry_once" { // the others do not pass it on
			retry.Expires = time.Duration(math.Round(expires * float64(time.Second)))
		}
		return nil, retry
	})
}

func retryAtOnce(_ context.Context, call *worker.TaskCall) (int, error) {
	if call.Task.Retries == 0 {
		return 0, &worker.RetryError{After: -1}
	}
	return call.Task.Retries, nil
}

// rejectTasks are those that reject their message.
func (s suite) rejectTasks() {
	late := worker.TaskOptions{AcksLate: worker.Yes}
	s.taskWith("store_success_then_reject", late, func(ctx context.Context, call *worker.TaskCall) (string, error) {
		if call.Redelivered {
			return "dedup-pass", nil
		}
		if err := call.UpdateState(ctx, celeryproto.StatusSuccess, "first-pass"); err != nil {
			return "", err
		}
		return "", worker.Requeue(nil)
	})
	s.taskWith("reject_then_succeed", late, func(_ context.Context, call *worker.TaskCall) (string, error) {
		if call.Redelivered {
			return "second-pass", nil
		}
		return "", worker.Requeue(nil)
	})
	s.task("reject_without_requeue", func(context.Context) error { return worker.Reject(errors.New("rejected")) })
}

// failPause is the time that a Python worker would take for a task, on a busy machine. When the header of a chord fails between
// the two steps in which Celery's client begins to wait for the chord (it asks for the header's state, then subscribes to the body's
// result; celery 5.7, result.py, AsyncResult.get), the client raises ChordError instead of the header's exception. Older tests expect the
// latter, newer ones take either.
const failPause = 30 * time.Millisecond

// failTasks are those that raise.
func (s suite) failTasks() {
	s.task("raise_error", func(context.Context, ...celeryproto.Raw) error {
		return pythonError("ValueError", "deliberate error")
	})
	s.task("fail", func(ctx context.Context, args ...celeryproto.Raw) error {
		if err := pause(ctx, failPause.Seconds()); err != nil {
			return err
		}
		exc := []any{"Task expected to fail"}
		for _, arg := range args {
			exc = append(exc, arg)
		}
		return expected(exc...)
	})
	s.task("fail_unpickleable", func(_ context.Context, foo, _ celeryproto.Raw) error { return unpickleable(foo) }, "foo", "bar")
	s.task("fail_replaced", func(_ context.Context, args ...celeryproto.Raw) error {
		return worker.Replace(sig("fail", values(args)...).Immutable(true))
	})
}

// expected is the ExpectedException of tasks.py.
func expected(args ...any) error {
	return &worker.Exception{Type: "ExpectedException", Module: module, Args: args}
}

// unpickleable is UnpickleableException(foo, bar): only foo is among its args.
func unpickleable(foo celeryproto.Raw) error {
	return &worker.Exception{Type: "UnpickleableException", Module: module, Args: []any{foo}}
}

// sig is a call of a task of tasks.py, Python's task.s(*args).
func sig(name string, args ...any) *canvas.Signature { return canvas.New(module+"."+name, args...) }

// values are arguments as they came, to be passed on.
func values(args []celeryproto.Raw) []any {
	list := make([]any, len(args))
	for i, arg := range args {
		list[i] = arg
	}
	return list
}
