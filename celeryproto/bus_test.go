package celeryproto

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// mustBus returns the recorded messages of remote control and events, by exchange.
func mustBus(tb testing.TB) map[string][]golden {
	tb.Helper()
	found := make(map[string][]golden)
	for _, g := range mustGoldensIn(tb, "bus", `{"body": `) {
		e := must(DecodeEnvelope(g.value))(tb)
		exchange := e.Properties.DeliveryInfo.Exchange
		found[exchange] = append(found[exchange], g)
	}
	return found
}

// mustBeWritten compares what is written with a recording, whose delivery tag it takes.
func mustBeWritten(tb testing.TB, g golden, e *Envelope, err error) {
	tb.Helper()
	if err != nil {
		tb.Errorf("%s: %v", g.name, err)
		return
	}
	e.Properties.DeliveryTag = must(DecodeEnvelope(g.value))(tb).Properties.DeliveryTag
	if got := must(e.Append(nil))(tb); !bytes.Equal(got, g.value) {
		tb.Errorf("%s:\n%s\n%s", g.name, got, g.value)
	}
}

func TestControlGoldens(t *testing.T) {
	t.Parallel()
	goldens := mustBus(t)[ControlExchange(DefaultControlNamespace)]
	if len(goldens) < 40 {
		t.Errorf("only %d recordings", len(goldens))
	}
	for _, g := range goldens {
		m, err := DecodeControl(must(DecodeEnvelope(g.value))(t), Limits{})
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		e, err := m.Envelope("celery.pidbox", BusOptions{})
		mustBeWritten(t, g, e, err)
	}
}

func TestControlReplyGoldens(t *testing.T) {
	t.Parallel()
	goldens := mustBus(t)[ReplyExchange(DefaultControlNamespace)]
	if len(goldens) < 30 {
		t.Errorf("only %d recordings", len(goldens))
	}
	for _, g := range goldens {
		envelope := must(DecodeEnvelope(g.value))(t)
		r, err := DecodeControlReply(envelope, Limits{})
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		info := envelope.Properties.DeliveryInfo
		e, err := r.Envelope(ReplyAddress{Exchange: info.Exchange, RoutingKey: info.RoutingKey}, BusOptions{})
		mustBeWritten(t, g, e, err)
	}
}

func TestControlFields(t *testing.T) {
	t.Parallel()
	g := mustGoldensIn(t, "bus", `{"body": `)
	byName := func(name string) *ControlMessage {
		for _, g := range g {
			if strings.HasPrefix(g.name, name+"#") {
				return must(DecodeControl(must(DecodeEnvelope(g.value))(t), Limits{}))(t)
			}
		}
		t.Fatalf("no golden %s", name)
		return nil
	}
	m := byName("inspect_pattern")
	if m.Method != "ping" || m.Pattern != "w*@golden" || m.Matcher != MatcherGlob || m.Clock != 1 || m.Expires < 1.7e9 ||
		m.ReplyTo == nil || m.ReplyTo.Exchange != "reply.celery.pidbox" || m.Ticket == "" || m.Destination != nil {
		t.Errorf("%+v", m)
	}
	m = byName("mingle_hello")
	if from, _ := m.Arguments.Get("from_node"); m.Method != "hello" || from.String() != `"w2@golden"` {
		t.Errorf("%+v", m)
	}
	if m = byName("inspect_destination"); !cmp.Equal(m.Destination, []string{"w1@golden"}) {
		t.Errorf("%+v", m)
	}
}

func TestControlIsFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		m     ControlMessage
		want  bool
		fault bool
	}{
		{ControlMessage{}, true, false},
		{ControlMessage{Destination: []string{"other@h", "w1@h"}}, true, false},
		{ControlMessage{Destination: []string{"w1"}}, false, false},
		{ControlMessage{Destination: []string{"other@h"}, Pattern: "*", Matcher: "glob"}, false, false},
		{ControlMessage{Pattern: "w*", Matcher: "glob"}, true, false},
		{ControlMessage{Pattern: "x*", Matcher: "glob"}, false, false},
		{ControlMessage{Pattern: "w1", Matcher: "pcre"}, true, false},
		{ControlMessage{Pattern: "h", Matcher: "pcre"}, false, false},
		{ControlMessage{Pattern: "x"}, true, false}, // without matcher: for all, as in Python
		{ControlMessage{Pattern: "x", Matcher: "sql"}, false, true},
		{ControlMessage{Pattern: "(?=w)", Matcher: "pcre"}, false, true},
	} {
		got, err := c.m.IsFor("w1@h")
		var fault *PatternError
		if got != c.want || errors.As(err, &fault) != c.fault {
			t.Errorf("%+v: %v, %v", c.m, got, err)
		}
	}
}

// What Python would not write, but a worker takes or refuses.
func TestDecodeControlVariants(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]*ControlMessage{
		`{"method":"ping"}`: {Method: "ping"}, `{"method":"ping","destination":[]}`: {Method: "ping"}, `{"method":"ping","destination":""}`: {Method: "ping"},
		`{"method":"ping","arguments":null,"destination":"w1@h","reply_to":{},"x":1}`: {
			Method: "ping", Destination: []string{"w1@h"}, Extra: Members{{Key: "x", Value: Raw("1")}},
		},
		`{"arguments":{}}`: nil, `[]`: nil, `{"method":1}`: nil, `{"method":"a","arguments":[]}`: nil, `{"method":"a","destination":{}}`: nil,
		`{"method":"a","destination":[1]}`: nil, `{"method":"a","reply_to":{"exchange":"x"}}`: nil, `{"method":"a","reply_to":1}`: nil,
		`{"method":"a","arguments":{"x":{"__type__":"?","__value__":1}}}`: nil,
	} {
		e := &Envelope{ContentType: ContentTypeJSON, Headers: Members{{Key: "clock", Value: Raw("true")}, {Key: "expires", Value: Raw(`"x"`)}}}
		if err := e.setPayload([]byte(body), false, ""); err != nil {
			t.Fatal(err)
		}
		m, err := DecodeControl(e, Limits{})
		var fault *DecodeError
		if want == nil {
			if !errors.As(err, &fault) {
				t.Errorf("%s: %+v, %v", body, m, err)
			}
			continue
		}
		if d := cmp.Diff(want, m); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", body, err, d)
		}
	}
}

func TestBusOptions(t *testing.T) {
	t.Parallel()
	m := &ControlMessage{Method: "ping"}
	var unsupported *UnsupportedError
	if _, err := m.Envelope("x", BusOptions{Serializer: "auth"}); !errors.As(err, &unsupported) || unsupported.Name != "auth" {
		t.Errorf("serializer auth: %v", err)
	}
	e := must(m.Envelope("x", BusOptions{Serializer: "json", BodyEncoding: BodyUTF8}))(t)
	if !strings.HasPrefix(e.Body, `{"method": "ping", "arguments": {}, `) {
		t.Errorf("body %q", e.Body)
	}
	if again := must(DecodeControl(e, Limits{}))(t); again.Method != "ping" {
		t.Errorf("%+v", again)
	}
	for _, serializer := range []string{SerializerMsgpack, SerializerYAML, SerializerPickle} {
		e := must(m.Envelope("x", BusOptions{Serializer: serializer}))(t)
		if again := must(DecodeControl(e, everything))(t); e.ContentType != formatOf(serializer).contentType || again.Method != "ping" {
			t.Errorf("%s: %s, %+v", serializer, e.ContentType, again)
		}
		if _, err := DecodeControl(e, Limits{}); !isDisallowed(err) {
			t.Errorf("%s: %v", serializer, err)
		}
	}
	for _, bad := range []*ControlMessage{
		{}, {Method: "a", Expires: -1}, {Method: "a", Extra: Members{{Key: "method"}}}, {Method: "a", Arguments: Members{{Key: "x", Value: Raw("{")}}},
	} {
		var fault *EncodeError
		if _, err := bad.Envelope("x", BusOptions{}); !errors.As(err, &fault) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := (&ControlReply{}).Envelope(ReplyAddress{}, BusOptions{}); err == nil {
		t.Error("a reply of nobody")
	}
}

func TestReplyForms(t *testing.T) {
	t.Parallel()
	r := NewControlReply("w1@h", ReplyOK(Raw(`"pong"`)))
	if got := string(r.Replies.Append(nil)); got != `{"w1@h": {"ok": "pong"}}` {
		t.Error(got)
	}
	if got := string(ReplyError(`KeyError('x')`)); got != `{"error": "KeyError('x')"}` {
		t.Error(got)
	}
}

func TestEventGoldens(t *testing.T) {
	t.Parallel()
	goldens := mustBus(t)[DefaultEventExchange]
	if len(goldens) < 50 {
		t.Errorf("only %d recordings", len(goldens))
	}
	batches := 0
	for _, g := range goldens {
		envelope := must(DecodeEnvelope(g.value))(t)
		events, err := DecodeEvents(envelope, Limits{})
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		var e *Envelope
		if group, isBatch := strings.CutSuffix(envelope.Properties.DeliveryInfo.RoutingKey, ".multi"); isBatch {
			batches++
			e, err = EventBatch(DefaultEventExchange, group, events, BusOptions{})
		} else {
			e, err = events[0].Envelope(DefaultEventExchange, BusOptions{})
		}
		mustBeWritten(t, g, e, err)
	}
	if batches == 0 || batches == len(goldens) {
		t.Errorf("%d of %d recordings are batches", batches, len(goldens))
	}
}

// The fields of each kind of event, made anew from what the recording says, in Python's order.
func TestEventFieldGoldens(t *testing.T) {
	t.Parallel()
	seen := make(map[string]int)
	for _, g := range mustBus(t)[DefaultEventExchange] {
		for _, e := range must(DecodeEvents(must(DecodeEnvelope(g.value))(t), Limits{}))(t) {
			fields, known := fieldsAgain(t, &e)
			if !known {
				continue
			}
			seen[e.Type]++
			if got, want := string(fields.Append(nil)), string(e.Fields.Append(nil)); got != want {
				t.Errorf("%s: %s:\n%s\n%s", g.name, e.Type, got, want)
			}
		}
	}
	for _, typ := range []string{
		EventWorkerOnline, EventWorkerHeartbeat, EventWorkerOffline, EventTaskSent, EventTaskReceived, EventTaskStarted,
		EventTaskSucceeded, EventTaskFailed, EventTaskRetried, EventTaskRevoked, EventTaskRejected,
	} {
		if seen[typ] == 0 {
			t.Errorf("no recording of %s", typ)
		}
	}
}

func fieldsAgain(t *testing.T, e *Event) (fields Members, known bool) {
	t.Helper()
	text := func(key string) string {
		value, _ := e.Fields.Get(key)
		if value.IsNull() {
			return ""
		}
		return must(value.Text())(t)
	}
	flag := func(key string) bool {
		value, _ := e.Fields.Get(key)
		return must(value.Bool())(t)
	}
	at := func(key string) *time.Time {
		if text(key) == "" {
			return nil
		}
		iso := must(parseISO(text(key)))(t)
		v := must(iso.time())(t)
		return &v
	}
	r := fieldReader{members: e.Fields}
	switch e.Type {
	case EventWorkerOnline, EventWorkerHeartbeat, EventWorkerOffline:
		status := e.WorkerStatus()
		return status.Fields(), true
	case EventTaskSent, EventTaskReceived:
		task := &Task{
			ID: text("uuid"), Name: text("name"), ArgsRepr: text("args"), KwargsRepr: text("kwargs"), RootID: text("root_id"),
			ParentID: text("parent_id"), Retries: r.int("retries"), ETA: at("eta"), Expires: at("expires"),
		}
		if e.Type == EventTaskReceived {
			return must(TaskReceivedFields(task))(t), true
		}
		task.Properties.DeliveryInfo = DeliveryInfo{Exchange: text("exchange"), RoutingKey: text("routing_key")}
		return must(TaskSentFields(task, text("queue")))(t), true
	case EventTaskStarted, EventTaskCancelled:
		return TaskStartedFields(text("uuid")), true
	case EventTaskSucceeded:
		return TaskSucceededFields(text("uuid"), text("result"), r.optionalFloat("runtime")), true
	case EventTaskFailed, EventTaskRetried:
		return TaskFailedFields(text("uuid"), text("exception"), text("traceback")), true
	case EventTaskRevoked:
		signum, _ := e.Fields.Get("signum")
		return TaskRevokedFields(text("uuid"), flag("terminated"), signum, flag("expired")), true
	case EventTaskRejected:
		return TaskRejectedFields(text("uuid"), flag("requeue")), true
	default:
		return nil, false
	}
}

func TestTaskSentDefaults(t *testing.T) {
	t.Parallel()
	task := must(NewTask("demo.add", []any{1, "a"}, nil))(t)
	task.ID = "i"
	task.SetQueue("q")
	want := `{"uuid": "i", "root_id": "i", "parent_id": null, "name": "demo.add", "args": "(1, 'a')", "kwargs": "{}", "retries": 0, ` +
		`"eta": null, "expires": null, "queue": "q", "exchange": "", "routing_key": "q"}`
	if got := string(must(TaskSentFields(task, "q"))(t).Append(nil)); got != want {
		t.Errorf("%s\n%s", got, want)
	}
}

func TestDecodeEventVariants(t *testing.T) {
	t.Parallel()
	one := int64(1)
	for body, want := range map[string][]Event{
		`{"type":"worker-online"}`: {{Type: "worker-online", NoClock: true}},
		`{"type":"a-b","clock":1.5,"utcoffset":-1,"timestamp":3,"hostname":"h","pid":4,"x":null}`: {{
			Type: "a-b", Clock: &one, UTCOffset: func() *float64 { v := -1.0; return &v }(), Timestamp: 3, Hostname: "h", PID: 4,
			Fields: Members{{Key: "x", Value: Raw("null")}},
		}},
		`[]`: {},
		`1`:  nil, `[1]`: nil, `{}`: nil, `{"type":1}`: nil, `{"type":"a","timestamp":"x"}`: nil, `{"type":"a","timestamp":NaN}`: nil,
	} {
		e := &Envelope{ContentType: ContentTypeJSON}
		if err := e.setPayload([]byte(body), false, ""); err != nil {
			t.Fatal(err)
		}
		events, err := DecodeEvents(e, Limits{})
		if want == nil {
			var fault *DecodeError
			if !errors.As(err, &fault) {
				t.Errorf("%s: %+v, %v", body, events, err)
			}
			continue
		}
		if d := cmp.Diff(want, events); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", body, err, d)
		}
	}
}

func TestEventTimes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 10, 39, 16, 680795000, time.UTC)
	e := Event{Timestamp: UnixSeconds(at)}
	if got := e.Time(); !got.Equal(at) {
		t.Error(got)
	}
	for _, bad := range []float64{-1, 1e300} {
		if got := (&Event{Timestamp: bad}).Time(); !got.IsZero() {
			t.Errorf("%v: %v", bad, got)
		}
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	var c Clock
	if c.Forward() != 1 || c.Adjust(0) != 2 || c.Adjust(10) != 11 || c.Adjust(3) != 12 || c.Forward() != 13 || c.Value() != 13 {
		t.Errorf("value %d", c.Value())
	}
	if c.Adjust(1<<63-1) != MaxClock+1 || c.Forward() != MaxClock+2 {
		t.Errorf("value %d", c.Value())
	}
	for text, want := range map[string]int64{
		"5": 5, "5.9": 5, "1e30": MaxClock, "100000000000000000000": MaxClock, "NaN": 0, "null": 0, `"5"`: 0, "-100000000000000000000": MaxClock,
	} {
		if got, ok := clockOf(Raw(text)); got != want && ok {
			t.Errorf("%s: %d", text, got)
		}
	}
}

func TestNodeNames(t *testing.T) {
	t.Parallel()
	if got := AnonNodeName("", 12, "h"); got != "gen12@h" {
		t.Error(got)
	}
	if name, host := SplitNodeName("a@b@c"); name != "a" || host != "b@c" {
		t.Error(name, host)
	}
	for node, want := range map[string]string{"": "celery@h", "a@": "a@h", "b": "celery@b", "@b": "celery@b", "a@b": "a@b"} {
		if got := CompleteNodeName(node, "h"); got != want {
			t.Errorf("%q: %q", node, got)
		}
	}
	for text, want := range map[string]string{
		"%n-%h-%d-%p-%i%I.%%": "w1-a.b.c-b.c-w1@a.b.c-0.%", "x": "x", "100%": "100%", "% n": "% n", "%é": "", "%x": "", "%_": "",
	} {
		got, err := NodeFormat(text, "w1@a.b.c", 0)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	if got := must(NodeFormat("%n%i%I", "h", 3))(t); got != "celery3-3" {
		t.Error(got)
	}
	if got := must(HostFormat("%n@%h.%d", "a.b"))(t); got != "a@a.b.b" {
		t.Error(got)
	}
	if _, err := HostFormat("%p", "a.b"); err == nil {
		t.Error("the abbreviation p without a node name")
	}
	if got := WorkerDirectQueue("w1@h"); got != "w1@h.dq2" {
		t.Error(got)
	}
}

// FuzzDecodeBus: what decodes can be written, and reads the same again.
func FuzzDecodeBus(f *testing.F) {
	for _, goldens := range mustBus(f) {
		for _, g := range goldens {
			f.Add(must(must(DecodeEnvelope(g.value))(f).Payload(Limits{}))(f))
		}
	}
	for _, body := range []string{`{"method":"a","destination":"x","reply_to":{}}`, `[{"type":"a"},{"type":"b","clock":1e30}]`, `{"n":{"ok":1},"n":2}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e := &Envelope{ContentType: ContentTypeJSON}
		if err := e.setPayload(body, false, ""); err != nil {
			t.Fatal(err)
		}
		if m, err := DecodeControl(e, Limits{}); err == nil {
			again := must(DecodeControl(must(m.Envelope("x", BusOptions{}))(t), Limits{}))(t)
			if m.ReplyTo == nil {
				m.Ticket = "" // is only written with an address
			}
			if d := cmp.Diff(m, again, equateEmptyMembers); d != "" {
				t.Fatal(d)
			}
			_, _ = m.IsFor("w1@h") // must not panic
		}
		if r, err := DecodeControlReply(e, Limits{}); err == nil && len(r.Replies) > 0 {
			again := must(DecodeControlReply(must(r.Envelope(ReplyAddress{}, BusOptions{}))(t), Limits{}))(t)
			if d := cmp.Diff(r, again); d != "" {
				t.Fatal(d)
			}
		}
		events, err := DecodeEvents(e, Limits{})
		if err != nil || len(events) == 0 {
			return
		}
		again := must(DecodeEvents(must(EventBatch("x", "task", events, BusOptions{}))(t), Limits{}))(t)
		if d := cmp.Diff(events, again, equateEmptyMembers); d != "" {
			t.Fatal(d)
		}
		for i := range events {
			_, _ = events[i].WorkerStatus(), events[i].Time()
		}
	})
}

// equateEmptyMembers: absent and {} are the same.
var equateEmptyMembers = cmp.FilterValues(func(a, b Members) bool { return len(a) == 0 && len(b) == 0 }, cmp.Ignore())

// Remote control follows task_serializer, events follow event_serializer; both sides apply accept_content.
func TestBusSerializers(t *testing.T) {
	t.Parallel()
	message := &ControlMessage{
		Method: "revoke", Arguments: Members{{Key: "task_id", Value: Raw(`["a", "\u00fc"]`)}}, Destination: []string{"w1@h"},
		Ticket: "t", ReplyTo: &ReplyAddress{Exchange: "e", RoutingKey: "k"}, Clock: 3,
	}
	reply := NewControlReply("w1@h", ReplyOK(Raw(`[1, null, 1.5]`)))
	reply.Ticket = "t"
	event := Event{Type: EventTaskStarted, Hostname: "w1@h", PID: 1, Timestamp: 1.5, Fields: TaskStartedFields("a")}
	for _, serializer := range []string{"", "json", "msgpack", "yaml", "pickle"} {
		o, lim := BusOptions{Serializer: serializer}, Limits{}
		if serializer != "" {
			lim.Accept = must(ParseAccept([]string{serializer}))(t)
		}
		e := must(message.Envelope("x", o))(t)
		if d := cmp.Diff(message, must(DecodeControl(e, lim))(t)); d != "" {
			t.Errorf("%s: %s", serializer, d)
		}
		var disallowed *DisallowedError
		if _, err := DecodeControl(e, Limits{}); errors.As(err, &disallowed) != (serializer != "" && serializer != "json") {
			t.Errorf("%s, where json is accepted: %v", serializer, err)
		}
		if d := cmp.Diff(reply, must(DecodeControlReply(must(reply.Envelope(ReplyAddress{}, o))(t), lim))(t)); d != "" {
			t.Errorf("%s: %s", serializer, d)
		}
		batch := must(EventBatch("x", "task", []Event{event, event}, o))(t)
		if d := cmp.Diff([]Event{event, event}, must(DecodeEvents(batch, lim))(t)); d != "" {
			t.Errorf("%s: %s", serializer, d)
		}
	}
}
