//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/integration/sample"
	"github.com/dfws/dfws/worker"
)

// payloadPair is one named payload of project/demo/payloads.py, as Python itself delivers it.
type payloadPair struct {
	// Browser is the JSON text that df_websockets sends to a browser.
	Browser string
	// Worker has each argument as a Python handler measures it.
	Worker map[string]string
}

// matrix is the set-up of TestMatrix.
type matrix struct {
	site     *fullSite
	open     []visitor // the first is the window in whose name everything is triggered
	client   *worker.Client
	window   *compat.WindowInfo
	payloads map[string]payloadPair
}

// origin triggers a signal in the name of the first window. Browsers can only address servers and have only plain JSON.
type origin struct {
	name    string
	payload string
	trigger func(m *matrix, ctx context.Context, signal string, to []string, arguments map[string]any) error
}

// handler is where a signal ends: its last step reaches windows.
type handler struct {
	name string
	// by is what the frame says about its sender.
	by string
	// signal and to: what the origin triggers so that the windows of topic get a frame.
	signal func(topic, mark string) (signal string, to []string, arguments map[string]any)
}

// serverHandler is a handler in a worker that passes on what it got.
func serverHandler(by, signal string) handler {
	return handler{name: signal, by: by, signal: func(topic, mark string) (string, []string, map[string]any) {
		return signal, []string{"server"}, map[string]any{"to": []string{topic}, "mark": mark}
	}}
}

var (
	handledByPython = serverHandler("python", "matrix.python")
	handledByGo     = serverHandler("go", "matrix.go")
	handledByGoRaw  = serverHandler("go", "matrix.go_raw")
	handledByWindow = handler{name: "window", by: "origin", signal: func(topic, mark string) (string, []string, map[string]any) {
		return "matrix.seen", []string{topic}, map[string]any{"by": "origin", "mark": mark}
	}}
)

var origins = []origin{
	{name: "browser", payload: "plain", trigger: (*matrix).fromBrowser},
	{name: "view", payload: "typed", trigger: fromPage("/trigger/")},
	{name: "async view", payload: "typed", trigger: fromPage("/trigger-async/")},
	{name: "celery task", payload: "typed", trigger: fromPage("/trigger-task/")},
	{name: "go worker", payload: "typed", trigger: (*matrix).fromGoWorker},
	{name: "go task", payload: "typed", trigger: (*matrix).fromGoTask},
	{name: "go program", payload: "typed", trigger: (*matrix).fromGoProgram},
}

// fromBrowser sends a frame. Only servers can be addressed so: a signal for windows goes through a handler that Python has.
func (m *matrix) fromBrowser(_ context.Context, signal string, to []string, arguments map[string]any) error {
	payload := json.RawMessage(plainPayload)
	if to[0] != "server" {
		passed := map[string]any{"payload": payload}
		for name, value := range arguments {
			passed[name] = value
		}
		return m.open[0].Call("matrix.python_to", map[string]any{"signal": signal, "to": to, "arguments": passed})
	}
	arguments["payload"] = payload
	return m.open[0].Call(signal, arguments)
}

// fromPage requests one of the trigger views.
func fromPage(page string) func(*matrix, context.Context, string, []string, map[string]any) error {
	return func(m *matrix, ctx context.Context, signal string, to []string, arguments map[string]any) error {
		kwargs, err := json.Marshal(arguments)
		if err != nil {
			return err
		}
		query := url.Values{"signal": {signal}, "to": to, "kwargs": {string(kwargs)}, "payload": {"typed"}}
		resp, err := m.open[0].client.XHR(ctx, page+"?"+query.Encode())
		if err == nil && resp.Status != http.StatusOK {
			err = fmt.Errorf("%s: %d %.500s", page, resp.Status, resp.Body)
		}
		return err
	}
}

// fromGoWorker makes a signal handler in Go trigger.
func (m *matrix) fromGoWorker(_ context.Context, signal string, to []string, arguments map[string]any) error {
	return m.open[0].Call("matrix.go_to", map[string]any{"signal": signal, "to": to, "arguments": arguments, "payload": "typed"})
}

// fromGoTask makes a Celery task in Go trigger; a task has no window of its own, so only its topics can be addressed.
func (m *matrix) fromGoTask(ctx context.Context, signal string, to []string, arguments map[string]any) error {
	_, err := m.client.Send(ctx, worker.TaskMessage{
		Name: "matrix.trigger", Queue: "go-matrix", Kwargs: map[string]any{"signal": signal, "to": to, "arguments": arguments, "payload": "typed"},
	})
	return err
}

// fromGoProgram triggers from this process.
func (m *matrix) fromGoProgram(ctx context.Context, signal string, to []string, arguments map[string]any) error {
	arguments["payload"] = sample.Typed()
	return m.client.Trigger(ctx, worker.Trigger{Window: m.window, Signal: signal, To: sample.Targets(to), Opts: arguments})
}

// TestMatrix triggers from everywhere what is handled everywhere, for each kind of topic: exactly the right windows get exactly one
// frame each with the payload as Python delivers it, and Python handlers measure the types that Python sends.
func TestMatrix(t *testing.T) {
	ctx := deadline(t)
	m := newMatrix(t, ctx)
	for _, o := range origins {
		for _, h := range []handler{handledByPython, handledByGo, handledByGoRaw, handledByWindow} {
			for _, topic := range []string{"window", "user", "broadcast", objectTopic, "news", "class:auth.group", "int:7"} {
				if o.name == "go task" && (topic == "window" || topic == "user") {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", o.name, h.name, topic), func(t *testing.T) { m.cell(t, ctx, o, h, topic) })
			}
		}
	}
	t.Run("nothing else arrived", func(t *testing.T) { m.checkTotals(t, ctx) })
}

func newMatrix(t *testing.T, ctx context.Context) *matrix {
	t.Helper()
	m := &matrix{site: full(t), payloads: map[string]payloadPair{}}
	m.open = openAll(t, ctx, m.site.gateway.URL)
	for _, name := range []string{"plain", "typed"} {
		resp := must1(m.open[0].client.Get(ctx, "/expected/?payload="+name))(t)
		var pair payloadPair
		must(t, json.Unmarshal([]byte(resp.Body), &pair))
		m.payloads[name] = pair
	}
	info := must1(m.open[0].client.XHR(ctx, "/window-info/"))(t)
	m.window = must1(compat.DecodeWindowInfo(celeryproto.Raw(info.Body)))(t)
	m.client = newClient(t, m.site.settings)
	return m
}

// newClient is a Go program beside the site.
func newClient(t *testing.T, settingsFile string) *worker.Client {
	t.Helper()
	settings := must1(compat.ParseSettings(must1(os.ReadFile(settingsFile))(t)))(t)
	client := must1(worker.NewClient(settings))(t)
	t.Cleanup(func() { must(t, client.Close()) })
	return client
}

func (m *matrix) cell(t *testing.T, ctx context.Context, o origin, h handler, topic string) {
	t.Helper()
	must(t, m.site.ClearJournal(ctx))
	mark := t.Name()
	signal, to, arguments := h.signal(topic, mark)
	must(t, o.trigger(m, ctx, signal, to, arguments))
	for _, v := range m.open {
		if v.hears(topic) {
			m.checkFrame(t, ctx, v, mark, h.by, m.payloads[o.payload].Browser, o.name == "browser" && h.name == "matrix.go_raw")
		}
	}
	if h.by == "python" {
		m.checkMeasured(t, ctx, mark, m.payloads[o.payload].Worker)
	}
}

// checkFrame waits for the frame with this mark in one window. spelling says that numbers may be spelled in another way: a browser's
// 1E+16 that nobody decodes stays what it is, where Python would make it 1e+16.
func (m *matrix) checkFrame(t *testing.T, ctx context.Context, v visitor, mark, by, want string, spelling bool) {
	t.Helper()
	var frame harness.Frame
	err := harness.WaitFor(soon(t, ctx), "frame in "+v.name, func(context.Context) error {
		for _, f := range v.Frames() {
			if frameMark(f) == mark {
				frame = f
				return nil
			}
		}
		if !v.IsOpen() {
			return harness.ErrClosed
		}
		return fmt.Errorf("not among %d frames", len(v.Frames()))
	})
	must(t, err)
	if frame.Signal != "matrix.seen" || !signalIDShape.MatchString(frame.SignalID) {
		t.Errorf("signal %q with id %q", frame.Signal, frame.SignalID)
	}
	got, ok := canonical(t, string(frame.Opts)).(map[string]any)
	if !ok {
		t.Fatalf("opts are %s", frame.Opts)
	}
	if got["by"] != by {
		t.Errorf("by %v, want %s", got["by"], by)
	}
	number := cmp.Comparer(func(a, b json.Number) bool { return a == b || spelling && value(a) == value(b) })
	if diff := cmp.Diff(canonical(t, want), got["payload"], number); diff != "" {
		t.Errorf("%s: the payload differs from Python's (-):\n%s", v.name, diff)
	}
}

// checkMeasured compares the types and values that the Python handler saw with those that Python sends.
func (m *matrix) checkMeasured(t *testing.T, ctx context.Context, mark string, want map[string]string) {
	t.Helper()
	quoted := "'" + mark + "'"
	made := must1(m.site.WaitCall(soon(t, ctx), "the call in the journal", func(c harness.Call) bool {
		return c.Handler == "matrix.python" && c.Arguments["mark"] == quoted
	}))(t)
	delete(made.Arguments, "mark")
	if diff := cmp.Diff(want, made.Arguments); diff != "" {
		t.Errorf("a Python handler sees something else than from Python (-):\n%s", diff)
	}
}

// checkTotals makes sure that no window got a frame twice, or one that was not for it.
func (m *matrix) checkTotals(t *testing.T, ctx context.Context) {
	t.Helper()
	for _, by := range []string{"matrix.python", "matrix.go"} {
		end := "end of the matrix, " + by
		must(t, m.open[0].Call(by, map[string]any{"to": []string{"broadcast"}, "mark": end}))
		untilMark(t, ctx, m.open, end)
	}
	for _, v := range m.open {
		counts := map[string]int{}
		for _, f := range v.Frames() {
			counts[frameMark(f)]++
		}
		for mark, n := range counts {
			if n != 1 {
				t.Errorf("%s got %q %d times", v.name, mark, n)
			}
			if topic := path.Base(mark); strings.HasPrefix(mark, "TestMatrix/") && !v.hears(topic) {
				t.Errorf("%s got %q, which was not for it", v.name, mark)
			}
		}
	}
}

// value spells a number in one way.
func value(n json.Number) string {
	f, _, err := big.ParseFloat(n.String(), 10, 256, big.ToNearestEven)
	if err != nil {
		return "no number"
	}
	return f.Text('g', 40)
}

// canonical decodes JSON with the text of its numbers.
func canonical(t *testing.T, text string) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
	return v
}
