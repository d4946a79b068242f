package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

type pair struct {
	X int `arg:"x"`
	Y int `arg:"y"`
}

func addTask(w *Worker) {
	HandleTask(w, Task[pair, int]{Name: "demo.add", Run: func(_ context.Context, _ *TaskCall, p pair) (int, error) { return p.X + p.Y, nil }})
}

// failing registers tasks that fail in all ways.
func failing(w *Worker) {
	task := func(name string, run func(ctx context.Context) (any, error)) {
		HandleTask(w, Task[struct{}, any]{Name: name, Run: func(ctx context.Context, _ *TaskCall, _ struct{}) (any, error) { return run(ctx) }})
	}
	task("fail.plain", func(context.Context) (any, error) { return nil, fmt.Errorf("order: %w", errors.New("sold out")) })
	task("fail.value", func(context.Context) (any, error) { return nil, &Exception{Type: "ValueError", Args: []any{"boom", 5}} })
	task("fail.wrapped", func(context.Context) (any, error) {
		return nil, fmt.Errorf("outer: %w", &Exception{Type: "SoldOut", Module: "shop.errors"})
	})
	task("fail.panic", func(context.Context) (any, error) { panic("oops") })
	task("fail.goexit", func(context.Context) (any, error) { runtime.Goexit(); return nil, nil })
	task("fail.result", func(context.Context) (any, error) { return make(chan int), nil })
	task("fail.wait", func(ctx context.Context) (any, error) { <-ctx.Done(); return nil, ctx.Err() })
}

func TestTaskResult(t *testing.T) {
	t.Parallel()
	settings := testSettings()
	settings.Celery.ResultExtended = true
	r := startRig(t, Config{Settings: settings}, addTask)
	task := mustTask(t, "demo.add", []any{2}, map[string]any{"y": 3})
	task.ParentID, task.GroupID = "parent", "group"
	if d := r.settled(task); d.ended != "ack" {
		t.Errorf("ended with %q", d.ended)
	}
	m := r.broker.result(task.ID)
	if m == nil || m.Status != "SUCCESS" || m.Result.String() != "5" || m.ParentID != "parent" || m.GroupID != "group" || m.DateDone.IsZero() {
		t.Errorf("stored %+v", m)
	}
	x := m.Extended
	if x == nil || x.Name != "demo.add" || x.Args.String() != "[2]" || x.Kwargs.String() != `{"y": 3}` || x.Queue != "go" || x.Worker != "go.test@host" {
		t.Errorf("extended %+v", x)
	}
}

func TestTaskFailures(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{Concurrency: 2}, func(w *Worker) { addTask(w); failing(w) })
	second := 0.01
	for _, tc := range []struct {
		name      string
		args      any
		limit     [2]*float64
		class     string
		message   []any
		traceback string
	}{
		{"fail.plain", nil, [2]*float64{}, "builtins.RuntimeError", []any{"order: sold out"}, "*errors.errorString: sold out"},
		{"fail.value", nil, [2]*float64{}, "builtins.ValueError", []any{"boom", 5.0}, ""},
		{"fail.wrapped", nil, [2]*float64{}, "shop.errors.SoldOut", []any{}, ""},
		{"fail.panic", nil, [2]*float64{}, "builtins.RuntimeError", []any{"panic: oops"}, "worker.failing"},
		{"fail.goexit", nil, [2]*float64{}, "billiard.exceptions.WorkerLostError", []any{ErrGoexit.Error()}, ""},
		{"fail.wait", nil, [2]*float64{&second, nil}, "billiard.exceptions.TimeLimitExceeded", []any{0.01}, "context deadline exceeded"},
		{"fail.wait", nil, [2]*float64{nil, &second}, "billiard.exceptions.SoftTimeLimitExceeded", []any{}, "context deadline exceeded"},
		{"demo.add", []any{1}, [2]*float64{}, "builtins.TypeError", []any{`argument "y": missing`}, ""},
	} {
		task := mustTask(t, tc.name, tc.args, nil)
		task.TimeLimit = tc.limit
		if d := r.settled(task); d.ended != "ack" {
			t.Errorf("%s: ended with %q", tc.name, d.ended)
		}
		m := r.broker.result(task.ID)
		class, message := exceptionIn(t, m)
		if m.Status != "FAILURE" || class != tc.class || !cmp.Equal(message, tc.message) || !strings.Contains(m.Traceback, tc.traceback) {
			t.Errorf("%s: %s %s%v\n%s", tc.name, m.Status, class, message, m.Traceback)
		}
		if strings.Contains(m.Traceback, "worker.(*executor)") || strings.Contains(m.Traceback, "worker.protect") {
			t.Errorf("%s: the traceback shows the worker's own frames:\n%s", tc.name, m.Traceback)
		}
	}
	task := mustTask(t, "fail.result", nil, nil)
	r.settled(task)
	if class, _ := exceptionIn(t, r.broker.result(task.ID)); class != "kombu.exceptions.EncodeError" {
		t.Errorf("a result that JSON does not take: %s", class)
	}
}

func TestIgnoreResult(t *testing.T) {
	t.Parallel()
	no, yes := false, true
	r := startRig(t, Config{}, func(w *Worker) {
		run := func(context.Context, *TaskCall, struct{}) (int, error) { return 1, nil }
		HandleTask(w, Task[struct{}, int]{Name: "quiet", Options: TaskOptions{IgnoreResult: Yes}, Run: run})
		HandleTask(w, Task[struct{}, int]{Name: "loud", Run: run})
	})
	for _, tc := range []struct {
		task   string
		header *bool
		stored bool
	}{{"quiet", nil, false}, {"quiet", &no, true}, {"loud", nil, true}, {"loud", &yes, false}} {
		task := mustTask(t, tc.task, nil, nil)
		task.IgnoreResult = tc.header
		r.settled(task)
		if got := r.broker.result(task.ID) != nil; got != tc.stored {
			t.Errorf("%s with header %v: stored %v", tc.task, tc.header, got)
		}
	}
}

func TestExpiredAndETA(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, addTask)
	past, soon := time.Now().Add(-time.Second), time.Now().Add(30*time.Millisecond)

	expired := mustTask(t, "demo.add", []any{1, 2}, nil)
	expired.Expires = &past
	if d := r.settled(expired); d.ended != "ack" {
		t.Errorf("expired: ended with %q", d.ended)
	}
	m := r.broker.result(expired.ID)
	if class, args := exceptionIn(t, m); m.Status != "REVOKED" || class != "celery.exceptions.TaskRevokedError" || !cmp.Equal(args, []any{"expired"}) {
		t.Errorf("expired: %s %s%v", m.Status, class, args)
	}
	later := mustTask(t, "demo.add", []any{1, 2}, nil)
	later.ETA = &soon
	d := r.settled(later)
	if !d.parked || time.Now().Before(soon) {
		t.Errorf("ETA: parked %v, run %v too early", d.parked, time.Until(soon))
	}
}

func TestHops(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{MaxHops: 3, HopDelay: 100 * time.Millisecond, MaxHopDelay: 300 * time.Millisecond}, addTask)
	task := mustTask(t, "no.such.task", []any{1}, nil)
	for hop, wait := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond} {
		d := r.settled(task)
		if d.ended != "requeue" || d.wait != wait || (d.rest > 0) != (hop > 0) {
			t.Fatalf("hop %d: %s after %s, rest %s", hop, d.ended, d.wait, d.rest)
		}
		task = again(t, d)
	}
	d := r.settled(task)
	if d.ended != "dead" || !strings.HasPrefix(d.reason, DeadUnhandled) {
		t.Errorf("after the last hop: %s, %q", d.ended, d.reason)
	}
	if class, args := exceptionIn(t, r.broker.result(task.ID)); class != "celery.exceptions.NotRegistered" || !cmp.Equal(args, []any{"no.such.task"}) {
		t.Errorf("%s%v", class, args)
	}
}

// again is the task that went back to a queue.
func again(t *testing.T, d *fakeDelivery) *celeryproto.Task {
	t.Helper()
	envelope, err := celeryproto.DecodeEnvelope(d.envelope)
	if err != nil {
		t.Fatal(err)
	}
	task, err := celeryproto.DecodeTask(envelope)
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func TestUnknownQueue(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{UnknownQueue: "celery"}, addTask)
	if d := r.settled(mustTask(t, "no.such.task", nil, nil)); d.ended != "move" || d.to != "celery" {
		t.Errorf("%s to %q", d.ended, d.to)
	}
}

// Celery's retry keeps the headers of the message that it repeats.
func TestHopsOfPythonsRetry(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{MaxHops: 1}, addTask)
	task := again(t, r.settled(mustTask(t, "no.such.task", nil, nil)))
	task.Retries++
	task.Properties.DeliveryTag = "of the retry"
	if d := r.settled(task); d.ended != "requeue" {
		t.Errorf("the retry: %s, %q", d.ended, d.reason)
	}
}

// Two workers that take each other's queue for Python's do not pass a task around for ever.
func TestUnknownQueueLoop(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{UnknownQueue: "celery", MaxHops: 2}, addTask)
	task := mustTask(t, "no.such.task", nil, nil)
	for range 2 {
		d := r.settled(task)
		if d.ended != "move" {
			t.Fatalf("ended with %q", d.ended)
		}
		task = again(t, d)
	}
	if d := r.settled(task); d.ended != "dead" || !strings.HasPrefix(d.reason, DeadUnhandled) {
		t.Errorf("after the last hop: %s, %q", d.ended, d.reason)
	}
}

// A serializer that only Python reads is no reason to take a task away from Python: only this worker's own tasks are
// refused for it.
func TestForeignSerializer(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{MaxHops: 1}, addTask)
	pickled := func(name string) *celeryproto.Envelope {
		envelope, err := mustTask(t, name, nil, nil).Envelope()
		if err != nil {
			t.Fatal(err)
		}
		envelope.ContentType, envelope.ContentEncoding = "application/x-python-serialize", "binary"
		return envelope
	}
	send := func(envelope *celeryproto.Envelope) *fakeDelivery {
		d := r.delivery()
		r.broker.messagesC <- received{delivery: d, queue: "go", envelope: envelope}
		r.await(d)
		return d
	}
	if d := send(pickled("demo.add")); d.ended != "dead" || !strings.HasPrefix(d.reason, DeadUndecodable) {
		t.Errorf("own task: %s, %q", d.ended, d.reason)
	}
	for _, name := range []string{"python.only", compat.TaskName} {
		envelope := pickled(name)
		d := send(envelope)
		if d.ended != "requeue" {
			t.Fatalf("%s: %s, %q", name, d.ended, d.reason)
		}
		back, err := celeryproto.DecodeEnvelope(d.envelope)
		if err != nil || back.Body != envelope.Body || back.ContentType != envelope.ContentType {
			t.Fatalf("%s went back as %s, %v", name, d.envelope, err)
		}
		if d := send(back); d.ended != "dead" || !strings.HasPrefix(d.reason, DeadUnhandled) || !strings.Contains(d.reason, "python-serialize") {
			t.Errorf("%s after the last hop: %s, %q", name, d.ended, d.reason)
		}
		if class, _ := exceptionIn(t, r.broker.result(envelope.TaskID())); class != "kombu.exceptions.ContentDisallowed" {
			t.Errorf("%s: %s", name, class)
		}
	}
}

// A signal that others handle goes back to them with everything that is to follow it.
func TestForeignSignalWithCallback(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, addTask)
	task := mustSignal(t, compat.SignalCall{Signal: "python.only", Window: celeryproto.Raw("{}"), Opts: celeryproto.Raw("{}"), ToServer: true, Queue: "go"})
	task.Embed.Callbacks = celeryproto.Raw(`[{"task": "a"}]`)
	if d := r.settled(task); d.ended != "requeue" || again(t, d).Embed.Callbacks.IsNull() {
		t.Errorf("%s, %q", d.ended, d.reason)
	}
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, addTask)
	last := mustTask(t, "demo.add", []any{1, 2}, nil)
	last.Embed.Chain = celeryproto.Raw(`[]`)
	if d := r.settled(last); d.ended != "ack" {
		t.Errorf("the last step of a chain: %s", d.ended)
	}
	garbage := r.delivery()
	r.broker.messagesC <- received{delivery: garbage, queue: "go", size: 3, decodeErr: errors.New("no JSON")}
	r.await(garbage)
	if garbage.ended != "dead" || !strings.HasPrefix(garbage.reason, DeadUndecodable) {
		t.Errorf("garbage: %s, %q", garbage.ended, garbage.reason)
	}
	if d := r.settled(mustTask(t, "demo.add", []any{1, 2}, nil)); d.ended != "ack" {
		t.Errorf("the next message: %s", d.ended)
	}
}

func TestSignalHandlers(t *testing.T) {
	t.Parallel()
	var refused, failed []string
	observer := Observer{
		Refused:       func(_, _, reason string) { refused = append(refused, reason) },
		HandlerFailed: func(signal, _ string, panicked bool) { failed = append(failed, fmt.Sprint(signal, panicked)) },
	}
	type args struct {
		N int `arg:"n"`
	}
	r := startRig(t, Config{Observer: observer}, func(w *Worker) {
		handle := func(allow Rule, queue string, run func(ctx context.Context, c *Call, a args) error) {
			HandleSignal(w, Signal[args]{Name: "demo.many", Queue: queue, Allow: allow, Run: run})
		}
		handle(Everyone, "", func(context.Context, *Call, args) error { panic("first") })
		handle(Everyone, "", func(context.Context, *Call, args) error { return errors.New("second") })
		handle(Staff, "", func(context.Context, *Call, args) error { return errors.New("not for this window") })
		handle(HasPerm("a.b"), "", func(context.Context, *Call, args) error { return errors.New("neither") })
		handle(RuleFunc(func(*Call) bool { panic("rule") }), "", func(context.Context, *Call, args) error { return nil })
		handle(Everyone, "other", func(context.Context, *Call, args) error { return errors.New("another queue") })
		handle(Everyone, "", func(ctx context.Context, c *Call, a args) error {
			return c.Trigger(ctx, "demo.answer", map[string]any{"n": a.N}, ToWindow, ToBroadcast)
		})
	})
	window := `{"window_key": "k", "user_pk": 1, "user_set": true, "perms": null, "tenant": "x"}`
	task := mustSignal(t, compat.SignalCall{
		Signal: "demo.many", Window: celeryproto.Raw(window), Opts: celeryproto.Raw(`{"n": 5}`), FromClient: true, ToServer: true, Queue: "go",
	})
	if d := r.settled(task); d.ended != "ack" {
		t.Errorf("ended with %q", d.ended)
	}
	if m := r.broker.result(task.ID); m == nil || m.Status != "FAILURE" {
		t.Errorf("stored %+v", m)
	}
	if want := []string{RefusedNotAllowed, RefusedNoPermissions, RefusedRuleFailed}; !slices.Equal(refused, want) {
		t.Errorf("refused %v, want %v", refused, want)
	}
	if want := []string{"demo.manytrue", "demo.manyfalse"}; !slices.Equal(failed, want) {
		t.Errorf("failed %v, want %v", failed, want)
	}
	if len(r.sender.triggers) != 1 {
		t.Fatalf("triggers %+v", r.sender.triggers)
	}
	sent := r.sender.triggers[0]
	if got := string(sent.Window.AppendJSON(nil)); got != window || sent.FromClient || !slices.Equal(sent.To, []Target{ToWindow, ToBroadcast}) {
		t.Errorf("trigger %+v with window %s", sent, got)
	}
}

func TestSignalArguments(t *testing.T) {
	t.Parallel()
	var refused atomic.Int32
	r := startRig(t, Config{Observer: Observer{Refused: func(_, _, _ string) { refused.Add(1) }}}, func(w *Worker) {
		HandleSignal(w, Signal[pair]{Name: "demo.pair", Run: func(context.Context, *Call, pair) error { return nil }})
	})
	for _, opts := range []string{`{"x": 1}`, `{"x": 1, "y": 2, "z": 3}`, `{"x": "1", "y": 2}`, `[]`, `"text"`} {
		task := mustSignal(t, compat.SignalCall{Signal: "demo.pair", Opts: celeryproto.Raw(opts), ToServer: true, Queue: "go"})
		r.settled(task)
		if m := r.broker.result(task.ID); m == nil || m.Status != "SUCCESS" || !m.Result.IsNull() {
			t.Errorf("%s: stored %+v", opts, m)
		}
	}
	if n := refused.Load(); n != 5 {
		t.Errorf("%d refused, want 5", n)
	}
}

func TestDelayedFrames(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{MaxHops: 1}, func(w *Worker) {
		HandleSignal(w, Signal[struct{}]{Name: "demo.known", Run: func(context.Context, *Call, struct{}) error { return nil }})
	})
	call := compat.SignalCall{Signal: "demo.answer", Topics: []string{"-broadcast", "-window.k"}, Queue: "go"}
	if d := r.settled(mustSignal(t, call)); d.ended != "ack" {
		t.Errorf("only topics: %s", d.ended)
	}
	call.ToServer = true
	d := r.settled(mustSignal(t, call))
	if d.ended != "requeue" || strings.Contains(again(t, d).Args.String(), "-broadcast") {
		t.Errorf("topics and an unknown signal: %s", d.ended)
	}
	call.Signal = "demo.known"
	if d := r.settled(mustSignal(t, call)); d.ended != "ack" {
		t.Errorf("topics and a handler: %s", d.ended)
	}
	want := []string{
		"demo.answer -broadcast", "demo.answer -window.k", "demo.answer -broadcast", "demo.answer -window.k",
		"demo.known -broadcast", "demo.known -window.k",
	}
	if !slices.Equal(r.sender.frames, want) {
		t.Errorf("frames %v", r.sender.frames)
	}
}
