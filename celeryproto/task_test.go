package celeryproto

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// contentGoldens are the cases whose body is no JSON: the serializer, and the body as JSON where that is not in the golden.
var contentGoldens = map[string]struct{ serializer, body string }{
	"task_v1_msgpack": {SerializerMsgpack, ""},
	"task_v1_pickle":  {SerializerPickle, ""},
	"task_v1_yaml":    {SerializerYAML, ""},
	"task_v2_msgpack": {SerializerMsgpack, `[[1, "h\u00e9", [1.5, null], {"k": true}, {"__type__": "base64", "__value__": "AP8="}], {"kw": 1}, ` + emptyEmbed + `]`},
	"task_v2_pickle": {SerializerPickle, `[[1, "h\u00e9", [1.5, null], {"k": true}, {"__type__": "datetime", "__value__": "2024-01-02T00:00:00"}, ` +
		`{"__type__": "decimal", "__value__": "1.5"}, {"__type__": "base64", "__value__": "AP8="}], {"kw": 1}, ` + emptyEmbed + `]`},
	"task_v2_pickle_canvas": {SerializerPickle, `[[1, 2], {}, {"callbacks": [` + signature("demo.mul", "3", 2) + `], "errbacks": [` +
		signature("demo.on_error_old", "", 3) + `], "chain": [` + signature("demo.mul", "4", 4) + `], "chord": ` + signature("demo.xsum", "", 5) + `}]`},
	"task_v2_pickle_lzma": {SerializerPickle, `[[1, "h\u00e9", [1.5, null], {"k": true}], {"kw": 1}, ` + emptyEmbed + `]`},
	"task_v2_yaml": {SerializerYAML, `[[1, "h\u00e9", [1.5, null], {"k": true}, {"__type__": "datetime", "__value__": "2024-01-02T03:04:05"}, ` +
		`{"__type__": "date", "__value__": "2024-01-02"}], {"kw": 1}, ` + emptyEmbed + `]`},
}

func signature(name, arg string, id int) string {
	return fmt.Sprintf(`{"task": "%s", "args": [%s], "kwargs": {}, "options": {"task_id": "00000000-0000-4000-8000-%012d"}, `+
		`"subtask_type": null, "immutable": false}`, name, arg, id)
}

func TestTaskGoldens(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, g := range mustEnvelopes(t) {
		base, _, _ := strings.Cut(g.name, "#")
		e := must(DecodeEnvelope(g.value))(t)
		content, isContent := contentGoldens[base]
		seen[base] = true
		if _, err := DecodeTask(e); isContent {
			disallowed, ok := errors.AsType[*DisallowedError](err)
			if !ok || disallowed.ContentType != formatOf(content.serializer).contentType {
				t.Errorf("%s: not refused: %v", g.name, err)
			}
		}
		task, err := DecodeTaskLimits(e, everything)
		if err != nil {
			t.Errorf("%s: %v", g.name, err)
			continue
		}
		if task.Serializer != content.serializer {
			t.Errorf("%s: serializer %q", g.name, task.Serializer)
		}
		if got := must(task.Append(nil))(t); !bytes.Equal(got, g.value) {
			t.Errorf("%s: encoded again:\n got %s\nwant %s", g.name, got, g.value)
		}
		if e.TaskID() != task.ID || e.TaskName() != task.Name {
			t.Errorf("%s: %q, %q", g.name, e.TaskID(), e.TaskName())
		}
		if isContent && content.body != "" {
			if body := must(task.encode())(t).body; !sameJSON(t, body, []byte(content.body)) {
				t.Errorf("%s: body:\n got %s\nwant %s", g.name, body, content.body)
			}
		}
		checkDecodedBody(t, g, task)
		checkWrittenAnew(t, g, task)
	}
	for name := range contentGoldens {
		if !seen[name] {
			t.Errorf("no golden %s", name)
		}
	}
}

// checkDecodedBody compares the body with what Python read from it.
func checkDecodedBody(t *testing.T, g golden, task *Task) {
	t.Helper()
	if g.decoded == nil {
		return
	}
	want := Raw(g.decoded.Body)
	if want == nil {
		want = Raw(g.decoded.BodyText)
	}
	if len(want) == 0 {
		return // another serializer
	}
	body := must(task.encode())(t).body
	if !sameJSON(t, body, want) {
		t.Errorf("%s: body:\n got %s\nwant %s", g.name, body, want)
	}
}

// checkWrittenAnew forgets the form of the wire: what we write by ourselves
// must be what Python wrote, to the byte but for what zlib may do differently.
func checkWrittenAnew(t *testing.T, g golden, task *Task) {
	t.Helper()
	if strings.HasPrefix(g.name, "task_v2_eta_naive#") {
		return // we always write the offset
	}
	fresh := *task
	fresh.src = nil
	fresh.Properties.wire, fresh.Properties.DeliveryInfo.wire = nil, nil
	e := must(fresh.Envelope())(t)
	want := must(DecodeEnvelope(g.value))(t)
	wantBody, gotBody := must(want.Payload(Limits{}))(t), must(e.Payload(Limits{}))(t)
	if task.Serializer == SerializerPickle { // Python remembers what it has written, and we do not
		wantBody, _, _, _ = must4(want.content(everything))(t)
		gotBody, _, _, _ = must4(e.content(everything))(t)
	}
	if task.Serializer == SerializerYAML && bytes.Contains(wantBody, []byte("&id0")) {
		return // equal objects are aliases in Python
	}
	if !bytes.Equal(gotBody, wantBody) {
		t.Errorf("%s: body written anew:\n got %s\nwant %s", g.name, gotBody, wantBody)
	}
	if got, want := e.Headers.Append(nil), want.Headers.Append(nil); !sameJSON(t, got, want) {
		t.Errorf("%s: headers written anew:\n got %s\nwant %s", g.name, got, want)
	}
	if e.ContentType != want.ContentType || e.ContentEncoding != want.ContentEncoding {
		t.Errorf("%s: content %q %q", g.name, e.ContentType, e.ContentEncoding)
	}
}

func TestReprGoldens(t *testing.T) {
	t.Parallel()
	same := 0
	for _, g := range mustEnvelopes(t) {
		task, err := DecodeTaskLimits(must(DecodeEnvelope(g.value))(t), everything)
		if err != nil || task.Protocol == 1 || task.ArgsRepr == "<hidden>" || strings.Contains(task.ArgsRepr, "%") {
			continue
		}
		// Celery wrote zone names and signature objects that JSON does not carry.
		if strings.Contains(task.ArgsRepr, "ZoneInfo") || strings.Contains(task.ArgsRepr+task.KwargsRepr, "demo.") {
			continue
		}
		list, tuple := Repr(task.args()), ReprTuple(task.args())
		if task.ArgsRepr != list && task.ArgsRepr != tuple {
			t.Errorf("%s: args:\n got %s\nwant %s", g.name, list, task.ArgsRepr)
		}
		if got := Repr(task.kwargs()); got != task.KwargsRepr {
			t.Errorf("%s: kwargs: got %s want %s", g.name, got, task.KwargsRepr)
		}
		same++
	}
	if same < 60 {
		t.Errorf("compared only %d", same)
	}
}

func TestTaskFields(t *testing.T) {
	t.Parallel()
	task := mustTask(t, "task_v2_options")
	if task.Shadow != "pretty name" || task.IgnoreResult == nil || !*task.IgnoreResult {
		t.Errorf("task %+v", task)
	}
	if task.TimeLimit[0] == nil || *task.TimeLimit[0] != 30 || *task.TimeLimit[1] != 20 {
		t.Errorf("time limit %v", task.TimeLimit)
	}
	if v, _ := task.ExtraHeaders.Get("x-trace"); string(v) != `"abc"` || len(task.ExtraHeaders) != 1 {
		t.Errorf("extra headers %v", task.ExtraHeaders)
	}
	if v, _ := task.Properties.Extra.Get("argsrepr"); string(v) != `"<hidden>"` {
		t.Errorf("extra properties %v", task.Properties.Extra)
	}
	if task.Queue() != "celery" || task.Properties.ReplyTo != "my-reply" {
		t.Errorf("properties %+v", task.Properties)
	}
	v1 := mustTask(t, "task_v1_simple")
	if v1.Protocol != 1 || v1.Name != "demo.add" || string(v1.Kwargs) != `{"y": 3}` || v1.Expires == nil {
		t.Errorf("protocol 1: %+v", v1)
	}
	chain := mustTask(t, "canvas_chain")
	if steps := must(chain.Embed.Chain.Array())(t); len(steps) == 0 || steps[0].Kind() != KindObject {
		t.Errorf("chain %s", chain.Embed.Chain)
	}
	paris := mustTask(t, "task_v2_eta_paris")
	if _, offset := paris.ETA.Zone(); offset == 0 {
		t.Errorf("eta %v", paris.ETA)
	}
	naive := mustTask(t, "task_v2_eta_naive")
	if naive.ETA.Location() != time.UTC {
		t.Errorf("eta %v", naive.ETA)
	}
	stamped := mustTask(t, "canvas_stamped")
	if stamped.StampedHeaders.Kind() != KindArray || stamped.Stamps.Kind() != KindObject {
		t.Errorf("stamps %s %s", stamped.StampedHeaders, stamped.Stamps)
	}
}

func mustTask(tb testing.TB, name string) *Task {
	tb.Helper()
	return must(DecodeTaskLimits(must(DecodeEnvelope(mustGolden(tb, name, `{"body": `)))(tb), everything))(tb)
}

func TestNewTask(t *testing.T) {
	t.Parallel()
	task := must(NewTask("demo.add", []any{2, "x"}, map[string]any{"price": Decimal("1.10")}))(t)
	task.SetQueue("celery")
	e := must(task.Envelope())(t)
	task.Properties.DeliveryTag = e.Properties.DeliveryTag
	const want = `{"lang": "go", "task": "demo.add", "id": "ID", "shadow": null, "eta": null, "expires": null, ` +
		`"group": null, "group_index": null, "retries": 0, "timelimit": [null, null], "root_id": "ID", "parent_id": null, ` +
		`"argsrepr": "(2, 'x')", "kwargsrepr": "{'price': Decimal('1.10')}", "origin": null, "ignore_result": null, ` +
		`"replaced_task_nesting": 0, "stamped_headers": null, "stamps": {}}`
	if got := strings.ReplaceAll(string(e.Headers.Append(nil)), task.ID, "ID"); got != want {
		t.Errorf("headers:\n got %s\nwant %s", got, want)
	}
	body := string(must(e.Payload(Limits{}))(t))
	if body != `[[2, "x"], {"price": {"__type__": "decimal", "__value__": "1.10"}}, `+
		`{"callbacks": null, "errbacks": null, "chain": null, "chord": null}]` {
		t.Errorf("body %s", body)
	}
	got := strings.NewReplacer(task.ID, "ID", e.Properties.DeliveryTag, "TAG").
		Replace(string(must(e.Properties.append(nil))(t)))
	if got != `{"correlation_id": "ID", "reply_to": "", "delivery_mode": 2, "delivery_info": {"exchange": "", `+
		`"routing_key": "celery"}, "priority": 0, "body_encoding": "base64", "delivery_tag": "TAG"}` {
		t.Errorf("properties %s", got)
	}
	// Not yet on the wire, it can be read all the same.
	again := must(DecodeTask(e))(t)
	if again.Name != task.Name || !bytes.Equal(again.Args, task.Args) {
		t.Errorf("again %+v", again)
	}
}

func TestNewTaskRefused(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func() error{
		"args is no array":    func() error { _, err := NewTask("t", map[string]any{}, nil); return err },
		"kwargs is no object": func() error { _, err := NewTask("t", nil, []any{}); return err },
		"args has a channel":  func() error { _, err := NewTask("t", []any{make(chan int)}, nil); return err },
		"no queue":            func() error { return encodeTask(&Task{Name: "t", ID: "i"}) },
		"no name":             func() error { return encodeTask(&Task{ID: "i"}) },
		"no ID":               func() error { return encodeTask(&Task{Name: "t"}) },
		"broken args":         func() error { return encodeQueued(&Task{Args: Raw("[1")}) },
		"args are an object":  func() error { return encodeQueued(&Task{Args: Raw("{}")}) },
		"broken chain":        func() error { return encodeQueued(&Task{Embed: Embed{Chain: Raw("[")}}) },
		"chain in protocol 1": func() error { return encodeQueued(&Task{Protocol: 1, Embed: Embed{Chain: Raw("[]")}}) },
		"protocol 3":          func() error { return encodeQueued(&Task{Protocol: 3}) },
		"lz4":                 func() error { return encodeQueued(&Task{Compression: "lz4"}) },
		"unknown serializer":  func() error { return encodeQueued(&Task{Serializer: "bson"}) },
		"signed":              func() error { return encodeQueued(&Task{Serializer: "auth"}) },
		"raw":                 func() error { return encodeQueued(&Task{Serializer: "raw"}) },
		"Decimal in msgpack": func() error {
			return encodeQueued(&Task{Serializer: "msgpack", Args: Raw(`[{"__type__": "decimal", "__value__": "1"}]`)})
		},
		"year 10000": func() error {
			eta := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
			return encodeQueued(&Task{ETA: &eta})
		},
		"header of its own": func() error {
			return encodeQueued(&Task{ExtraHeaders: Members{{Key: "task", Value: rawNull}}})
		},
		"header no JSON":         func() error { return encodeQueued(&Task{ExtraHeaders: Members{{Key: "x", Value: Raw("{")}}}) },
		"unknown type in header": func() error { return encodeQueued(&Task{ExtraHeaders: Members{{Key: "x", Value: money}}}) },
		"unknown type in stamps": func() error { return encodeQueued(&Task{Stamps: Raw(`{"x": ` + string(money) + `}`)}) },
		"unknown type in args":   func() error { return encodeQueued(&Task{Args: Raw("[" + string(money) + "]")}) },
		"unknown type in chain":  func() error { return encodeQueued(&Task{Embed: Embed{Chain: Raw("[" + string(money) + "]")}}) },
		"unknown type in embed":  func() error { return encodeQueued(&Task{Embed: Embed{Extra: Members{{Key: "x", Value: money}}}}) },
		"unknown type, protocol 1": func() error {
			return encodeQueued(&Task{Protocol: 1, ExtraBody: Members{{Key: "x", Value: money}}})
		},
		"unknown type in properties": func() error {
			return encodeQueued(&Task{Properties: Properties{Extra: Members{{Key: "x", Value: money}}}})
		},
		"unknown type in delivery info": func() error {
			return encodeQueued(&Task{Properties: Properties{DeliveryInfo: DeliveryInfo{Extra: Members{{Key: "x", Value: money}}}}})
		},
		"datetime that is none": func() error {
			return encodeQueued(&Task{Args: Raw(`[{"__type__": "datetime", "__value__": "tomorrow"}]`)})
		},
		"name not UTF-8":      func() error { return encodeTask(&Task{Name: "\xff", ID: "i", Properties: inQueue}) },
		"ID not UTF-8":        func() error { return encodeTask(&Task{Name: "t", ID: "\xff", Properties: inQueue}) },
		"ID a lone surrogate": func() error { return encodeTask(&Task{Name: "t", ID: "\xed\xa0\x80", Properties: inQueue}) },
		"queue not UTF-8": func() error {
			task := &Task{Name: "t", ID: "i"}
			task.SetQueue("q\xff")
			return encodeTask(task)
		},
		"queue with kombu's separator": func() error {
			task := &Task{Name: "t", ID: "i"}
			task.SetQueue("q\x06\x163")
			return encodeTask(task)
		},
		"retries beyond 32 bits": func() error { return encodeQueued(&Task{Retries: 1 << 40}) },
		"args too deep":          func() error { return encodeQueued(&Task{Args: arraysOf(MaxSendDepth + 1)}) },
		"chain too deep":         func() error { return encodeQueued(&Task{Embed: Embed{Chain: arraysOf(MaxSendDepth + 1)}}) },
		"header too deep": func() error {
			return encodeQueued(&Task{ExtraHeaders: Members{{Key: "x", Value: arraysOf(MaxSendDepth + 1)}}})
		},
	} {
		if err := make(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

var inQueue = Properties{DeliveryInfo: DeliveryInfo{RoutingKey: "q"}}

// money is a typed value that kombu does not know by itself.
var money = Raw(`{"__type__": "money", "__value__": 1}`)

// nested is an array of arrays.
func arraysOf(depth int) Raw { return Raw(strings.Repeat("[", depth) + strings.Repeat("]", depth)) }

// What others wrote is passed on whatever a new task may not have, and a new one is as deep as MaxSendDepth says.
func TestOldTaskIsPassedOn(t *testing.T) {
	t.Parallel()
	deep := arraysOf(DefaultMaxDepth - 1)
	task := must(DecodeTask(must(DecodeEnvelope([]byte(envelopeWith(`{"task":"t","id":"\ud800"}`, `[`+string(deep)+`,{},{}]`))))(t)))(t)
	task.Retries++
	again := must(DecodeTask(must(DecodeEnvelope(must(task.Append(nil))(t)))(t)))(t)
	if again.ID != task.ID || again.Retries != 1 || string(again.Args) != string(deep) {
		t.Errorf("passed on as %q, retry %d, %d bytes", again.ID, again.Retries, len(again.Args))
	}
	if err := encodeQueued(&Task{Args: arraysOf(MaxSendDepth)}); err != nil {
		t.Errorf("depth %d: %v", MaxSendDepth, err)
	}
}

func encodeTask(t *Task) error {
	_, err := t.Append(nil)
	return err
}

func encodeQueued(t *Task) error {
	t.Name, t.ID = "t", "i"
	t.SetQueue("q")
	return encodeTask(t)
}

func TestTaskChange(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"task_v2_simple", "task_v1_simple", "task_v2_compression_zlib", "canvas_chord",
		"task_v1_yaml", "task_v2_msgpack", "task_v2_pickle_lzma", "task_v2_pickle_canvas", "task_v2_compression_zstd",
	} {
		task := mustTask(t, name)
		eta := time.Date(2030, 1, 2, 3, 4, 5, 6000, time.UTC)
		task.Retries++
		task.ETA = &eta
		task.Args = Raw(`["changed"]`)
		task.ExtraHeaders.Set("dfws_hops", Raw("1"))
		task.Properties.DeliveryTag = ""
		e := must(task.Envelope())(t)
		if e.Properties.DeliveryTag == "" {
			t.Errorf("%s: no fresh delivery tag", name)
		}
		again := must(DecodeTaskLimits(must(DecodeEnvelope(must(e.Append(nil))(t)))(t), everything))(t)
		if again.Serializer != task.Serializer || again.Retries != task.Retries || !again.ETA.Equal(eta) || string(again.Args) != `["changed"]` {
			t.Errorf("%s: %+v", name, again)
		}
		if v, _ := again.ExtraHeaders.Get("dfws_hops"); string(v) != "1" {
			t.Errorf("%s: extra headers %v", name, again.ExtraHeaders)
		}
		if !bytes.Equal(again.Embed.Chord, task.Embed.Chord) || again.Compression != task.Compression {
			t.Errorf("%s: %+v", name, again)
		}
	}
}

// envelopeWith is an envelope of protocol 2 with some headers and a body.
func envelopeWith(headers, body string) string {
	return `{"body":"` + base64.StdEncoding.EncodeToString([]byte(body)) + `","content-type":"application/json",` +
		`"headers":` + headers + `,"properties":{"body_encoding":"base64","delivery_tag":"t",` +
		`"delivery_info":{"exchange":"","routing_key":"q"}}}`
}

const (
	minimalHeaders = `{"task":"t","id":"i"}`
	minimalBody    = `[[],{},{}]`
)

// TestTaskAccepted has what a Python worker accepts beside what Python writes.
func TestTaskAccepted(t *testing.T) {
	t.Parallel()
	zlibBody := base64.StdEncoding.EncodeToString(must(compress("gzip", []byte(minimalBody)))(t))
	for name, text := range map[string]string{
		"minimal":           envelopeWith(minimalHeaders, minimalBody),
		"null embed":        envelopeWith(minimalHeaders, `[[],{},null]`),
		"nulls":             envelopeWith(`{"task":"t","id":"i","timelimit":null,"retries":null,"root_id":null,"eta":null,"compression":null,"redelivered":false}`, minimalBody),
		"retries as text":   envelopeWith(`{"task":"t","id":"i","retries":"3"}`, minimalBody),
		"eta of Go":         envelopeWith(`{"task":"t","id":"i","eta":"2026-11-23T09:01:45.123456789Z"}`, minimalBody),
		"eta basic":         envelopeWith(`{"task":"t","id":"i","eta":"20261123T090145+0000"}`, minimalBody),
		"typed eta":         envelopeWith(`{"task":"t","id":"i","eta":{"__type__":"datetime","__value__":"2026-11-23T09:01:45"}}`, minimalBody),
		"unknown headers":   envelopeWith(`{"task":"t","id":"i","x":[NaN,{"a":1e999}]}`, minimalBody),
		"hybrid":            envelopeWith(`{"task":"t","id":"i"}`, `{"args":[1],"kwargs":{},"retries":2,"eta":"2026-11-23T09:01:45"}`),
		"protocol 1":        envelopeWith(`{}`, `{"task":"t","id":"i"}`),
		"protocol 1, local": envelopeWith(`{"x":1}`, `{"task":"t","id":"i","utc":false,"eta":"2026-11-23T09:01:45","more":[]}`),
		"gzip by its name":  strings.Replace(envelopeWith(`{"task":"t","id":"i","compression":"gzip"}`, ""), `"body":""`, `"body":"`+zlibBody+`"`, 1),
		"plain text":        `{"body":"[[],{},{}]","content-type":"application/json","headers":{"task":"t","id":"i"},"properties":{"delivery_tag":"t","delivery_info":{"exchange":"","routing_key":"q"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task, err := DecodeTask(must(DecodeEnvelope([]byte(text)))(t))
			if err != nil {
				t.Fatal(err)
			}
			if task.Name != "t" || task.ID != "i" {
				t.Errorf("task %q %q", task.Name, task.ID)
			}
			if got := must(task.Append(nil))(t); !sameJSON(t, got, []byte(text)) {
				t.Errorf("encoded again:\n got %s\nwant %s", got, text)
			}
			task.Args = Raw(`["new"]`)
			e := must(task.Envelope())(t)
			again := must(DecodeTask(must(DecodeEnvelope(must(e.Append(nil))(t)))(t)))(t)
			if diff := cmp.Diff(task.ETA, again.ETA); diff != "" || again.Retries != task.Retries || string(again.Args) != `["new"]` {
				t.Errorf("changed: %+v", again)
			}
		})
	}
}

// TestTaskRefused has the messages that break a Python worker, or that it drops.
func TestTaskRefused(t *testing.T) {
	t.Parallel()
	header := func(h string) string { return envelopeWith(`{"task":"t","id":"i",`+h+`}`, minimalBody) }
	for name, tc := range map[string]struct{ text, part, field string }{
		"two elements":          {envelopeWith(minimalHeaders, `[[],{}]`), PartBody, ""},
		"four elements":         {envelopeWith(minimalHeaders, `[[],{},{},{}]`), PartBody, ""},
		"object body":           {envelopeWith(minimalHeaders, `{"kwargs":{}}`), PartBody, "args"},
		"text body":             {envelopeWith(minimalHeaders, `"x"`), PartBody, ""},
		"empty body":            {envelopeWith(minimalHeaders, ``), PartBody, ""},
		"no JSON":               {envelopeWith(minimalHeaders, `[[],{},{}`), PartBody, ""},
		"no content type":       {strings.Replace(envelopeWith(minimalHeaders, minimalBody), `"content-type":"application/json",`, "", 1), PartEnvelope, "content-type"},
		"base64 garbage":        {strings.Replace(envelopeWith(minimalHeaders, ""), `"body":""`, `"body":"*"`, 1), PartBody, ""},
		"eta empty":             {header(`"eta":""`), PartHeaders, "eta"},
		"eta no time":           {header(`"eta":"tomorrow"`), PartHeaders, "eta"},
		"eta a number":          {header(`"eta":5`), PartHeaders, "eta"},
		"expires a number":      {header(`"expires":60`), PartHeaders, "expires"},
		"no id":                 {envelopeWith(`{"task":"t"}`, minimalBody), PartHeaders, "id"},
		"id a number":           {envelopeWith(`{"task":"t","id":5}`, minimalBody), PartHeaders, "id"},
		"task null":             {envelopeWith(`{"task":null,"id":"i"}`, minimalBody), PartHeaders, "task"},
		"kwargs null":           {envelopeWith(minimalHeaders, `[[],null,{}]`), PartBody, "[1]"},
		"kwargs typed":          {envelopeWith(minimalHeaders, `[[],{"__type__":"date","__value__":"2020-01-01"},{}]`), PartBody, "[1]"},
		"args a text":           {envelopeWith(minimalHeaders, `["abc",{},{}]`), PartBody, "[0]"},
		"embed a text":          {envelopeWith(minimalHeaders, `[[],{},"x"]`), PartBody, "[2]"},
		"unknown type":          {envelopeWith(minimalHeaders, `[[{"__type__":"money","__value__":1}],{},{}]`), PartBody, "[0]"},
		"unknown type in embed": {envelopeWith(minimalHeaders, `[[],{},{"chain":[{"__type__":"money","__value__":1}]}]`), PartBody, "[2]"},
		"protocol 1, type":      {envelopeWith(`{}`, `{"task":"t","id":"i","callbacks":[{"__type__":"money","__value__":1}]}`), PartBody, "callbacks"},
		"retries no number":     {header(`"retries":"many"`), PartHeaders, "retries"},
		"timelimit one":         {header(`"timelimit":[1]`), PartHeaders, "timelimit"},
		"timelimit text":        {header(`"timelimit":[null,"1"]`), PartHeaders, "timelimit[1]"},
		"timelimit endless":     {header(`"timelimit":[Infinity,null]`), PartHeaders, "timelimit[0]"},
		"stamps a list":         {header(`"stamps":[]`), PartHeaders, "stamps"},
		"ignore_result text":    {header(`"ignore_result":"yes"`), PartHeaders, "ignore_result"},
		"compression no zlib":   {header(`"compression":"zlib"`), PartBody, ""},
		"protocol 1 as list":    {envelopeWith(`{}`, minimalBody), PartBody, ""},
		"protocol 1, no task":   {envelopeWith(`{}`, `{"id":"i"}`), PartBody, "task"},
		"protocol 1, no id":     {envelopeWith(`{}`, `{"task":"t"}`), PartBody, "id"},
		"protocol 1, no kwargs": {envelopeWith(`{}`, `{"task":"t","id":"i","kwargs":[]}`), PartBody, "kwargs"},
		"hybrid, args a text":   {envelopeWith(minimalHeaders, `{"args":"x"}`), PartBody, "args"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := must(DecodeEnvelope([]byte(tc.text)))(t)
			_, err := DecodeTask(e)
			fault, ok := errors.AsType[*DecodeError](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			if fault.Part != tc.part || fault.Field != tc.field {
				t.Errorf("part %q, field %q: %v", fault.Part, fault.Field, err)
			}
		})
	}
}

func TestTaskUnsupported(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		envelopeWith(`{"task":"t","id":"i","compression":"lz4"}`, ""):                                      `celeryproto: compression "lz4" is not supported`,
		strings.Replace(envelopeWith(minimalHeaders, ""), "application/json", "application/x-yaml", 1):     `celeryproto: Refusing to deserialize untrusted content of type yaml (application/x-yaml)`,
		strings.Replace(envelopeWith(minimalHeaders, ""), "application/json", "application/data", 1):       `celeryproto: serializer "auth (application/data)" is not supported`,
		strings.Replace(envelopeWith(minimalHeaders, ""), `"base64"`, `"rot13"`, 1):                        `celeryproto: body encoding "rot13" is not supported`,
		strings.Replace(envelopeWith(minimalHeaders, ""), "application/json", strings.Repeat("x", 100), 1): `celeryproto: serializer "` + strings.Repeat("x", 64) + `…" is not supported`,
	} {
		if _, err := DecodeTask(must(DecodeEnvelope([]byte(text)))(t)); err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

func TestDecompressionLimit(t *testing.T) {
	t.Parallel()
	task := must(NewTask("t", []string{strings.Repeat("a", 1<<20)}, nil))(t)
	task.SetQueue("q")
	task.Compression = CompressionZlib
	e := must(task.Envelope())(t)
	if len(e.Body) > 1<<14 {
		t.Fatalf("compressed to %d bytes", len(e.Body))
	}
	if _, err := DecodeTask(e); err != nil {
		t.Error(err)
	}
	if _, err := DecodeTaskLimits(e, Limits{MaxDecompressed: 1 << 20}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("error %v", err)
	}
}

func TestTaskIDOfRefusedMessage(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		envelopeWith(minimalHeaders, `[]`):                  "i t",
		envelopeWith(`{"task":"t","id":5}`, `[]`):           " t",
		envelopeWith(`{"task":"t"}`, `[]`):                  " t",
		envelopeWith(`{}`, `{"id":"i","task":"t","eta":5}`): "i t",
		envelopeWith(`{}`, `{`):                             " ",
		envelopeWith(`{}`, `[]`):                            " ",
	} {
		e := must(DecodeEnvelope([]byte(text)))(t)
		if got := e.TaskID() + " " + e.TaskName(); got != want {
			t.Errorf("%s: got %q", text, got)
		}
	}
}

func TestRedelivered(t *testing.T) {
	t.Parallel()
	task := mustTask(t, "task_v2_simple")
	task.Redelivered = true
	e := must(task.Envelope())(t)
	if v, _ := e.Headers.Get("redelivered"); string(v) != "true" || !e.Properties.DeliveryInfo.Redelivered {
		t.Errorf("envelope %+v", e)
	}
	again := must(DecodeTask(e))(t)
	if !again.Redelivered {
		t.Error("lost")
	}
	again.Redelivered = false
	e = must(again.Envelope())(t)
	if _, there := e.Headers.Get("redelivered"); there || e.Properties.DeliveryInfo.Redelivered {
		t.Errorf("envelope %+v", e)
	}
}

// TestPlainTextBodies has the transport option body_encoding "utf-8": what is no text stands in the envelope as kombu's typed bytes.
func TestPlainTextBodies(t *testing.T) {
	t.Parallel()
	for _, serializer := range []string{"", SerializerMsgpack, SerializerYAML, SerializerPickle} {
		for _, compression := range []string{"", "zlib", "zstd"} {
			task := &Task{Name: "t", ID: "i", Serializer: serializer, Compression: compression, Args: Raw(`["\u20ac", 1]`)}
			task.Properties.BodyEncoding = BodyUTF8
			task.SetQueue("q")
			text := must(task.Append(nil))(t)
			e := must(DecodeEnvelope(text))(t)
			isText := compression == "" && (serializer == "" || serializer == SerializerYAML)
			if e.BodyIsBytes == isText {
				t.Errorf("%q %q: bytes: %v", serializer, compression, e.BodyIsBytes)
			}
			again := must(DecodeTaskLimits(e, everything))(t)
			if !sameJSON(t, again.Args, task.Args) || again.Serializer != serializer {
				t.Errorf("%q %q: %+v", serializer, compression, again)
			}
			if got := must(again.Append(nil))(t); !bytes.Equal(got, text) {
				t.Errorf("%q %q: encoded again:\n got %s\nwant %s", serializer, compression, got, text)
			}
		}
	}
}

// TestSerializerChange sends a task on in another serializer.
func TestSerializerChange(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"task_v2_simple", "task_v2_pickle_canvas", "task_v1_msgpack", "task_v2_compression_lzma"} {
		for _, serializer := range []string{"", SerializerMsgpack, SerializerYAML, SerializerPickle} {
			task := mustTask(t, name)
			was := must(task.encode())(t).body
			task.Serializer = serializer
			e := must(task.Envelope())(t)
			f := formatOf(serializer)
			if e.ContentType != f.contentType || e.ContentEncoding != f.encoding {
				t.Errorf("%s %s: %s %s", name, serializer, e.ContentType, e.ContentEncoding)
			}
			again := must(DecodeTaskLimits(e, everything))(t)
			if body := must(again.encode())(t).body; !sameJSON(t, body, was) || again.Compression != task.Compression {
				t.Errorf("%s %s:\n got %s\nwant %s", name, serializer, body, was)
			}
		}
	}
}
