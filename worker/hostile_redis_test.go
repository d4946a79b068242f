package worker

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

// TestHostileResults: what is no result under a result's key is an error for whoever asks, at once, and never a value.
func TestHostileResults(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := clientFor(t, siteFor(t, server, nil))
	backend, r := client.backend.(*redisbroker.Results), server.Client(t)
	r1 := redis.NewClient(&redis.Options{Network: r.Options().Network, Addr: r.Options().Addr, DB: 1})
	defer r1.Close() //nolint:errcheck // nothing is lost with it
	ctx := within10s(t)
	texts := map[string]string{
		"empty": "", "no JSON": "junk", "not UTF-8": "\xff", "list": "[]", "number": "5", "null": "null", "no status": "{}", "status a number": `{"status": 5}`,
		"status null": `{"status": null, "result": 1}`, "too deep": strings.Repeat("[", 100_000), "unknown type": `{"status": "SUCCESS", "result": {"__type__": "money", "__value__": 1}}`,
		"no exception": `{"status": "FAILURE", "result": 5, "task_id": "x"}`, "exception without class": `{"status": "FAILURE", "result": {}, "task_id": "x"}`,
		"exception of a class that is a list": `{"status": "REVOKED", "result": {"exc_type": [], "exc_message": 1}, "task_id": "x"}`,
		"not zlib":                            "\x00celery-compressed\x00application/x-gzip\x00junk",
	}
	for name, text := range texts {
		id := strings.ReplaceAll(name, " ", "-")
		must(t, r1.Set(ctx, backend.Key(id), text, 0).Err())
		result := client.Result(id)
		var v any
		if err := result.Get(ctx, &v); err == nil || v != nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v, %v", name, v, err)
		}
		_, _ = result.State(ctx) // FAILURE is one
		_, _ = result.Children(ctx)
		_, _ = result.Traceback(ctx)
		_ = result.Info(ctx, &v)
		must(t, r1.Set(ctx, backend.GroupKey(id), text, 0).Err())
		if _, err := client.RestoreGroup(ctx, id); err == nil {
			t.Errorf("%s: a group", name)
		}
	}
	for name, children := range map[string]string{
		"children a text": `"x"`, "children of numbers": `[1]`, "children too deep": strings.Repeat("[", 400) + strings.Repeat("]", 400), "children an object": `{"a": 1}`,
	} {
		must(t, r1.Set(ctx, backend.Key(name), `{"status": "SUCCESS", "result": 1, "task_id": "x", "children": `+children+`}`, 0).Err())
		if of, err := client.Result(name).Children(ctx); err == nil {
			t.Errorf("%s: %+v", name, of)
		}
	}
	must(t, r1.LPush(ctx, backend.Key("a-list"), "x").Err())
	if err := client.Result("a-list").Get(ctx, nil); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a key of another type: %v", err)
	}
}

// TestChordsEnd: a task of a chord's header ends it whatever becomes of the task, as long as its message can be read.
func TestChordsEnd(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	startWorker(t, Config{Settings: settings, MaxHops: 1, HopDelay: time.Millisecond}, func(w *Worker) { workflows(w); failing(w) }).awaitReady()
	client, ctx := clientFor(t, settings), within10s(t)
	if _, err := client.Control(ControlOptions{}).Revoke(ctx, "revoked-part"); err != nil {
		t.Fatal(err)
	}
	for name, part := range map[string]*canvas.Signature{
		"FAILURE": onGo("demo.fail", 1), "wrong arguments": onGo("demo.add", "x"), "NotRegistered": onGo("no.such.task"), "panic": onGo("fail.panic"),
		"Goexit": onGo("fail.goexit"), "result of no kind": onGo("fail.result"), "time limit": onGo("fail.wait").Set("time_limit", 0.01),
		"expired": add(1, 1).Set("expires", -5), "revoked": add(1, 1).Set("task_id", "revoked-part"),
	} {
		chord, err := client.Apply(ctx, canvas.Chord(canvas.Group(add(1, 1), part), onGo("demo.sum")))
		must(t, err)
		if err := chord.Get(ctx, nil); !errors.Is(err, &Exception{Type: "ChordError"}) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestHostileEvents: what is no event among those of other workers is skipped and logged; the worker goes on, and so does its gossip. A
// Celery worker connects anew for each one without a routing key.
func TestHostileEvents(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	log := &lines{}
	startWorker(t, Config{Settings: settings, NodeName: "go@test", Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, echo).awaitReady()
	client, r, ctx := clientFor(t, settings), server.Client(t), within10s(t)
	envelope := func(body, properties string) string {
		return `{"body": "` + base64.StdEncoding.EncodeToString([]byte(body)) + `", "content-encoding": "utf-8", "content-type": "application/json", ` +
			`"headers": {"hostname": "x@y"}, "properties": {"delivery_mode": 1, "priority": 0, "body_encoding": "base64", ` + properties + `}}`
	}
	const address, tag = `"delivery_info": {"exchange": "celeryev", "routing_key": "worker.heartbeat"}`, `"delivery_tag": "`
	n := 0
	with := func(body string) string {
		n++
		return envelope(body, address+`, `+tag+fmt.Sprint("t", n, `"`))
	}
	hostile := []string{
		"junk", "", "[]", "{}", envelope("{}", tag+`none"`), envelope("{}", `"delivery_info": {"exchange": "celeryev"}, `+tag+`no key"`),
		with("junk"), with("5"), with("[5]"), with(`{"type": 5}`), with(`{"type": "worker-heartbeat", "hostname": [], "timestamp": "now"}`),
		with(`{"type": "worker-heartbeat", "hostname": "x@y", "timestamp": -1e308, "clock": 1e308, "freq": -1, "pid": "p"}`),
		with(`{"type": "worker-elect", "hostname": "x@y", "id": [], "topic": 5, "clock": -1}`), with(`{"type": "worker-elect-ack", "id": {}}`),
		with(`{"type": "worker-elect", "hostname": "x@y", "id": "1", "clock": 99999999999999999999999, "topic": "no such", "cver": "x", "action": 1, "pid": 1}`),
		with(strings.Repeat("[", 100_000)),
	}
	eventually(t, "the worker listens to events", func() bool {
		return r.Publish(ctx, "/0.celeryev/worker.heartbeat", hostile[0]).Val() > 0
	})
	for _, payload := range hostile {
		must(t, r.Publish(ctx, "/0.celeryev/worker.heartbeat", payload).Err())
	}
	must(t, r.Publish(ctx, "/0.celeryev/worker.online", with(`{"type": "worker-online", "hostname": "late@test", "timestamp": 1, "clock": 7, "freq": 2.0}`)).Err())
	eventually(t, "the event after them is seen", func() bool { return log.count("late@test") > 0 })
	if skipped := log.count("event of another worker skipped"); skipped < 5 {
		t.Errorf("%d events were skipped with a line in the log", skipped)
	}
	if pings, err := client.Inspect(ControlOptions{}).Ping(ctx); err != nil || len(pings) != 1 {
		t.Errorf("ping: %v, %v", pings, err)
	}
	var sum int
	if err := mustSend(t, client, TaskMessage{Name: "py.echo", Args: []any{1}}).Get(ctx, &sum); err != nil || sum != 1 {
		t.Errorf("the task after them: %d, %v", sum, err)
	}
}

// TestHostileChords: a part of a chord whose keys are not what Celery writes is counted as lost, and logged; the task itself has ended,
// and the next one runs. The chord never ends, as in Celery.
func TestHostileChords(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	var lost atomic.Int32
	startWorker(t, Config{Settings: settings, Concurrency: 1, Observer: Observer{ResultLost: func(string) { lost.Add(1) }}}, echo).awaitReady()
	client := clientFor(t, settings)
	backend, r := client.backend.(*redisbroker.Results), server.Client(t)
	r1 := redis.NewClient(&redis.Options{Network: r.Options().Network, Addr: r.Options().Addr, DB: 1})
	defer r1.Close() //nolint:errcheck // nothing is lost with it
	ctx := within10s(t)
	set := func(suffix, value string) func(key string) error {
		return func(key string) error { return r1.Set(ctx, key+suffix, value, 0).Err() }
	}
	for i, tc := range []struct {
		name    string
		prepare func(key string) error
		fine    bool // a part that is counted
	}{
		{"size no number", set(".s", "many"), false},
		{"size negative", set(".s", "-5"), true},
		{"size a fraction", set(".s", "1e999"), true},
		{"correction no number", func(key string) error { return errors.Join(set(".s", "2")(key), set(".t", "x")(key)) }, false},
		{"parts a text", set(".j", "x"), false},
		{"parts a list", func(key string) error { return r1.LPush(ctx, key+".j", "x").Err() }, false},
		{"counted a text", set(".d", "x"), false},
		{"claim a list", func(key string) error { return r1.LPush(ctx, key+".c", "x").Err() }, false},
		{"claimed by nobody", set(".c", "junk"), true},
		{"header no JSON", func(key string) error { return errors.Join(set(".s", "1")(key), set("", "junk")(key)) }, true},
		{"header a list", func(key string) error { return errors.Join(set(".s", "1")(key), r1.LPush(ctx, key, "x").Err()) }, false},
	} {
		group, index := fmt.Sprint("group-", i), 0
		must(t, tc.prepare(backend.GroupKey(group)))
		task := mustTask(t, "py.echo", []any{1}, nil)
		task.GroupID, task.GroupIndex = group, &index
		task.Embed.Chord = celeryproto.Raw(`{"task": "py.echo", "args": [], "kwargs": {}, "options": {"task_id": "body", "queue": "go"}, "subtask_type": null, "immutable": false}`)
		envelope, err := task.Append(nil)
		must(t, err)
		before := lost.Load()
		must(t, r.LPush(ctx, "go", envelope).Err())
		var n int
		if err := client.Result(task.ID).Get(ctx, &n); err != nil || n != 1 {
			t.Fatalf("%s: the task: %d, %v", tc.name, n, err)
		}
		if err := mustSend(t, client, TaskMessage{Name: "py.echo"}).Get(ctx, &n); err != nil {
			t.Fatalf("%s: the next task: %v", tc.name, err)
		}
		eventually(t, tc.name+": settled", func() bool { return r.HLen(ctx, "unacked").Val() == 0 })
		if got := lost.Load() - before; (got == 0) != tc.fine {
			t.Errorf("%s: %d lost", tc.name, got)
		}
	}
	task := mustTask(t, "py.echo", []any{1}, nil)
	must(t, r1.LPush(ctx, backend.Key(task.ID), "x").Err())
	envelope, err := task.Append(nil)
	must(t, err)
	before := lost.Load()
	must(t, r.LPush(ctx, "go", envelope).Err())
	eventually(t, "a result that Redis does not take is lost, and counted", func() bool {
		return lost.Load() == before+1 && r.HLen(ctx, "unacked").Val() == 0 && r.LLen(ctx, "go").Val() == 0
	})
}
