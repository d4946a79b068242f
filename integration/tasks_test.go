//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/integration/sample"
	"github.com/dfws/dfws/worker"
)

// TestTasksFromPython: Python sends plain Celery tasks to Go and gets the value back, or an exception of the right name.
func TestTasksFromPython(t *testing.T) {
	ctx := deadline(t)
	site := full(t)
	c := harness.NewClient(site.gateway.URL)
	call := func(query url.Values) (status int, answer struct{ Value, Raised, Args, Traceback string }) {
		query.Set("queue", "go-matrix")
		resp := must1(c.Get(ctx, "/call-task/?"+query.Encode()))(t)
		if err := json.Unmarshal([]byte(resp.Body), &answer); err != nil {
			t.Fatalf("%v in %.500s", err, resp.Body)
		}
		return resp.Status, answer
	}
	if status, got := call(url.Values{"task": {"matrix.add"}, "args": {"[2, 3]"}}); status != http.StatusOK || got.Value != "5" {
		t.Errorf("matrix.add: %d %+v", status, got)
	}
	// Every type goes to Go and back, and Python measures what it has sent.
	status, got := call(url.Values{"task": {"matrix.identity"}, "payload": {"typed"}})
	resp := must1(c.Get(ctx, "/call-task/?task=demo.tasks.identity&payload=typed"))(t)
	var fromPython struct{ Value string }
	must(t, json.Unmarshal([]byte(resp.Body), &fromPython))
	if diff := cmp.Diff(fromPython.Value, got.Value); status != http.StatusOK || diff != "" {
		t.Errorf("matrix.identity: %d; from Python (-) and from Go (+):\n%s", status, diff)
	}
	for _, tc := range []struct{ task, args, raised, raisedArgs string }{
		{"matrix.raise", `["no, é"]`, "builtins.ValueError", `('no, \xe9',)`},
		{"matrix.fail", `["no"]`, "builtins.RuntimeError", `('no',)`},
		{"matrix.add", `[1]`, "builtins.TypeError", ""},
		{"matrix.add", `["x", 2]`, "builtins.TypeError", ""},
	} {
		status, got := call(url.Values{"task": {tc.task}, "args": {tc.args}})
		if status == http.StatusOK || got.Raised != tc.raised || tc.raisedArgs != "" && got.Args != tc.raisedArgs {
			t.Errorf("%s%s: %d %+v, want %s%s", tc.task, tc.args, status, got, tc.raised, tc.raisedArgs)
		}
	}
	if status, got := call(url.Values{"task": {"matrix.panic"}, "args": {`["boom"]`}}); status == http.StatusOK || got.Traceback == "" {
		t.Errorf("matrix.panic: %d %+v, want an exception with Go's stack", status, got)
	}
}

// TestTasksFromGo: a Go program sends tasks to Python and gets values and exceptions.
func TestTasksFromGo(t *testing.T) {
	ctx := deadline(t)
	site := full(t)
	client := newClient(t, site.settings)
	var sum int
	must(t, must1(client.Send(ctx, worker.TaskMessage{Name: "demo.tasks.add", Args: []any{20, 22}}))(t).Get(soon(t, ctx), &sum))
	if sum != 42 {
		t.Errorf("20 + 22 = %d", sum)
	}
	var same struct {
		Value    map[string]any    `arg:"value"`
		Measured map[string]string `arg:"measured"`
	}
	pending := must1(client.Send(ctx, worker.TaskMessage{Name: "demo.tasks.measure", Kwargs: map[string]any{"value": sample.Typed()}}))(t)
	must(t, pending.Get(soon(t, ctx), &same))
	var want payloadPair
	resp := must1(harness.NewClient(site.gateway.URL).Get(ctx, "/expected/?payload=typed"))(t)
	must(t, json.Unmarshal([]byte(resp.Body), &want))
	if diff := cmp.Diff(want.Worker, same.Measured); diff != "" {
		t.Errorf("Python sees something else than from Python (-):\n%s", diff)
	}
	sent, back := must1(celeryproto.EncodeValue(sample.Typed()))(t), must1(celeryproto.EncodeValue(same.Value))(t)
	if diff := cmp.Diff(sent.String(), back.String()); diff != "" {
		t.Errorf("the values came back otherwise:\n%s", diff)
	}
	err := must1(client.Send(ctx, worker.TaskMessage{Name: "demo.tasks.fail", Args: []any{"from Python"}}))(t).Get(soon(t, ctx), nil)
	if !errors.Is(err, &worker.Exception{Type: "ValueError"}) {
		t.Errorf("demo.tasks.fail: %v, want a ValueError", err)
	}
}

// TestMixedQueue: a Go worker that takes Python's tasks from a queue that both consume gives them back, and then leaves the queue
// to Python: every one of them is done, while it goes on.
func TestMixedQueue(t *testing.T) {
	ctx := deadline(t)
	site := full(t)
	intruder := startIntruder(t, ctx, site)
	pending := sendSums(t, ctx, site)
	must(t, intruder.WaitLog(soon(t, ctx), 0, "sent back"))
	for i, p := range pending {
		checkSum(t, ctx, i, p)
	}
}

// TestUnknownQueue: with a queue that only Python consumes, tasks go there at once instead of to and fro.
func TestUnknownQueue(t *testing.T) {
	ctx := deadline(t)
	site := full(t)
	startIntruder(t, ctx, site, "-unknown-queue", "slow")
	for i, p := range sendSums(t, ctx, site) {
		checkSum(t, ctx, i, p)
	}
}

// startIntruder starts a Go worker that consumes Python's queue.
func startIntruder(t *testing.T, ctx context.Context, site *fullSite, args ...string) *harness.Process {
	t.Helper()
	opts := matrixWorker(site.Site, site.settings, append([]string{"-queues", "celery", "-app", "intruder", "-max-hops", "15"}, args...)...)
	opts.Name, opts.App = "intruder", "intruder"
	intruder := must1(site.GoWorker(ctx, opts))(t)
	t.Cleanup(func() { must(t, intruder.Stop()) })
	return intruder
}

func sendSums(t *testing.T, ctx context.Context, site *fullSite) []*worker.AsyncResult {
	t.Helper()
	client := newClient(t, site.settings)
	var pending []*worker.AsyncResult
	for i := range 20 {
		pending = append(pending, must1(client.Send(ctx, worker.TaskMessage{Name: "demo.tasks.add", Args: []any{i, i}}))(t))
	}
	return pending
}

func checkSum(t *testing.T, ctx context.Context, i int, p *worker.AsyncResult) {
	t.Helper()
	var sum int
	if err := p.Get(soon(t, ctx), &sum); err != nil || sum != 2*i {
		t.Errorf("%d + %d = %d, %v", i, i, sum, err)
	}
}

// TestPermissions: each rule of df_websockets lets the same visitors in, whether Python or Go handles the signal.
func TestPermissions(t *testing.T) {
	ctx := deadline(t)
	site := full(t)
	open := openAll(t, ctx, site.gateway.URL)
	want := map[string][]string{
		"everyone": names(open), "is_authenticated": {"alice-1", "alice-2", "bob", "staff", "root"}, "is_anonymous": {"nobody"},
		"is_staff": {"staff", "root"}, "is_superuser": {"root"}, "has_perm": {"bob", "root"}, "server_side": nil,
	}
	for _, language := range []string{"python", "go"} {
		for rule, allowed := range want {
			must(t, site.ClearJournal(ctx))
			for _, v := range open {
				must(t, v.Call("rule."+language+"."+rule, map[string]any{"mark": v.name}))
			}
			must(t, harness.WaitFor(soon(t, ctx), "calls of "+rule, func(ctx context.Context) error {
				calls, err := site.Journal(ctx)
				if err == nil && len(calls) < len(allowed) {
					err = fmt.Errorf("%d of %d", len(calls), len(allowed))
				}
				return err
			}))
			fence(t, ctx, open, 0, "python fence "+language+rule)
			must(t, open[0].Call("matrix.go", map[string]any{"to": []string{"broadcast"}, "mark": "go fence " + language + rule}))
			untilMark(t, ctx, open, "go fence "+language+rule)
			got := map[string]bool{}
			for _, c := range must1(site.Journal(ctx))(t) {
				if c.Handler == "rule."+language+"."+rule {
					got[unquote(c.Arguments["mark"])] = true
				}
			}
			wanted := map[string]bool{}
			for _, name := range allowed {
				wanted[name] = true
			}
			if diff := cmp.Diff(wanted, got); diff != "" {
				t.Errorf("%s in %s lets others in than wanted (-):\n%s", rule, language, diff)
			}
		}
	}
}
