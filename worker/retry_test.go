package worker

import (
	"context"
	"testing"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// A retry with new arguments by position or by name drops the old ones that it replaces and keeps the others, as Celery does.
func TestRetryKeepsArguments(t *testing.T) {
	t.Parallel()
	type args struct {
		Foo   int    `arg:"foo,omitempty"`
		Bar   int    `arg:"bar,omitempty"`
		Label string `arg:"label,omitempty"`
	}
	for _, test := range []struct {
		name, args, kwargs   string // of the task
		retry                RetryError
		wantArgs, wantKwargs string
	}{
		{"from names to positions", `[]`, `{"foo": 1, "bar": 2, "label": "kept"}`, RetryError{Args: []any{2, 3}}, `[2, 3]`, `{"label": "kept"}`},
		{"all names", `[]`, `{"foo": 1, "bar": 2}`, RetryError{Args: []any{2, 3}}, `[2, 3]`, `{}`},
		{"no names before", `[1]`, `{}`, RetryError{Args: []any{2}}, `[2]`, `{}`},
		{"from positions to names", `[1, 2]`, `{}`, RetryError{Kwargs: map[string]any{"foo": 2}}, `[2, 2]`, `{}`},
		{"beside positions", `[1]`, `{}`, RetryError{Kwargs: map[string]any{"label": "new"}}, `[1]`, `{"label": "new"}`},
		{"both given", `[1]`, `{"bar": 2}`, RetryError{Args: []any{5}, Kwargs: map[string]any{"label": "new"}}, `[5]`, `{"label": "new"}`},
		{"neither given", `[1]`, `{"bar": 2}`, RetryError{}, `[1]`, `{"bar": 2}`},
		{"no arguments", `[1]`, `{"bar": 2}`, RetryError{Args: []any{}, Kwargs: map[string]any{}}, `[]`, `{}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := startRig(t, Config{}, func(w *Worker) {
				HandleTask(w, Task[args, int]{Name: "struct", Run: func(context.Context, *TaskCall, args) (int, error) {
					retry := test.retry
					return 0, &retry
				}})
				HandleFunc(w, Func{Name: "func", Params: []string{"foo", "bar", "label"}, Run: func(context.Context, *int, *int, *string) error {
					retry := test.retry
					return &retry
				}})
			})
			for i, name := range []string{"struct", "func"} {
				task := mustTask(t, name, nil, nil)
				task.Args, task.Kwargs = celeryproto.Raw(test.args), celeryproto.Raw(test.kwargs)
				r.settled(task)
				sent := r.broker.sent(t)
				if len(sent) != i+1 {
					t.Fatalf("%s: %d sent, result %+v", name, len(sent), r.broker.result(task.ID))
				}
				if next := sent[i]; next.Args.String() != test.wantArgs || next.Kwargs.String() != test.wantKwargs {
					t.Errorf("%s: retried with %s %s, want %s %s", name, next.Args, next.Kwargs, test.wantArgs, test.wantKwargs)
				}
			}
		})
	}
}

// What Celery refuses in replace and add_to_chord is the exception that it raises.
func TestRefusedCanvases(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, func(w *Worker) {
		steered("empty", TaskOptions{}, func(context.Context, *TaskCall) (any, error) { return nil, Replace(canvas.Chain()) })(w)
		steered("chord", TaskOptions{}, func(context.Context, *TaskCall) (any, error) {
			return nil, Replace(canvas.New("instead").Set("chord", canvas.New("body")))
		})(w)
		steered("alone", TaskOptions{}, func(ctx context.Context, c *TaskCall) (any, error) {
			return nil, c.AddToChord(ctx, canvas.New("part"))
		})(w)
	})
	r.sendsFor()
	for name, want := range map[string]string{
		"empty": "celery.exceptions.ImproperlyConfigured: Cannot replace with an empty chain",
		"chord": "celery.exceptions.ImproperlyConfigured: A signature replacing a task must not be part of a chord",
		"alone": "builtins.ValueError: Current task is not member of any chord",
	} {
		task := mustTask(t, name, nil, nil)
		r.settled(task)
		class, args := exceptionIn(t, r.broker.result(task.ID))
		if len(args) != 1 || class+": "+args[0].(string) != want {
			t.Errorf("%s: %s%v, want %s", name, class, args, want)
		}
	}
}
