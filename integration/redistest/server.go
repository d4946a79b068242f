package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/needs"
	"github.com/redis/go-redis/v9"
)

const (
	// startTimeout bounds one start, loading a dump included.
	startTimeout = 10 * time.Second
	// stopTimeout is how long a server may take to obey SIGTERM.
	stopTimeout = 5 * time.Second
	// portAttempts: the port is free when it is chosen, not when Redis binds it.
	portAttempts = 5

	dumpFile = "dump.rdb"
	logFile  = "redis.log"
)

// ErrMissing is returned by [Launch] when there is no redis-server in PATH.
var ErrMissing = errors.New("redistest: no redis-server in PATH")

// Options of a server. The zero value is an empty server that persists nothing.
type Options struct {
	// MaxMemory is the redis.conf value of maxmemory, such as "32mb"; empty: no limit.
	MaxMemory string
	// AppendOnly switches the append-only file on, so that data survives Restart even after a kill.
	AppendOnly bool
	// ReplicaOf makes the server a replica of another one.
	ReplicaOf *Server
	// Socket makes it listen on Server.Socket too.
	Socket bool
	// TLS makes it listen on Server.TLSAddr too, with certificates made for it.
	TLS bool
	// Sentinel makes it a Sentinel instead of a Redis, for a master.
	Sentinel *Sentinel
	// Args are appended to the command line, such as "--requirepass", "pw".
	Args []string
}

// Server is one running redis-server.
type Server struct {
	// Addr is "127.0.0.1:port"; the port stays the same across restarts.
	Addr string
	// URL is "redis://127.0.0.1:port/0".
	URL string
	// Socket is the path of the unix socket, TLSAddr "127.0.0.1:port" with TLS, and Certs its certificates; see Options.
	Socket, TLSAddr string
	Certs           Certs

	tb   testing.TB // nil when launched without a test
	opts Options
	dir  string

	mu    sync.Mutex
	cmd   *exec.Cmd
	exitC chan struct{} // closed by the waiting goroutine when cmd has ended
	wait  sync.WaitGroup
}

// Start starts a server for the test, without persistence, and stops it by Cleanup.
func Start(t testing.TB) *Server {
	t.Helper()
	return StartWith(t, Options{})
}

// StartWith is [Start] with options.
func StartWith(t testing.TB, opts Options) *Server {
	t.Helper()
	s, err := Launch(opts)
	skipOrFail(t, err)
	s.tb = t
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("redistest: close: %v", err)
		}
	})
	return s
}

// Launch starts a server that belongs to no test. The caller must Close it.
func Launch(opts Options) (*Server, error) {
	if _, err := lookPath(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "redistest-")
	if err != nil {
		return nil, fmt.Errorf("redistest: %w", err)
	}
	s := &Server{opts: opts, dir: dir}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	for attempt := 1; ; attempt++ {
		err := s.choosePorts()
		if err == nil {
			err = s.start()
		}
		if err == nil {
			return s, nil
		}
		if attempt == portAttempts {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
}

// prepare makes the files that the server reads.
func (s *Server) prepare() (err error) {
	if s.opts.Socket {
		s.Socket = filepath.Join(s.dir, "redis.sock")
	}
	if s.opts.TLS {
		s.Certs, err = makeCerts(s.dir)
	}
	return err
}

func (s *Server) choosePorts() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s.URL = "redis://" + s.Addr + "/0"
	if s.opts.TLS {
		if port, err = freePort(); err != nil {
			return err
		}
		s.TLSAddr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	if s.opts.Sentinel != nil {
		err = s.opts.Sentinel.writeConfig(s.sentinelConfig(), s.Addr)
	}
	return err
}

// Close stops the server and removes its files. It may be called after Stop.
func (s *Server) Close() error {
	return errors.Join(s.stop(syscall.SIGTERM), os.RemoveAll(s.dir))
}

// URLFor is the URL of database db.
func (s *Server) URLFor(db int) string { return "redis://" + s.Addr + "/" + strconv.Itoa(db) }

// Client returns a go-redis client of database 0, closed by the test's Cleanup.
func (s *Server) Client(t testing.TB) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr, Protocol: 2})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("redistest: close client: %v", err)
		}
	})
	return c
}

// Stop ends the server with SIGTERM. Without AppendOnly or a Save before, its data is lost.
func (s *Server) Stop() {
	s.must("stop", s.stop(syscall.SIGTERM))
}

// Kill ends the server with SIGKILL.
func (s *Server) Kill() {
	s.must("kill", s.stop(syscall.SIGKILL))
}

// Save writes the data set to disk, for the next start to load.
func (s *Server) Save() {
	s.must("save", s.do(func(ctx context.Context, c *redis.Client) error { return c.Save(ctx).Err() }))
}

// StartAgain starts a stopped server on its port, with what was saved.
func (s *Server) StartAgain() {
	s.must("start", s.start())
}

// Restart saves the data, stops the server and starts it on the same port with that data.
func (s *Server) Restart() {
	s.Save()
	s.Stop()
	s.StartAgain()
}

// RestartEmpty stops the server and starts it on the same port without any data.
func (s *Server) RestartEmpty() {
	s.Stop()
	s.must("remove dump", removeDump(s.dir))
	s.StartAgain()
}

// Pause stops the process with SIGSTOP: connections stay open, nothing answers.
func (s *Server) Pause() { s.must("pause", s.signal(syscall.SIGSTOP)) }

// Resume lets a paused process go on.
func (s *Server) Resume() { s.must("resume", s.signal(syscall.SIGCONT)) }

// PID is the process id of the running server, 0 when it is stopped.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

func (s *Server) must(what string, err error) {
	if err == nil {
		return
	}
	if s.tb == nil {
		panic(fmt.Sprintf("redistest: %s: %v", what, err))
	}
	s.tb.Helper()
	s.tb.Fatalf("redistest: %s: %v", what, err)
}

func (s *Server) args() []string {
	_, port, _ := net.SplitHostPort(s.Addr)
	appendonly := "no"
	if s.opts.AppendOnly {
		appendonly = "yes"
	}
	args := []string{
		"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", appendonly,
		"--dir", s.dir, "--dbfilename", dumpFile, "--daemonize", "no",
	}
	if s.opts.Sentinel != nil {
		args = []string{s.sentinelConfig(), "--sentinel", "--dir", s.dir}
	}
	if s.opts.MaxMemory != "" {
		args = append(args, "--maxmemory", s.opts.MaxMemory)
	}
	if s.opts.ReplicaOf != nil {
		host, port, _ := net.SplitHostPort(s.opts.ReplicaOf.Addr)
		args = append(args, "--replicaof", host+" "+port)
	}
	if s.Socket != "" {
		args = append(args, "--unixsocket", s.Socket)
	}
	if s.TLSAddr != "" {
		_, port, _ := net.SplitHostPort(s.TLSAddr)
		args = append(args, "--tls-port", port, "--tls-cert-file", s.Certs.Server, "--tls-key-file", s.Certs.ServerKey,
			"--tls-ca-cert-file", s.Certs.CA, "--tls-auth-clients", "optional")
	}
	return append(args, s.opts.Args...)
}

func (s *Server) start() error {
	path, err := lookPath()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		return errors.New("already running")
	}
	log, err := os.Create(filepath.Join(s.dir, logFile))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	cmd := exec.Command(path, s.args()...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return err
	}
	exitC := make(chan struct{})
	s.wait.Go(func() {
		_ = cmd.Wait() // the status of a killed server says nothing
		close(exitC)
	})
	s.cmd, s.exitC = cmd, exitC
	if err := s.awaitReady(); err != nil {
		_ = cmd.Process.Kill()
		s.wait.Wait()
		s.cmd = nil
		tail, _ := os.ReadFile(filepath.Join(s.dir, logFile))
		return fmt.Errorf("%w\n%s", err, tail)
	}
	return nil
}

// awaitReady returns when the process that was started, and no other on the port, answers.
func (s *Server) awaitReady() error {
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var info string
		err := s.do(func(ctx context.Context, c *redis.Client) (err error) {
			info, err = c.Info(ctx, "server").Result()
			return err
		})
		switch {
		case err == nil && strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", s.cmd.Process.Pid)):
			return nil
		case err == nil:
			return fmt.Errorf("another server answers on %s", s.Addr)
		case strings.HasPrefix(err.Error(), "NOAUTH"):
			return nil // started with --requirepass: it answers, that is enough
		}
		select {
		case <-s.exitC:
			return errors.New("redis-server ended at once")
		case <-deadline.C:
			return fmt.Errorf("no answer within %v: %w", startTimeout, err)
		case <-tick.C:
		}
	}
}

func (s *Server) do(f func(context.Context, *redis.Client) error) error {
	// A refused dial makes go-redis log and keep a goroutine for a second: find out first.
	conn, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return err
	}
	if err := conn.Close(); err != nil {
		return err
	}
	c := redis.NewClient(&redis.Options{Addr: s.Addr, Protocol: 2, DisableIdentity: true, MaxRetries: -1})
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return errors.Join(f(ctx, c), c.Close())
}

func (s *Server) signal(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return errors.New("not running")
	}
	return s.cmd.Process.Signal(sig)
}

func (s *Server) stop(sig syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return nil
	}
	// A paused process receives SIGTERM only once it goes on.
	err := errors.Join(ignoreDone(s.cmd.Process.Signal(sig)), ignoreDone(s.cmd.Process.Signal(syscall.SIGCONT)))
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-s.exitC:
	case <-timer.C:
		err = errors.Join(err, ignoreDone(s.cmd.Process.Kill()))
	}
	s.wait.Wait()
	s.cmd = nil
	return err
}

func ignoreDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

func removeDump(dir string) error {
	return errors.Join(os.RemoveAll(filepath.Join(dir, dumpFile)), os.RemoveAll(filepath.Join(dir, "appendonlydir")))
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func lookPath() (string, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "", ErrMissing
	}
	return path, nil
}

func skipOrFail(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrMissing):
		needs.Missing(t, "redis", "needs redis-server in PATH")
	default:
		t.Fatal(err)
	}
}
