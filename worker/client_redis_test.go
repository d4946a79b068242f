package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/celeryproto/monitor"
	"github.com/dfws/dfws/integration/redistest"
)

// TestControlAndInspect asks a Go worker everything.
func TestControlAndInspect(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	w := startWorker(t, Config{Settings: settings, NodeName: "go@test", Concurrency: 1}, controlled).awaitReady()
	client := clientFor(t, settings)
	ctx := within10s(t)
	running := mustSend(t, client, TaskMessage{Name: "demo.wait"})
	eventually(t, "the task runs", func() bool { return len(w.w.engine.Load().table.in(phaseActive)) == 1 })
	reserved := mustSend(t, client, TaskMessage{Name: "demo.wait", Kwargs: map[string]any{}, Priority: 3})
	scheduled := mustSend(t, client, TaskMessage{Name: "demo.add", Args: []any{1, 2}, Countdown: time.Hour})
	eventually(t, "the worker has all tasks", func() bool { return w.w.engine.Load().table.len() == 3 })

	i := client.Inspect(ControlOptions{Timeout: 5 * time.Second})
	began := time.Now()
	check := func(what string, got any, err error, ok bool) {
		t.Helper()
		if err != nil || !ok {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	pings, err := i.Ping(ctx)
	check("ping", pings, err, pings["go@test"] == "pong")
	active, err := i.Active(ctx, false)
	check("active", active, err, len(active["go@test"]) == 1 && active["go@test"][0].ID == running.ID && active["go@test"][0].WorkerPID != 0 &&
		time.Since(active["go@test"][0].Started) < time.Minute && active["go@test"][0].Args.String() == "[]")
	active, err = i.Active(ctx, true)
	check("active safe", active, err, active["go@test"][0].Args.String() == `"()"`)
	waiting, err := i.Reserved(ctx)
	check("reserved", waiting, err, waiting["go@test"][0].ID == reserved.ID && waiting["go@test"][0].Priority == 3 && waiting["go@test"][0].RoutingKey == "go")
	later, err := i.Scheduled(ctx)
	check("scheduled", later, err, later["go@test"][0].Request.ID == scheduled.ID && later["go@test"][0].Priority == 6 && time.Until(later["go@test"][0].ETA) > 50*time.Minute)
	found, err := i.QueryTask(ctx, running.ID, scheduled.ID, "unknown")
	check("query_task", found, err, len(found["go@test"]) == 2 && found["go@test"][running.ID].State == "active" && found["go@test"][scheduled.ID].State == "scheduled")
	stats, err := i.Stats(ctx)
	check("stats", stats, err, stats["go@test"].Total["demo.wait"] == 1 && stats["go@test"].Pool.MaxConcurrency == 1 && stats["go@test"].Broker.Transport == "redis")
	queues, err := i.ActiveQueues(ctx)
	check("active_queues", queues, err, len(queues["go@test"]) == 1 && queues["go@test"][0].Name == "go" && queues["go@test"][0].Exchange.Type == "direct")
	registered, err := i.Registered(ctx)
	check("registered", registered, err, slices.Equal(registered["go@test"], []string{"demo.add", "demo.wait"}))
	conf, err := i.Conf(ctx, true)
	check("conf", conf, err, conf["go@test"]["task_default_queue"].String() == `"celery"`)
	report, err := i.Report(ctx)
	check("report", report, err, strings.Contains(report["go@test"], "software -> celery:"))
	clocks, err := i.Clock(ctx)
	check("clock", clocks, err, clocks["go@test"] > 0)
	sample, err := i.MemSample(ctx)
	check("memsample", sample, err, sample["go@test"] != "")
	dump, err := i.MemDump(ctx, 3)
	check("memdump", dump, err, strings.Contains(dump["go@test"], sample["go@test"]))
	hello, err := i.Hello(ctx, "other@node", []string{"x"})
	check("hello", hello, err, slices.Equal(hello["go@test"].Revoked, []string{"x"}) && hello["go@test"].Clock > 0)
	if _, err := i.ObjGraph(ctx, "Request", 1, 1); !isReplyError(err, "no Python objects") {
		t.Errorf("objgraph: %v", err)
	}
	orders, err := client.Call(ctx, "shop_orders", nil, ControlOptions{})
	check("shop_orders", orders, err, orders["go@test"].String() == `{"ok": 7}`)
	if _, err := client.Call(ctx, "no_such", map[string]any{"x": 1}, ControlOptions{}); !isReplyError(err, "KeyError('no_such')") {
		t.Errorf("no_such: %v", err)
	}

	if texts, err := client.Control(ControlOptions{NoReply: true}).Revoke(ctx, reserved.ID); texts != nil || err != nil {
		t.Errorf("revoke without reply: %v, %v", texts, err)
	}
	eventually(t, "the revocation has come", func() bool {
		revoked, err := i.Revoked(ctx)
		return err == nil && slices.Contains(revoked["go@test"], reserved.ID)
	})
	c := client.Control(ControlOptions{Destination: []string{"go@test"}, Timeout: 5 * time.Second})
	for what, step := range map[string]struct {
		want string
		do   func() (map[string]string, error)
	}{
		"ping":            {"pong", func() (map[string]string, error) { return c.Ping(ctx) }},
		"rate_limit":      {"new rate limit set successfully", func() (map[string]string, error) { return c.RateLimit(ctx, "demo.add", "10/m") }},
		"time_limit":      {"time limits set successfully", func() (map[string]string, error) { return c.TimeLimit(ctx, "demo.add", time.Second, 0) }},
		"heartbeat":       {"", func() (map[string]string, error) { return c.Heartbeat(ctx) }},
		"pool_grow":       {"pool will grow", func() (map[string]string, error) { return c.PoolGrow(ctx, 2) }},
		"add_consumer":    {"add consumer more", func() (map[string]string, error) { return c.AddConsumer(ctx, "more") }},
		"cancel_consumer": {"no longer consuming from never", func() (map[string]string, error) { return c.CancelConsumer(ctx, "never") }},
		"enable_events":   {"task events enabled", func() (map[string]string, error) { return c.EnableEvents(ctx) }},
		"stamps": {"headers {'tenant': ['a']} flagged as revoked, but not terminated", func() (map[string]string, error) {
			return c.RevokeByStampedHeaders(ctx, map[string][]string{"tenant": {"a"}}, false)
		}},
		"revoke":    {"tasks {'" + scheduled.ID + "'} flagged as revoked", func() (map[string]string, error) { return c.Revoke(ctx, scheduled.ID) }},
		"terminate": {"terminate: " + running.ID, func() (map[string]string, error) { return c.Terminate(ctx, "", running.ID) }},
		"election":  {"", func() (map[string]string, error) { return c.Election(ctx, "e", "task", canvas.New("demo.add", 1, 2)) }},
	} {
		texts, err := step.do()
		if got, there := texts["go@test"]; err != nil || !there || got != step.want {
			t.Errorf("%s: %v, %v", what, texts, err)
		}
	}
	if _, err := c.Autoscale(ctx, 3, 1); !isReplyError(err, "Autoscale not enabled") {
		t.Errorf("autoscale: %v", err)
	}
	if _, err := c.PoolRestart(ctx, nil, false); !isReplyError(err, "Pool restarts not enabled") {
		t.Errorf("pool_restart: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("all of it took %s: answers were waited for that nobody gives", took)
	}

	if err := reserved.Get(ctx, nil); !errors.Is(err, &Exception{Type: "TaskRevokedError"}) {
		t.Errorf("a revoked task: %v", err)
	}
	if pings, err := client.Inspect(ControlOptions{Pattern: "x*", Matcher: celeryproto.MatcherGlob, Timeout: 50 * time.Millisecond}).Ping(ctx); err != nil || len(pings) != 0 {
		t.Errorf("a pattern that fits nobody: %v, %v", pings, err)
	}
	if _, err := client.Inspect(ControlOptions{Pattern: "x*"}).Ping(ctx); err == nil {
		t.Error("a pattern without a matcher is taken")
	}
	if err := c.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	<-w.doneC
	if w.err != nil {
		t.Errorf("Run ended with %v", w.err)
	}
	if pings, err := i.Ping(ctx); err != nil || len(pings) != 0 {
		t.Errorf("nobody is left: %v, %v", pings, err)
	}
}

func isReplyError(err error, part string) bool {
	reply, ok := errors.AsType[*ReplyError](err)
	return ok && reply.Node == "go@test" && strings.Contains(reply.Text, part)
}

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

// TestClientEvents watches a Go worker, switched on, through a restart of Redis.
func TestClientEvents(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	w := startWorker(t, Config{Settings: settings, NodeName: "go@test", HeartbeatInterval: 200 * time.Millisecond}, workflows).awaitReady()
	client := clientFor(t, settings)
	state := monitor.New(monitor.Limits{})
	receiver, err := client.Events(EventOptions{State: state, Fault: func(err error) { t.Errorf("fault: %v", err) }})
	must(t, err)
	var mu sync.Mutex
	types := map[string]int{}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := receiver.Run(ctx, func(e *celeryproto.Event, _ time.Time) {
			mu.Lock()
			defer mu.Unlock()
			types[e.Type]++
		}); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer stop()
	seen := func(typ string) int {
		mu.Lock()
		defer mu.Unlock()
		return types[typ]
	}
	<-receiver.Ready()
	asked := within10s(t)
	if _, err := client.Control(ControlOptions{}).EnableEvents(asked); err != nil {
		t.Fatal(err)
	}
	run := func() string {
		t.Helper()
		r := mustSend(t, client, TaskMessage{Name: "demo.add", Args: []any{1, 2}})
		must(t, r.Get(within10s(t), nil))
		return r.ID
	}
	id := run()
	eventually(t, "its end is seen", func() bool { return seen(celeryproto.EventTaskSucceeded) == 1 })
	task, _ := state.Task(id)
	if task.State != "SUCCESS" || task.Name != "demo.add" || task.Args != "(1, 2)" || task.Result != "3" || task.Worker != "go@test" || task.Runtime <= 0 {
		t.Errorf("task %+v", task)
	}
	eventually(t, "the worker is alive", func() bool { return len(state.AliveWorkers(time.Now())) == 1 })
	if got, _ := state.Worker("go@test"); got.SWIdent != Software || got.PID == 0 {
		t.Errorf("worker %+v", got)
	}

	server.Restart()
	before := seen(celeryproto.EventWorkerHeartbeat)
	eventually(t, "heartbeats come again", func() bool { return seen(celeryproto.EventWorkerHeartbeat) > before })
	eventually(t, "the worker answers again", func() bool {
		pings, err := client.Inspect(ControlOptions{Timeout: 200 * time.Millisecond}).Ping(asked)
		return err == nil && pings["go@test"] == "pong"
	})
	run()
	eventually(t, "the second task's end is seen", func() bool { return seen(celeryproto.EventTaskSucceeded) >= 2 })
	must(t, w.halt())
	eventually(t, "the worker has left", func() bool { return seen(celeryproto.EventWorkerOffline) == 1 })
	if len(state.AliveWorkers(time.Now())) != 0 {
		t.Error("alive after worker-offline")
	}
	bindings := server.Client(t).SMembers(t.Context(), "_kombu.binding.celery.pidbox").Val()
	if len(bindings) != 0 {
		t.Errorf("bindings are left: %q", bindings)
	}
}

// TestMingle: a worker that starts learns what was revoked before.
func TestMingle(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	first := startWorker(t, Config{Settings: settings, NodeName: "first@test"}, workflows).awaitReady()
	client := clientFor(t, settings)
	ctx := within10s(t)
	ids := make([]string, 5)
	for i := range ids {
		ids[i] = fmt.Sprint("id", i)
	}
	if _, err := client.Control(ControlOptions{}).Revoke(ctx, ids...); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	second := startWorker(t, Config{Settings: settings, NodeName: "second@test"}, workflows).awaitReady()
	if took := time.Since(began); took > 900*time.Millisecond {
		t.Errorf("mingle took %s: the neighbor answers at once", took)
	}
	startWorker(t, Config{Settings: settings, NodeName: "third@test", WithoutMingle: true}, workflows).awaitReady()
	revoked, err := client.Inspect(ControlOptions{}).Revoked(ctx)
	if want := map[string][]string{"first@test": ids, "second@test": ids, "third@test": {}}; err != nil || !cmp.Equal(revoked, want) {
		t.Errorf("revoked: %v, %v", revoked, err)
	}
	must(t, first.halt())
	must(t, second.halt())
}

// TestDeafWorker has everything switched off.
func TestDeafWorker(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	startWorker(t, Config{
		Settings: settings, WithoutRemoteControl: true, WithoutGossip: true, WithoutHeartbeat: true, WithoutMingle: true,
	}, workflows).awaitReady()
	client := clientFor(t, settings)
	pings, err := client.Inspect(ControlOptions{}).Ping(within10s(t))
	if err != nil || len(pings) != 0 {
		t.Errorf("ping: %v, %v", pings, err)
	}
	if n := len(server.Client(t).PubSubChannels(t.Context(), "*").Val()); n > 1 { // the registry's
		t.Errorf("%d channels are subscribed to", n)
	}
	r := mustSend(t, client, TaskMessage{Name: "demo.add", Args: []any{1, 2}})
	must(t, r.Get(within10s(t), nil))
}

// TestWorkerElection: each of two workers stands, one sends the task.
func TestWorkerElection(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	for _, name := range []string{"a@test", "b@test"} {
		startWorker(t, Config{Settings: settings, NodeName: name, HeartbeatInterval: 100 * time.Millisecond}, workflows).awaitReady()
	}
	client := clientFor(t, settings)
	ctx := within10s(t)
	sig := add(20, 22).Set("task_id", "elected")
	if _, err := client.Control(ControlOptions{}).Election(ctx, "e1", "task", sig); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := client.Result("elected").Get(ctx, &n); err != nil || n != 42 {
		t.Errorf("the elected task: %d, %v", n, err)
	}
}

// TestSiteSettings: a site with names of its own for everything.
func TestSiteSettings(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, map[string]any{
		"control_exchange": "shop", "event_exchange": "shopev", "worker_send_task_events": true, "task_send_sent_event": true,
		"worker_direct": true, "worker_concurrency": 3, "task_time_limit": 7,
		"task_queues": []any{
			map[string]any{"name": "orders", "routing_key": "order.#", "exchange": map[string]any{"name": "things", "type": "topic"}},
			map[string]any{"name": "go", "routing_key": "go", "exchange": map[string]any{"name": "go", "type": "direct"}},
		},
		"task_routes": []any{map[string]any{"rules": []any{
			map[string]any{"task": "demo.add", "route": map[string]any{"queue": "orders", "routing_key": "order.new", "priority": 3}},
			map[string]any{"task": "demo.spawn", "route": map[string]any{"queue": "go"}},
		}}},
	})
	w := startWorker(t, Config{Settings: settings, NodeName: "go@test", Queues: []string{"go", "orders"}}, workflows).awaitReady()
	client := clientFor(t, settings)
	ctx := within10s(t)
	i := client.Inspect(ControlOptions{})
	stats, err := i.Stats(ctx)
	if err != nil || stats["go@test"].Pool.MaxConcurrency != 3 || !strings.Contains(stats["go@test"].Raw.String(), `"timeouts": [0, 7]`) {
		t.Errorf("stats: %+v, %v", stats, err)
	}
	queues, err := i.ActiveQueues(ctx)
	var names []string
	for _, q := range queues["go@test"] {
		names = append(names, q.Name+" "+q.Exchange.Name+" "+q.Exchange.Type+" "+q.RoutingKey)
	}
	if want := []string{"go go direct go", "orders things topic order.#", "go@test.dq2 C.dq2 direct go@test"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("active queues %q, %v", names, err)
	}

	state := monitor.New(monitor.Limits{})
	receiver, err := client.Events(EventOptions{State: state})
	must(t, err)
	watching, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = receiver.Run(watching, nil) })
	defer running.Wait()
	defer stop()
	<-receiver.Ready()

	routed, err := client.Send(ctx, TaskMessage{Name: "demo.add", Args: []any{1, 2}})
	must(t, err)
	must(t, routed.Get(ctx, nil))
	eventually(t, "its events have come", func() bool {
		task, _ := state.Task(routed.ID)
		return task.State == "SUCCESS" && task.Client != "" && task.Queue == "orders" && task.Exchange == "things" && task.RoutingKey == "order.new"
	})
	direct, err := client.Apply(ctx, canvas.New("demo.add", 1, 2).Set("exchange", "C.dq2").Set("routing_key", "go@test"))
	must(t, err)
	must(t, direct.Get(ctx, nil))
	parent, err := client.Send(ctx, TaskMessage{Name: "demo.spawn"})
	must(t, err)
	must(t, parent.Get(ctx, nil))
	children, err := parent.Children(ctx)
	must(t, err)
	eventually(t, "the worker tells what it has sent", func() bool {
		task, _ := state.Task(children[0].ID)
		return task.Client != "" && task.Worker == "go@test" && task.ParentID == parent.ID
	})

	if _, err := client.Apply(ctx, canvas.New("demo.add", 1, 2).Set("exchange", "nobody").Set("routing_key", "x")); !errors.Is(err, ErrUnrouted) {
		t.Errorf("an exchange without queues: %v", err)
	}
	c := client.Control(ControlOptions{})
	if _, err := client.Call(ctx, "add_consumer", map[string]any{
		"queue": "more", "exchange": "things", "exchange_type": "topic", "routing_key": "more.*",
	}, ControlOptions{}); err != nil {
		t.Fatal(err)
	}
	more, err := client.Apply(ctx, canvas.New("demo.add", 1, 2).Set("exchange", "things").Set("exchange_type", "topic").Set("routing_key", "more.x"))
	must(t, err)
	must(t, more.Get(ctx, nil))
	texts, err := c.CancelConsumer(ctx, "orders")
	if err != nil || texts["go@test"] != "no longer consuming from orders" {
		t.Errorf("cancel_consumer: %v, %v", texts, err)
	}
	must(t, w.halt())
}

func TestBroadcastQueueIsRefused(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, map[string]any{"task_queues": []any{
		map[string]any{"name": "bcast.1", "alias": "all", "broadcast": true, "exchange": map[string]any{"name": "all", "type": "fanout"}},
	}})
	w := startWorker(t, Config{Settings: settings, Queues: []string{"all"}}, workflows)
	<-w.doneC
	if w.err == nil || !strings.Contains(w.err.Error(), "Broadcast") {
		t.Errorf("Run: %v", w.err)
	}
}
