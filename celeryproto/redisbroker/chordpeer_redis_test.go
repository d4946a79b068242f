package redisbroker_test

import (
	"bufio"
	_ "embed" // testdata/chordpeer.py
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/needs"
	"github.com/dfws/dfws/integration/redistest"
)

//go:embed testdata/chordpeer.py
var chordPeerSource string

// startLimit is how long Python may take until it is ready.
const startLimit = 30 * time.Second

// chordPeer is a Python process with real Celery on the test's Redis.
type chordPeer struct {
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// mustChordPeer starts the process, with further arguments, and ends it by Cleanup. Without an interpreter in DFWS_PYTHON the
// test is skipped, or fails when DFWS_REQUIRE lists python.
func mustChordPeer(t *testing.T, s *redistest.Server, settings map[string]any, more ...string) *chordPeer {
	t.Helper()
	python := needs.Python(t, "Celery")
	conf, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd := exec.Command(python, append([]string{"-c", chordPeerSource, s.URL, string(conf)}, more...)...)
	cmd.Env = append(os.Environ(), "C_FORCE_ROOT=1")
	cmd.Stderr = &stderr
	p := &chordPeer{}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(stdout)
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", python, err)
	}
	t.Cleanup(func() {
		_ = p.stdin.Close() // it may have ended already
		if len(more) > 0 {
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
		timer := time.AfterFunc(15*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("python: %v %s", err, stderr.String())
		}
	})
	limit := time.AfterFunc(startLimit, func() { _ = cmd.Process.Kill() }) // ends the read below
	defer limit.Stop()
	if _, err := p.stdout.ReadString('\n'); err != nil {
		t.Fatalf("python: %v", err)
	}
	return p
}

// ask makes one request and reads the answer into result.
func (p *chordPeer) ask(t *testing.T, request map[string]any, result any) {
	t.Helper()
	line, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		t.Fatalf("python: %v", err)
	}
	reply, err := p.stdout.ReadBytes('\n')
	if err != nil {
		t.Fatalf("python: %v", err)
	}
	var fault struct{ Error string }
	if err := json.Unmarshal(reply, &fault); err != nil || fault.Error != "" {
		t.Fatalf("python: %v %s", err, fault.Error)
	}
	if result != nil {
		if err := json.Unmarshal(reply, result); err != nil {
			t.Fatalf("python: %v: %s", err, reply)
		}
	}
}
