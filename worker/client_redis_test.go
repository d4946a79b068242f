package worker

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/integration/redistest"
)

// workflows registers tasks for compositions.
func workflows(w *Worker) {
	addTask(w)
	HandleTask(w, Task[struct {
		N celeryproto.Raw `arg:"n"`
	}, int]{Name: "demo.fail", Run: func(context.Context, *TaskCall, struct {
		N celeryproto.Raw `arg:"n"`
	}) (int, error) {
		return 0, &Exception{Type: "ValueError", Args: []any{"no"}}
	}})
	HandleTask(w, Task[struct{ N []int }, int]{Name: "demo.sum", Run: func(_ context.Context, _ *TaskCall, in struct{ N []int }) (int, error) {
		sum := 0
		for _, n := range in.N {
			sum += n
		}
		return sum, nil
	}})
	HandleTask(w, Task[struct{ N int }, int]{Name: "demo.progress", Run: func(ctx context.Context, call *TaskCall, in struct{ N int }) (int, error) {
		if err := call.UpdateState(ctx, "PROGRESS", map[string]any{"at": in.N}); err != nil {
			return 0, err
		}
		<-ctx.Done()
		return 0, ctx.Err()
	}})
	HandleTask(w, Task[struct{}, string]{Name: "demo.spawn", Run: func(ctx context.Context, call *TaskCall, _ struct{}) (string, error) {
		_, err := call.Apply(ctx, canvas.New("demo.add", 1, 1).Set("queue", "go"))
		return "spawned", err
	}})
}

func add(x, y any) *canvas.Signature { return canvas.New("demo.add", x, y).Set("queue", "go") }

func onGo(task string, args ...any) *canvas.Signature {
	return canvas.New(task, args...).Set("queue", "go")
}

func TestAsyncResults(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	startWorker(t, Config{Settings: settings, Concurrency: 4}, workflows).awaitReady()
	client := clientFor(t, settings)
	ctx := within10s(t)
	apply := func(sig *canvas.Signature, args ...any) *AsyncResult {
		t.Helper()
		r, err := client.Apply(ctx, sig, args...)
		must(t, err)
		return r
	}

	var n int
	must(t, apply(onGo("demo.add", 2), 40).Get(ctx, &n))
	if n != 42 {
		t.Errorf("40 and 2 are %d", n)
	}
	chain := apply(canvas.Chain(add(1, 2), onGo("demo.add", 10), onGo("demo.add", 100)))
	must(t, chain.Get(ctx, &n))
	if n != 113 || chain.Parent() == nil || chain.Parent().Parent() == nil || chain.Parent().Parent().Parent() != nil {
		t.Errorf("a chain: %d, %+v", n, chain.Tree())
	}
	must(t, chain.Parent().Parent().Get(ctx, &n))
	if n != 3 {
		t.Errorf("the first step: %d", n)
	}

	group := apply(canvas.Group(add(1, 1), add(2, 2), add(3, 3)))
	var sums []int
	must(t, group.Get(ctx, &sums))
	if !slices.Equal(sums, []int{2, 4, 6}) || !group.IsGroup() || len(group.Members()) != 3 {
		t.Errorf("a group: %v", sums)
	}
	for what, ask := range map[string]func(context.Context) (bool, error){"ready": group.Ready, "successful": group.Successful} {
		if yes, err := ask(ctx); err != nil || !yes {
			t.Errorf("%s: %v, %v", what, yes, err)
		}
	}
	for what, ask := range map[string]func(context.Context) (bool, error){"failed": group.Failed, "waiting": group.Waiting} {
		if yes, err := ask(ctx); err != nil || yes {
			t.Errorf("%s: %v, %v", what, yes, err)
		}
	}
	if n, err := group.CompletedCount(ctx); err != nil || n != 3 {
		t.Errorf("completed: %d, %v", n, err)
	}
	must(t, group.Save(ctx))
	restored, err := client.RestoreGroup(ctx, group.ID)
	must(t, err)
	var again [3]int
	must(t, restored.Get(ctx, &again))
	if again != [3]int{2, 4, 6} {
		t.Errorf("restored: %v", again)
	}
	must(t, group.Delete(ctx))
	if _, err := client.RestoreGroup(ctx, group.ID); !errors.Is(err, celeryproto.ErrNoResult) {
		t.Errorf("a deleted group: %v", err)
	}
	must(t, group.Forget(ctx))
	if state, err := group.Members()[0].State(ctx); err != nil || state != celeryproto.StatusPending {
		t.Errorf("after Forget: %s, %v", state, err)
	}

	chord := apply(canvas.Chord(canvas.Group(add(1, 1), add(2, 2)), onGo("demo.sum")))
	must(t, chord.Get(ctx, &n))
	if n != 6 {
		t.Errorf("a chord: %d", n)
	}
}

func TestFailedResults(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	startWorker(t, Config{Settings: settings, Concurrency: 4}, workflows).awaitReady()
	client := clientFor(t, settings)
	ctx := within10s(t)
	wrong := &Exception{Type: "ValueError", Module: "builtins"}

	failing, err := client.Apply(ctx, canvas.Group(add(1, 1), onGo("demo.fail", 1)))
	must(t, err)
	var sums []int
	if err := failing.Get(ctx, &sums); !errors.Is(err, wrong) || sums != nil {
		t.Errorf("a group: %v, %v", sums, err)
	}
	if failed, err := failing.Failed(ctx); err != nil || !failed {
		t.Errorf("failed: %v, %v", failed, err)
	}
	must(t, failing.Members()[0].Get(ctx, nil))
	if ok, err := failing.Successful(ctx); err != nil || ok {
		t.Errorf("successful: %v, %v", ok, err)
	}
	if err := failing.Members()[1].Info(ctx, nil); !errors.Is(err, wrong) {
		t.Errorf("info: %v", err)
	}
	if _, err := failing.State(ctx); err == nil {
		t.Error("a group has a state")
	}

	// What follows a step that was revoked never gets a result: only its parent tells.
	chain, err := client.Apply(ctx, canvas.Chain(add(1, 1).Set("countdown", 3600), onGo("demo.add", 1), onGo("demo.add", 1)))
	must(t, err)
	must(t, chain.Parent().Parent().Revoke(ctx))
	if err := chain.Get(ctx, nil); !errors.Is(err, &Exception{Type: "TaskRevokedError"}) {
		t.Errorf("a chain whose first step was revoked: %v", err)
	}

	chord, err := client.Apply(ctx, canvas.Chord(canvas.Group(add(1, 1), onGo("demo.fail", 1)), onGo("demo.sum")))
	must(t, err)
	if err := chord.Get(ctx, nil); !errors.Is(err, &Exception{Type: "ChordError"}) {
		t.Errorf("a chord with a failing header: %v", err)
	}

	progress := mustSend(t, client, TaskMessage{Name: "demo.progress", Args: []any{7}})
	eventually(t, "it tells of its progress", func() bool {
		state, err := progress.State(ctx)
		return err == nil && state == "PROGRESS"
	})
	var info struct{ At int }
	if err := progress.Info(ctx, &info); err != nil || info.At != 7 {
		t.Errorf("progress: %+v, %v", info, err)
	}
	must(t, progress.Terminate(ctx, ""))
	if err := progress.Get(ctx, nil); !errors.Is(err, &Exception{Type: "TaskRevokedError"}) {
		t.Errorf("a terminated task: %v", err)
	}

	parent := mustSend(t, client, TaskMessage{Name: "demo.spawn"})
	must(t, parent.Get(ctx, nil))
	children, err := parent.Children(ctx)
	if err != nil || len(children) != 1 {
		t.Fatalf("children: %v, %v", children, err)
	}
	must(t, children[0].Get(ctx, nil))
	graph, err := parent.Graph(ctx, false)
	if err != nil || len(graph) != 2 || graph[0].Result.ID != parent.ID || graph[1].Parent.ID != parent.ID || graph[1].Result.ID != children[0].ID {
		t.Errorf("graph: %+v, %v", graph, err)
	}
	if _, err := client.Result("unknown").Graph(ctx, false); !errors.Is(err, ErrIncomplete) {
		t.Errorf("the graph of a task that has not ended: %v", err)
	}
	if graph, err := client.Result("unknown").Graph(ctx, true); err != nil || len(graph) != 1 {
		t.Errorf("the same, as far as it is: %v, %v", graph, err)
	}
	if err := client.Result("unknown").Save(ctx); err == nil {
		t.Error("a task can be saved as a group")
	}
	soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := client.Result("unknown").Get(soon, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for what never comes: %v", err)
	}
}

func TestManyResults(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	startWorker(t, Config{Settings: settings, Concurrency: 8}, workflows).awaitReady()
	client := clientFor(t, settings)
	ctx := within10s(t)
	const n = 1000
	tasks := make([]*canvas.Signature, n)
	want := make([]int, n)
	for i := range tasks {
		tasks[i], want[i] = add(i, 1), i+1
	}
	group, err := client.Apply(ctx, canvas.Group(tasks...))
	must(t, err)
	var got []int
	must(t, group.Get(ctx, &got))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNoResultBackend(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	settings.Celery.ResultBackend = ""
	client := clientFor(t, settings)
	r := mustSend(t, client, TaskMessage{Name: "demo.add"})
	if err := r.Get(t.Context(), nil); !errors.Is(err, ErrNoResultBackend) {
		t.Errorf("Get: %v", err)
	}
	if _, err := client.RestoreGroup(t.Context(), "x"); !errors.Is(err, ErrNoResultBackend) {
		t.Errorf("RestoreGroup: %v", err)
	}
	if err := client.Wait(t.Context(), r.ID, nil); !errors.Is(err, ErrNoResultBackend) {
		t.Errorf("Wait: %v", err)
	}
}
