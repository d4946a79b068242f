package worker

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
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
