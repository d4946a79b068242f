//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/worker"
)

// visibility is the visibility timeout of the crash tests: after it, a dead worker's tasks are anybody's.
const visibility = 3 * time.Second

// crashSite is a site of its own whose workers a test may kill.
func crashSite(t *testing.T, ctx context.Context) (*harness.Site, string) {
	t.Helper()
	return ownSite(t, ctx, harness.SiteOptions{VisibilityTimeout: visibility, AcksLate: true})
}

func ownSite(t *testing.T, ctx context.Context, opts harness.SiteOptions) (*harness.Site, string) {
	t.Helper()
	site := must1(lab(t).NewSite(ctx, opts))(t)
	return site, must1(site.ExportSettings(ctx))(t)
}

func noted(handler, by, mark string) func(harness.Call) bool {
	return func(c harness.Call) bool {
		return c.Handler == handler && (by == "" || c.By == by) && unquote(c.Arguments["mark"]) == mark
	}
}

// TestGoWorkerKilled: a Go worker is killed in the middle of tasks. Those that only Go knows are finished by another Go worker, and
// those that Python knows as well by a Python worker, after the visibility timeout. Nothing is lost and nothing stays behind.
func TestGoWorkerKilled(t *testing.T) {
	ctx := deadline(t)
	site, settings := crashSite(t, ctx)
	client := newClient(t, settings)
	victim := matrixWorker(site, settings, "-queues", "go-matrix,mixed")
	first := must1(site.GoWorker(ctx, victim))(t)
	goTask := must1(client.Send(ctx, worker.TaskMessage{Name: "matrix.sleep", Queue: "go-matrix", Args: []any{"go", 1.0}}))(t)
	mixed := must1(client.Send(ctx, worker.TaskMessage{Name: "matrix.sleep", Queue: "mixed", Args: []any{"mixed", 1.0}}))(t)
	for _, m := range []string{"go", "mixed"} {
		must1(site.WaitCall(soon(t, ctx), "start of "+m, noted("matrix.sleep:start", "go", m)))(t)
	}
	first.Kill()

	// Python reads the mixed queue only, another Go worker the other one only.
	rescuer := matrixWorker(site, settings, "-queues", "go-matrix")
	rescuer.Name = "rescuer"
	must1(site.GoWorker(ctx, rescuer))(t)
	must1(site.Celery(ctx, harness.CeleryOptions{Queues: []string{"mixed"}}))(t)
	var result string
	must(t, goTask.Get(ctx, &result))
	must(t, mixed.Get(ctx, &result))
	must1(site.WaitCall(soon(t, ctx), "end in Go", noted("matrix.sleep:end", "go", "go")))(t)
	must1(site.WaitCall(soon(t, ctx), "end in Python", noted("matrix.sleep:end", "python", "mixed")))(t)
	nothingLeft(t, ctx, site, "go-matrix", "mixed")
}

// TestPythonWorkerKilled: the reverse. A Go worker finishes what a Python worker with late acknowledgement had begun.
func TestPythonWorkerKilled(t *testing.T) {
	ctx := deadline(t)
	site, settings := crashSite(t, ctx)
	client := newClient(t, settings)
	python := must1(site.Celery(ctx, harness.CeleryOptions{Queues: []string{"mixed"}}))(t)
	mixed := must1(client.Send(ctx, worker.TaskMessage{Name: "matrix.sleep", Queue: "mixed", Args: []any{"mixed", 1.0}}))(t)
	must1(site.WaitCall(soon(t, ctx), "start", noted("matrix.sleep:start", "python", "mixed")))(t)
	python.Kill()
	must1(site.GoWorker(ctx, matrixWorker(site, settings, "-queues", "mixed")))(t)
	var result string
	must(t, mixed.Get(ctx, &result))
	end := must1(site.WaitCall(soon(t, ctx), "end", noted("matrix.sleep:end", "go", "mixed")))(t)
	if end.Arguments["redelivered"] != "true" {
		t.Errorf("the task does not know that it was delivered before: %v", end.Arguments)
	}
	nothingLeft(t, ctx, site, "mixed")
}

// TestLongTask: a task that runs longer than the visibility timeout is not run twice, neither by Go nor by Python.
func TestLongTask(t *testing.T) {
	ctx := deadline(t)
	site, settings := crashSite(t, ctx)
	client := newClient(t, settings)
	must1(site.GoWorker(ctx, matrixWorker(site, settings, "-queues", "mixed")))(t)
	pending := must1(client.Send(ctx, worker.TaskMessage{Name: "matrix.sleep", Queue: "mixed", Args: []any{"long", (3 * visibility).Seconds()}}))(t)
	must1(site.WaitCall(soon(t, ctx), "start", noted("matrix.sleep:start", "go", "long")))(t)
	// Python restores expired entries when it starts. It gets something to do, so that it has certainly looked.
	must1(site.Celery(ctx, harness.CeleryOptions{Queues: []string{"mixed"}}))(t)
	var result string
	must(t, pending.Get(ctx, &result))
	starts := 0
	for _, c := range must1(site.Journal(ctx))(t) {
		if noted("matrix.sleep:start", "", "long")(c) {
			starts++
		}
	}
	if starts != 1 {
		t.Errorf("the task was started %d times", starts)
	}
	nothingLeft(t, ctx, site, "mixed")
}

// nothingLeft waits until the queues and kombu's bookkeeping are empty.
func nothingLeft(t *testing.T, ctx context.Context, site *harness.Site, queues ...string) {
	t.Helper()
	broker := site.Database(harness.BrokerDB)
	defer broker.Close()
	err := harness.WaitFor(soon(t, ctx), "empty queues", func(ctx context.Context) error {
		var errs []error
		for _, queue := range queues {
			if n, err := broker.LLen(ctx, queue).Result(); err != nil || n != 0 {
				errs = append(errs, fmt.Errorf("%s has %d tasks (%v)", queue, n, err))
			}
		}
		if n, err := broker.HLen(ctx, "unacked").Result(); err != nil || n != 0 {
			errs = append(errs, fmt.Errorf("%d unacked (%v)", n, err))
		}
		if n, err := broker.ZCard(ctx, "unacked_index").Result(); err != nil || n != 0 {
			errs = append(errs, fmt.Errorf("%d in the index (%v)", n, err))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Error(err)
	}
}

// brokenSite is a full site of its own whose Redis a test may break. Celery acknowledges early there, as by default: with late
// acknowledgement its worker ends with an AttributeError when it loses the connection before an acknowledgement.
func brokenSite(t *testing.T, ctx context.Context, gatewayArgs ...string) *fullSite {
	t.Helper()
	site, settings := ownSite(t, ctx, harness.SiteOptions{})
	f := &fullSite{Site: site, settings: settings}
	f.django = must1(site.Gunicorn(ctx))(t)
	f.celery = must1(site.Celery(ctx, harness.CeleryOptions{}))(t)
	f.goWorker = must1(site.GoWorker(ctx, matrixWorker(site, settings)))(t)
	f.gateway = must1(site.Gateway(ctx, harness.GatewayOptions{Upstream: f.django.URL, Settings: settings, Args: gatewayArgs}))(t)
	return f
}

// TestRedisRestart: windows stay open while Redis restarts, with its data and without, and everything works again afterwards by
// itself: signals to both languages, and broadcasts to the windows of before.
func TestRedisRestart(t *testing.T) {
	ctx := deadline(t)
	site := brokenSite(t, ctx)
	for _, restart := range []struct {
		name string
		do   func()
	}{{"with its data", site.Redis.Restart}, {"empty", site.Redis.RestartEmpty}} {
		t.Run(restart.name, func(t *testing.T) {
			open := openAll(t, ctx, site.gateway.URL)
			fence(t, ctx, open, 0, t.Name()+" before")
			restart.do()
			for i, signal := range []string{"matrix.python", "matrix.go"} {
				eventually(t, ctx, open, signal, fmt.Sprint(t.Name(), " after ", i))
			}
			for _, v := range open {
				if !v.IsOpen() {
					t.Errorf("%s was closed", v.name)
				}
				must(t, v.Close())
			}
		})
	}
}

// announced is how long a Go worker may take to notice that the registry lost its entry (it looks every 30 s).
const announced = 45 * time.Second

// eventually repeats a call that ends in a broadcast until every window has heard of it: signals of the moments in which Redis is
// back and its readers are not may go nowhere.
func eventually(t *testing.T, ctx context.Context, open []visitor, signal, mark string) {
	t.Helper()
	attempt, next := 0, time.Time{}
	ctx, cancel := context.WithTimeout(ctx, announced)
	defer cancel()
	err := harness.WaitFor(ctx, signal+" after a restart", func(context.Context) error {
		if time.Now().After(next) {
			attempt++
			next = time.Now().Add(time.Second)
			if err := open[0].Call(signal, map[string]any{"to": []string{"broadcast"}, "mark": mark}); err != nil {
				return err
			}
		}
		for _, v := range open {
			heard := false
			for _, f := range v.Frames() {
				heard = heard || frameMark(f) == mark
			}
			if !heard {
				return fmt.Errorf("%s has not heard it after %d calls", v.name, attempt)
			}
		}
		return nil
	})
	must(t, err)
}

// TestDrain: SIGTERM closes every window with 1001, loses no accepted signal and ends with status 0.
func TestDrain(t *testing.T) {
	ctx := deadline(t)
	site := brokenSite(t, ctx, "--drain", "1s")
	must(t, site.celery.Stop()) // what is accepted now stays in the queue
	const windows, signals = 20, 5
	open := make([]*harness.Window, windows)
	for i := range open {
		c := harness.NewClient(site.gateway.URL)
		must(t, c.Page(ctx))
		open[i] = must1(c.Open(ctx))(t)
	}
	for _, w := range open {
		for n := range signals {
			must(t, w.Call("demo.any", map[string]any{"n": n}))
		}
		must(t, w.Send(harness.Heartbeat)) // its echo comes behind the signals
	}
	for _, w := range open {
		must1(w.Until(soon(t, ctx), func(f harness.Frame) bool { return f.Text == harness.Heartbeat }))(t)
	}
	must(t, site.gateway.Signal(syscall.SIGTERM))
	for i, w := range open {
		if code, reason, err := w.CloseCode(soon(t, ctx)); err != nil || code != websocket.CloseGoingAway {
			t.Errorf("window %d: closed with %d %q (%v), want 1001", i, code, reason, err)
		}
		_ = w.Close()
	}
	if err := site.gateway.Wait(soon(t, ctx)); err != nil {
		t.Errorf("the gateway ended with %v", err)
	}
	broker := site.Database(harness.BrokerDB)
	defer broker.Close()
	if n := must1(broker.LLen(ctx, "celery").Result())(t); n != windows*signals {
		t.Errorf("%d signals are in the queue, want %d", n, windows*signals)
	}
}

// TestWorkerDrain: SIGTERM lets a Go worker finish what it runs, gives back what it holds, and ends with status 0.
func TestWorkerDrain(t *testing.T) {
	ctx := deadline(t)
	site, settings := crashSite(t, ctx)
	client := newClient(t, settings)
	p := must1(site.GoWorker(ctx, matrixWorker(site, settings, "-concurrency", "1")))(t)
	for i := range 4 {
		must1(client.Send(ctx, worker.TaskMessage{Name: "matrix.sleep", Queue: "go-matrix", Args: []any{fmt.Sprint("drain ", i), 1.0}}))(t)
	}
	must1(site.WaitCall(soon(t, ctx), "start", noted("matrix.sleep:start", "go", "drain 0")))(t)
	must(t, p.Signal(syscall.SIGTERM))
	if err := p.Wait(soon(t, ctx)); err != nil {
		t.Errorf("the worker ended with %v", err)
	}
	must1(site.WaitCall(soon(t, ctx), "end", noted("matrix.sleep:end", "go", "drain 0")))(t)
	broker := site.Database(harness.BrokerDB)
	defer broker.Close()
	calls := must1(site.Journal(ctx))(t)
	if n := must1(broker.LLen(ctx, "go-matrix").Result())(t); int(n)+len(calls)/2 != 4 {
		t.Errorf("%d tasks are in the queue and the journal has %v, of 4 tasks", n, calls)
	}
	if n := must1(broker.HLen(ctx, "unacked").Result())(t); n != 0 {
		t.Errorf("%d tasks are still unacked", n)
	}
}

// TestHungRedis: a broker that accepts and does not answer freezes no socket: heartbeats come back at once, pages are served,
// new windows are refused in time, signals wait and arrive when Redis goes on. (daphne answers nobody for 39 s.)
func TestHungRedis(t *testing.T) {
	ctx := deadline(t)
	site := brokenSite(t, ctx, "--publish-deadline", "30s")
	open := openAll(t, ctx, site.gateway.URL)
	site.Redis.Pause()
	resumed := false
	t.Cleanup(func() {
		if !resumed {
			site.Redis.Resume()
		}
	})
	must(t, open[0].Call("matrix.python", map[string]any{"to": []string{"broadcast"}, "mark": "hung"}))
	must(t, open[1].Call("matrix.go", map[string]any{"to": []string{"broadcast"}, "mark": "hung too"}))
	for _, v := range open {
		began := time.Now()
		must(t, v.Send(harness.Heartbeat))
		must1(v.Until(soon(t, ctx), func(f harness.Frame) bool { return f.Text == harness.Heartbeat }))(t)
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s: a heartbeat took %s", v.name, took)
		}
	}
	if resp := must1(open[0].client.Get(ctx, "/static/demo/demo.css"))(t); resp.Status != http.StatusOK {
		t.Errorf("a page answers %d", resp.Status)
	}
	began := time.Now()
	_, err := open[0].client.Open(ctx)
	var refused *harness.HandshakeError
	if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable {
		t.Errorf("a new window gets %v, want 503", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the refusal took %s", took)
	}
	site.Redis.Resume()
	resumed = true
	for _, mark := range []string{"hung", "hung too"} {
		for _, v := range open {
			must(t, harness.WaitFor(soon(t, ctx), mark+" in "+v.name, func(context.Context) error {
				for _, f := range v.Frames() {
					if frameMark(f) == mark {
						return nil
					}
				}
				return errors.New("not yet")
			}))
		}
	}
}

// TestHungTooLong: signals that the broker does not take within the deadline are given up, and their windows, and only theirs, are
// told to come back later.
func TestHungTooLong(t *testing.T) {
	ctx := deadline(t)
	site := brokenSite(t, ctx, "--publish-deadline", "1s")
	open := openAll(t, ctx, site.gateway.URL)
	site.Redis.Pause()
	t.Cleanup(site.Redis.Resume)
	must(t, open[0].Call("demo.any", map[string]any{}))
	if code, reason, err := open[0].CloseCode(soon(t, ctx)); err != nil || code != websocket.CloseTryAgainLater {
		t.Errorf("closed with %d %q (%v), want 1013", code, reason, err)
	}
	for _, v := range open[1:] {
		must(t, v.Send(harness.Heartbeat))
		must1(v.Until(soon(t, ctx), func(f harness.Frame) bool { return f.Text == harness.Heartbeat }))(t)
	}
}
