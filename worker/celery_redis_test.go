package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/celeryproto/monitor"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/needs"
	"github.com/dfws/dfws/integration/redistest"
)

// celeryPeer is a process of testdata/celery/peer.py.
type celeryPeer struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	saidC  chan map[string]any // closed at the end of its output
	reader sync.WaitGroup

	mu  sync.Mutex // guards log
	log strings.Builder
}

// startPeer starts real Celery on the site's Redis. Without DFWS_PYTHON the test is skipped, or fails where DFWS_REQUIRE lists python.
func startPeer(t testing.TB, settings *compat.Settings, what string, args ...string) *celeryPeer {
	t.Helper()
	python := needs.Python(t, "celery")
	script, err := filepath.Abs("testdata/celery/peer.py")
	must(t, err)
	args = append([]string{script, what, settings.Celery.BrokerURL.Reveal(), settings.Celery.ResultBackend.Reveal()}, args...)
	p := &celeryPeer{t: t, cmd: exec.Command(python, args...), saidC: make(chan map[string]any, 1000)}
	p.cmd.Dir = t.TempDir()
	p.cmd.Env = append(os.Environ(), "C_FORCE_ROOT=1", "PYTHONDONTWRITEBYTECODE=1")
	p.cmd.Stderr = p
	p.stdin, err = p.cmd.StdinPipe()
	must(t, err)
	stdout, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	p.reader.Go(func() {
		defer close(p.saidC)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var said map[string]any
			if json.Unmarshal(lines.Bytes(), &said) != nil {
				said = nil
			}
			_, _ = p.Write(append(lines.Bytes(), '\n'))
			if said != nil {
				p.saidC <- said
			}
		}
	})
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it may have ended already
		p.reader.Wait()
		_ = p.cmd.Wait()
		if t.Failed() {
			t.Logf("python %s:\n%s", what, p.text())
		}
	})
	return p
}

// Write keeps what the process prints.
func (p *celeryPeer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *celeryPeer) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// pythonTime is for a process of Python on a busy machine.
const pythonTime = time.Minute

// says returns the next thing that the process says.
func (p *celeryPeer) says(what string) map[string]any {
	p.t.Helper()
	select {
	case said, ok := <-p.saidC:
		if !ok {
			p.t.Fatalf("python ended before %s:\n%s", what, p.text())
		}
		return said
	case <-time.After(pythonTime):
		p.t.Fatalf("python did not say %s", what)
	}
	return nil
}

// celery runs the command line.
func (p *celeryPeer) celery(args ...string) (code int, out string) {
	p.t.Helper()
	line, err := json.Marshal(args)
	must(p.t, err)
	_, err = p.stdin.Write(append(line, '\n'))
	must(p.t, err)
	said := p.says("what celery " + strings.Join(args, " ") + " prints")
	return int(said["exit"].(float64)), said["out"].(string)
}

// controlled registers the tasks of a worker that is controlled from Python.
func controlled(w *Worker) {
	addTask(w)
	HandleTask(w, Task[struct{}, int]{Name: "demo.wait", Run: func(ctx context.Context, _ *TaskCall, _ struct{}) (int, error) {
		<-ctx.Done()
		return 0, ctx.Err()
	}})
	HandleControl(w, "shop_orders", func(context.Context, struct{}) (any, error) { return map[string]any{"ok": 7}, nil })
}

// TestCeleryCommandLine runs `celery status`, every `celery inspect` and every `celery control` against a Go worker.
func TestCeleryCommandLine(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	w := startWorker(t, Config{Settings: settings, NodeName: "go@test", Concurrency: 1}, controlled).awaitReady()
	p := startPeer(t, settings, "cli")
	client := clientFor(t, settings)
	running, reserved := mustSend(t, client, TaskMessage{Name: "demo.wait"}), mustSend(t, client, TaskMessage{Name: "demo.wait"})
	scheduled := mustSend(t, client, TaskMessage{Name: "demo.add", Args: []any{1, 2}, Countdown: time.Hour})
	eventually(t, "the worker has all tasks", func() bool { return w.w.engine.Load().table.len() == 3 })

	const timeout = "--timeout=5"
	for _, tc := range []struct {
		args []string
		want []string // regular expressions, all of which the output matches
		code int
	}{
		{args: []string{"status", timeout, "-d", "go@test"}, want: []string{`go@test: OK`, `1 node online`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "ping"}, want: []string{`-> {2}go@test: OK`, `pong`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "ping"}, want: []string{`pong`}},
		{args: []string{"inspect", "--timeout=0.2", "-d", "other@test", "ping"}, want: []string{`No nodes replied`}, code: 69},
		{args: []string{"inspect", timeout, "-d", "go@test", "active"}, want: []string{running.ID, `'time_start': \d`, `'worker_pid': \d`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "reserved"}, want: []string{reserved.ID, `'time_start': None`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "scheduled"}, want: []string{scheduled.ID, `'priority': 6`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "query_task", running.ID, scheduled.ID}, want: []string{`"active"`, `"scheduled"`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "stats"}, want: []string{`"max-concurrency": 1`, `"prefetch_count": 5`, `"demo.wait": 1`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "registered"}, want: []string{`\* demo.add`, `\* demo.wait`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "registered", "max_retries"}, want: []string{`demo.add \[max_retries=3\]`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "active_queues"}, want: []string{`'name': 'go'`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "revoked"}, want: []string{`- empty -`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "conf"}, want: []string{`broker_url`, `worker_pool`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "conf", "true"}, want: []string{`result_expires`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "clock"}, want: []string{`"clock": \d|'clock': \d`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "report"}, want: []string{`software -> celery:`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "memsample"}, want: []string{`\d[KMG]B`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "memdump", "5"}, want: []string{`rss \(sample\)`, `rss \(end\)`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "objgraph"}, want: []string{`ERROR`, `no Python objects`}},

		{args: []string{"control", timeout, "-d", "go@test", "enable_events"}, want: []string{`go@test: OK`, `task events enabled`}},
		{args: []string{"control", timeout, "-d", "go@test", "disable_events"}, want: []string{`task events disabled`}},
		{args: []string{"control", timeout, "-d", "go@test", "heartbeat"}, want: []string{`go@test: OK`}},
		{args: []string{"control", timeout, "-d", "go@test", "rate_limit", "demo.add", "10/m"}, want: []string{`new rate limit set successfully`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "registered"}, want: []string{`demo.add \[rate_limit=10/m\]`}},
		{args: []string{"control", timeout, "-d", "go@test", "time_limit", "demo.add", "1.5", "3"}, want: []string{`time limits set successfully`}},
		{args: []string{"control", timeout, "-d", "go@test", "time_limit", "no.task", "1"}, want: []string{`ERROR`, `unknown task`}},
		{args: []string{"control", timeout, "-d", "go@test", "pool_grow", "2"}, want: []string{`pool will grow`}},
		{args: []string{"control", timeout, "-d", "go@test", "pool_shrink", "2"}, want: []string{`pool will shrink`}},
		{args: []string{"control", timeout, "-d", "go@test", "autoscale", "3", "1"}, want: []string{`Autoscale not enabled`}},
		{args: []string{"control", timeout, "-d", "go@test", "pool_restart"}, want: []string{`Pool restarts not enabled`}},
		{args: []string{"control", timeout, "-d", "go@test", "add_consumer", "further"}, want: []string{`add consumer further`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "active_queues"}, want: []string{`'name': 'further'`}},
		{args: []string{"control", timeout, "-d", "go@test", "cancel_consumer", "further"}, want: []string{`no longer consuming from further`}},
		{args: []string{"control", timeout, "-d", "go@test", "revoke", scheduled.ID}, want: []string{`tasks \{'` + scheduled.ID + `'\} flagged as revoked`}},
		{args: []string{"inspect", timeout, "-d", "go@test", "revoked"}, want: []string{scheduled.ID}},
		{args: []string{"control", timeout, "-d", "go@test", "revoke_by_stamped_headers", "tenant=a"}, want: []string{`headers \{'tenant': 'a'\} flagged`}},
		{args: []string{"control", timeout, "-d", "go@test", "terminate", "SIGKILL", running.ID}, want: []string{`terminate: ` + running.ID}},
		{args: []string{"control", timeout, "-d", "go@test", "election", "1", "task"}, want: nil, code: -1},
	} {
		code, out := p.celery(tc.args...)
		if tc.code != -1 && code != tc.code {
			t.Errorf("celery %v: exit status %d\n%s", tc.args, code, out)
		}
		for _, want := range tc.want {
			if !regexp.MustCompile(want).MatchString(out) {
				t.Errorf("celery %v: no %s in\n%s", tc.args, want, out)
			}
		}
	}
	var failed *Exception
	for _, task := range []*AsyncResult{running, scheduled} {
		err := task.Get(within10s(t), nil)
		if failed, _ = err.(*Exception); failed == nil || failed.Type != "TaskRevokedError" {
			t.Errorf("a revoked task: %v", err)
		}
	}
	if code, out := p.celery("control", "--timeout=0.2", "shutdown"); code != 69 { // nobody replies to that
		t.Errorf("celery control shutdown: %d\n%s", code, out)
	}
	eventually(t, "the worker has stopped taking", func() bool { return w.w.Ready() != nil })
	if _, err := client.Control(ControlOptions{Timeout: time.Second}).Terminate(within10s(t), "", reserved.ID); err != nil {
		t.Error(err)
	}
	<-w.doneC
	if w.err != nil {
		t.Errorf("Run ended with %v", w.err)
	}
}

// startPython starts a Celery worker and waits until it consumes.
func startPython(t testing.TB, settings *compat.Settings, args ...string) *celeryPeer {
	t.Helper()
	p := startPeer(t, settings, "worker", append([]string{"-n", "py@test", "-P", "threads", "-c", "2", "-E"}, args...)...)
	if said := p.says("that it is ready"); said["ready"] != true {
		t.Fatalf("python says %v", said)
	}
	return p
}

// TestPythonMingles: revoked tasks go from a Go worker to a Python worker that starts, and from that to another Go worker.
func TestPythonMingles(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	first := startWorker(t, Config{Settings: settings, NodeName: "first@test"}, workflows).awaitReady()
	client := clientFor(t, settings)
	ctx, cancel := context.WithTimeout(t.Context(), pythonTime)
	defer cancel()
	if _, err := client.Control(ControlOptions{}).Revoke(ctx, "known-to-go"); err != nil {
		t.Fatal(err)
	}
	startPython(t, settings)
	inspect := client.Inspect(ControlOptions{Timeout: 2 * time.Second})
	eventually(t, "python knows what Go knew", func() bool { // it answers from a while after its start on
		revoked, err := inspect.Revoked(ctx)
		return err == nil && slices.Contains(revoked["py@test"], "known-to-go")
	})
	if _, err := client.Control(ControlOptions{Destination: []string{"py@test"}}).Revoke(ctx, "known-to-python"); err != nil {
		t.Fatal(err)
	}
	must(t, first.halt())
	startWorker(t, Config{Settings: settings, NodeName: "second@test"}, workflows).awaitReady()
	revoked, err := inspect.Revoked(ctx)
	if got := revoked["second@test"]; err != nil || !slices.Contains(got, "known-to-python") || !slices.Contains(got, "known-to-go") {
		t.Errorf("the second Go worker knows %q, %v", got, err)
	}
}

// TestClientAgainstPython: the Go client with a real Celery worker.
func TestClientAgainstPython(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	startWorker(t, Config{Settings: settings, NodeName: "go@test"}, workflows).awaitReady()
	startPython(t, settings)
	client := clientFor(t, settings)
	ctx, cancel := context.WithTimeout(t.Context(), pythonTime)
	defer cancel()
	py := func(task string, args ...any) *canvas.Signature {
		return canvas.New(task, args...).Set("queue", "celery")
	}
	apply := func(sig *canvas.Signature) *AsyncResult {
		t.Helper()
		r, err := client.Apply(ctx, sig)
		must(t, err)
		return r
	}
	var n int
	must(t, apply(canvas.Chain(py("py.add", 1, 2), onGo("demo.add", 10), py("py.add", 100))).Get(ctx, &n))
	if n != 113 {
		t.Errorf("a chain through both languages: %d", n)
	}
	must(t, apply(canvas.Chord(canvas.Group(py("py.add", 1, 1), onGo("demo.add", 2, 2)), onGo("demo.sum"))).Get(ctx, &n))
	if n != 6 {
		t.Errorf("a chord through both languages: %d", n)
	}
	failed := apply(py("py.fail", "boom"))
	var raised *Exception
	if err := failed.Get(ctx, nil); !errors.As(err, &raised) || raised.Type != "ValueError" || raised.Args[0] != "boom" || !strings.Contains(raised.Traceback, "peer.py") {
		t.Errorf("a Python exception: %+v", raised)
	}
	progress := apply(py("py.progress", 7))
	eventually(t, "it tells of its progress", func() bool {
		var info struct{ At int }
		return progress.Info(ctx, &info) == nil && info.At == 7
	})
	parent := apply(py("py.spawn"))
	must(t, parent.Get(ctx, nil))
	children, err := parent.Children(ctx)
	if err != nil || len(children) != 1 {
		t.Fatalf("children: %v, %v", children, err)
	}
	must(t, children[0].Get(ctx, &n))

	sleeping := apply(py("py.sleep", 2))
	i := client.Inspect(ControlOptions{Destination: []string{"py@test"}, Timeout: 5 * time.Second})
	eventually(t, "it is active", func() bool {
		active, err := i.Active(ctx, false)
		return err == nil && len(active["py@test"]) == 1 && active["py@test"][0].ID == sleeping.ID && active["py@test"][0].Args.String() == "[2]"
	})
	check := func(what string, got any, err error, ok bool) {
		t.Helper()
		if err != nil || !ok {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	scheduled := apply(py("py.add", 1, 1).Set("countdown", 3600))
	eventually(t, "it is scheduled", func() bool {
		later, err := i.Scheduled(ctx)
		return err == nil && len(later["py@test"]) == 1 && later["py@test"][0].Request.ID == scheduled.ID
	})
	stats, err := i.Stats(ctx)
	check("stats", stats, err, stats["py@test"].Pool.MaxConcurrency == 2 && stats["py@test"].Total["py.add"] > 0)
	queues, err := i.ActiveQueues(ctx)
	check("active_queues", queues, err, queues["py@test"][0].Name == "celery" && queues["py@test"][0].Durable)
	registered, err := i.Registered(ctx)
	check("registered", registered, err, slices.Contains(registered["py@test"], "py.add"))
	conf, err := i.Conf(ctx, true)
	check("conf", conf, err, conf["py@test"]["task_send_sent_event"].String() == "true")
	report, err := i.Report(ctx)
	check("report", report, err, strings.Contains(report["py@test"], "software -> celery:5"))
	clocks, err := i.Clock(ctx)
	check("clock", clocks, err, clocks["py@test"] > 0)
	held, err := i.QueryTask(ctx, scheduled.ID)
	check("query_task", held, err, held["py@test"][scheduled.ID].State == "scheduled")
	dump, err := i.MemDump(ctx, 3)
	check("memdump", dump, err, strings.Contains(dump["py@test"], "rss"))

	c := client.Control(ControlOptions{Destination: []string{"py@test"}, Timeout: 5 * time.Second})
	for _, step := range []struct {
		want string
		do   func() (map[string]string, error)
	}{
		{"new rate limit set successfully", func() (map[string]string, error) { return c.RateLimit(ctx, "py.add", "100/s") }},
		{"time limits set successfully", func() (map[string]string, error) { return c.TimeLimit(ctx, "py.add", time.Minute, time.Hour) }},
		{"add consumer more", func() (map[string]string, error) { return c.AddConsumer(ctx, "more") }},
		{"no longer consuming from more", func() (map[string]string, error) { return c.CancelConsumer(ctx, "more") }},
		{"tasks {'" + scheduled.ID + "'} flagged as revoked", func() (map[string]string, error) { return c.Revoke(ctx, scheduled.ID) }},
	} {
		texts, err := step.do()
		check(step.want, texts, err, texts["py@test"] == step.want)
	}
	if err := scheduled.Get(ctx, nil); !errors.Is(err, &Exception{Type: "TaskRevokedError"}) {
		t.Errorf("a revoked task: %v", err)
	}

	both, err := client.Inspect(ControlOptions{Timeout: 2 * time.Second}).Ping(ctx)
	check("ping", both, err, both["py@test"] == "pong" && both["go@test"] == "pong")
	must(t, c.Shutdown(ctx))
}

// TestEventsAgainstPython: `celery events --dump` shows what a Go worker does, and a Go receiver what a Python worker does.
func TestEventsAgainstPython(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	dump := startPeer(t, settings, "events")
	dump.says("that it starts")
	w := startWorker(t, Config{Settings: settings, NodeName: "go@test", TaskEvents: Yes, HeartbeatInterval: 200 * time.Millisecond}, workflows).awaitReady()
	client := clientFor(t, settings)
	eventually(t, "celery events sees the worker", func() bool { return strings.Contains(dump.text(), "go@test") })
	ok := mustSend(t, client, TaskMessage{Name: "demo.add", Args: []any{1, 2}})
	bad := mustSend(t, client, TaskMessage{Name: "demo.fail", Args: []any{1}})
	for _, want := range []string{
		"task received: demo.add(" + ok.ID + ") args=(1, 2) kwargs={}", "task started: demo.add(" + ok.ID, "task succeeded: demo.add(" + ok.ID,
		"task failed: demo.fail(" + bad.ID, "heartbeat",
	} {
		eventually(t, "celery events shows "+want, func() bool { return strings.Contains(dump.text(), want) })
	}
	must(t, w.halt())
	eventually(t, "celery events shows the end", func() bool {
		return strings.Contains(dump.text(), "go@test [") && strings.Contains(dump.text(), "shutdown")
	})

	state := monitor.New(monitor.Limits{})
	receiver, err := client.Events(EventOptions{State: state})
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := receiver.Run(ctx, nil); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer stop()
	<-receiver.Ready()
	startPython(t, settings)
	sent := mustSend(t, client, TaskMessage{Name: "py.add", Args: []any{1, 2}, Queue: "celery"})
	eventually(t, "its end is seen", func() bool {
		task, _ := state.Task(sent.ID)
		return task.State == "SUCCESS" && task.Result == "3" && task.Name == "py.add" && task.Worker == "py@test"
	})
	if py, _ := state.Worker("py@test"); py.SWIdent != "py-celery" || !py.Alive(time.Now()) {
		t.Errorf("worker %+v", py)
	}
}
