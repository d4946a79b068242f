package worker

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/dfws/dfws/celeryproto"
)

func TestHandleFunc(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, func(w *Worker) {
		HandleFunc(w, Func{Name: "sum", Params: []string{"x", "y", "z"}, Run: func(_ context.Context, x, y int, z *int) (int, error) {
			if z != nil {
				x += *z
			}
			return x + y, nil
		}})
		HandleFunc(w, Func{Name: "join", Run: func(_ context.Context, c *TaskCall, first string, rest ...string) (string, error) {
			return c.Task.Name + ":" + first + strings.Join(rest, ""), nil
		}})
		HandleFunc(w, Func{Name: "nothing", Run: func(context.Context) error { return nil }})
		HandleTask(w, Task[RawArgs, string]{Name: "raw", Run: func(_ context.Context, _ *TaskCall, a RawArgs) (string, error) {
			return fmt.Sprint(a.Args, a.Kwargs), nil
		}})
	})
	for _, tc := range []struct {
		task         string
		args, kwargs any
		want         string // the result, or the text of the TypeError
	}{
		{"sum", []any{1, 2}, nil, "3"},
		{"sum", []any{1}, map[string]any{"y": 2, "z": 3}, "6"},
		{"sum", []any{1}, nil, `argument "y": missing`},
		{"sum", []any{1, 2, 3, 4}, nil, "arguments: 4 positional arguments, want at most 3"},
		{"sum", []any{1, "2"}, nil, `argument "y": a text, want an integer`},
		{"sum", []any{1, 2}, map[string]any{"x": 2, "q": 1}, `argument "q": unknown argument; argument "x": given by position and by name`},
		{"join", []any{"a", "b", "c"}, nil, `"join:abc"`},
		{"join", []any{"a", 5}, nil, `argument "1": an integer, want a text`},
		{"join", nil, nil, `argument "0": missing`},
		{"nothing", nil, nil, "null"},
		{"nothing", []any{1}, nil, "arguments: 1 positional arguments, want at most 0"},
		{"raw", []any{1, nil}, map[string]any{"b": "c"}, `"[1 null] [{b \"c\"}]"`},
	} {
		task := mustTask(t, tc.task, tc.args, tc.kwargs)
		r.settled(task)
		m := r.broker.result(task.ID)
		got := m.Result.String()
		if m.Status == celeryproto.StatusFailure {
			_, args := exceptionIn(t, m)
			got = fmt.Sprint(args[0])
		}
		if got != tc.want {
			t.Errorf("%s%v%v: %s, want %s", tc.task, tc.args, tc.kwargs, got, tc.want)
		}
	}
}

func TestHandleFuncMistakes(t *testing.T) {
	t.Parallel()
	w, err := New(Config{Settings: testSettings(), App: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ok := func(context.Context, int) error { return nil }
	for name, f := range map[string]Func{
		"no function": {Run: 5}, "no context": {Run: func(int) error { return nil }}, "no error": {Run: func(context.Context) int { return 0 }},
		"names": {Run: ok, Params: []string{"a", "b"}}, "nil": {}, "three results": {Run: func(context.Context) (int, int, error) { return 0, 0, nil }},
		"rate": {Run: ok, Options: TaskOptions{RateLimit: "often"}}, "limits": {Run: ok, Options: TaskOptions{TimeLimit: 1, SoftTimeLimit: 2}},
	} {
		f.Name = name
		HandleFunc(w, f)
		if n := len(w.handlers.faults); n == 0 || !strings.Contains(w.handlers.faults[n-1].Error(), name) {
			t.Errorf("%s: accepted", name)
		}
	}
}
