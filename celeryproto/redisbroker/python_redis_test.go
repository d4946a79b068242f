package redisbroker_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/logbuffer"
	"github.com/dfws/dfws/integration/needs"
	"github.com/dfws/dfws/integration/redistest"
)

// peer is a Python process of testdata/peer.py; what it says waits in C.
type peer struct {
	cmd *exec.Cmd
	C   chan map[string]json.RawMessage // closed at the end of its output

	reader sync.WaitGroup
}

// mustPython is the interpreter in DFWS_PYTHON. Without one the test is skipped, or fails where DFWS_REQUIRE lists python.
func mustPython(t testing.TB) string {
	t.Helper()
	return needs.Python(t, "celery")
}

// mustPeer starts the process.
func mustPeer(t testing.TB, what, url, transportOptions string) *peer {
	t.Helper()
	python := mustPython(t)
	p := &peer{cmd: exec.Command(python, "testdata/peer.py", what, url, transportOptions), C: make(chan map[string]json.RawMessage, 1000)}
	p.cmd.Env = append(os.Environ(), "C_FORCE_ROOT=1", "PYTHONDONTWRITEBYTECODE=1")
	complaints := &logbuffer.Buffer{}
	p.cmd.Stderr = complaints
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.reader.Go(func() {
		defer close(p.C)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			var said map[string]json.RawMessage
			if err := json.Unmarshal(lines.Bytes(), &said); err != nil {
				_, _ = io.WriteString(complaints, lines.Text())
				continue
			}
			p.C <- said
		}
	})
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended already
		p.reader.Wait()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("python:\n%s", complaints.String())
		}
	})
	return p
}

// pythonTime is for a process of Python to start on a busy machine.
const pythonTime = time.Minute

func (p *peer) mustSay(t testing.TB, what string) map[string]json.RawMessage {
	t.Helper()
	timer := time.NewTimer(pythonTime)
	defer timer.Stop()
	select {
	case said, ok := <-p.C:
		if !ok {
			t.Fatalf("python ended before %s", what)
		}
		return said
	case <-timer.C:
		t.Fatalf("python did not say %s", what)
		return nil
	}
}

// responder is the least of a worker's remote control: it answers ping, hello and echo.
type responder struct {
	b     *redisbroker.Broker
	node  string
	clock celeryproto.Clock
	seenC chan *celeryproto.ControlMessage
}

func mustRespond(t testing.TB, b *redisbroker.Broker, node string) *responder {
	t.Helper()
	r := &responder{b: b, node: node, seenC: make(chan *celeryproto.ControlMessage, 100)}
	mustRunSubscriber(t, b, redisbroker.SubscriberConfig{Queues: []redisbroker.FanoutQueue{{
		Exchange: celeryproto.ControlExchange("celery"), Queue: celeryproto.ControlQueue(node, "celery"), Expires: 10 * time.Second,
	}}}, func(d redisbroker.FanoutDelivery) {
		if err := r.handle(d); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *responder) handle(d redisbroker.FanoutDelivery) error {
	m, err := celeryproto.DecodeControl(d.Envelope, celeryproto.Limits{})
	if err != nil {
		return err
	}
	r.clock.Adjust(m.Clock)
	if ours, err := m.IsFor(r.node); !ours || err != nil {
		return err
	}
	r.seenC <- m
	if m.ReplyTo == nil {
		return nil
	}
	value := celeryproto.ReplyError(fmt.Sprintf("KeyError('%s')", m.Method))
	switch m.Method {
	case "ping":
		value = celeryproto.ReplyOK(celeryproto.Raw(`"pong"`))
	case "hello":
		value = celeryproto.Raw(fmt.Sprintf(`{"revoked": [], "clock": %d}`, r.clock.Forward()))
	case "echo":
		value = celeryproto.ReplyOK(m.Arguments.Append(nil))
	}
	reply := celeryproto.NewControlReply(r.node, value)
	reply.Ticket, reply.Clock = m.Ticket, r.clock.Forward()
	e, err := reply.Envelope(*m.ReplyTo, celeryproto.BusOptions{})
	if err != nil {
		return err
	}
	raw, err := e.Append(nil)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	_, err = r.b.Reply(ctx, m.ReplyTo.Exchange, m.ReplyTo.RoutingKey, raw)
	return err
}

// transportVariants are options that all sides must have alike.
var transportVariants = map[string]struct {
	db   int
	json string
}{
	"default":  {0, `{}`},
	"prefixed": {3, `{"global_keyprefix": "pfx:", "fanout_prefix": "/{db}-x.", "priority_steps": [0, 5], "sep": ":"}`},
	"plain":    {0, `{"fanout_prefix": false, "fanout_patterns": false}`},
	"sentinel": {2, `{"master_name": "m", "sentinel_fanout_compat": true}`},
}

// mustStartVariant starts a Redis, with a Sentinel when the options are for one, and opens a broker. url is for both sides.
func mustStartVariant(t testing.TB, db int, options string) (s *redistest.Server, url string, b *redisbroker.Broker) {
	t.Helper()
	transport, err := redisbroker.ParseTransportOptions([]byte(options))
	if err != nil {
		t.Fatal(err)
	}
	if transport.MasterName == "" {
		s = redistest.Start(t)
		url = s.URLFor(db)
	} else {
		watched := mustSentinel(t, 0, redistest.Options{})
		s, url = watched.master, watched.url("", db)
	}
	return s, url, mustOpen(t, s, redisbroker.Options{URL: url, TransportOptions: transport})
}

// Python's app.control asks a node of ours.
func TestPythonInspectsGo(t *testing.T) {
	t.Parallel()
	mustPython(t)
	for name, v := range transportVariants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, url, b := mustStartVariant(t, v.db, v.json)
			r := mustRespond(t, b, "go@test")
			said := mustPeer(t, "inspect", url, v.json).mustSay(t, "what it was answered")
			const pong = `{"go@test": {"ok": "pong"}}`
			for key, want := range map[string]string{
				"all": pong, "destination": pong, "nobody": "null", "glob": pong, "pcre": pong, "unmatched": "null",
				"arguments": `[{"go@test": {"ok": {"x": [1, null, "\u00fc"]}}}]`,
			} {
				if got := string(said[key]); got != want {
					t.Errorf("%s: %s, want %s", key, got, want)
				}
			}
			// Python's clock has taken over ours with the last answer, and ours has counted each of its messages.
			if clock := fmt.Sprint(r.clock.Value() + 1); string(said["clock"]) != clock || r.clock.Value() < 14 {
				t.Errorf("clocks: %s there, %d here", said["clock"], r.clock.Value())
			}
		})
	}
}

// Our client asks a real worker, which joins a node of ours before, and sees its events.
func TestGoInspectsPython(t *testing.T) {
	t.Parallel()
	mustPython(t)
	for name, v := range transportVariants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, url, b := mustStartVariant(t, v.db, v.json)
			node := mustRespond(t, b, "go@test")
			events := mustSubscribe(t, b, redisbroker.SubscriberConfig{Queues: []redisbroker.FanoutQueue{{
				Exchange: celeryproto.DefaultEventExchange, RoutingKey: "worker.#", Queue: "celeryev.test", Expires: time.Minute,
			}}})
			q, _ := mustRunReplies(t, b, redisbroker.ReplyQueueConfig{})
			c := s.Client(t)
			listeners := func() int {
				return strings.Count(c.Do(t.Context(), "CLIENT", "LIST", "TYPE", "pubsub").String(), " addr=")
			}
			before := listeners()
			p := mustPeer(t, "worker", url, v.json)
			if said := p.mustSay(t, "ready"); string(said["ready"]) != "true" {
				t.Fatalf("%s", said)
			}
			hello := await(t, "hello", node.seenC)
			if from, _ := hello.Arguments.Get("from_node"); hello.Method != "hello" || from.String() != `"py@test"` {
				t.Errorf("%+v", hello)
			}
			// It subscribes after it said that it is ready: pidbox and gossip.
			eventually(t, "python listens", func() bool { return listeners() >= before+2 })
			var clock celeryproto.Clock
			if got := mustAsk(t, b, q, &clock, &celeryproto.ControlMessage{Method: "ping"}, 2); got["py@test"] != `{"ok": "pong"}` || got["go@test"] != `{"ok": "pong"}` {
				t.Errorf("ping: %v", got)
			}
			only := []string{"py@test"}
			got := mustAsk(t, b, q, &clock, &celeryproto.ControlMessage{Method: "registered", Destination: only}, 1)
			if got["py@test"] != `["peer.add"]` {
				t.Errorf("registered: %v", got)
			}
			got = mustAsk(t, b, q, &clock, &celeryproto.ControlMessage{Method: "no_such", Destination: only}, 1)
			if got["py@test"] != `{"error": "KeyError('no_such')"}` {
				t.Errorf("unknown command: %v", got)
			}
			if clock.Value() < 10 {
				t.Errorf("clock %d", clock.Value())
			}
			mustBroadcast(t, b, &clock, &celeryproto.ControlMessage{Method: "heartbeat", Destination: only})
			mustBroadcast(t, b, &clock, &celeryproto.ControlMessage{Method: "shutdown", Destination: only})
			kinds := mustEvents(t, events, celeryproto.EventWorkerOffline)
			if !slices.Contains(kinds, celeryproto.EventWorkerOnline) || !slices.Contains(kinds, celeryproto.EventWorkerHeartbeat) {
				t.Errorf("events %q", kinds)
			}
		})
	}
}

// mustEvents receives the types of events up to the last one.
func mustEvents(t testing.TB, s *subscribed, last string) (kinds []string) {
	t.Helper()
	for !slices.Contains(kinds, last) {
		all, err := celeryproto.DecodeEvents(await(t, last, s.C).Envelope, celeryproto.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			if e.Hostname != "py@test" || e.PID == 0 || e.Clock == nil || time.Since(e.Time()).Abs() > time.Minute || e.WorkerStatus().SWIdent != "py-celery" {
				t.Errorf("%+v", e)
			}
			kinds = append(kinds, e.Type)
		}
	}
	return kinds
}

func mustBroadcast(t testing.TB, b *redisbroker.Broker, clock *celeryproto.Clock, m *celeryproto.ControlMessage) {
	t.Helper()
	m.Clock = clock.Forward()
	e, err := m.Envelope(celeryproto.ControlExchange("celery"), celeryproto.BusOptions{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.PublishFanout(t.Context(), redisbroker.FanoutMessage{Exchange: celeryproto.ControlExchange("celery"), Envelope: raw}); err != nil {
		t.Fatal(err)
	}
}

// mustAsk broadcasts a message and collects n replies, by node.
func mustAsk(t testing.TB, b *redisbroker.Broker, q *redisbroker.ReplyQueue, clock *celeryproto.Clock, m *celeryproto.ControlMessage, n int) map[string]string {
	t.Helper()
	m.Ticket, m.ReplyTo = uuid.NewString(), &celeryproto.ReplyAddress{Exchange: q.Exchange(), RoutingKey: q.RoutingKey()}
	m.Expires = celeryproto.UnixSeconds(time.Now().Add(time.Second))
	pending, err := q.Expect(t.Context(), m.Ticket)
	if err != nil {
		t.Fatal(err)
	}
	defer pending.Close()
	mustBroadcast(t, b, clock, m)
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	answers := make(map[string]string)
	for len(answers) < n {
		e, err := pending.Next(ctx)
		if err != nil {
			t.Fatalf("%s: %v; so far %v", m.Method, err, answers)
		}
		r, err := celeryproto.DecodeControlReply(e, celeryproto.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		clock.Adjust(r.Clock)
		for _, answer := range r.Replies {
			answers[answer.Key] = answer.Value.String()
		}
	}
	return answers
}

// Python's event receiver reads ours, one by one and in batches.
func TestPythonReceivesEvents(t *testing.T) {
	t.Parallel()
	mustPython(t)
	s := redistest.Start(t)
	b := mustOpen(t, s, redisbroker.Options{})
	p := mustPeer(t, "receive-events", s.URL, "{}")
	c := s.Client(t)
	deadline := time.Now().Add(pythonTime)
	for c.PubSubNumPat(t.Context()).Val() == 0 && time.Now().Before(deadline) {
		await(t, "a moment", time.After(10*time.Millisecond))
	}
	one, three := int64(1), int64(3)
	at := time.Date(2026, 11, 24, 12, 0, 0, 123456000, time.UTC)
	status := celeryproto.WorkerStatus{Freq: 2, SWIdent: "go-dfws", SWVer: "1", SWSys: "linux"}
	base := celeryproto.Event{Hostname: "go@test", PID: 7, Clock: &one, Timestamp: celeryproto.UnixSeconds(at)}
	online, started, failed, end := base, base, base, base
	online.Type, online.Fields = celeryproto.EventWorkerOnline, status.Fields()
	started.Type, started.Fields = celeryproto.EventTaskStarted, celeryproto.TaskStartedFields("a")
	failed.Type, failed.Fields, failed.Clock = celeryproto.EventTaskFailed, celeryproto.TaskFailedFields("a", "ValueError('ü')", ""), &three
	end.Type = "test-end"
	batch, err := celeryproto.EventBatch(celeryproto.DefaultEventExchange, "task", []celeryproto.Event{started, failed}, celeryproto.BusOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []*celeryproto.Envelope{mustEvent(t, online), batch, mustEvent(t, end)} {
		raw, err := e.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		info := e.Properties.DeliveryInfo
		if err := b.PublishFanout(t.Context(), redisbroker.FanoutMessage{Exchange: info.Exchange, RoutingKey: info.RoutingKey, Envelope: raw}); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []map[string]any{
		{"type": "worker-online", "hostname": "go@test", "pid": 7.0, "clock": 1.0, "timestamp": base.Timestamp, "sw_ident": "go-dfws", "freq": 2.0},
		{"type": "task-started", "uuid": "a"}, {"type": "task-failed", "exception": "ValueError('ü')", "clock": 3.0}, {"type": "test-end"},
	} {
		var event map[string]any
		if err := json.Unmarshal(p.mustSay(t, "an event")["event"], &event); err != nil {
			t.Fatal(err)
		}
		for key, value := range want {
			if event[key] != value {
				t.Errorf("%v: %s: %v", event, key, value)
			}
		}
	}
}

func mustEvent(t testing.TB, e celeryproto.Event) *celeryproto.Envelope {
	t.Helper()
	envelope, err := e.Envelope(celeryproto.DefaultEventExchange, celeryproto.BusOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

// We read what Python's event dispatcher sends.
func TestGoReceivesEvents(t *testing.T) {
	t.Parallel()
	mustPython(t)
	s := redistest.Start(t)
	b := mustOpen(t, s, redisbroker.Options{})
	sub := mustSubscribe(t, b, redisbroker.SubscriberConfig{Queues: []redisbroker.FanoutQueue{{
		Exchange: celeryproto.DefaultEventExchange, RoutingKey: "#", Queue: "celeryev.x", Expires: time.Minute,
	}}})
	mustPeer(t, "send-events", s.URL, "{}").mustSay(t, "sent")
	var got []string
	for len(got) < 4 {
		d := await(t, "event", sub.C)
		events, err := celeryproto.DecodeEvents(d.Envelope, celeryproto.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			clock := "none"
			if e.Clock != nil {
				clock = fmt.Sprint(*e.Clock)
			}
			got = append(got, fmt.Sprintf("%s %s %s %s", d.RoutingKey, e.Type, clock, e.Fields.Append(nil)))
			if e.Hostname != "py@test" || e.UTCOffset == nil || e.PID == 0 || time.Since(e.Time()).Abs() > time.Minute {
				t.Errorf("%+v", e)
			}
		}
	}
	want := []string{
		`worker.heartbeat worker-heartbeat 1 {"freq": 2.0, "active": 1, "processed": 2, "loadavg": [0.1, 0.2, 0.3], "sw_ident": "x", "sw_ver": "1", "sw_sys": "y"}`,
		`task.multi task-started 2 {"uuid": "a"}`,
		`task.multi task-succeeded 3 {"uuid": "a", "result": "'\u00fc'", "runtime": 0.5}`,
		`custom.thing custom-thing none {"n": 1000000000000000000000000000000}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}
