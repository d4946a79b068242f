package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// builtinPrefix starts the names of the tasks that every Celery worker has.
const builtinPrefix = "celery."

// The built-in tasks beside those of package canvas (celery 5.7, app/builtins.py).
const (
	taskChordUnlock    = builtinPrefix + "chord_unlock"
	taskBackendCleanup = builtinPrefix + "backend_cleanup"
)

// addBuiltins adds the tasks that every Celery worker has, where the program has none of its own by that name. They come from
// the queues that the worker consumes anyway.
func (h *handlers) addBuiltins() {
	m := mapper{h}
	for _, t := range []*taskHandler{
		builtin(canvas.TaskMap, TaskOptions{}, m.mapped),
		builtin(canvas.TaskStarmap, TaskOptions{}, m.starmapped),
		builtin(canvas.TaskChunks, TaskOptions{}, chunked),
		builtin(canvas.TaskAccumulate, TaskOptions{}, accumulate),
		builtin(canvas.TaskGroup, TaskOptions{}, oldGroup),
		builtin(canvas.TaskChain, TaskOptions{}, oldChain),
		builtin(canvas.TaskChord, TaskOptions{IgnoreResult: No}, oldChord),
		builtin(taskChordUnlock, TaskOptions{IgnoreResult: Yes, MaxRetries: UnlimitedRetries, RetryDelay: defaultChordRetryInterval}, unlockChord),
		builtin(taskBackendCleanup, TaskOptions{}, cleanBackend),
	} {
		if h.tasks[t.task] != nil {
			continue
		}
		switch t.task {
		case canvas.TaskMap, canvas.TaskStarmap:
			t.accepts = m.accepts
		}
		h.tasks[t.task] = t
	}
}

func builtin[A any](name string, o TaskOptions, run func(context.Context, *TaskCall, A) (any, error)) *taskHandler {
	t, err := newTaskHandler(Task[A, any]{Name: name, Options: o, Run: run})
	if err != nil {
		panic(err) // A is one of ours
	}
	t.builtin = true
	return t
}

// mapArgs are the arguments of celery.map and celery.starmap, in the order of the Python functions.
type mapArgs struct {
	Task celeryproto.Raw `arg:"task"` // a signature, of which only the task's name is used
	It   celeryproto.Raw `arg:"it"`
}

// mapper calls one task's handler for each element of a list.
type mapper struct{ h *handlers }

// accepts tells whether the task to be called is here: other workers may have it, where this one would fail.
func (m mapper) accepts(t *celeryproto.Task) bool {
	positional, named, err := argumentsOf(t)
	if err != nil {
		return true // the failure is the same everywhere
	}
	sig, given := named.Get("task")
	if !given && len(positional) > 0 {
		sig, given = positional[0], true
	}
	if !given {
		return true
	}
	decoded, err := canvas.Decode(sig)
	return err != nil || m.h.tasks[decoded.Task()] != nil
}

func (m mapper) mapped(ctx context.Context, call *TaskCall, args mapArgs) (any, error) {
	return m.each(ctx, call, args, func(item celeryproto.Raw) (celeryproto.Raw, error) {
		return append(append(celeryproto.Raw{'['}, item...), ']'), nil
	})
}

func (m mapper) starmapped(ctx context.Context, call *TaskCall, args mapArgs) (any, error) {
	return m.each(ctx, call, args, func(item celeryproto.Raw) (celeryproto.Raw, error) {
		if kind := item.Kind(); kind != celeryproto.KindArray {
			return nil, bindFailure{&BindError{Argument: "it", Fact: fmt.Sprintf("an element is no list of arguments but %s", kind)}}
		}
		return item, nil
	})
}

// each calls the handler with the arguments that of makes of each element. The first failure ends it.
func (m mapper) each(
	ctx context.Context, call *TaskCall, args mapArgs, of func(celeryproto.Raw) (celeryproto.Raw, error),
) ([]celeryproto.Raw, error) {
	sig, err := canvas.Decode(args.Task)
	if err != nil {
		return nil, bindFailure{&BindError{Argument: "task", Fact: "not a signature"}}
	}
	t := m.h.tasks[sig.Task()]
	if t == nil {
		return nil, &Exception{Type: "NotRegistered", Module: moduleCelery, Args: []any{sig.Task()}}
	}
	items, err := args.It.Array()
	if err != nil {
		return nil, bindFailure{&BindError{Argument: "it", Fact: "not a list"}}
	}
	results := make([]celeryproto.Raw, 0, len(items))
	for i, item := range items {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		positional, err := of(item)
		if err != nil {
			return nil, err
		}
		value, err := t.run(ctx, call.direct(t.task, positional))
		if err != nil {
			return nil, calledDirectly(t.task, i, err)
		}
		raw, err := celeryproto.EncodeValue(value)
		if err != nil {
			return nil, encodeFailure(err)
		}
		results = append(results, raw)
	}
	return results, nil
}

// direct is a call of another task's handler inside of this call, as task(*args) in Python.
func (c *TaskCall) direct(task string, args celeryproto.Raw) *TaskCall {
	inner, message := *c, *c.Task
	message.Name, message.Args, message.Kwargs = task, args, nil
	inner.Task = &message
	return &inner
}

// calledDirectly is what a handler's error comes to that was called inside of another task: that one cannot be retried or
// replaced by it (celery 5.7, app/task.py: retry raises its reason when the task was called directly).
func calledDirectly(task string, element int, err error) error {
	if retry, ok := errors.AsType[*RetryError](err); ok && retry.Err != nil {
		return retry.Err
	}
	_, retried := errors.AsType[*RetryError](err)
	_, replaced := errors.AsType[*replacement](err)
	if retried || replaced {
		return fmt.Errorf("worker: task %q, called for element %d of a list, cannot be retried or replaced: %w", task, element, errInside)
	}
	return err
}

var errInside = errors.New("it has no message of its own")

type chunksArgs struct {
	Task celeryproto.Raw `arg:"task"`
	It   celeryproto.Raw `arg:"it"`
	N    int             `arg:"n"`
}

// chunked sends starmaps of n elements each.
func chunked(ctx context.Context, call *TaskCall, args chunksArgs) (any, error) {
	sig, err := canvas.Decode(args.Task)
	if err != nil {
		return nil, bindFailure{&BindError{Argument: "task", Fact: "not a signature"}}
	}
	if args.N < 1 {
		return nil, bindFailure{&BindError{Argument: "n", Fact: "not positive"}}
	}
	return resultTuple(call.Apply(ctx, canvas.Chunks(sig, args.It, args.N)))
}

// resultTuple is what Python stores for a task that returns a result.
func resultTuple(tree *celeryproto.ResultTree, err error) (any, error) {
	if tree == nil || err != nil {
		return nil, err
	}
	return tree.Raw(), nil
}

// accumulate returns its arguments, or one of them: what stands behind a group that replaced a task.
func accumulate(_ context.Context, _ *TaskCall, args RawArgs) (any, error) {
	raw, given := args.Kwargs.Get("index")
	if !given || raw.IsNull() {
		return args.Args, nil
	}
	v, err := celeryproto.DecodeValue(raw)
	if err != nil {
		return nil, bindFailure{&BindError{Argument: "index", Fact: undecodable(err)}}
	}
	index, ok := v.(int64)
	if !ok {
		return nil, bindFailure{&BindError{Argument: "index", Fact: "not an integer"}}
	}
	if index < 0 {
		index += int64(len(args.Args))
	}
	if index < 0 || index >= int64(len(args.Args)) {
		return nil, &Exception{Type: "IndexError", Args: []any{"tuple index out of range"}}
	}
	return args.Args[index], nil
}

// oldGroupArgs are those of celery.group, which clients before Celery 4 send.
type oldGroupArgs struct {
	Tasks       celeryproto.Raw `arg:"tasks"`
	Result      celeryproto.Raw `arg:"result"`
	GroupID     string          `arg:"group_id"`
	PartialArgs celeryproto.Raw `arg:"partial_args"`
	AddToParent *bool           `arg:"add_to_parent"`
}

func oldGroup(ctx context.Context, call *TaskCall, args oldGroupArgs) (any, error) {
	tree, err := celeryproto.DecodeResultTree(args.Result)
	if err != nil {
		return nil, bindFailure{&BindError{Argument: "result", Fact: "not a result"}}
	}
	tasks, err := signatures("tasks", args.Tasks)
	if err != nil {
		return nil, err
	}
	partial, err := valuesOf("partial_args", args.PartialArgs)
	if err != nil {
		return nil, err
	}
	for _, task := range tasks {
		task = task.Partial(partial...).Set("group_id", args.GroupID).Set("add_to_parent", false)
		if _, err := call.Apply(ctx, task); err != nil {
			return nil, err
		}
	}
	if (args.AddToParent == nil || *args.AddToParent) && call.job != nil {
		call.job.sent([]celeryproto.ResultTree{*tree})
	}
	return tree.Raw(), nil
}

func oldChain(context.Context, *TaskCall, RawArgs) (any, error) {
	return nil, &Exception{Type: "NotImplementedError", Args: []any{"chain is not a real task"}}
}

// oldChordArgs are those of celery.chord, which clients before Celery 4 send. How Celery would poll for the header's results
// (interval, countdown, max_retries) does not matter here.
type oldChordArgs struct {
	Header      celeryproto.Raw `arg:"header"`
	Body        celeryproto.Raw `arg:"body"`
	PartialArgs celeryproto.Raw `arg:"partial_args,omitempty"`
	Interval    any             `arg:"interval,omitempty"`
	Countdown   any             `arg:"countdown,omitempty"`
	MaxRetries  any             `arg:"max_retries,omitempty"`
	Eager       any             `arg:"eager,omitempty"`
	Options     map[string]any  `arg:",remain"`
}

func oldChord(ctx context.Context, call *TaskCall, args oldChordArgs) (any, error) {
	header := args.Header
	if header.Kind() == celeryproto.KindObject { // a group
		group, err := canvas.Decode(header)
		if err != nil {
			return nil, bindFailure{&BindError{Argument: "header", Fact: "not a signature"}}
		}
		return applyOldChord(ctx, call, args, group.Tasks())
	}
	tasks, err := signatures("header", header)
	if err != nil {
		return nil, err
	}
	return applyOldChord(ctx, call, args, tasks)
}

func applyOldChord(ctx context.Context, call *TaskCall, args oldChordArgs, tasks []*canvas.Signature) (any, error) {
	body, err := canvas.Decode(args.Body)
	if err != nil {
		return nil, bindFailure{&BindError{Argument: "body", Fact: "not a signature"}}
	}
	partial, err := valuesOf("partial_args", args.PartialArgs)
	if err != nil {
		return nil, err
	}
	chord := canvas.Chord(canvas.Group(tasks...), body)
	for name, value := range args.Options {
		chord = chord.Set(name, value)
	}
	return resultTuple(call.Apply(ctx, chord, partial...))
}

// signatures reads a list of signatures.
func signatures(argument string, list celeryproto.Raw) ([]*canvas.Signature, error) {
	items, err := list.Array()
	if err != nil {
		return nil, bindFailure{&BindError{Argument: argument, Fact: "not a list"}}
	}
	tasks := make([]*canvas.Signature, len(items))
	for i, item := range items {
		if tasks[i], err = canvas.Decode(item); err != nil {
			return nil, bindFailure{&BindError{Argument: argument, Fact: "not a list of signatures"}}
		}
	}
	return tasks, nil
}

// valuesOf reads a list of arguments that are passed on; nil for none.
func valuesOf(argument string, list celeryproto.Raw) ([]any, error) {
	if list.IsNull() {
		return nil, nil
	}
	items, err := list.Array()
	if err != nil {
		return nil, bindFailure{&BindError{Argument: argument, Fact: "not a list"}}
	}
	values := make([]any, len(items))
	for i, item := range items {
		values[i] = item
	}
	return values, nil
}

// cleaner is a Backend from which results that are over have to be removed; Redis removes them itself.
type cleaner interface {
	Cleanup(ctx context.Context) error
}

// cleanBackend is what celery beat has run every day at four.
func cleanBackend(ctx context.Context, call *TaskCall, _ struct{}) (any, error) {
	if call.exec == nil || call.exec.settle == nil {
		return nil, nil
	}
	if backend, ok := call.exec.settle.results.(cleaner); ok {
		return nil, backend.Cleanup(ctx)
	}
	return nil, nil
}
