package appserver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/logbuffer"
)

const patience = 20 * time.Second // for what should be there soon on a busy machine

// rig is a running supervisor.
type rig struct {
	*Supervisor
	t        *testing.T
	modeFile string
	stop     context.CancelFunc
	logs     logbuffer.Buffer
	doneC    chan struct{} // closed when Run has returned
	runErr   error         // set before doneC is closed

	mu     sync.Mutex
	counts map[string]int
}

func (r *rig) count(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[name]++
}

func (r *rig) counted(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts[name]
}

// newRig runs the server of the tests in a mode. change may adapt the configuration.
func newRig(t *testing.T, mode string, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, modeFile: filepath.Join(t.TempDir(), "mode"), doneC: make(chan struct{}), counts: map[string]int{}}
	r.mode(mode)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Command: "'" + exe + "' {socket}", Env: []string{modeEnv + "=" + r.modeFile},
		StartTimeout: patience, StopTimeout: patience, backoff: time.Millisecond, check: 20 * time.Millisecond, linger: time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(&r.logs, nil)),
		Observer: Observer{
			Started: func(reason string) { r.count("started " + reason) },
			Ready:   func(time.Duration) { r.count("ready") },
			Failed:  func() { r.count("failed") },
			Exited:  func() { r.count("exited") },
			Killed:  func() { r.count("killed") },
		},
	}
	if change != nil {
		change(&cfg)
	}
	if r.Supervisor, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() {
		r.runErr = r.Run(ctx)
		close(r.doneC)
	}()
	t.Cleanup(func() {
		stop()
		<-r.doneC
		if t.Failed() {
			t.Log(r.logs.String())
		}
	})
	return r
}

func (r *rig) mode(mode string) {
	r.t.Helper()
	if err := os.WriteFile(r.modeFile, []byte(mode), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("never: %s\n%s", what, r.logs.String())
		}
	}
}

// get asks the current server for a page.
func (r *rig) get(path string) (string, error) {
	u := r.Upstream()
	if u == nil {
		return "", errors.New("no upstream")
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", u.Path)
	}}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get("http://app" + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// pid is the process that answers.
func (r *rig) pid() int {
	r.t.Helper()
	body, err := r.get("/")
	if err != nil {
		r.t.Fatal(err)
	}
	pid, err := strconv.Atoi(body)
	if err != nil {
		r.t.Fatal(err)
	}
	return pid
}

// gone says whether a process has ended and was reaped.
func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

func TestServesAndStops(t *testing.T) {
	t.Parallel()
	r := newRig(t, "child", nil)
	r.eventually("ready", func() bool { return r.Ready() == nil })
	pid := r.pid()
	folder := filepath.Dir(r.Upstream().Path)
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of the sockets: %v, %v", info.Mode(), err)
	}
	r.eventually("its output is in the log", func() bool { return strings.Contains(r.logs.String(), `text="starting as child"`) })
	child := regexp.MustCompile(`text="child (\d+)"`).FindStringSubmatch(r.logs.String())
	if child == nil {
		t.Fatal("no child")
	}
	r.stop()
	<-r.doneC
	if r.runErr != nil {
		t.Error(r.runErr)
	}
	childPID, _ := strconv.Atoi(child[1])
	// The child's new parent reaps it when it likes: a zombie is dead.
	r.eventually("its child is dead", func() bool { return gone(childPID) || zombie(childPID) })
	if !gone(pid) {
		t.Error("the server is still there")
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder of the sockets is left: %v", err)
	}
	if r.Upstream() != nil || r.counted("killed") != 0 || r.counted("started first") != 1 {
		t.Errorf("upstream %v, counts %v", r.Upstream(), r.counts)
	}
}

func zombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// TestKill: a server that does not obey SIGTERM is killed, and does not hold up the gateway's end.
func TestKill(t *testing.T) {
	t.Parallel()
	r := newRig(t, "stubborn", func(c *Config) { c.StopTimeout = 50 * time.Millisecond })
	r.eventually("ready", func() bool { return r.Ready() == nil })
	pid := r.pid()
	r.stop()
	<-r.doneC
	if !gone(pid) || r.counted("killed") != 1 || r.runErr != nil {
		t.Errorf("gone %v, counts %v, %v", gone(pid), r.counts, r.runErr)
	}
}

// TestRestarts: a server that ended is started again, and there is no upstream meanwhile.
func TestRestarts(t *testing.T) {
	t.Parallel()
	r := newRig(t, "serve", nil)
	for n := range 3 {
		r.eventually("ready", func() bool { return r.counted("ready") == n+1 && r.Ready() == nil })
		pid := r.pid()
		if _, err := r.get("/exit"); err == nil {
			t.Fatal("it did not exit")
		}
		r.eventually("another", func() bool { return r.counted("exited") == n+1 && gone(pid) })
	}
	if !strings.Contains(r.logs.String(), "exit status 4") {
		t.Error("the log does not say how it ended")
	}
	r.eventually("counted", func() bool { return r.counted("started exited") == 3 })
}

// TestNeverStarts: the reason is in the error, with the last output.
func TestNeverStarts(t *testing.T) {
	t.Parallel()
	r := newRig(t, "fail", func(c *Config) { c.StartAttempts = 3 })
	select {
	case <-r.doneC:
	case <-time.After(patience):
		t.Fatal("Run goes on")
	}
	failure, ok := errors.AsType[*StartError](r.runErr)
	if !ok || failure.Status != "exit status 3" || !strings.Contains(failure.Output, "No module named 'site'") {
		t.Fatalf("got %v", r.runErr)
	}
	if text := r.runErr.Error(); !strings.Contains(text, "after 3 starts") || !strings.Contains(text, "exit status 3") {
		t.Errorf("got %s", text)
	}
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("Ready: %v", err)
	}
	if r.counted("failed") != 3 {
		t.Errorf("counts %v", r.counts)
	}
}

// TestNeverAnswers: a server that runs but does not listen is stopped.
func TestNeverAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t, "hang", func(c *Config) { c.StartAttempts, c.StartTimeout = 1, 300*time.Millisecond })
	<-r.doneC
	if !errors.Is(r.runErr, errSlow) || !strings.Contains(r.runErr.Error(), "connect") {
		t.Errorf("got %v", r.runErr)
	}
}

// TestReload: the new generation takes over without a moment in which nobody answers, and the old one ends.
func TestReload(t *testing.T) {
	t.Parallel()
	// Long enough for a request that was on its way to the old one, on a busy machine.
	r := newRig(t, "serve", func(c *Config) { c.linger = 3 * time.Second })
	r.eventually("ready", func() bool { return r.Ready() == nil })
	first := r.pid()
	done, failed := make(chan struct{}), make(chan error, 1)
	asking := sync.WaitGroup{}
	asking.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if _, err := r.get("/"); err != nil {
				failed <- err
				return
			}
		}
	})
	r.Reload()
	r.eventually("the first has ended", func() bool { return gone(first) })
	close(done)
	asking.Wait()
	select {
	case err := <-failed:
		t.Errorf("a request failed during the reload: %v", err)
	default:
	}
	if second := r.pid(); second == first || r.counted("started reload") != 1 || r.counted("exited") != 0 {
		t.Errorf("pid %d after %d, counts %v", second, first, r.counts)
	}
}

// TestReloadFails: a new version that does not start, or only errs, does not replace the one that works.
func TestReloadFails(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]string{"fail": "exit status 3", "error": "status 500"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "serve", nil)
			r.eventually("ready", func() bool { return r.Ready() == nil })
			r.cfg.StartTimeout = patience / 4 // Run's goroutine reads it after the reload below only
			first := r.pid()
			r.mode(mode)
			r.Reload()
			r.eventually("failed", func() bool { return r.counted("failed") == 1 })
			r.eventually("logged", func() bool { return strings.Contains(r.logs.String(), "the old one stays") })
			if r.pid() != first {
				t.Error("another process answers")
			}
			if !strings.Contains(r.logs.String(), want) {
				t.Errorf("the log does not say %q", want)
			}
			r.mode("serve")
			r.Reload()
			r.eventually("replaced", func() bool { return gone(first) })
		})
	}
}

// TestErrorsAtFirstStart: with no other server, one that answers with errors serves: its site may have pages that work.
func TestErrorsAtFirstStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, "error", nil)
	r.eventually("ready", func() bool { return r.Ready() == nil })
	if !strings.Contains(r.logs.String(), "status=500") {
		t.Error("not logged")
	}
}

// TestOldEndsDuringReload: there is no upstream until the new one answers, and the end is noticed.
func TestOldEndsDuringReload(t *testing.T) {
	t.Parallel()
	r := newRig(t, "serve", nil)
	r.eventually("ready", func() bool { return r.Ready() == nil })
	r.mode("hang")
	r.Reload()
	r.eventually("the second is started", func() bool {
		return r.counted("started reload") == 1 && strings.Contains(r.logs.String(), "starting as hang")
	})
	if _, err := r.get("/exit"); err == nil {
		t.Fatal("it did not exit")
	}
	r.eventually("no upstream", func() bool { return r.Upstream() == nil })
	r.stop()
	<-r.doneC
	if r.runErr != nil {
		t.Error(r.runErr)
	}
}

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	var memory Observer
	var mu sync.Mutex
	var last int64
	memory.Memory = func(bytes int64) {
		mu.Lock()
		defer mu.Unlock()
		last = bytes
	}
	r := newRig(t, "serve", func(c *Config) {
		c.MaxMemory = 150 << 20
		c.Observer.Memory = memory.Memory
	})
	r.eventually("measured", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return last > 1<<20 && last < 150<<20
	})
	first := r.pid()
	for range 3 { // each holds over 64 MiB
		if _, err := r.get("/hold"); err != nil {
			break // it is being replaced
		}
	}
	r.eventually("replaced", func() bool { return gone(first) })
	if r.counted("started memory") == 0 {
		t.Errorf("counts %v", r.counts)
	}
}

func TestAgeLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, "serve", func(c *Config) { c.MaxAge = 200 * time.Millisecond })
	r.eventually("ready", func() bool { return r.Ready() == nil })
	first := r.pid()
	r.eventually("replaced", func() bool { return gone(first) && r.counted("started age") > 0 })
}

func TestRunTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, "serve", nil)
	r.eventually("ready", func() bool { return r.Ready() == nil })
	if err := r.Run(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("got %v", err)
	}
}

// TestStopWhileStarting: the end of the gateway does not wait for a start.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	r := newRig(t, "hang", nil)
	r.eventually("started", func() bool { return strings.Contains(r.logs.String(), "starting as hang") })
	r.stop()
	<-r.doneC
	if r.runErr != nil || r.counted("failed") != 0 {
		t.Errorf("%v, counts %v", r.runErr, r.counts)
	}
}
