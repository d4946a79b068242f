package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/logbuffer"
	"github.com/dfws/dfws/integration/redistest"
	"github.com/dfws/dfws/worker"
)

// program is one that runs.
type program struct {
	t       testing.TB
	server  *redistest.Server
	client  *worker.Client
	signals chan os.Signal
	out     logbuffer.Buffer
	doneC   chan int
	release chan struct{} // closed: the task "stuck" returns
}

func start(t testing.TB, args ...string) *program {
	t.Helper()
	return startWith(t, noEnv, nil, args...)
}

// startWith adds an environment and settings of Celery.
func startWith(t testing.TB, lookupEnv func(string) (string, bool), celery map[string]any, args ...string) *program {
	t.Helper()
	server := redistest.Start(t)
	settled := map[string]any{"broker_url": server.URLFor(0), "result_backend": server.URLFor(1)}
	maps.Copy(settled, celery)
	file, err := json.Marshal(map[string]any{
		"schema": 1, "celery": settled,
		"channel_layer": map[string]any{"hosts": []any{map[string]any{"url": server.URLFor(2)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "settings.json")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	settings, err := worker.LoadSettings(path)
	if err != nil {
		t.Fatal(err)
	}
	client, err := worker.NewClient(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	p := &program{t: t, server: server, client: client, signals: make(chan os.Signal), doneC: make(chan int, 1), release: make(chan struct{})}
	register := func(w *worker.Worker) {
		worker.HandleTask(w, worker.Task[struct{}, string]{Name: "waits", Run: func(ctx context.Context, _ *worker.TaskCall, _ struct{}) (string, error) {
			select {
			case <-p.release:
				return "released", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}})
		worker.HandleTask(w, worker.Task[struct{}, string]{Name: "stuck", Run: func(context.Context, *worker.TaskCall, struct{}) (string, error) {
			<-p.release
			return "released", nil
		}})
	}
	var group sync.WaitGroup
	group.Go(func() {
		shop := Program{App: "shop", Register: register, Config: worker.Config{HardStopTimeout: time.Minute}}
		p.doneC <- shop.Run(context.Background(), System{
			Args: append([]string{"--settings", path, "-n", "shop@test"}, args...), LookupEnv: lookupEnv, Stdout: &p.out, Stderr: &p.out, Signals: p.signals,
		})
	})
	t.Cleanup(func() {
		group.Wait()
		if t.Failed() {
			t.Logf("the program printed:\n%s", p.out.String())
		}
	})
	p.await("it consumes", func() bool { return strings.Contains(p.out.String(), "consuming") })
	return p
}

func (p *program) await(what string, condition func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("did not happen: %s\n%s", what, p.out.String())
		}
	}
}

// begin sends a task and waits until it runs.
func (p *program) begin(task string) *worker.AsyncResult {
	p.t.Helper()
	r, err := p.client.Send(p.t.Context(), worker.TaskMessage{Name: task, Queue: "go"})
	if err != nil {
		p.t.Fatal(err)
	}
	p.await("the task runs", func() bool {
		active, err := p.client.Inspect(worker.ControlOptions{}).Active(p.t.Context(), false)
		return err == nil && len(active["shop@test"]) == 1
	})
	return r
}

func (p *program) end(want int) {
	p.t.Helper()
	select {
	case got := <-p.doneC:
		if got != want {
			p.t.Errorf("exit status %d, want %d\n%s", got, want, p.out.String())
		}
	case <-time.After(20 * time.Second):
		p.t.Fatalf("it goes on\n%s", p.out.String())
	}
}

// A warm stop stays one, whoever asks for it again by SIGTERM, or by SIGINT for the first time.
func TestWarmStop(t *testing.T) {
	t.Parallel()
	p := start(t)
	r := p.begin("waits")
	for _, s := range []os.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGHUP, os.Interrupt} {
		p.signals <- s
	}
	p.signals <- sigDump // is obeyed after the others were
	p.await("it stops taking", func() bool {
		return strings.Contains(p.out.String(), "warm shutdown") && strings.Contains(p.out.String(), "stacks of all goroutines")
	})
	close(p.release)
	p.end(exitOK)
	var text string
	if err := r.Get(t.Context(), &text); err != nil || text != "released" {
		t.Errorf("the task that ran: %q, %v", text, err)
	}
	if !strings.Contains(p.out.String(), "can be read by other users") {
		t.Error("nothing is said of the settings file's mode")
	}
}

func TestColdStop(t *testing.T) {
	t.Parallel()
	remap := env("REMAP_SIGTERM", "SIGQUIT")
	for name, tc := range map[string]struct {
		env     func(string) (string, bool)
		signals []os.Signal
	}{
		"interrupted twice": {noEnv, []os.Signal{os.Interrupt, syscall.SIGTERM, os.Interrupt}},
		"quit":              {noEnv, []os.Signal{syscall.SIGQUIT}},
		"terminated, quit":  {noEnv, []os.Signal{syscall.SIGTERM, syscall.SIGQUIT}},
		"remapped":          {remap, []os.Signal{syscall.SIGTERM}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startWith(t, tc.env, nil)
			p.begin("waits")
			for _, s := range tc.signals {
				p.signals <- s
			}
			p.end(exitFailed)
			p.isBack()
		})
	}
}

// isBack fails unless the one task is in its queue again.
func (p *program) isBack() {
	p.t.Helper()
	c := p.server.Client(p.t)
	queued, held := c.LLen(context.Background(), "go").Val(), c.HLen(context.Background(), "unacked").Val()
	if queued != 1 || held != 0 {
		p.t.Errorf("%d messages in the queue and %d held, want the one in the queue", queued, held)
	}
}

// The first SIGQUIT leaves running tasks the time of worker_soft_shutdown_timeout, the second does not.
func TestSoftStop(t *testing.T) {
	t.Parallel()
	soft := map[string]any{"worker_soft_shutdown_timeout": 3600}
	for name, again := range map[string]os.Signal{"ended": nil, "quit": syscall.SIGQUIT, "interrupted": os.Interrupt} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startWith(t, noEnv, soft)
			r := p.begin("waits")
			p.signals <- syscall.SIGQUIT
			p.await("it waits", func() bool { return strings.Contains(p.out.String(), "soft shutdown: tasks") })
			if again != nil {
				p.signals <- again
				p.end(exitFailed)
				p.isBack()
				return
			}
			close(p.release)
			p.end(exitFailed)
			if err := r.Get(t.Context(), nil); err != nil {
				t.Errorf("the task that was let end: %v", err)
			}
		})
	}
}

// The third leaves behind a handler that does not return, but not its task.
func TestHardStop(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.begin("stuck")
	for range 3 {
		p.signals <- syscall.SIGQUIT
	}
	p.end(exitFailed)
	p.isBack()
	close(p.release)
}

// The fourth waits for nothing, not even for Redis.
func TestStopAtOnce(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.begin("stuck")
	p.server.Pause()
	for range 4 {
		p.signals <- syscall.SIGQUIT
	}
	p.end(exitFailed)
	if !strings.Contains(p.out.String(), "stopped at once") {
		t.Error("nothing is said of it")
	}
	p.server.Resume()
	close(p.release) // the worker that was left behind ends
	p.await("it ends", func() bool { return strings.Contains(p.out.String(), "msg=stopped") })
}

func TestDumpAndAdmin(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free now
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pid := filepath.Join(dir, "pid")
	p := start(t, "--admin", addr, "--pidfile", pid)
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if code, body := get("/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	p.await("it is ready", func() bool { code, _ := get("/readyz"); return code == http.StatusOK })
	if text, err := os.ReadFile(pid); err != nil || string(text) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("pid file: %q, %v", text, err)
	}
	p.signals <- sigDump
	p.await("the stacks are there", func() bool {
		return strings.Contains(p.out.String(), "goroutine ") && strings.Contains(p.out.String(), "untilStopped")
	})
	r := p.begin("waits")
	p.signals <- syscall.SIGTERM
	p.await("it is not ready", func() bool { code, _ := get("/readyz"); return code == http.StatusServiceUnavailable })
	close(p.release)
	p.end(exitOK)
	if err := r.Get(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(pid); !os.IsNotExist(err) {
		t.Errorf("the pid file is left: %v", err)
	}
}

func TestLogFile(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "worker.log")
	if err := os.WriteFile(log, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out logbuffer.Buffer
	p := Program{App: "shop", Register: func(*worker.Worker) {}}
	settings := filepath.Join(t.TempDir(), "none.json")
	code := p.Run(t.Context(), System{Args: []string{"--logfile", log, "--settings", settings}, LookupEnv: noEnv, Stdout: &out, Stderr: &out})
	if text, err := os.ReadFile(log); code != exitUsage || err != nil || !strings.HasPrefix(string(text), "before\n") {
		t.Errorf("%d, %q, %v", code, text, err)
	}
}
