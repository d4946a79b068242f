package workertest_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/worker"
	"github.com/dfws/dfws/worker/workertest"
)

type hello struct {
	Name string `arg:"name"`
}

type pair struct {
	X, Y int
}

func register(w *worker.Worker) {
	worker.HandleSignal(w, worker.Signal[hello]{Name: "demo.hello", Allow: worker.Authenticated, Run: func(ctx context.Context, c *worker.Call, h hello) error {
		c.Logger().Info("hello")
		return c.Trigger(ctx, "demo.answer", map[string]any{"text": "Hello " + h.Name}, worker.ToWindow)
	}})
	worker.HandleTask(w, worker.Task[pair, int]{Name: "demo.add", Run: func(_ context.Context, _ *worker.TaskCall, p pair) (int, error) {
		if p.X < 0 {
			return 0, errors.New("negative")
		}
		return p.X + p.Y, nil
	}})
}

func TestSignal(t *testing.T) {
	t.Parallel()
	bench := workertest.New(t, register)
	refused := bench.Signal(workertest.Signal{Name: "demo.hello", Opts: hello{"Ada"}, FromClient: true})
	if got := refused.Handlers[0].Refused; got != worker.RefusedNotAllowed || len(refused.Triggers) != 0 {
		t.Errorf("an anonymous window: %q, %v", got, refused.Triggers)
	}
	user, err := compat.DecodeWindowInfo(celeryproto.Raw(`{"user_pk": 1, "user_set": true}`))
	if err != nil {
		t.Fatal(err)
	}
	called := bench.Signal(workertest.Signal{
		Name: "demo.hello", Opts: map[string]any{"name": "Ada"}, FromClient: true, Window: user, Topics: []string{"-broadcast"},
	})
	if called.Outcome != worker.Succeeded || len(called.Triggers) != 1 || !slices.Equal(called.Triggers[0].To, []worker.Target{worker.ToWindow}) {
		t.Errorf("a user: %+v", called)
	}
	if len(called.Frames) != 1 || called.Frames[0].Topics[0] != "-broadcast" {
		t.Errorf("frames %+v", called.Frames)
	}
	bad := bench.Signal(workertest.Signal{Name: "demo.hello", Opts: map[string]any{"nam": 1}})
	if got := bad.Handlers[0]; got.Refused != worker.RefusedBadArguments || got.Err == nil {
		t.Errorf("bad arguments: %+v", got)
	}
}

func TestTask(t *testing.T) {
	t.Parallel()
	bench := workertest.New(t, register)
	if got := bench.Task(workertest.Task{Name: "demo.add", Args: []any{1}, Kwargs: map[string]any{"y": 2}}).Value(t); got != int64(3) {
		t.Errorf("1 + 2 = %v", got)
	}
	if failed := bench.Task(workertest.Task{Name: "demo.add", Args: []any{-1, 2}}); failed.Outcome != worker.Failed || failed.Err == nil {
		t.Errorf("%+v", failed)
	}
}
