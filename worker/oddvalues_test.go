package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

// Errors and values whose methods panic: a nil pointer is the one that programs really return.
type (
	nilError      struct{ text string }
	selfPanic     struct{}
	unwrapPanics  struct{}
	isPanics      struct{}
	endless       struct{}
	marshalPanics struct{}
)

func (e *nilError) Error() string { return e.text }

func (e selfPanic) Error() string { panic(e) }

func (unwrapPanics) Error() string { return "outer" }
func (unwrapPanics) Unwrap() error { panic("no inner") }

func (isPanics) Error() string { return "is" }
func (isPanics) Is(error) bool { panic("no answer") }

func (endless) Error() string   { return "endless" }
func (e endless) Unwrap() error { return e }

func (marshalPanics) MarshalJSON() ([]byte, error) { panic("no JSON") }

func cycle() map[string]any {
	m := map[string]any{}
	m["self"] = m
	return m
}

func nest(depth int) any {
	var v any = 1
	for range depth {
		v = []any{v}
	}
	return v
}

// TestOddValues: whatever a handler returns, raises or panics with is an outcome of its task. None ends the worker, as a panic outside of
// the handler would, or a stack without end.
func TestOddValues(t *testing.T) {
	t.Parallel()
	const runtimeError, encodeError = "builtins.RuntimeError", "kombu.exceptions.EncodeError"
	cases := []struct {
		name    string
		run     func() (any, error)
		class   string // of the stored exception; "" for a success
		want    string // part of its first argument, or the whole result
		options TaskOptions
	}{
		{name: "nil error type", run: func() (any, error) { return nil, (*nilError)(nil) }, class: runtimeError, want: "nil pointer"},
		{name: "nil inside", run: func() (any, error) { return nil, fmt.Errorf("x: %w", (*nilError)(nil)) }, class: runtimeError, want: "nil pointer"},
		{name: "nil Exception", run: func() (any, error) { return nil, (*Exception)(nil) }, class: runtimeError, want: "nil pointer"},
		{name: "nil Exception inside", run: func() (any, error) { return nil, fmt.Errorf("x: %w", (*Exception)(nil)) }, class: runtimeError, want: "nil pointer"},
		{name: "nil RetryError", run: func() (any, error) { return nil, fmt.Errorf("x: %w", (*RetryError)(nil)) }, class: runtimeError, want: "nil pointer"},
		{name: "nil RejectError", run: func() (any, error) { return nil, errors.Join((*RejectError)(nil)) }, class: runtimeError, want: "nil pointer"},
		{name: "Error panics", run: func() (any, error) { return nil, selfPanic{} }, class: runtimeError, want: "(worker.selfPanic)"},
		{name: "Unwrap panics", run: func() (any, error) { return nil, unwrapPanics{} }, class: runtimeError, want: "no inner"},
		{name: "Is panics", run: func() (any, error) { return nil, isPanics{} }, class: runtimeError, want: "no answer"},
		{name: "wraps itself", run: func() (any, error) { return nil, endless{} }, class: runtimeError, want: "wraps more than"},
		{name: "panic with nil", run: func() (any, error) { panic(nil) }, class: runtimeError, want: "nil"}, //nolint:govet // what is tested
		{name: "panic with an error", run: func() (any, error) { panic(errors.New("oops")) }, class: runtimeError, want: "panic: oops"},
		{name: "panic with a number", run: func() (any, error) { panic(5) }, class: runtimeError, want: "panic: 5"},
		{name: "panic with a circle", run: func() (any, error) { panic(cycle()) }, class: runtimeError, want: "panic: (map[string]interface {})"},
		{name: "panic with a list", run: func() (any, error) { panic([]int{1, 2}) }, class: runtimeError, want: "panic: [1, 2]"},
		{name: "panic that panics", run: func() (any, error) { panic(selfPanic{}) }, class: runtimeError, want: "panic: (worker.selfPanic)"},
		{name: "exception of a circle", run: func() (any, error) { return nil, &Exception{Type: "KeyError", Args: []any{cycle()}} },
			class: "builtins.KeyError", want: "(map[string]interface {})"},
		{name: "exception of a channel", run: func() (any, error) { return nil, &Exception{Type: "KeyError", Args: []any{make(chan int)}} },
			class: "builtins.KeyError", want: "(chan int)"},
		{name: "exception without a class", run: func() (any, error) { return nil, &Exception{} }, class: runtimeError, want: "exc_type"},
		{name: "AutoRetry panics", run: func() (any, error) { return nil, errors.New("x") }, class: runtimeError, want: "not asked",
			options: TaskOptions{AutoRetry: func(error) bool { panic("not asked") }}},
		{name: "Throws panics", run: func() (any, error) { return nil, errors.New("as it was") }, class: runtimeError, want: "as it was",
			options: TaskOptions{Throws: func(error) bool { panic("no") }}},
		{name: "circle", run: func() (any, error) { return cycle(), nil }, class: encodeError, want: "nested too deeply"},
		{name: "channel", run: func() (any, error) { return []any{make(chan int)}, nil }, class: encodeError, want: "chan int"},
		{name: "function", run: func() (any, error) { return func() {}, nil }, class: encodeError, want: "func()"},
		{name: "too deep", run: func() (any, error) { return nest(600), nil }, class: encodeError, want: "nested too deeply"},
		{name: "MarshalJSON panics", run: func() (any, error) { return marshalPanics{}, nil }, class: encodeError, want: "MarshalJSON panicked"},
		{name: "unknown type", run: func() (any, error) { return map[string]any{"__type__": "money", "__value__": 1}, nil }, class: encodeError, want: "money"},
		{name: "broken JSON", run: func() (any, error) { return celeryproto.Raw("{"), nil }, class: encodeError, want: "expected a key"},
		{name: "NaN", run: func() (any, error) { return math.NaN(), nil }, want: "NaN"}, // as in Celery, which reads it too
		{name: "not UTF-8", run: func() (any, error) { return "a\xffb", nil }, want: `"a\ufffdb"`},
		{name: "bytes", run: func() (any, error) { return []byte("\xff"), nil }, want: `{"__type__": "base64", "__value__": "/w=="}`},
	}
	r := startRig(t, Config{}, func(w *Worker) {
		for _, tc := range cases {
			HandleTask(w, Task[struct{}, any]{Name: tc.name, Options: tc.options, Run: func(context.Context, *TaskCall, struct{}) (any, error) { return tc.run() }})
		}
	})
	for _, tc := range cases {
		task := mustTask(t, tc.name, nil, nil)
		if d := r.settled(task); d.ended != "ack" {
			t.Errorf("%s: ended with %q", tc.name, d.ended)
		}
		m := r.broker.result(task.ID)
		if m == nil {
			t.Fatalf("%s: no result", tc.name)
		}
		if tc.class == "" {
			if m.Status != celeryproto.StatusSuccess || m.Result.String() != tc.want {
				t.Errorf("%s: %s %s", tc.name, m.Status, m.Result)
			}
			continue
		}
		class, args := exceptionIn(t, m)
		if m.Status != celeryproto.StatusFailure || class != tc.class || len(args) == 0 || !strings.Contains(fmt.Sprint(args[0]), tc.want) {
			t.Errorf("%s: %s %s%.200v", tc.name, m.Status, class, args)
		}
	}
}

// TestOddValuesOfSignals is the same for the handlers of a signal: the next handler runs.
func TestOddValuesOfSignals(t *testing.T) {
	t.Parallel()
	ran := 0
	r := startRig(t, Config{}, func(w *Worker) {
		for _, run := range []func() error{
			func() error { return (*nilError)(nil) }, func() error { return selfPanic{} }, func() error { panic(cycle()) },
			func() error { return endless{} }, func() error { ran++; return nil },
		} {
			HandleSignal(w, Signal[struct{}]{Name: "odd", Run: func(context.Context, *Call, struct{}) error { return run() }})
		}
	})
	task := mustSignal(t, compat.SignalCall{Signal: "odd", ToServer: true, Queue: "go"})
	if d := r.settled(task); d.ended != "ack" || ran != 1 {
		t.Errorf("ended with %q, the last handler ran %d times", d.ended, ran)
	}
	if class, args := exceptionIn(t, r.broker.result(task.ID)); class != "builtins.RuntimeError" || len(args) != 1 {
		t.Errorf("%s%v", class, args)
	}
}

// TestExceptionTexts: the text of an exception of any arguments ends.
func TestExceptionTexts(t *testing.T) {
	t.Parallel()
	e := &Exception{Type: "E", Args: []any{1, "two", nil, 2.5, errors.New("five"), []int{6}, cycle(), selfPanic{}, (*nilError)(nil)}}
	want := "E: 1, two, null, 2.5, five, [6], (map[string]interface {}), (worker.selfPanic), (*worker.nilError)"
	if diff := cmp.Diff(want, e.Error()); diff != "" {
		t.Error(diff)
	}
}
