package dbtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/needs"
	"go.uber.org/goleak"
)

const (
	// startTimeout bounds one start on a busy machine, stopTimeout one stop.
	startTimeout, stopTimeout = 60 * time.Second, 20 * time.Second
	// portAttempts: the port is free when it is chosen, not when the server binds it.
	portAttempts = 5
	logFile      = "server.log"
)

// ErrMissing is returned by Launch when the kind of database is not installed.
var ErrMissing = errors.New("dbtest: not installed")

// Server is one running database server.
type Server struct {
	kind *serverKind
	dir  string
	addr string

	mu    sync.Mutex
	cmd   *exec.Cmd
	exitC chan struct{} // closed by the waiting goroutine when cmd has ended
	wait  sync.WaitGroup
}

// Start starts a server of the test's own.
func Start(t testing.TB, kind Kind) *Server {
	t.Helper()
	s, err := Launch(kind)
	skipOrFail(t, kind, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("dbtest: close: %v", err)
		}
	})
	return s
}

// Launch starts a server that belongs to no test. The caller must Close it.
func Launch(kind Kind) (*Server, error) {
	k := serverKinds[kind]
	p, ok := k.find()
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrMissing, kind)
	}
	dir, err := os.MkdirTemp("", "dbtest-")
	if err != nil {
		return nil, fmt.Errorf("dbtest: %w", err)
	}
	s := &Server{kind: k, dir: dir}
	if err := s.prepare(p); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	for attempt := 1; ; attempt++ {
		port, err := freePort()
		if err == nil {
			s.addr = net.JoinHostPort("127.0.0.1", port)
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

// prepare makes the server's files.
func (s *Server) prepare(p programs) error {
	cmd := s.kind.prepare(p, s.dir)
	if err := s.own(cmd); err != nil {
		return fmt.Errorf("dbtest: %s: %w", s.kind.kind, err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("dbtest: %s: %w\n%s", filepath.Base(p.prepare), err, out)
	}
	return nil
}

// own makes a program run as the user who may, in a folder that is his.
func (s *Server) own(cmd *exec.Cmd) error {
	cmd.Dir, cmd.SysProcAttr = s.dir, dieWithParent()
	if s.kind.credential == nil {
		return nil
	}
	credential, err := s.kind.credential()
	if err != nil || credential == nil {
		return err
	}
	cmd.SysProcAttr.Credential = credential
	return os.Chown(s.dir, int(credential.Uid), int(credential.Gid))
}

// Stop ends the server; its data stay.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.end(s.kind.stop); err != nil {
		t.Fatalf("dbtest: stop: %v", err)
	}
}

// Crash ends the server at once: connections break in the midst of what they do, and the next start recovers.
func (s *Server) Crash(t testing.TB) {
	t.Helper()
	if err := s.end(s.kind.crash); err != nil {
		t.Fatalf("dbtest: crash: %v", err)
	}
}

// StartAgain starts a stopped server on its port, with its data.
func (s *Server) StartAgain(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatalf("dbtest: start again: %v", err)
	}
}

// Close stops the server and removes its files.
func (s *Server) Close() error { return errors.Join(s.end(s.kind.stop), os.RemoveAll(s.dir)) }

func (s *Server) start() error {
	p, _ := s.kind.find()
	_, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(s.dir, logFile))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	cmd := s.kind.serve(p, s.dir, port)
	cmd.Stdout, cmd.Stderr = log, log
	if err := s.own(cmd); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	exitC := make(chan struct{})
	s.wait.Go(func() {
		_ = cmd.Wait() // the status of a killed server says nothing
		close(exitC)
	})
	s.mu.Lock()
	s.cmd, s.exitC = cmd, exitC
	s.mu.Unlock()
	if err := s.awaitReady(exitC); err != nil {
		tail, _ := os.ReadFile(filepath.Join(s.dir, logFile))
		return errors.Join(fmt.Errorf("dbtest: %s: %w\n%s", s.kind.kind, err, tail), s.end(syscall.SIGKILL))
	}
	return nil
}

func (s *Server) awaitReady(exitC <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := s.exec(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-exitC:
			return errors.New("ended while it started")
		case <-ctx.Done():
			return fmt.Errorf("not ready in time: %w", err)
		case <-ticker.C:
		}
	}
}

// end sends a signal and waits for the end.
func (s *Server) end(sig syscall.Signal) error {
	s.mu.Lock()
	cmd, exitC := s.cmd, s.exitC
	s.cmd = nil
	s.mu.Unlock()
	if cmd == nil {
		return nil
	}
	_ = cmd.Process.Signal(sig) // it may have ended by itself
	var err error
	select {
	case <-exitC:
	case <-time.After(stopTimeout):
		err = errors.New("dbtest: " + string(s.kind.kind) + " did not stop in time")
		_ = cmd.Process.Kill()
	}
	s.wait.Wait()
	return err
}

// running are the servers that the tests of a package share.
var running struct {
	mu      sync.Mutex
	servers map[Kind]*Server
	errs    map[Kind]error
	dirs    []string // of files
}

func shared(t testing.TB, kind Kind) *Server {
	t.Helper()
	running.mu.Lock()
	defer running.mu.Unlock()
	if running.servers == nil {
		running.servers, running.errs = map[Kind]*Server{}, map[Kind]error{}
	}
	if running.servers[kind] == nil && running.errs[kind] == nil {
		running.servers[kind], running.errs[kind] = Launch(kind)
	}
	skipOrFail(t, kind, running.errs[kind])
	return running.servers[kind]
}

// Main runs the tests, calls what the package wants done before its databases go (nil: nothing), closes the shared servers and
// then fails when a goroutine is left over. It returns the exit code.
func Main(m *testing.M, before func(), ignored ...goleak.Option) int {
	code := m.Run()
	if before != nil {
		before()
	}
	running.mu.Lock()
	defer running.mu.Unlock()
	for _, s := range running.servers {
		if s == nil {
			continue
		}
		if err := s.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	for _, dir := range running.dirs {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	if code == 0 {
		if err := goleak.Find(ignored...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

func skipOrFail(t testing.TB, kind Kind, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrMissing):
		needs.Missing(t, string(kind), err.Error())
	default:
		t.Fatal(err)
	}
}
