//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"image/png"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/worker"
)

// monitored is a Go worker in this process, with Flower and a browser on it.
type monitored struct {
	t      *testing.T
	client *worker.Client
	flower *harness.Server
	tab    *harness.Tab
	dir    string // of screenshots; `go test -artifacts` keeps it
}

// watched registers the tasks of the worker that Flower watches.
func watched(w *worker.Worker) {
	worker.HandleTask(w, worker.Task[pair, int]{Name: "shop.add", Run: func(_ context.Context, _ *worker.TaskCall, p pair) (int, error) { return p.X + p.Y, nil }})
	worker.HandleTask(w, worker.Task[struct{}, int]{Name: "shop.fails", Run: func(context.Context, *worker.TaskCall, struct{}) (int, error) {
		return 0, &worker.Exception{Type: "ValueError", Args: []any{"no such order"}, Traceback: "Traceback: line 1"}
	}})
	worker.HandleTask(w, worker.Task[struct{}, int]{Name: "shop.waits", Run: func(ctx context.Context, _ *worker.TaskCall, _ struct{}) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}})
}

type pair struct{ X, Y int }

func startMonitored(t *testing.T, ctx context.Context) *monitored {
	t.Helper()
	l := lab(t)
	site := must1(l.NewSite(ctx, harness.SiteOptions{}))(t)
	path := must1(site.ExportSettings(ctx))(t)
	settings := must1(worker.LoadSettings(path))(t)
	flower, err := site.Flower(ctx)
	harness.Require(t, "flower", err)
	t.Cleanup(func() { must(t, flower.Stop()) })

	w := must1(worker.New(worker.Config{
		Settings: settings, App: "shop", NodeName: "go@shop", Concurrency: 1, HeartbeatInterval: time.Second,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}))(t)
	watched(w)
	running, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		if err := w.Run(running); err != nil {
			t.Errorf("worker: %v", err)
		}
	})
	t.Cleanup(func() { stop(); group.Wait() })
	client := must1(worker.NewClient(settings))(t)
	t.Cleanup(func() { must(t, client.Close()) })

	b := browser(t, ctx)
	m := &monitored{t: t, client: client, flower: flower, dir: t.ArtifactDir()}
	m.tab = must1(b.Tab(flower.URL.String()))(t)
	return m
}

// run is a part of a test.
func (m *monitored) run(name string, f func(t *testing.T)) {
	whole := m.t
	defer func() { m.t = whole }()
	whole.Run(name, func(t *testing.T) {
		m.t = t
		f(t)
	})
}

// open loads a page, again and again until it shows something: Flower learns of workers and tasks by and by.
func (m *monitored) open(ctx context.Context, what, expression string, path ...string) {
	m.t.Helper()
	page := m.flower.Page(path...).String()
	err := harness.WaitFor(soon(m.t, ctx), what, func(ctx context.Context) error {
		if err := m.tab.Go(page); err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return m.tab.Wait(short, expression)
	})
	if err != nil {
		text, _ := m.tab.Text(`document.body.innerText`)
		m.t.Fatalf("%v; %s shows:\n%s", err, page, text)
	}
}

// contains is an expression that is true when an element has a text in it, in whatever case: Flower changes it.
func contains(selector, text string) string {
	return fmt.Sprintf(`[...document.querySelectorAll(%s)].some(e => e.textContent.toLowerCase().includes(%s))`, strconv.Quote(selector), strconv.Quote(strings.ToLower(text)))
}

// photograph keeps the page as an image.
func (m *monitored) photograph(name string) {
	m.t.Helper()
	image := must1(m.tab.Screenshot())(m.t)
	decoded, err := png.Decode(bytes.NewReader(image))
	if err != nil || decoded.Bounds().Dx() < 500 {
		m.t.Fatalf("screenshot of %s: %v", name, err)
	}
	path := filepath.Join(m.dir, name+".png")
	must(m.t, os.WriteFile(path, image, 0o644))
	m.t.Logf("screenshot: %s", path)
}

func (m *monitored) send(ctx context.Context, message worker.TaskMessage) *worker.AsyncResult {
	m.t.Helper()
	message.Queue = "go"
	return must1(m.client.Send(ctx, message))(m.t)
}

// TestFlower uses Flower, as an operator does, on a Go worker: the list of workers, a worker's page with its buttons, the list of
// tasks, a task's page with its buttons, the metrics.
func TestFlower(t *testing.T) {
	ctx := deadline(t)
	m := startMonitored(t, ctx)

	m.open(ctx, "the worker is online", contains("#workers-table tr", "go@shop")+" && "+contains("#workers-table tr", "Online"))
	// Flower asks for task events every five seconds.
	i := m.client.Inspect(worker.ControlOptions{Destination: []string{"go@shop"}, Timeout: 5 * time.Second})
	must(t, harness.WaitFor(soon(t, ctx), "task events are on", func(ctx context.Context) error {
		texts, err := m.client.Control(worker.ControlOptions{Destination: []string{"go@shop"}}).EnableEvents(ctx)
		if err == nil && texts["go@shop"] != "task events already enabled" {
			err = fmt.Errorf("the worker says %q", texts["go@shop"])
		}
		return err
	}))
	sum := m.send(ctx, worker.TaskMessage{Name: "shop.add", Args: []any{20, 22}})
	failing := m.send(ctx, worker.TaskMessage{Name: "shop.fails"})
	must(t, sum.Get(ctx, nil))
	if err := failing.Get(ctx, nil); err == nil {
		t.Fatal("shop.fails did not fail")
	}
	running := m.send(ctx, worker.TaskMessage{Name: "shop.waits"})
	waiting := m.send(ctx, worker.TaskMessage{Name: "shop.waits"})
	later := m.send(ctx, worker.TaskMessage{Name: "shop.add", Args: []any{1, 2}, Countdown: time.Hour})
	must(t, harness.WaitFor(soon(t, ctx), "the worker has all of them", func(ctx context.Context) error {
		held, err := i.QueryTask(ctx, running.ID, waiting.ID, later.ID)
		if err == nil && (len(held["go@shop"]) != 3 || held["go@shop"][running.ID].State != "active") {
			err = fmt.Errorf("the worker has %v", held)
		}
		return err
	}))

	m.run("workers", func(t *testing.T) {
		m.open(ctx, "one task has succeeded, one failed", contains("#workers-succeeded", "1")+" && "+contains("#workers-failed", "1")+" && "+contains("#workers-online", "1"))
		m.photograph("workers")
	})
	m.run("tasks", func(t *testing.T) {
		m.open(ctx, "all tasks are listed", contains("#tasks-table tr", "shop.fails")+" && "+contains("#tasks-table tr", "SUCCESS")+" && "+contains("#tasks-table tr", "STARTED")+
			" && "+contains("#tasks-table tr", "FAILURE")+" && "+contains("#tasks-table tr", "RECEIVED"), "tasks")
		m.photograph("tasks")
	})
	m.run("task pages", func(t *testing.T) {
		m.open(ctx, "the sum", contains(".badge", "SUCCESS")+" && "+contains("code", "42")+" && "+contains("code", "(20, 22)")+" && "+contains("a", "go@shop"), "task", sum.ID)
		m.photograph("task")
		m.open(ctx, "the failure", contains(".badge", "FAILURE")+" && "+contains("dd", "ValueError('no such order')")+" && "+contains("code", "Traceback: line 1"), "task", failing.ID)
	})
	m.run("worker page", func(t *testing.T) {
		m.open(ctx, "the worker's page", contains("#workername", "go@shop")+" && "+contains("#tab-pool td", "goroutines"), "worker", "go@shop")
		for selector, text := range map[string]string{
			"#tab-broker td": "redis", "#tab-queues td": "go", "#tab-tasks td": "shop.add", "#tab-limits td": "shop.waits", "#tab-config td": "broker_url",
			"#tab-system td": "utime",
		} {
			if got := must1(m.tab.Text(contains(selector, text)))(t); got != "true" && !hasHumanized(m, t, selector, text) {
				shown, _ := m.tab.Text(fmt.Sprintf(`[...document.querySelectorAll(%s)].map(e => e.textContent).join("; ")`, strconv.Quote(selector)))
				t.Errorf("%s does not show %q but %s", selector, text, shown)
			}
		}
		for _, id := range []string{running.ID, waiting.ID, later.ID} {
			if got := must1(m.tab.Text(contains("#tab-tasks td", id[:8])))(t); got != "true" {
				t.Errorf("task %s is not listed", id)
			}
		}
		m.photograph("worker")
	})
	m.run("buttons", func(*testing.T) { m.pressButtons(ctx, i, running, waiting, later) })
	m.run("metrics", func(t *testing.T) {
		text := m.get(ctx, "metrics")
		for _, want := range []string{
			`flower_worker_online{worker="go@shop"} 1.0`, `flower_events_total{task="shop.add",type="task-succeeded",worker="go@shop"} 1.0`,
			`flower_events_total{task="shop.fails",type="task-failed",worker="go@shop"} 1.0`, `flower_task_runtime_seconds_count{task="shop.add",worker="go@shop"} 1.0`,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("no %s in\n%s", want, text)
			}
		}
	})
}

// hasHumanized looks for a name as Flower writes it: "broker_url" is "Broker Url".
func hasHumanized(m *monitored, t *testing.T, selector, text string) bool {
	t.Helper()
	expression := fmt.Sprintf(`[...document.querySelectorAll(%s)].some(e => e.textContent.toLowerCase().replaceAll(" ", "_").includes(%s))`,
		strconv.Quote(selector), strconv.Quote(text))
	return must1(m.tab.Text(expression))(t) == "true"
}

// pressButtons revokes and terminates tasks, changes limits, the pool and the queues, from Flower's pages.
func (m *monitored) pressButtons(ctx context.Context, i *worker.Inspect, running, waiting, later *worker.AsyncResult) {
	t := m.t
	eventually := func(what string, condition func(ctx context.Context) (bool, error)) {
		t.Helper()
		must(t, harness.WaitFor(soon(t, ctx), what, func(ctx context.Context) error {
			ok, err := condition(ctx)
			if err == nil && !ok {
				err = fmt.Errorf("not yet")
			}
			return err
		}))
	}
	m.open(ctx, "the button to revoke", `document.querySelector("#task-revoke") !== null`, "task", later.ID)
	must(t, m.tab.Click("#task-revoke"))
	eventually("the scheduled task is revoked", func(ctx context.Context) (bool, error) {
		state, err := later.State(ctx)
		return state == "REVOKED", err
	})
	m.photograph("revoked")
	must(t, waiting.Revoke(ctx))
	m.open(ctx, "the button to terminate", `document.querySelector("#task-terminate") !== null`, "task", running.ID)
	must(t, m.tab.Click("#task-terminate"))
	eventually("the running task is terminated", func(ctx context.Context) (bool, error) {
		state, err := running.State(ctx)
		return state == "REVOKED", err
	})

	m.open(ctx, "the worker's page", `document.querySelector("#worker-pool-grow") !== null`, "worker", "go@shop")
	must(t, m.tab.Click("#worker-pool-grow"))
	eventually("the pool has grown", func(ctx context.Context) (bool, error) {
		stats, err := i.Stats(ctx)
		return stats["go@shop"].Pool.MaxConcurrency == 2, err
	})
	must(t, m.tab.Click("#worker-tab-queues"))
	must(t, m.tab.Wait(soon(t, ctx), `document.querySelector("#tab-queues").classList.contains("show")`))
	must(t, m.tab.Type("#add-consumer-name", "further"))
	must(t, m.tab.Click("#worker-add-consumer"))
	eventually("a queue more is consumed", func(ctx context.Context) (bool, error) {
		queues, err := i.ActiveQueues(ctx)
		return len(queues["go@shop"]) == 2, err
	})
}

// get reads a page as a program does.
func (m *monitored) get(ctx context.Context, path string) string {
	m.t.Helper()
	request := must1(http.NewRequestWithContext(ctx, http.MethodGet, m.flower.Page(path).String(), nil))(m.t)
	response := must1(http.DefaultClient.Do(request))(m.t)
	defer response.Body.Close()
	return string(must1(io.ReadAll(response.Body))(m.t))
}
