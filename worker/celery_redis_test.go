package worker

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/compat"
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
	python := os.Getenv("DFWS_PYTHON")
	if python == "" {
		if strings.Contains(os.Getenv("DFWS_REQUIRE"), "python") {
			t.Fatal("DFWS_PYTHON names no Python interpreter with celery")
		}
		t.Skip("DFWS_PYTHON names no Python interpreter with celery")
	}
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
