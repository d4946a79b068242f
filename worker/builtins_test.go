package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// addTask registers "shop.add", and "shop.steer", which ends as its text says.
func registerCalled(w *Worker) {
	HandleFunc(w, Func{Name: "shop.add", Params: []string{"x", "y"}, Run: func(_ context.Context, x int, y *int) (int, error) {
		if y == nil {
			return x + 100, nil
		}
		return x + *y, nil
	}})
	HandleFunc(w, Func{Name: "shop.steer", Run: func(_ context.Context, how string) (string, error) {
		switch how {
		case "retry":
			return "", Retry(&Exception{Type: "ValueError", Args: []any{"busy"}}, 0)
		case "again":
			return "", &RetryError{}
		case "replace":
			return "", Replace(canvas.New("shop.add", 1))
		case "ignore":
			return "", ErrIgnore
		case "fail":
			return "", &Exception{Type: "KeyError", Args: []any{"k"}}
		}
		return how, nil
	}})
}

// signatureOf is a signature as an argument.
func signatureOf(t testing.TB, s *canvas.Signature) celeryproto.Raw {
	t.Helper()
	raw, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestMapAndStarmap(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, registerCalled)
	for _, test := range []struct {
		task, called string
		it           any
		want         string
	}{
		{"celery.map", "shop.add", []int{1, 2, 3}, `[101, 102, 103]`},
		{"celery.map", "shop.add", []int{}, `[]`},
		{"celery.map", "shop.steer", []string{"a", "fail", "b"}, `builtins.KeyError[k]`},
		{"celery.map", "shop.steer", []string{"retry"}, `builtins.ValueError[busy]`},
		{"celery.map", "shop.steer", []string{"a", "again"}, `builtins.RuntimeError[worker: task "shop.steer", called for element 1 of a list, cannot be retried or replaced: it has no message of its own]`},
		{"celery.map", "shop.steer", []string{"replace"}, `builtins.RuntimeError[worker: task "shop.steer", called for element 0 of a list, cannot be retried or replaced: it has no message of its own]`},
		{"celery.map", "shop.add", []any{nil}, `builtins.TypeError[0 is null, want an integer]`},
		{"celery.map", "shop.add", 5, `builtins.TypeError[it is not a list]`},
		{"celery.starmap", "shop.add", [][]int{{1, 2}, {3}}, `[3, 103]`},
		{"celery.starmap", "shop.add", []int{1}, `builtins.TypeError[it is an element is no list of arguments but number]`},
	} {
		task := mustTask(t, test.task, nil, map[string]any{"task": signatureOf(t, canvas.New(test.called)), "it": test.it})
		if d := r.settled(task); d.ended != "ack" {
			t.Errorf("%s of %v: ended with %q", test.task, test.it, d.ended)
		}
		m := r.broker.result(task.ID)
		got := m.Result.String()
		if m.Status == celeryproto.StatusFailure {
			class, args := exceptionIn(t, m)
			got = class + fmt.Sprint(args)
		}
		if got != test.want && !strings.Contains(test.want, "TypeError") || !strings.HasPrefix(got, strings.Split(test.want, "[")[0]) {
			t.Errorf("%s of %v: got %s, want %s", test.task, test.it, got, test.want)
		}
	}
}

// What a mapped task is called with is a call inside of the map's own: IDs and headers are those of the map.
func TestMapIsTheCallOfItsElements(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, func(w *Worker) {
		HandleFunc(w, Func{Name: "shop.who", Run: func(_ context.Context, c *TaskCall, n int) (string, error) {
			return fmt.Sprintf("%s %s %s %d", c.Task.Name, c.Task.ID, c.Task.Kwargs, n), nil
		}})
	})
	task := mustTask(t, "celery.map", []any{signatureOf(t, canvas.New("shop.who")), []int{7}}, nil)
	r.settled(task)
	if got, want := r.broker.result(task.ID).Result.String(), fmt.Sprintf(`["shop.who %s  7"]`, task.ID); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestMapOfAnotherWorkersTask(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, registerCalled)
	for _, name := range []string{"celery.map", "celery.starmap"} {
		task := mustTask(t, name, nil, map[string]any{"task": signatureOf(t, canvas.New("python.only")), "it": []int{1}})
		if d := r.settled(task); d.ended != "requeue" {
			t.Errorf("%s: ended with %q, want it to go on to a worker that has the task", name, d.ended)
		}
		task = mustTask(t, name, []any{signatureOf(t, canvas.New("python.only")), []int{1}}, nil)
		if d := r.settled(task); d.ended != "requeue" {
			t.Errorf("%s by position: ended with %q", name, d.ended)
		}
		if d := r.settled(mustTask(t, name, nil, nil)); d.ended != "ack" {
			t.Errorf("%s without arguments: ended with %q, want the failure", name, d.ended)
		}
	}
}

func TestAccumulate(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, registerCalled)
	for _, test := range []struct {
		kwargs any
		want   string
	}{
		{nil, `[[1, 2], "x"]`},
		{map[string]any{"index": 0}, `[1, 2]`},
		{map[string]any{"index": -1, "other": true}, `"x"`},
		{map[string]any{"index": nil}, `[[1, 2], "x"]`},
		{map[string]any{"index": 2}, "builtins.IndexError"},
		{map[string]any{"index": -3}, "builtins.IndexError"},
		{map[string]any{"index": "0"}, "builtins.TypeError"},
	} {
		task := mustTask(t, "celery.accumulate", []any{[]int{1, 2}, "x"}, test.kwargs)
		r.settled(task)
		m := r.broker.result(task.ID)
		got := m.Result.String()
		if m.Status == celeryproto.StatusFailure {
			got, _ = exceptionIn(t, m)
		}
		if got != test.want {
			t.Errorf("%v: got %s, want %s", test.kwargs, got, test.want)
		}
	}
}

// sendsFor lets handlers send canvases to the fake broker.
func (r *rig) sendsFor() {
	r.engine.exec.sender = redisSender{flow: r.engine.settle.flow}
}

func TestChunks(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, registerCalled)
	r.sendsFor()
	task := mustTask(t, "celery.chunks", nil, map[string]any{
		"task": signatureOf(t, canvas.New("shop.add")), "it": [][]int{{1, 1}, {2, 2}, {3, 3}}, "n": 2,
	})
	r.settled(task)
	tree, err := celeryproto.DecodeResultTree(r.broker.result(task.ID).Result)
	if err != nil {
		t.Fatal(err)
	}
	sent := r.broker.sent(t)
	if !tree.IsGroup || len(tree.Children) != 2 || len(sent) != 2 {
		t.Fatalf("%d members, %d sent", len(tree.Children), len(sent))
	}
	for i, want := range []string{`[[1, 1], [2, 2]]`, `[[3, 3]]`} {
		it, err := sent[i].Kwargs.Object()
		if err != nil {
			t.Fatal(err)
		}
		got, _ := celeryproto.Members(it).Get("it")
		if sent[i].Name != "celery.starmap" || got.String() != want || sent[i].ParentID != task.ID || sent[i].GroupID != tree.ID || sent[i].ID != tree.Children[i].ID {
			t.Errorf("chunk %d: %s %s of %s in %s", i, sent[i].Name, sent[i].Kwargs, sent[i].ParentID, sent[i].GroupID)
		}
		r.settled(sent[i])
	}
	if got := r.broker.result(sent[0].ID).Result.String(); got != "[2, 4]" {
		t.Errorf("first chunk: %s", got)
	}
	task = mustTask(t, "celery.chunks", []any{signatureOf(t, canvas.New("shop.add")), []int{1}, 0}, nil)
	r.settled(task)
	if class, _ := exceptionIn(t, r.broker.result(task.ID)); class != "builtins.TypeError" {
		t.Errorf("chunks of nothing: %s", class)
	}
}

func TestOldCompositions(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, registerCalled)
	r.sendsFor()
	add := signatureOf(t, canvas.New("shop.add", 1))
	group := celeryproto.ResultTree{ID: "g", IsGroup: true, Children: []celeryproto.ResultTree{{ID: "one"}}}
	task := mustTask(t, "celery.group", []any{[]any{add}, group.Raw(), "g", []any{5}}, nil)
	r.settled(task)
	m := r.broker.result(task.ID)
	if m.Result.String() != group.Raw().String() || m.Children.String() != "["+group.Raw().String()+"]" {
		t.Errorf("group: result %s, children %s", m.Result, m.Children)
	}
	sent := r.broker.sent(t)
	if len(sent) != 1 || sent[0].Args.String() != "[5, 1]" || sent[0].GroupID != "g" {
		t.Errorf("group: sent %+v", sent)
	}
	task = mustTask(t, "celery.chain", []any{[]any{add}}, nil)
	r.settled(task)
	if class, args := exceptionIn(t, r.broker.result(task.ID)); class != "builtins.NotImplementedError" || args[0] != "chain is not a real task" {
		t.Errorf("chain: %s%v", class, args)
	}
}

func TestProgramsOwnBuiltin(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, steered("celery.backend_cleanup", TaskOptions{}, func(context.Context, *TaskCall) (any, error) { return "mine", nil }))
	task := mustTask(t, "celery.backend_cleanup", nil, nil)
	r.settled(task)
	if got := r.broker.result(task.ID).Result.String(); got != `"mine"` {
		t.Errorf("got %s", got)
	}
	if got := r.w.Queues(); !slices.Equal(got, []string{"go"}) {
		t.Errorf("queues %v", got)
	}
}

func TestBuiltinsConsumeNothing(t *testing.T) {
	t.Parallel()
	w, err := New(Config{Settings: testSettings(), App: "test"})
	if err != nil {
		t.Fatal(err)
	}
	HandleFunc(w, Func{Name: "shop.add", Queue: "shop", Run: func(context.Context) error { return nil }})
	if err := w.handlers.freeze(); err != nil {
		t.Fatal(err)
	}
	if got := w.Queues(); !slices.Equal(got, []string{"shop"}) {
		t.Errorf("queues %v", got)
	}
	empty, err := New(Config{Settings: testSettings(), App: "test"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := empty.handlers.freeze(); err == nil || err.Error() != "worker: no handler is registered" {
			t.Errorf("a worker with nothing but built-in tasks: %v", err)
		}
	}
}

// cleanBroker is a result backend that has to be cleaned.
type cleanBroker struct {
	*fakeBroker
	cleaned int
}

func (b *cleanBroker) Cleanup(context.Context) error {
	b.cleaned++
	return nil
}

func TestBackendCleanup(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, registerCalled)
	if d := r.settled(mustTask(t, "celery.backend_cleanup", nil, nil)); d.ended != "ack" {
		t.Errorf("a backend that cleans itself: ended with %q", d.ended)
	}
	backend := &cleanBroker{fakeBroker: r.broker}
	r.engine.settle.results = backend
	r.settled(mustTask(t, "celery.backend_cleanup", nil, nil))
	if backend.cleaned != 1 {
		t.Errorf("cleaned %d times", backend.cleaned)
	}
}

// unlock is a celery.chord_unlock as Celery sends it (celery 5.7, backends/base.py, fallback_chord_unlock).
func unlock(t testing.TB, body *canvas.Signature, maxRetries any, header ...celeryproto.ResultTree) *celeryproto.Task {
	t.Helper()
	result := make([]celeryproto.Raw, len(header))
	for i := range header {
		result[i] = header[i].Raw()
	}
	return mustTask(t, "celery.chord_unlock", []any{"group", signatureOf(t, body)}, map[string]any{
		"interval": 2, "max_retries": maxRetries, "result": result,
	})
}

func (r *rig) store(id, status, result string) {
	_ = r.broker.Store(r.t.Context(), &celeryproto.ResultMeta{TaskID: id, Status: status, Result: celeryproto.Raw(result)}) // in memory
}

func TestChordUnlock(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, registerCalled)
	r.sendsFor()
	body := canvas.New("shop.total").Set("task_id", "body")
	task := unlock(t, body, nil, celeryproto.ResultTree{ID: "a"},
		celeryproto.ResultTree{ID: "g", IsGroup: true, Children: []celeryproto.ResultTree{{ID: "b"}, {ID: "c"}}})
	r.store("a", celeryproto.StatusSuccess, "1")
	r.store("b", celeryproto.StatusSuccess, "2")
	before := time.Now()
	r.settled(task)
	sent := r.broker.sent(t)
	if len(sent) != 1 || sent[0].ID != task.ID || sent[0].Retries != 1 || sent[0].Kwargs.String() != task.Kwargs.String() {
		t.Fatalf("not complete: sent %+v", sent)
	}
	if wait := sent[0].ETA.Sub(before); wait < time.Second || wait > 5*time.Second {
		t.Errorf("comes back after %s", wait)
	}
	r.store("c", celeryproto.StatusRetry, "null")
	again := sent[0]
	again.ETA = nil
	r.settled(again)
	if sent = r.broker.sent(t); len(sent) != 2 || sent[1].Retries != 2 {
		t.Fatalf("a task that is retried: sent %+v", sent)
	}
	r.store("c", celeryproto.StatusSuccess, `{"c": 3}`)
	again = sent[1]
	again.ETA = nil
	r.settled(again)
	sent = r.broker.sent(t)
	if len(sent) != 3 || sent[2].Name != "shop.total" || sent[2].ID != "body" || sent[2].Args.String() != `[[1, [2, {"c": 3}]]]` || sent[2].ParentID != task.ID {
		t.Fatalf("complete: sent %+v", sent[2:])
	}
	if m := r.broker.result(task.ID); m != nil && m.Status == celeryproto.StatusSuccess {
		t.Errorf("a result was stored: %+v", m)
	}
}

func TestChordUnlockFailedPart(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, registerCalled)
	r.sendsFor()
	failure := `{"exc_type": "ValueError", "exc_message": ["no"], "exc_module": "builtins"}`
	for _, test := range []struct {
		member celeryproto.ResultTree
		want   string
	}{
		{celeryproto.ResultTree{ID: "bad"}, "Dependency bad raised ValueError('no')"},
		{celeryproto.ResultTree{ID: "g", IsGroup: true, Children: []celeryproto.ResultTree{{ID: "good"}, {ID: "bad"}}}, "ValueError('no')"},
	} {
		r.store("good", celeryproto.StatusSuccess, "1")
		r.store("bad", celeryproto.StatusFailure, failure)
		r.broker.mu.Lock()
		delete(r.broker.stored, "body")
		r.broker.mu.Unlock()
		r.settled(unlock(t, canvas.New("shop.total").Set("task_id", "body"), nil, celeryproto.ResultTree{ID: "good"}, test.member))
		class, args := exceptionIn(t, r.broker.result("body"))
		if class != "celery.exceptions.ChordError" || !cmp.Equal(args, []any{test.want}) {
			t.Errorf("%s%v, want %s", class, args, test.want)
		}
	}
	if sent := r.broker.sent(t); len(sent) > 0 {
		t.Errorf("sent %+v", sent)
	}
	// The body's errbacks are found through its children, although another task sent them.
	r.settled(unlock(t, canvas.New("shop.total").Set("task_id", "body").LinkError(canvas.New("shop.alarm")), nil, celeryproto.ResultTree{ID: "bad"}))
	sent := r.broker.sent(t)
	if len(sent) != 1 || sent[0].Name != "shop.alarm" || sent[0].Args.String() != `["body"]` || sent[0].ParentID != "body" {
		t.Fatalf("errbacks: %+v", sent)
	}
	want := fmt.Sprintf(`[[["%s", null], [[["%s", null], null]]]]`, sent[0].GroupID, sent[0].ID)
	if got := r.broker.result("body").Children.String(); got != want {
		t.Errorf("children %s, want %s", got, want)
	}
}

func TestChordUnlockGivesUp(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, registerCalled)
	r.sendsFor()
	task := unlock(t, canvas.New("shop.total").Set("task_id", "body"), 3, celeryproto.ResultTree{ID: "never"})
	task.Retries = 3
	r.settled(task)
	class, args := exceptionIn(t, r.broker.result("body"))
	if class != "celery.exceptions.ChordError" || !strings.HasPrefix(fmt.Sprint(args[0]), "chord_unlock could not be retried: MaxRetriesExceededError(") {
		t.Errorf("%s%v", class, args)
	}
}

func TestChordUnlockNeedsBackend(t *testing.T) {
	t.Parallel()
	_, err := unlockChord(t.Context(), &TaskCall{}, unlockArgs{})
	if !errors.Is(err, errNoBackend) {
		t.Errorf("got %v", err)
	}
}
