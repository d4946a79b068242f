package worker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
)

// busGolden is a recording of remote control or events of Celery 5.7: package celeryproto has them.
type busGolden struct {
	Redis []struct {
		Type, Cmd, Channel string
		Args               []struct {
			UTF8 string `json:"arg_utf8"`
		}
		Value string `json:"value_utf8"`
	}
}

func mustBusGolden(t testing.TB, name string) busGolden {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../celeryproto/testdata/bus", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var g busGolden
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return g
}

// commands are the envelopes that a command of Redis carried to a channel or list whose name has a certain part.
func (g busGolden) commands(cmd, to string) []string {
	var envelopes []string
	for _, item := range g.Redis {
		if item.Type == "command" && item.Cmd == cmd && strings.Contains(item.Args[0].UTF8, to) {
			envelopes = append(envelopes, item.Args[1].UTF8)
		}
	}
	return envelopes
}

// bodyOf is the body of an envelope as JSON text.
func bodyOf(t testing.TB, envelope string) string {
	t.Helper()
	var e struct{ Body string }
	if err := json.Unmarshal([]byte(envelope), &e); err != nil {
		t.Fatal(err)
	}
	body, err := base64.StdEncoding.DecodeString(e.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// controlRig is a worker between fakes that obeys remote control, with the node name of the recordings.
type controlRig struct {
	*rig
	remote *remote
}

func startControlRig(t testing.TB, cfg Config, register func(*Worker)) *controlRig {
	t.Helper()
	r := startRig(t, cfg, register)
	r.node.name = "w1@golden"
	site := newSiteControl(&r.w.cfg.Settings.Celery, r.w.handlers.limits)
	c := &controlRig{rig: r, remote: &remote{
		node: r.node, engine: r.engine, hub: r.hub, site: site, custom: r.w.handlers.controls, log: r.w.log, observer: &r.w.cfg.Observer,
		mailbox: &mailbox{broker: r.broker, namespace: site.namespace}, slots: make(chan struct{}, maxCustomCommands),
		queues: newQueueBook(compat.NewRoutes(&r.w.cfg.Settings.Celery)), bind: r.broker.Bind,
	}}
	c.remote.commands = c.remote.builtins()
	t.Cleanup(func() { c.remote.wait(time.Minute) })
	return c
}

// give hands over a message as it came from Redis.
func (c *controlRig) give(envelope string) {
	c.t.Helper()
	e, err := celeryproto.DecodeEnvelope([]byte(envelope))
	if err != nil {
		c.t.Fatal(err)
	}
	c.remote.handle(c.t.Context(), redisbroker.FanoutDelivery{Exchange: "celery.pidbox", Envelope: e, Raw: []byte(envelope)})
}

// ask sends a command and returns the node's answer as JSON text, "" for none.
func (c *controlRig) ask(method string, arguments string) string {
	c.t.Helper()
	var members celeryproto.Members
	if arguments != "" {
		var err error
		if members, err = celeryproto.Raw(arguments).Object(); err != nil {
			c.t.Fatal(err)
		}
	}
	m := celeryproto.ControlMessage{
		Method: method, Arguments: members, Ticket: "t", ReplyTo: &celeryproto.ReplyAddress{Exchange: "reply.celery.pidbox", RoutingKey: "me"},
	}
	e, err := m.Envelope("celery.pidbox", celeryproto.BusOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	raw, err := e.Append(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	before := len(c.answers())
	c.give(string(raw))
	c.remote.wait(time.Minute)
	answers := c.answers()
	if len(answers) == before {
		return ""
	}
	text, found := strings.CutPrefix(bodyOf(c.t, string(answers[before].envelope)), `{"w1@golden": `)
	if !found {
		c.t.Fatalf("not an answer of the node: %s", text)
	}
	return strings.TrimSuffix(text, "}")
}

func (c *controlRig) answers() []fakeReply {
	c.broker.mu.Lock()
	defer c.broker.mu.Unlock()
	return slices.Clone(c.broker.replies)
}

var deliveryTag = regexp.MustCompile(`"delivery_tag": "[^"]*"`)

// TestRecordedCommands gives the worker what Celery's clients sent, and compares its answers with those of a Python worker, byte for
// byte, but for the delivery tags.
func TestRecordedCommands(t *testing.T) {
	t.Parallel()
	cases := map[string]Config{
		"pidbox_ping": {}, "mingle_hello": {}, "inspect_clock": {}, "inspect_hello": {}, "inspect_active_queues": {},
		"control_add_consumer": {}, "control_cancel_consumer": {}, "control_heartbeat": {}, "control_unknown_command": {},
		"control_pool_grow": {}, "control_pool_shrink": {}, "control_pool_restart": {}, "control_autoscale": {},
		"control_autoscale_enabled": {Concurrency: 1, AutoscaleMax: 2},
		"control_rate_limit":        {}, "control_rate_limit_bad": {}, "control_rate_limit_unknown": {}, "control_time_limit": {},
		"control_revoke": {}, "control_revoke_list": {}, "control_terminate": {}, "control_revoke_by_stamped_headers": {},
		"control_enable_events": {}, "control_disable_events": {}, "control_enable_events_default_worker": {TaskEvents: Yes},
		"control_shutdown": {}, "inspect_revoked": {},
	}
	for name, cfg := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if cfg.Concurrency == 0 {
				cfg.Concurrency = 3
			}
			g := mustBusGolden(t, name)
			c := startControlRig(t, cfg, addTask)
			eventually(t, "the slots are there", func() bool { n, _, _ := c.engine.slots.counts(); return n == cfg.Concurrency })
			prepareGolden(c, name)
			for _, sent := range g.commands("PUBLISH", "pidbox") {
				c.give(sent)
			}
			var want []string
			for _, item := range g.commands("LPUSH", "reply.celery.pidbox") {
				want = append(want, deliveryTag.ReplaceAllString(item, "")+" "+bodyOf(t, item))
			}
			var got []string
			for _, answer := range c.answers() {
				text := string(answer.envelope)
				got = append(got, deliveryTag.ReplaceAllString(text, "")+" "+bodyOf(t, text))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-Celery +Go:\n%s", diff)
			}
		})
	}
}

// prepareGolden brings the worker into the state that the recorded one had.
func prepareGolden(c *controlRig, name string) {
	switch name {
	case "mingle_hello":
		c.engine.revoked.add(time.Now(), "00000000-0000-4000-8000-000000000009")
		c.node.clock.Adjust(1)           // worker-online, and the revocation
		c.remote.mailbox.clock.Adjust(1) // of the revocation
	case "inspect_clock":
		c.node.clock.Forward() // worker-online
	case "inspect_hello":
		c.node.clock.Forward()
		c.engine.revoked.add(time.Now(), "00000000-0000-4000-8000-000000000099")
	case "inspect_revoked":
		c.engine.revoked.add(time.Now(), "00000000-0000-4000-8000-000000000099")
	case "inspect_active_queues":
		c.broker.addQueue("celery")
	case "control_enable_events_default_worker":
		c.hub.tasks.Store(false)
	}
}

var unstable = regexp.MustCompile(`"(time_start|worker_pid|eta)": ("[^"]*"|[0-9][0-9.]*)`)

// TestRecordedTasks compares what is told of tasks that run, wait, and wait for their ETA.
func TestRecordedTasks(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	late := func(w *Worker) {
		HandleTask(w, Task[RawArgs, any]{Name: "demo.late", Options: TaskOptions{AcksLate: Yes}, Run: func(ctx context.Context, _ *TaskCall, _ RawArgs) (any, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil, nil
		}})
		HandleTask(w, Task[RawArgs, any]{Name: "demo.echo", Run: func(context.Context, *TaskCall, RawArgs) (any, error) { return nil, nil }})
	}
	c := startControlRig(t, Config{Concurrency: 1}, late)
	defer close(release)
	send := func(name, id string, args []any, kwargs any, eta *time.Time) {
		t.Helper()
		task := mustTask(t, name, args, kwargs)
		task.ID, task.ETA = id, eta
		task.SetQueue("celery")
		c.send(task)
	}
	const first, second, third = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002", "00000000-0000-4000-8000-000000000003"
	send("demo.late", first, []any{60}, nil, nil)
	eventually(t, "the first task runs", func() bool { return len(c.engine.table.in(phaseActive)) == 1 })
	send("demo.late", second, []any{60}, nil, nil)
	eta := time.Now().Add(time.Hour)
	send("demo.echo", third, []any{"later"}, map[string]any{"k": "v"}, &eta)
	eventually(t, "the last task is scheduled", func() bool { return len(c.engine.table.in(phaseScheduled)) == 1 })

	for name, ask := range map[string][2]string{
		"inspect_active": {"active", `{"safe": null}`}, "inspect_active_safe": {"active", `{"safe": true}`},
		"inspect_reserved": {"reserved", ""}, "inspect_scheduled": {"scheduled", ""},
		"inspect_query_task": {"query_task", `{"ids": ["` + first + `", "` + second + `", "` + third + `", "unknown"]}`},
	} {
		g := mustBusGolden(t, name)
		recorded := g.commands("LPUSH", "reply.celery.pidbox")
		body := bodyOf(t, recorded[len(recorded)-1])
		want := unstable.ReplaceAllString(strings.TrimSuffix(strings.TrimPrefix(body, `{"w1@golden": `), "}"), `"$1": X`)
		got := unstable.ReplaceAllString(c.ask(ask[0], ask[1]), `"$1": X`)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -Celery +Go:\n%s", name, diff)
		}
	}
	if got := c.ask("query_task", `{"ids": "unknown"}`); got != "{}" {
		t.Errorf("an unknown task: %s", got)
	}
}

// TestRecordedStats compares the keys of stats, and of conf.
func TestRecordedStats(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]Config{"inspect_stats": {}, "inspect_stats_autoscale": {Concurrency: 1, AutoscaleMax: 2}} {
		settings := testSettings()
		settings.Celery.BrokerURL = "redis://user:secret@127.0.0.1:6401/0"
		settings.Celery.BrokerTransportOptions = []byte(`{"sentinel_kwargs": {"password": "secret", "socket_timeout": 1}}`)
		cfg.Settings = settings
		c := startControlRig(t, cfg, addTask)
		text := c.ask("stats", "")
		if strings.Contains(text, "secret") {
			t.Errorf("a password in %s", text)
		}
		var want map[string]map[string]any
		recorded := mustBusGolden(t, name).commands("LPUSH", "reply.celery.pidbox")
		must(t, json.Unmarshal([]byte(bodyOf(t, recorded[len(recorded)-1])), &want))
		var got map[string]any
		must(t, json.Unmarshal([]byte(text), &got))
		if diff := cmp.Diff(kinds(want["w1@golden"]), kinds(got)); diff != "" {
			t.Errorf("%s: -Celery +Go:\n%s", name, diff)
		}
	}
}

// kinds are the keys of nested objects with the kinds of their values, for what differs in each process.
func kinds(v any) any {
	object, ok := v.(map[string]any)
	if !ok {
		return fmt.Sprintf("%T", v)
	}
	out := map[string]any{}
	for key, value := range object {
		switch key {
		case "total", "transport_options", "writes", "userid":
			continue
		}
		out[key] = kinds(value)
	}
	return out
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConfHidesSecrets(t *testing.T) {
	t.Parallel()
	settings := testSettings()
	settings.Celery.BrokerURL = "redis://:pass;w@rd@127.0.0.1:6401/0;redis://:other@h:1/0"
	settings.Celery.ResultBackend = "redis://user:word@h/1?ssl_keyfile_password=hidden&x=1"
	settings.Celery.BrokerTransportOptions = []byte(`{"sentinel_kwargs": {"password": "hidden"}, "visibility_timeout": 9}`)
	settings.Celery.TaskIgnoreResult = true
	c := startControlRig(t, Config{Settings: settings}, addTask)
	for _, arguments := range []string{"", `{"with_defaults": true}`} {
		text := c.ask("conf", arguments)
		for _, secret := range []string{"w@rd", "word@", "hidden", "other"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in %s", secret, text)
			}
		}
		var conf map[string]any
		must(t, json.Unmarshal([]byte(text), &conf))
		if conf["broker_url"] != "redis://:********@127.0.0.1:6401/0;redis://:********@h:1/0" || conf["task_ignore_result"] != true {
			t.Errorf("conf: %s", text)
		}
		for _, key := range []string{"include", "deprecated_settings", "broker_heartbeat", "worker_log_color", "accept_content", "timezone"} {
			if _, there := conf[key]; !there {
				t.Errorf("conf without %s", key)
			}
		}
	}
	if text := c.ask("report", ""); !strings.Contains(text, `\nsoftware -> celery:`) || !strings.Contains(text, "task_ignore_result: True") ||
		strings.Contains(text, "w@rd") {
		t.Errorf("report: %s", text)
	}
}

func TestRateAndTimeLimit(t *testing.T) {
	t.Parallel()
	c := startControlRig(t, Config{Concurrency: 1}, addTask)
	if got := c.ask("registered", ""); got != `["demo.add"]` {
		t.Errorf("registered: %s", got)
	}
	if got := c.ask("rate_limit", `{"task_name": "demo.add", "rate_limit": "1/h"}`); got != `{"ok": "new rate limit set successfully"}` {
		t.Errorf("rate_limit: %s", got)
	}
	if got := c.ask("registered", `{"taskinfoitems": []}`); got != `["demo.add [rate_limit=1/h]"]` {
		t.Errorf("registered: %s", got)
	}
	c.settled(mustTask(t, "demo.add", []any{1, 2}, nil))
	held := c.send(mustTask(t, "demo.add", []any{1, 2}, nil))
	eventually(t, "the second is held back", func() bool { return len(c.engine.table.in(phaseLimited)) == 1 })
	if got := c.ask("reserved", ""); !strings.Contains(got, "demo.add") {
		t.Errorf("reserved: %s", got)
	}
	c.ask("rate_limit", `{"task_name": "demo.add", "rate_limit": ""}`)
	c.await(held)
	if got := c.ask("stats", ""); !strings.Contains(got, `"total": {"demo.add": 2}`) {
		t.Errorf("stats: %s", got)
	}
}

func TestPoolCommands(t *testing.T) {
	t.Parallel()
	c := startControlRig(t, Config{Concurrency: 2, PrefetchMultiplier: 4}, addTask)
	size := func() int { n, _, _ := c.engine.slots.counts(); return n }
	eventually(t, "the slots are there", func() bool { return size() == 2 })
	c.ask("pool_grow", `{"n": 3}`)
	if size() != 5 || c.broker.prefetch() != 12 {
		t.Errorf("%d slots, %d more held, want 5 and 12", size(), c.broker.prefetch())
	}
	c.ask("pool_shrink", `{"n": "4"}`) // a text, as from a command line
	if size() != 1 || c.broker.prefetch() != -4 {
		t.Errorf("%d slots, %d more held, want 1 and -4", size(), c.broker.prefetch())
	}
}

func TestRevokeMarksResults(t *testing.T) {
	t.Parallel()
	c := startControlRig(t, Config{}, addTask)
	states := map[string]string{
		"none": "REVOKED", "RETRY": "REVOKED", "RECEIVED": "REVOKED", "REJECTED": "REVOKED",
		"STARTED": "STARTED", "SUCCESS": "SUCCESS", "FAILURE": "FAILURE", "OWN": "OWN",
	}
	for before := range states {
		if before != "none" {
			must(t, c.broker.Store(t.Context(), &celeryproto.ResultMeta{TaskID: before, Status: before}))
		}
	}
	var ids []string
	for id := range states {
		ids = append(ids, id)
	}
	c.ask("revoke", `{"task_id": `+string(rawTexts(ids))+`}`)
	for before, want := range states {
		if got := c.broker.result(before); got == nil || got.Status != want {
			t.Errorf("%s became %v, want %s", before, got, want)
		}
	}
	golden := celeryprotoResult(t, "result_revoked_by_control")
	golden.TaskID, golden.DateDone = "none", c.broker.result("none").DateDone
	want, err := golden.Append(nil)
	must(t, err)
	got, err := c.broker.result("none").Append(nil)
	must(t, err)
	if string(got) != string(want) {
		t.Errorf("stored\n%s\nwant\n%s", got, want)
	}
}

// celeryprotoResult is a recorded result.
func celeryprotoResult(t testing.TB, name string) *celeryproto.ResultMeta {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../celeryproto/testdata/celery", name+".json"))
	must(t, err)
	var g busGolden
	must(t, json.Unmarshal(text, &g))
	for _, item := range g.Redis {
		if item.Type == "string" {
			m, err := celeryproto.DecodeResult([]byte(item.Value))
			must(t, err)
			return m
		}
	}
	t.Fatalf("%s has no result", name)
	return nil
}

func TestTerminateCommand(t *testing.T) {
	t.Parallel()
	stuck := make(chan struct{})
	c := startControlRig(t, Config{Concurrency: 2, TaskEvents: Yes}, func(w *Worker) {
		HandleTask(w, Task[struct{}, int]{Name: "waits", Run: func(ctx context.Context, _ *TaskCall, _ struct{}) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}})
		HandleTask(w, Task[struct{}, int]{Name: "stuck", Run: func(context.Context, *TaskCall, struct{}) (int, error) {
			<-stuck
			return 0, nil
		}})
	})
	defer close(stuck)
	waits, hangs := mustTask(t, "waits", nil, nil), mustTask(t, "stuck", nil, nil)
	hangs.StampedHeaders, hangs.Stamps = celeryproto.Raw(`["tenant"]`), celeryproto.Raw(`{"tenant": ["a", "b"]}`)
	first, second := c.send(waits), c.send(hangs)
	eventually(t, "both run", func() bool { return len(c.engine.table.in(phaseActive)) == 2 })
	if got, want := c.ask("terminate", `{"signal": "KILL", "task_id": ["`+waits.ID+`"]}`), `{"ok": "terminate: `+waits.ID+`"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c.await(first)
	got := c.ask("revoke_by_stamped_headers", `{"headers": {"tenant": ["b", "c"]}, "terminate": true}`)
	if want := `{"ok": "headers defaultdict(<class 'set'>, {'tenant': {'b'}}) revoked"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c.await(second)
	if got := c.ask("revoke_by_stamped_headers", `{"headers": {"tenant": "z"}, "terminate": true}`); got != `{"ok": "headers {'tenant': 'z'} were not terminated"}` {
		t.Errorf("got %s", got)
	}
	for _, id := range []string{waits.ID, hangs.ID} {
		if m := c.broker.result(id); m == nil || m.Status != celeryproto.StatusRevoked {
			t.Errorf("result %+v", m)
		}
	}
	eventually(t, "the events are published", func() bool {
		all := strings.Join(c.events(), "\n")
		return strings.Contains(all, `"terminated": true, "signum": 9, "expired": false`) &&
			strings.Contains(all, `"terminated": true, "signum": 15, "expired": false`)
	})
}

// events are the bodies of all events so far.
func (r *rig) events() []string {
	r.broker.mu.Lock()
	defer r.broker.mu.Unlock()
	var bodies []string
	for _, m := range r.broker.fanned {
		bodies = append(bodies, bodyOf(r.t, string(m.Envelope)))
	}
	return bodies
}
