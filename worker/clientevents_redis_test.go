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

// TestHangingCommand: the program's own commands hold up neither others nor the worker's stop.
func TestHangingCommand(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	release := make(chan struct{})
	w := startWorker(t, Config{Settings: settings, NodeName: "go@test", HardStopTimeout: 100 * time.Millisecond}, func(w *Worker) {
		addTask(w)
		HandleControl(w, "hangs", func(context.Context, struct{}) (any, error) { <-release; return nil, nil })
	}).awaitReady()
	defer close(release)
	client := clientFor(t, settings)
	ctx := within10s(t)
	for range maxCustomCommands {
		must(t, client.Cast(ctx, "hangs", nil, ControlOptions{}))
	}
	if _, err := client.Call(ctx, "hangs", nil, ControlOptions{}); !isReplyError(err, "16 commands are still running") {
		t.Errorf("one more: %v", err)
	}
	if pings, err := client.Inspect(ControlOptions{}).Ping(ctx); err != nil || pings["go@test"] != "pong" {
		t.Errorf("ping: %v, %v", pings, err)
	}
	must(t, w.halt())
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

// TestStopWhileRedisIsAway: neither remote control nor events keep a worker from stopping.
func TestStopWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*redistest.Server){"dead": (*redistest.Server).Kill, "hung": (*redistest.Server).Pause} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			settings := siteFor(t, server, map[string]any{"broker_transport_options": map[string]any{"socket_timeout": 0.5, "socket_connect_timeout": 0.5}})
			w := startWorker(t, Config{
				Settings: settings, TaskEvents: Yes, HeartbeatInterval: 100 * time.Millisecond, SoftStopTimeout: 100 * time.Millisecond,
			}, workflows).awaitReady()
			away(server)
			began := time.Now()
			err := w.halt()
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("Run took %s to return, with %v", took, err)
			} else {
				t.Logf("Run took %s to return, with %v", took, err)
			}
			if name == "hung" {
				server.Resume()
			}
		})
	}
}
