package worker

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/celeryjudge"
	"github.com/dfws/dfws/integration/redistest"
)

// badMessage is an element of a queue, what Celery's worker does with it, and ours.
type badMessage struct {
	name    string
	element string
	celery  string // its fate: celeryjudge.Die and so on
	state   string // of the task in Celery, for celeryjudge.Run
	result  string // what our worker stores under the ID: a state, "" for nothing
	fine    bool   // our worker runs it; else it is a dead letter
}

const badID = "00000000-0000-4000-8000-000000000bad"

// parts are those of a message that is good unless a test changes them.
type parts struct {
	headers, body, contentType, encoding, properties string
}

func goodParts(tag string) parts {
	return parts{
		headers: `"lang": "py", "task": "py.echo", "id": "` + badID + `"`, body: `[[1, 2], {}, {}]`,
		contentType: `"content-type": "application/json", `, encoding: `"content-encoding": "utf-8", `,
		properties: `"correlation_id": "c", "reply_to": "r", "delivery_mode": 2, "priority": 0, "body_encoding": "base64", ` +
			`"delivery_info": {"exchange": "", "routing_key": "go"}, "delivery_tag": "` + tag + `"`,
	}
}

func (p parts) element() string {
	return p.element64(base64.StdEncoding.EncodeToString([]byte(p.body)))
}

func (p parts) element64(body string) string {
	return `{"body": "` + body + `", ` + p.encoding + p.contentType + `"headers": {` + p.headers + `}, "properties": {` + p.properties + `}}`
}

// badMessages are the rows of docs/bad-input.md.
func badMessages() []badMessage {
	n := 0
	with := func(change func(p *parts)) string {
		n++
		p := goodParts(fmt.Sprintf("bad-%d", n))
		change(&p)
		return p.element()
	}
	header := func(h string) string { return with(func(p *parts) { p.headers += ", " + h }) }
	body := func(b string) string { return with(func(p *parts) { p.body = b }) }
	without := func(piece string) string {
		return with(func(p *parts) {
			p.properties = strings.Replace(p.properties, piece, "", 1)
			p.headers = strings.Replace(p.headers, piece, "", 1)
		})
	}
	const money, failure, success = `{"__type__": "money", "__value__": 1}`, celeryproto.StatusFailure, celeryproto.StatusSuccess
	deep := func(n int) string { return `[[` + strings.Repeat("[", n) + strings.Repeat("]", n) + `], {}, {}]` }
	return []badMessage{
		{"no JSON", "junk", celeryjudge.Die, "", "", false},
		{"nothing", "", celeryjudge.Die, "", "", false},
		{"no object", "[1, 2]", celeryjudge.Die, "", "", false},
		{"not UTF-8", "\xff\xfe{}", celeryjudge.Die, "", "", false},
		{"brackets without end", strings.Repeat("[", 200_000), celeryjudge.Die, "", "", false},
		{"unknown type in the envelope", header(`"x": ` + money), celeryjudge.Die, "", "", false},
		{"broken datetime in the envelope", header(`"x": {"__type__": "datetime", "__value__": "tomorrow"}`), celeryjudge.Die, "", "", false},
		{"body of 2 elements", body(`[[], {}]`), celeryjudge.Die, "", failure, false},
		{"body of 4 elements", body(`[[], {}, {}, {}]`), celeryjudge.Die, "", failure, false},
		{"body an object, task header", body(`{"kwargs": {}}`), celeryjudge.Die, "", failure, false},
		{"content-type missing", with(func(p *parts) { p.contentType = "" }), celeryjudge.Die, "", failure, false},
		{"base64 garbage in the body", goodParts("bad-64").element64("!!!"), celeryjudge.Die, "", failure, false},
		{"eta empty", header(`"eta": ""`), celeryjudge.Die, "", failure, false},
		{"id missing", without(`, "id": "` + badID + `"`), celeryjudge.Die, "", "", false},
		{"delivery_tag a lone surrogate", strings.Replace(header(`"x": 1`), `"delivery_tag": "`, `"delivery_tag": "\ud800`, 1),
			celeryjudge.Die, "", success, true},
		{"properties missing", with(func(p *parts) { p.properties = `"body_encoding": "base64"` }), celeryjudge.Die, "", success, true},
		{"delivery_info missing", without(`"delivery_info": {"exchange": "", "routing_key": "go"}, `), celeryjudge.Die, "", success, true},
		{"delivery_tag missing", with(func(p *parts) { p.properties, _, _ = strings.Cut(p.properties, `, "delivery_tag"`) }),
			celeryjudge.Die, "", success, true},
		{"time limits no numbers", header(`"timelimit": ["soon", null]`), celeryjudge.Die, "", failure, false},
		{"arguments nested 480 deep", body(deep(480)), celeryjudge.Die, "", success, true},
		{"arguments nested 2000 deep", body(deep(2000)), celeryjudge.Drop, "", failure, false},
		{"id a number", with(func(p *parts) { p.headers = `"task": "py.echo", "id": 5` }), celeryjudge.Run, "", "", false},
		{"kwargs null", body(`[[], null, {}]`), celeryjudge.Run, celeryproto.StatusPending, failure, false},
		{"args a text", body(`["ab", {}, {}]`), celeryjudge.Run, success, failure, false},
		{"eta no time", header(`"eta": "tomorrow"`), celeryjudge.Drop, "", failure, false},
		{"expires no time", header(`"expires": "tomorrow"`), celeryjudge.Drop, "", failure, false},
		{"expires a number", header(`"expires": 60`), celeryjudge.Drop, "", failure, false},
		{"unknown type in the arguments", body(`[[` + money + `], {}, {}]`), celeryjudge.Drop, "", failure, false},
		{"unknown type in the chain", body(`[[], {}, {"chain": [` + money + `]}]`), celeryjudge.Drop, "", failure, false},
		{"unknown serializer", with(func(p *parts) { p.contentType = `"content-type": "text/unknown", ` }), celeryjudge.Drop, "", failure, false},
		{"pickle, not accepted", with(func(p *parts) {
			p.contentType, p.encoding = `"content-type": "application/x-python-serialize", `, `"content-encoding": "binary", `
		}), celeryjudge.Drop, "", failure, false},
		{"64 MiB, compressed to 64 kB", bomb(goodParts("bomb")), celeryjudge.Run, success, failure, false},
		{"body no JSON", body(`[[], {}`), celeryjudge.Drop, "", failure, false},
		{"optional headers missing", with(func(p *parts) { p.headers = strings.TrimPrefix(p.headers, `"lang": "py", `) }),
			celeryjudge.Run, success, success, true},
		{"null time limits, retries, root_id", header(`"timelimit": null, "retries": null, "root_id": null`), celeryjudge.Run, success, success, true},
		{"embed null", body(`[[], {}, null]`), celeryjudge.Run, success, success, true},
		{"content-encoding null", with(func(p *parts) { p.encoding = `"content-encoding": null, ` }), celeryjudge.Run, success, success, true},
		{"unknown headers", header(`"x": [NaN, {"a": 1e999}]`), celeryjudge.Run, success, success, true},
		{"retries a text", header(`"retries": "3"`), celeryjudge.Run, success, success, true},
		{"priority a text", strings.Replace(header(`"y": 1`), `"priority": 0`, `"priority": "3"`, 1), celeryjudge.Run, success, success, true},
		{"eta with Z and nanoseconds", header(`"eta": "2020-01-01T00:00:00.123456789Z"`), celeryjudge.Run, success, success, true},
	}
}

// bomb makes a message of a text that becomes larger than celeryproto.DefaultMaxDecompressed.
func bomb(p parts) string {
	var body bytes.Buffer
	w := zlib.NewWriter(&body)
	for _, piece := range []string{`[["`, strings.Repeat("x", celeryproto.DefaultMaxDecompressed), `"], {}, {}]`} {
		_, _ = w.Write([]byte(piece)) // a buffer takes it
	}
	_ = w.Close()
	p.headers += `, "compression": "application/x-gzip"`
	return p.element64(base64.StdEncoding.EncodeToString(body.Bytes()))
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String returns all that was written.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// echo registers the task of the bad messages.
func echo(w *Worker) {
	HandleFunc(w, Func{Name: "py.echo", Run: func(_ context.Context, call *TaskCall, args ...celeryproto.Raw) (int, error) {
		return len(args), nil
	}})
}

// TestBadMessages gives a worker every bad message, and a good one after each: it is a dead letter, whole, counted and logged, or it
// runs where only Celery cannot cope with it; whoever waits for its ID is told; the good one runs; nothing is left.
func TestBadMessages(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	var counted atomic.Int32
	log := &lines{}
	startWorker(t, Config{
		Settings: settings, Concurrency: 1, Logger: slog.New(slog.NewTextHandler(log, nil)),
		Observer: Observer{DeadLettered: func(queue, reason string) {
			if queue == "go" && reason == DeadUndecodable {
				counted.Add(1)
			}
		}},
	}, echo).awaitReady()
	client, redis, ctx := clientFor(t, settings), server.Client(t), t.Context()
	dead := int32(0)
	for _, m := range badMessages() {
		must(t, client.backend.(*redisbroker.Results).Forget(ctx, badID))
		must(t, redis.LPush(ctx, "go", m.element).Err())
		var n int
		if err := mustSend(t, client, TaskMessage{Name: "py.echo", Args: []any{1, 2, 3}}).Get(within10s(t), &n); err != nil || n != 3 {
			t.Fatalf("%s: the next message: %d, %v", m.name, n, err)
		}
		if !m.fine {
			dead++
		}
		eventually(t, m.name+": settled", func() bool {
			return redis.HLen(ctx, "unacked").Val() == 0 && redis.HLen(ctx, "dfws:held").Val() == 0 && counted.Load() == dead
		})
		if got := log.count("task dead-lettered"); got != int(dead) {
			t.Errorf("%s: %d log lines, want %d", m.name, got, dead)
		}
		letters := redis.LRange(ctx, "dfws:dead:go", 0, -1).Val()
		if len(letters) != int(dead) {
			t.Fatalf("%s: %d dead letters, want %d", m.name, len(letters), dead)
		}
		if !m.fine {
			var letter struct {
				Reason, Queue string
				Envelope      []byte
			}
			must(t, json.Unmarshal([]byte(letters[0]), &letter))
			if string(letter.Envelope) != m.element || letter.Queue != "go" || !strings.HasPrefix(letter.Reason, DeadUndecodable+": ") {
				t.Errorf("%s: dead letter for %q, %q", m.name, letter.Queue, letter.Reason)
			}
		}
		state, err := client.Result(badID).State(ctx)
		if want := cmp.Or(m.result, celeryproto.StatusPending); err != nil || state != want {
			t.Errorf("%s: stored %s, %v, want %s", m.name, state, err, want)
		}
	}
	if n := redis.LLen(ctx, "go").Val(); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

// TestBadMessagesInCelery lets Celery's own code say what it does with the bad messages.
func TestBadMessagesInCelery(t *testing.T) {
	t.Parallel()
	all := badMessages()
	elements := make([]string, len(all))
	for i := range all {
		elements[i] = all[i].element
	}
	for i, v := range celeryjudge.Judge(t, elements...) {
		if m := &all[i]; v.Fate != m.celery || v.State != m.state {
			t.Errorf("%s: %+v, want %s %s", m.name, v, m.celery, m.state)
		}
	}
}

// TestCeleryWorkersEnd lets real workers of Celery exit of two of the bad messages: one message is lost with the worker, the other one
// goes back, for the next worker.
func TestCeleryWorkersEnd(t *testing.T) {
	t.Parallel()
	all := badMessages()
	for name, left := range map[string]int64{"no JSON": 0, "body of 2 elements": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			redis := server.Client(t)
			p := startPython(t, siteFor(t, server, nil))
			m := all[slices.IndexFunc(all, func(m badMessage) bool { return m.name == name })]
			element := strings.NewReplacer(`"routing_key": "go"`, `"routing_key": "celery"`, "py.echo", "py.add").Replace(m.element)
			must(t, redis.LPush(t.Context(), "celery", element).Err())
			deadline := time.After(pythonTime)
			for open := true; open; {
				select {
				case _, open = <-p.saidC:
				case <-deadline:
					t.Fatal("the worker goes on")
				}
			}
			if n := redis.LLen(t.Context(), "celery").Val(); n != left {
				t.Errorf("%d messages are left, want %d", n, left)
			}
		})
	}
}
