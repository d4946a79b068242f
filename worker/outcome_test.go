package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// sent are the tasks that the worker has published.
func (b *fakeBroker) sent(t testing.TB) []*celeryproto.Task {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var tasks []*celeryproto.Task
	for _, m := range b.published {
		envelope, err := celeryproto.DecodeEnvelope(m.Envelope)
		if err != nil {
			t.Fatal(err)
		}
		task, err := celeryproto.DecodeTask(envelope)
		if err != nil {
			t.Fatal(err)
		}
		if task.Queue() != m.Queue {
			t.Errorf("%s is addressed to %q and published to %q", task.Name, task.Queue(), m.Queue)
		}
		tasks = append(tasks, task)
	}
	return tasks
}

// steered registers a task that ends as run says.
func steered(name string, o TaskOptions, run func(context.Context, *TaskCall) (any, error)) func(*Worker) {
	return func(w *Worker) {
		HandleTask(w, Task[map[string]any, any]{Name: name, Options: o, Run: func(ctx context.Context, c *TaskCall, _ map[string]any) (any, error) {
			return run(ctx, c)
		}})
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, steered("again", TaskOptions{MaxRetries: 1}, func(_ context.Context, c *TaskCall) (any, error) {
		return nil, &RetryError{Err: &Exception{Type: "ValueError", Args: []any{"busy"}}, After: 90 * time.Second, Kwargs: map[string]any{"n": c.Task.Retries + 1}}
	}))
	task := mustTask(t, "again", nil, map[string]any{"n": 0})
	task.GroupID, task.Properties.Priority = "group", 5
	task.Embed.Errbacks = celeryproto.Raw(`[{"task": "err", "args": [], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false}]`)
	before := time.Now()
	if d := r.settled(task); d.ended != "ack" {
		t.Errorf("ended with %q", d.ended)
	}
	m := r.broker.result(task.ID)
	if class, args := exceptionIn(t, m); m.Status != celeryproto.StatusRetry || class != "builtins.ValueError" || !cmp.Equal(args, []any{"busy"}) || !m.DateDone.IsZero() {
		t.Errorf("stored %+v", m)
	}
	if want := fmt.Sprintf(`[[["%s", null], null]]`, task.ID); m.Children.String() != want {
		t.Errorf("children %s", m.Children)
	}
	sent := r.broker.sent(t)
	if len(sent) != 1 {
		t.Fatalf("%d sent", len(sent))
	}
	next := sent[0]
	if next.ID != task.ID || next.Retries != 1 || next.GroupID != "group" || next.Kwargs.String() != `{"n": 1}` || next.Queue() != "go" ||
		next.Properties.Priority != 5 || next.Embed.Errbacks.IsNull() || next.Properties.DeliveryTag == task.Properties.DeliveryTag {
		t.Errorf("the next try: %+v", next)
	}
	if wait := next.ETA.Sub(before); wait < 89*time.Second || wait > 100*time.Second {
		t.Errorf("after %s", wait)
	}
	next.ETA = nil
	r.settled(next)
	m = r.broker.result(task.ID)
	if class, _ := exceptionIn(t, m); m.Status != celeryproto.StatusFailure || class != "builtins.ValueError" {
		t.Errorf("after the last try: %+v", m)
	}
	sent = r.broker.sent(t)
	if len(sent) != 2 || sent[1].Name != "err" || sent[1].Args.String() != fmt.Sprintf("[%q]", task.ID) {
		t.Errorf("errback: %+v", sent)
	}
}

func TestRetriesUsedUp(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, steered("never", TaskOptions{MaxRetries: NoRetries}, func(context.Context, *TaskCall) (any, error) {
		return nil, &RetryError{}
	}))
	task := mustTask(t, "never", nil, nil)
	r.settled(task)
	class, args := exceptionIn(t, r.broker.result(task.ID))
	if class != "celery.exceptions.MaxRetriesExceededError" || !strings.Contains(fmt.Sprint(args), "Can't retry never["+task.ID+"]") {
		t.Errorf("%s%v", class, args)
	}
}

func TestAutoRetry(t *testing.T) {
	t.Parallel()
	busy := errors.New("busy")
	o := TaskOptions{
		AutoRetry: func(err error) bool { return errors.Is(err, busy) }, RetryBackoff: 2 * time.Second, RetryJitter: No, MaxRetries: UnlimitedRetries,
	}
	r := startRig(t, Config{}, func(w *Worker) {
		steered("busy", o, func(context.Context, *TaskCall) (any, error) { return nil, fmt.Errorf("shop: %w", busy) })(w)
		steered("other", o, func(context.Context, *TaskCall) (any, error) { return nil, errors.New("other") })(w)
	})
	for retries, want := range map[int]time.Duration{0: 2 * time.Second, 3: 16 * time.Second, 50: 10 * time.Minute} {
		task := mustTask(t, "busy", nil, nil)
		task.Retries = retries
		before := time.Now()
		r.settled(task)
		sent := r.broker.sent(t)
		if got := sent[len(sent)-1].ETA.Sub(before); got < want-time.Second/2 || got > want+5*time.Second {
			t.Errorf("retry %d after %s, want %s", retries, got, want)
		}
	}
	task := mustTask(t, "other", nil, nil)
	r.settled(task)
	if m := r.broker.result(task.ID); m.Status != celeryproto.StatusFailure {
		t.Errorf("stored %+v", m)
	}
}

func TestRejectAndIgnore(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, func(w *Worker) {
		steered("reject", TaskOptions{}, func(context.Context, *TaskCall) (any, error) { return nil, Reject(errors.New("no")) })(w)
		steered("requeue", TaskOptions{}, func(context.Context, *TaskCall) (any, error) { return nil, Requeue(nil) })(w)
		steered("ignore", TaskOptions{}, func(context.Context, *TaskCall) (any, error) { return nil, ErrIgnore })(w)
	})
	rejected := mustTask(t, "reject", nil, nil)
	d := r.settled(rejected)
	if class, args := exceptionIn(t, r.broker.result(rejected.ID)); d.ended != "ack" || class != "celery.exceptions.Reject" || !cmp.Equal(args, []any{"no", false}) {
		t.Errorf("reject: %s, %s%v", d.ended, class, args)
	}
	for name, end := range map[string]string{"requeue": "reject", "ignore": "ack"} {
		task := mustTask(t, name, nil, nil)
		if d := r.settled(task); d.ended != end || r.broker.result(task.ID) != nil {
			t.Errorf("%s: %s, stored %+v", name, d.ended, r.broker.result(task.ID))
		}
	}
}

// What follows a success: the callback gets the result, the chain goes on, both are children.
func TestCallbacks(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, addTask)
	task := mustTask(t, "demo.add", []any{2, 3}, nil)
	task.RootID = "root"
	task.Embed.Callbacks = celeryproto.Raw(`[{"task": "cb", "args": [10], "kwargs": {}, "options": {"task_id": "cb-1"}, "subtask_type": null, "immutable": false}]`)
	task.Embed.Chain = celeryproto.Raw(`[{"task": "last", "args": [], "kwargs": {}, "options": {"task_id": "last-1"}, "subtask_type": null, "immutable": false},` +
		` {"task": "next", "args": [], "kwargs": {}, "options": {"task_id": "next-1", "queue": "q"}, "subtask_type": null, "immutable": false}]`)
	r.settled(task)
	sent := r.broker.sent(t)
	if len(sent) != 2 || sent[0].ID != "cb-1" || sent[0].Args.String() != "[5, 10]" || sent[1].ID != "next-1" || sent[1].Args.String() != "[5]" {
		t.Fatalf("sent %+v", sent)
	}
	for _, next := range sent {
		if next.ParentID != task.ID || next.RootID != "root" {
			t.Errorf("%s: parent %q, root %q", next.Name, next.ParentID, next.RootID)
		}
	}
	if sent[0].Queue() != "celery" || sent[1].Queue() != "q" || !strings.Contains(sent[1].Embed.Chain.String(), "last-1") {
		t.Errorf("sent to %q and %q with chain %s", sent[0].Queue(), sent[1].Queue(), sent[1].Embed.Chain)
	}
	if m := r.broker.result(task.ID); m.Status != celeryproto.StatusSuccess || m.Children.String() != `[[["cb-1", null], null], [["next-1", null], null]]` {
		t.Errorf("stored %+v", m)
	}
}

func TestChainFails(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, failing)
	task := mustTask(t, "fail.value", nil, nil)
	task.Embed.Chain = celeryproto.Raw(`[{"task": "last", "args": [], "kwargs": {}, "options": {"task_id": "last-1"}, "subtask_type": null, "immutable": false}]`)
	r.settled(task)
	if class, _ := exceptionIn(t, r.broker.result("last-1")); class != "builtins.ValueError" {
		t.Errorf("the next step: %s", class)
	}
}

func TestReplaceAndApply(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, steered("replaced", TaskOptions{}, func(context.Context, *TaskCall) (any, error) {
		return nil, Replace(canvas.New("instead", 1))
	}))
	task := mustTask(t, "replaced", nil, nil)
	d := r.settled(task)
	sent := r.broker.sent(t)
	if d.ended != "ack" || r.broker.result(task.ID) != nil || len(sent) != 1 || sent[0].ID != task.ID || sent[0].Name != "instead" || sent[0].ReplacedTaskNesting != 1 {
		t.Errorf("%s, sent %+v", d.ended, sent)
	}
}

// A task that was revoked, by its ID or a stamp, is not run.
func TestRevoked(t *testing.T) {
	t.Parallel()
	var ran atomic.Int32
	r := startRig(t, Config{}, steered("run", TaskOptions{}, func(context.Context, *TaskCall) (any, error) {
		ran.Add(1)
		return nil, nil
	}))
	byID, byStamp, other := mustTask(t, "run", nil, nil), mustTask(t, "run", nil, nil), mustTask(t, "run", nil, nil)
	byStamp.StampedHeaders, byStamp.Stamps = celeryproto.Raw(`["tenant"]`), celeryproto.Raw(`{"tenant": ["a", "b\u00e9"]}`)
	other.StampedHeaders, other.Stamps = celeryproto.Raw(`["tenant"]`), celeryproto.Raw(`{"tenant": "c"}`)
	r.engine.revoked.add(time.Now(), byID.ID)
	r.engine.revoked.addStamps("tenant", []celeryproto.Raw{celeryproto.Raw(`"bé"`)})
	for _, task := range []*celeryproto.Task{byID, byStamp} {
		d := r.settled(task)
		m := r.broker.result(task.ID)
		if class, args := exceptionIn(t, m); d.ended != "ack" || m.Status != celeryproto.StatusRevoked || class != "celery.exceptions.TaskRevokedError" || !cmp.Equal(args, []any{"revoked"}) {
			t.Errorf("%s, %s %s%v", d.ended, m.Status, class, args)
		}
	}
	r.settled(other)
	if n := ran.Load(); n != 1 {
		t.Errorf("%d ran", n)
	}
}

func TestClearRevokedStamps(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, steered("run", TaskOptions{}, func(context.Context, *TaskCall) (any, error) { return "ran", nil }))
	if err := r.w.ClearRevokedStamps(); !errors.Is(err, errNotRunning) {
		t.Errorf("before it runs: %v", err)
	}
	r.w.engine.Store(r.engine) // as Run does
	byID, byStamp := mustTask(t, "run", nil, nil), mustTask(t, "run", nil, nil)
	byStamp.StampedHeaders, byStamp.Stamps = celeryproto.Raw(`["tenant"]`), celeryproto.Raw(`{"tenant": "a"}`)
	r.engine.revoked.add(time.Now(), byID.ID)
	r.engine.revoked.addStamps("tenant", []celeryproto.Raw{celeryproto.Raw(`"a"`)})
	if err := r.w.ClearRevokedStamps(); err != nil {
		t.Fatal(err)
	}
	r.settled(byID)
	r.settled(byStamp)
	if id, stamp := r.broker.result(byID.ID).Status, r.broker.result(byStamp.ID).Status; id != celeryproto.StatusRevoked || stamp != celeryproto.StatusSuccess {
		t.Errorf("by ID %s, by stamp %s", id, stamp)
	}
}

func TestRevokedSetIsBounded(t *testing.T) {
	t.Parallel()
	s, now := newRevokedSet(), time.Now()
	for i := range revokedMax + 10 {
		s.add(now, fmt.Sprint(i))
	}
	if ids := s.ids(); len(ids) != revokedMax || ids[0] != "10" {
		t.Errorf("%d kept, from %s", len(ids), ids[0])
	}
	s.add(now.Add(revokedExpires+time.Second), "new")
	if ids := s.ids(); len(ids) != 1 || ids[0] != "new" {
		t.Errorf("%d kept after they expired", len(ids))
	}
}

// A handler that ignores its hard time limit, or a terminate, loses its task and its slot.
func TestStuckHandlers(t *testing.T) {
	t.Parallel()
	releaseC := make(chan struct{})
	r := startRig(t, Config{Concurrency: 1}, func(w *Worker) {
		steered("stuck", TaskOptions{}, func(context.Context, *TaskCall) (any, error) {
			<-releaseC
			return "late", nil
		})(w)
		addTask(w)
	})
	limit := 0.02
	limited := mustTask(t, "stuck", nil, nil)
	limited.TimeLimit[0] = &limit
	r.settled(limited)
	if class, _ := exceptionIn(t, r.broker.result(limited.ID)); class != "billiard.exceptions.TimeLimitExceeded" {
		t.Errorf("over its limit: %s", class)
	}
	terminated := mustTask(t, "stuck", nil, nil)
	d := r.send(terminated)
	eventually(t, "it runs", func() bool { return len(r.engine.table.in(phaseActive)) == 1 })
	for _, j := range r.engine.table.in(phaseActive) {
		r.engine.terminate(j, 15)
	}
	r.await(d)
	if _, args := exceptionIn(t, r.broker.result(terminated.ID)); !cmp.Equal(args, []any{"terminated"}) {
		t.Errorf("terminated: %v", args)
	}
	if d := r.settled(mustTask(t, "demo.add", []any{1, 2}, nil)); d.ended != "ack" {
		t.Errorf("the slot is not free: %s", d.ended)
	}
	close(releaseC)
	eventually(t, "the handlers have returned", func() bool {
		r.engine.slots.mu.Lock()
		defer r.engine.slots.mu.Unlock()
		return r.engine.slots.abandoned == 0
	})
	if m := r.broker.result(limited.ID); m.Status != celeryproto.StatusFailure {
		t.Errorf("what it returned late was stored: %+v", m)
	}
}

// A handler that heeds the end of its context is heard.
func TestTerminate(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{Concurrency: 1}, failing)
	task := mustTask(t, "fail.wait", nil, nil)
	d := r.send(task)
	eventually(t, "it runs", func() bool { return len(r.engine.table.in(phaseActive)) == 1 })
	for _, j := range r.engine.table.in(phaseActive) {
		if !r.engine.terminate(j, 15) {
			t.Error("not terminated")
		}
	}
	r.await(d)
	if m := r.broker.result(task.ID); m.Status != celeryproto.StatusRevoked {
		t.Errorf("stored %+v", m)
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, func(w *Worker) {
		HandleTask(w, Task[pair, int]{Name: "slow", Options: TaskOptions{RateLimit: "40/s"}, Run: func(_ context.Context, _ *TaskCall, p pair) (int, error) { return p.X, nil }})
	})
	began := time.Now()
	var last *fakeDelivery
	const n = 9
	for i := range n {
		last = r.send(mustTask(t, "slow", []any{i, i}, nil))
	}
	r.await(last)
	if took := time.Since(began); took < (n-1)*25*time.Millisecond-5*time.Millisecond {
		t.Errorf("%d tasks at 40/s in %s", n, took)
	}
	r.engine.handlers.tasks["slow"].limiter.Load().setRate(0)
	for range 200 {
		last = r.send(mustTask(t, "slow", []any{1, 1}, nil))
	}
	r.await(last)
}

func TestParseRate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{"": 0, "10": 10, "10/s": 10, "2/m": 2. / 60, "100/h": 100. / 3600, "0": 0, "-1/s": 0, "1.5": 1.5} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"x", "1/d", "/s", "NaN", "1/s/s"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestSlotsGrowAndShrink(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{Concurrency: 1}, failing)
	var tasks []*celeryproto.Task
	var ends []*fakeDelivery
	for range 3 {
		tasks = append(tasks, mustTask(t, "fail.wait", nil, nil))
		ends = append(ends, r.send(tasks[len(tasks)-1]))
	}
	eventually(t, "one runs, two wait", func() bool { _, busy, waiting := r.engine.slots.counts(); return busy == 1 && waiting == 2 })
	r.engine.slots.resize(3)
	eventually(t, "all run", func() bool { _, busy, _ := r.engine.slots.counts(); return busy == 3 })
	r.engine.slots.resize(1)
	for _, j := range r.engine.table.in(phaseActive) {
		r.engine.terminate(j, 15)
	}
	for _, d := range ends {
		r.await(d)
	}
	eventually(t, "one slot is left", func() bool {
		r.engine.slots.mu.Lock()
		defer r.engine.slots.mu.Unlock()
		return r.engine.slots.alive == 1 && r.engine.slots.busy == 0
	})
}

// Who acks what, and when: celery 5.7, worker/request.py.
func TestAcknowledgement(t *testing.T) {
	t.Parallel()
	limit := 0.02
	releaseC := make(chan struct{})
	t.Cleanup(func() { close(releaseC) })
	stuck := func(context.Context, *TaskCall) (any, error) {
		<-releaseC
		return nil, nil
	}
	for name, tc := range map[string]struct {
		options TaskOptions
		run     func(context.Context, *TaskCall) (any, error)
		limit   *float64
		end     string
		stored  string
	}{
		"late and failed":           {TaskOptions{AcksLate: Yes}, fails, nil, "ack", "FAILURE"},
		"late, failed, not acked":   {TaskOptions{AcksLate: Yes, AcksOnFailure: No}, fails, nil, "ack", "FAILURE"}, // rejected without requeue
		"late and over time":        {TaskOptions{AcksLate: Yes}, stuck, &limit, "ack", "FAILURE"},
		"late, over time, requeued": {TaskOptions{AcksLate: Yes, AcksOnTimeout: No}, stuck, &limit, "reject", ""},
		"early and over time":       {TaskOptions{AcksLate: No, AcksOnTimeout: No}, stuck, &limit, "ack", "FAILURE"},
		"goroutine ended":           {TaskOptions{}, exits, nil, "ack", "FAILURE"},
		"goroutine ended, requeued": {TaskOptions{RejectOnWorkerLost: Yes}, exits, nil, "reject", ""},
		"ignored result":            {TaskOptions{IgnoreResult: Yes}, fails, nil, "ack", ""},
		"errors even if ignored":    {TaskOptions{IgnoreResult: Yes, StoreErrorsEvenIfIgnored: Yes}, fails, nil, "ack", "FAILURE"},
		"early":                     {TaskOptions{AcksLate: No}, fails, nil, "ack", "FAILURE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRig(t, Config{}, steered("task", tc.options, tc.run))
			task := mustTask(t, "task", nil, nil)
			task.TimeLimit[0] = tc.limit
			d := r.settled(task)
			if tc.stored != "" {
				eventually(t, "a result", func() bool { return r.broker.result(task.ID) != nil })
			}
			m := r.broker.result(task.ID)
			if d.ended != tc.end || tc.stored == "" && m != nil || tc.stored != "" && m.Status != tc.stored {
				t.Errorf("ended with %q, stored %+v", d.ended, m)
			}
		})
	}
}

func fails(context.Context, *TaskCall) (any, error) { return nil, errors.New("failed") }

func exits(context.Context, *TaskCall) (any, error) {
	runtime.Goexit()
	return nil, nil
}

func TestTrackStarted(t *testing.T) {
	t.Parallel()
	var seen atomic.Value
	var r *rig
	readyC := make(chan struct{})
	r = startRig(t, Config{}, steered("task", TaskOptions{TrackStarted: Yes}, func(_ context.Context, c *TaskCall) (any, error) {
		<-readyC
		m := *r.broker.result(c.Task.ID)
		seen.Store(m)
		return nil, nil
	}))
	task := mustTask(t, "task", nil, nil)
	close(readyC)
	r.settled(task)
	m, _ := seen.Load().(celeryproto.ResultMeta)
	if m.Status != celeryproto.StatusStarted || !strings.Contains(m.Result.String(), `"hostname": "go.test@host"`) || !m.DateDone.IsZero() {
		t.Errorf("while it ran: %+v", m)
	}
}
