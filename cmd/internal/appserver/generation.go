package appserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// outputGrace is how long the output of a process that has ended is still read: one of its children may have left the group and hold the
// pipes open.
const outputGrace = time.Second

// maxProbeBytes is how much of the page that shows readiness is read.
const maxProbeBytes = 4 << 20

// generation is one started application server.
type generation struct {
	number  int
	log     *slog.Logger
	url     *url.URL // unix:///…
	socket  string
	pid     int
	started time.Time
	maxAge  time.Duration // 0 is no limit
	output  *output
	exitC   chan struct{} // closed by its goroutine when the process has ended and its group is killed
	status  string        // set before exitC is closed: how it ended

	process *os.Process
	mu      sync.Mutex
	reaped  bool // its number may be somebody else's
}

// spawn starts a generation. Its goroutine belongs to wg.
func spawn(cfg *Config, words []string, dir string, number int, wg *sync.WaitGroup) (*generation, error) {
	g := &generation{
		number: number,
		socket: socketPath(dir, number),
		exitC:  make(chan struct{}),
	}
	g.url = &url.URL{Scheme: "unix", Path: g.socket}
	args := make([]string, len(words))
	for i, word := range words {
		args[i] = strings.ReplaceAll(word, SocketPlaceholder, g.socket)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env, cmd.SysProcAttr = cfg.Dir, append(os.Environ(), cfg.Env...), ownGroup()
	startedC := make(chan error, 1) // one value, from the goroutine to this function
	wg.Go(func() { g.run(cmd, cfg.Logger, startedC) })
	return g, <-startedC
}

// run starts the process, waits for its end and kills what is left of its group. All of it is done on one thread: see ownGroup.
func (g *generation) run(cmd *exec.Cmd, log *slog.Logger, startedC chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	stdout, stderr, err := g.start(cmd, log)
	startedC <- err
	if err != nil {
		return
	}
	defer close(g.exitC)
	var readers sync.WaitGroup
	readers.Go(func() { g.output.copy("stdout", stdout) })
	readers.Go(func() { g.output.copy("stderr", stderr) })
	err = awaitExit(g.pid)
	err = errors.Join(err, g.kill(), g.reap(cmd))
	for _, r := range []*os.File{stdout, stderr} {
		_ = r.SetReadDeadline(time.Now().Add(outputGrace)) // fails only for a closed file
	}
	readers.Wait()
	_, _ = stdout.Close(), stderr.Close()
	_ = os.Remove(g.socket) // most servers do it themselves
	if err != nil {
		g.log.Error("app server: its end could not be handled in full", "err", err)
	}
	g.status = "an unknown status"
	if cmd.ProcessState != nil {
		g.status = cmd.ProcessState.String()
	}
}

// kill kills what is left of the group, unless the process is gone.
func (g *generation) kill() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reaped {
		return nil
	}
	return killGroup(g.pid)
}

// reap takes the status of the process, which has ended.
func (g *generation) reap(cmd *exec.Cmd) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reaped = true
	if err := cmd.Wait(); cmd.ProcessState == nil {
		return err // any other says only that the status is not 0
	}
	return nil
}

// start starts the process with its output in pipes.
func (g *generation) start(cmd *exec.Cmd, log *slog.Logger) (stdout, stderr *os.File, err error) {
	stdout, stdoutW, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	stderr, stderrW, err := os.Pipe()
	if err != nil {
		_, _ = stdout.Close(), stdoutW.Close()
		return nil, nil, err
	}
	cmd.Stdout, cmd.Stderr = stdoutW, stderrW
	err = cmd.Start()
	_, _ = stdoutW.Close(), stderrW.Close() // the child has its own
	if err != nil {
		_, _ = stdout.Close(), stderr.Close()
		return nil, nil, fmt.Errorf("appserver: %w", err)
	}
	g.process, g.pid, g.started = cmd.Process, cmd.Process.Pid, time.Now()
	g.log = log.With("generation", g.number, "pid", g.pid)
	g.output = &output{log: g.log}
	return stdout, stderr, nil
}

// ended says whether the process has ended.
func (g *generation) ended() bool {
	select {
	case <-g.exitC:
		return true
	default:
		return false
	}
}

// stop asks the process to end and kills its group when it does not within timeout. It returns when it has ended.
func (g *generation) stop(timeout time.Duration, o *Observer) {
	if g.ended() {
		return
	}
	if err := g.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		g.log.Error("app server cannot be told to stop", "err", err)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-g.exitC:
		g.log.Info("app server stopped", "status", g.status)
		return
	case <-timer.C:
	}
	g.log.Warn("app server did not stop in time and is killed", "after", timeout)
	call(o.Killed)
	if err := g.kill(); err != nil {
		g.log.Error("app server cannot be killed", "err", err)
	}
	<-g.exitC
}

// failure is the error of a generation that did not come to serve. The generation has ended.
func (g *generation) failure(err error) *StartError {
	failure := &StartError{Output: g.output.tail(), Err: err}
	if err == nil {
		failure.Status = g.status
	}
	return failure
}

// probe asks for a page once and returns the status.
func (g *generation) probe(ctx context.Context, cfg *Config) (int, error) {
	var dialer net.Dialer
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", g.socket)
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://app"+cfg.ReadyPath, nil)
	if err != nil {
		return 0, err
	}
	req.Host = cfg.ReadyHost
	req.Header.Set("User-Agent", "dfws (is the application server ready?)")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	// To its end, so that the server does not complain of a client that went away. GET, since gunicorn complains of sites that answer HEAD
	// with a body, as Django lets views do.
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxProbeBytes))
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}
