//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/dfws/dfws/integration/harness"
)

// signalIDShape is a uuid4, as df_websockets makes them.
var signalIDShape = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// step is one thing that a visitor or a view does. What follows from it is observed, not listed: daphne with Python says what is right.
type step struct {
	name string
	do   func(ctx context.Context, open []visitor) error
	// window is who acts. The fence comes from the same window: order holds within a window, not between two.
	window int
	// calls is how many handler executions to wait for before the fence, for steps that another queue than the fence's serves.
	calls int
}

// observation is what one step led to.
type observation struct {
	// Frames has what each window got, ids replaced by their order of appearance.
	Frames map[string][]string
	// Calls are the executed handlers, sorted.
	Calls []string
}

// send is a step: a window sends a frame.
func send(name string, window int, frame string) step {
	return step{name: name, window: window, do: func(_ context.Context, open []visitor) error { return open[window].Send(frame) }}
}

// visit is a step: a script on alice's first page requests a view.
func visit(name, page string) step {
	return step{name: name, do: func(ctx context.Context, open []visitor) error {
		resp, err := open[0].client.XHR(ctx, page)
		if err == nil && resp.Status != 200 {
			err = fmt.Errorf("%s: %d %.300s", page, resp.Status, resp.Body)
		}
		return err
	}}
}

func call(signal string, opts any) string {
	text, err := json.Marshal(map[string]any{"signal": signal, "opts": opts})
	if err != nil {
		panic(err) // opts are literals of this package
	}
	return string(text)
}

// plainPayload is what a page can send: everything that JSON has.
const plainPayload = `{"a_text": "é☃𝄞 </script>&'\"\\ \u2028 \u0000\u007f \ud83d\ude00", "b_nested": {"list": [1, [2, {"deep": [null, true, {}]}], []],` +
	` "map": {"": "empty key", "é": "key"}}, "c_none": null, "d_big": 1180591620717411303424, "e_negative": -9223372036854775809,` +
	` "f_float": [0.1, 1e22, 1E+16, 1.5e300, 5e-324, -0.0, 1.0, 123456789.123], "g_bool": [true, false]}`

// scenario is what the parity test plays twice. Everything in it is handled by Python.
func scenario() []step {
	var steps []step
	steps = append(steps,
		send("heartbeat", 0, harness.Heartbeat),
		send("heartbeat of an anonymous window", 5, harness.Heartbeat),
		send("an answer", 0, call("demo.python_hello", map[string]any{"name": "Zoé"})),
		send("an answer to an anonymous window", 5, call("demo.python_hello", map[string]any{})),
	)
	for _, rule := range []string{"everyone", "is_authenticated", "is_anonymous", "is_staff", "is_superuser", "has_perm", "server_side"} {
		for i, v := range visitors {
			steps = append(steps, send("rule "+rule+" by "+v.name, i, call("rule.python."+rule, map[string]any{"mark": v.name})))
		}
	}
	for _, topic := range []string{"window", "user", "broadcast", objectTopic, "class:auth.group", "int:7", "news", "nobody is here"} {
		steps = append(steps, send("topic "+topic, 0, fmt.Sprintf(`{"signal":"matrix.python","opts":{"to":[%q],"mark":"m","payload":%s}}`, topic, plainPayload)))
		for _, view := range []string{"trigger", "trigger-async"} {
			steps = append(steps, visit("topic "+topic+" by "+view, "/"+view+"/?"+url.Values{
				"signal": {"matrix.seen"}, "to": {topic}, "payload": {"typed"}, "kwargs": {`{"mark":"v"}`},
			}.Encode()))
		}
	}
	steps = append(steps, step{
		name: "several topics that one window has", do: visit("", "/trigger/?signal=matrix.seen&to=window,user,broadcast,news").do,
	})
	steps = append(steps, argumentSteps()...)
	return append(steps, oddFrameSteps()...)
}

// argumentSteps are about arguments, queues, forms and order.
func argumentSteps() []step {
	form := func(pairs ...string) string {
		fields := []map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			fields = append(fields, map[string]string{"name": pairs[i], "value": pairs[i+1]})
		}
		return call("demo.form", map[string]any{"form_data": fields})
	}
	steps := []step{
		send("form", 0, form("name", "Bob", "age", "4", "colors", "r", "colors", "b")),
		send("form with faults", 0, form("age", "-1", "colors", "x")),
		send("typed", 0, `{"signal":"demo.typed","opts":{"number":"5","word":"w12","choice":"3"}}`),
		send("typed, float", 0, `{"signal":"demo.typed","opts":{"number":5.7}}`),
		send("typed, refused word", 0, `{"signal":"demo.typed","opts":{"number":5,"word":"12"}}`),
		send("typed, refused choice", 0, `{"signal":"demo.typed","opts":{"number":5,"choice":9}}`),
		send("typed, missing", 0, `{"signal":"demo.typed","opts":{}}`),
		send("typed, unknown", 0, `{"signal":"demo.typed","opts":{"number":5,"other":1}}`),
		send("any arguments", 0, `{"signal":"demo.any","opts":`+plainPayload+`}`),
		send("failing handler", 0, call("demo.fail", map[string]any{})),
		send("unknown signal", 0, call("nobody.handles", map[string]any{"x": 1})),
		send("burst", 0, call("matrix.burst", map[string]any{"to": []string{"broadcast"}, "mark": "b", "count": 50})),
		send("opts null", 0, `{"signal":"demo.any","opts":null}`),
		send("opts a list", 0, `{"signal":"demo.any","opts":[1]}`),
		send("opts a text", 0, `{"signal":"demo.any","opts":"x"}`),
		send("countdown", 0, `{"signal":"demo.any","opts":{"mark":"later"},"countdown":1}`),
		send("expires", 0, `{"signal":"demo.any","opts":{"mark":"in time"},"expires":600}`),
		send("countdown a text", 0, `{"signal":"demo.any","opts":{"mark":"later too"},"countdown":"1"}`),
		send("two queues", 0, call("demo.two_queues", map[string]any{"mark": 1})),
		send("dynamic queue", 0, call("demo.dynamic", map[string]any{"mark": 1})),
	}
	for i := range steps {
		switch steps[i].name {
		case "countdown", "expires", "countdown a text", "dynamic queue":
			steps[i].calls = 1
		case "two queues":
			steps[i].calls = 2
		}
	}
	return steps
}

// oddFrameSteps send what no script sends; each is followed by the fence, which shows that the socket still works. Frames that the
// gateway refuses on purpose where daphne does not are in badinput_test.go.
func oddFrameSteps() []step {
	var steps []step
	for i, frame := range []string{
		"", " ", "--heartbeat-- ", "no json", "{", "[]", `"signal"`, "1", "null", "[1,2]", `{}`, `{"opts":{}}`, `{"signal":"demo.any"}`,
		`{"signal":["demo.any"],"opts":{}}`, `{"signal":null,"opts":{}}`, `{"signal":1,"opts":{}}`, `{"signal":"","opts":{}}`,
		` {"signal" : "demo.any", "opts" : {"blanks":1} } `, `{"signal":"demo.any","opts":{"a":1,"a":2}}`, `{"signal":"x","signal":"demo.any","opts":{"twice":1}}`,
		`{"signal":"demo.any","opts":{"lone":"\ud800"}}`, `{"signal":"demo.any","opts":{"n":[NaN,Infinity,-Infinity]}}`,
		`{"signal":"demo.any","opts":{"n":[1e400,-1e400,1E-400]}}`, `{"signal":"demo.any","opts":{"surrogate \udc00 key":1}}`, `{"signal":"demo.any","opts":{},"countdown":null}`,
		`{"signal":"demo.any","opts":{},"countdown":"x"}`, `{"signal":"demo.any","opts":{},"expires":[]}`, "{\"signal\":\"demo.any\",\"opts\":{\"tab\":\"\t\"}}",
		`{"signal":"demo.any","opts":{"n":01}}`, `{"signal":"demo.any","opts":{"deep":` + strings.Repeat("[", 50) + strings.Repeat("]", 50) + `}}`,
		`{"signal":"demo.any","opts":{"eta":1},"other":{"x":1},"signal_id":"x"}`,
	} {
		steps = append(steps, send(fmt.Sprintf("odd frame %d %.40s", i, frame), 0, frame))
	}
	return append(steps, step{name: "binary frame", do: func(_ context.Context, open []visitor) error {
		return open[0].SendBinary([]byte(`{"signal":"demo.any","opts":{"binary":1}}`))
	}})
}

// play does a step and observes what follows from it.
func play(t *testing.T, ctx context.Context, site *harness.Site, open []visitor, number int, s step) observation {
	t.Helper()
	must(t, site.ClearJournal(ctx))
	if err := s.do(ctx, open); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	if s.calls > 0 {
		err := harness.WaitFor(soon(t, ctx), s.name, func(ctx context.Context) error {
			calls, err := site.Journal(ctx)
			if err == nil && len(calls) < s.calls {
				err = fmt.Errorf("%d calls", len(calls))
			}
			return err
		})
		must(t, err)
	}
	end := fmt.Sprint("fence ", number)
	got := observation{Frames: map[string][]string{}}
	for i, frames := range fence(t, ctx, open, s.window, end) {
		got.Frames[open[i].name] = anonymize(t, frames)
	}
	for _, c := range must1(site.Journal(ctx))(t) {
		if c.Handler == "matrix.python" && strings.Contains(c.Arguments["mark"], "fence") {
			continue
		}
		user := "nobody"
		if c.Username != nil {
			user = *c.Username
		}
		got.Calls = append(got.Calls, fmt.Sprint(c.Handler, " by ", user, " ", c.Arguments))
	}
	slices.Sort(got.Calls)
	return got
}

// anonymize replaces each signal id by its order of appearance, after checking its shape.
func anonymize(t *testing.T, frames []harness.Frame) []string {
	t.Helper()
	var seen, out []string
	for _, f := range frames {
		text := f.Text
		if text != harness.Heartbeat {
			if !signalIDShape.MatchString(f.SignalID) {
				t.Errorf("signal_id %q is no uuid4 in %s", f.SignalID, f.Text)
			}
			if !slices.Contains(seen, f.SignalID) {
				seen = append(seen, f.SignalID)
			}
			text = strings.Replace(text, f.SignalID, fmt.Sprint("id ", slices.Index(seen, f.SignalID)), 1)
		}
		out = append(out, text)
	}
	return out
}

func frameMark(f harness.Frame) string {
	var opts struct{ Mark string }
	if json.Unmarshal(f.Opts, &opts) != nil {
		return ""
	}
	return opts.Mark
}
