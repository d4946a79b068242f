package gocelery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/dfws/dfws/integration/needs"
	"github.com/dfws/dfws/worker"
)

// mustPython starts testdata/peer.py; the decoder gives what it says. Without an interpreter in DFWS_PYTHON the test is skipped,
// or fails where DFWS_REQUIRE lists python.
func mustPython(t testing.TB, s *site, what string) *json.Decoder {
	t.Helper()
	python := needs.Python(t, "Celery")
	cmd := exec.Command(python, "testdata/peer.py", what, s.URLFor(0), s.URLFor(1))
	cmd.Env = append(os.Environ(), "C_FORCE_ROOT=1", "PYTHONDONTWRITEBYTECODE=1")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	said, say := io.Pipe()
	cmd.Stdout = say
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() { _ = say.CloseWithError(errors.Join(cmd.Wait(), io.EOF)) }) // it always returns nil
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		_ = said.Close()
		ended.Wait()
		if t.Failed() {
			t.Logf("python:\n%s", complaints.String())
		}
	})
	return json.NewDecoder(said)
}

// outcome is what a Python caller got: a value, or an exception.
type outcome struct {
	Value     json.RawMessage
	Class     string
	Text      string
	Traceback string
}

// Celery calls functions as gocelery has them, with messages of either protocol, and in canvases.
func TestClientOfPython(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	python := mustPython(t, s, "client")
	c := s.client(t, Config{NumWorkers: 4})
	for name, task := range map[string]any{
		"add":     func(a, b int) int { return a + b },
		"half":    func(a float64) float64 { return a / 2 },
		"echo":    func(v any) []any { return []any{v} },
		"isnan":   func(a float64) bool { return math.IsNaN(a) },
		"count":   func(list []any) int { return len(list) },
		"kwargs":  &kwargsTask{},
		"nothing": func() {},
		"fails":   func(text string) (int, error) { return 0, fmt.Errorf("add: %w", errors.New(text)) },
		"panics":  func() int { panic("oh") },
	} {
		c.Register("worker."+name, task)
	}
	c.StartWorker()

	want := map[string]string{
		"add": "8334", "whole": "7", "half": "2.5", "text": `["ü <&> 😀"]`, "nested": `[[1, null, {"a": [true, 0.5]}]]`, "nan": "true",
		"kwargs": `{"a": 3, "b": "x"}`, "nothing": "null", "group": "[0, 2, 4]", "chain": "13", "chord": "2",
	}
	failures := map[string]outcome{
		"fails":   {Class: "RuntimeError", Text: "add: no luck", Traceback: "errors.errorString: no luck"},
		"panics":  {Class: "RuntimeError", Text: "panic: oh", Traceback: "TestClientOfPython"},
		"few":     {Class: "TypeError", Text: "1 positional arguments, want 2"},
		"expired": {Class: "TaskRevokedError", Text: "expired"},
	}
	compared := 0
	for range 3 { // both protocols, then canvases
		var said map[string]json.RawMessage
		if err := python.Decode(&said); err != nil {
			t.Fatal(err)
		}
		about := string(said["protocol"])
		delete(said, "protocol")
		for call, text := range said {
			var got outcome
			if err := json.Unmarshal(text, &got); err != nil {
				t.Fatal(err)
			}
			failure, fails := failures[call]
			compared++
			switch {
			case !fails && (got.Class != "" || !equalJSON(t, got.Value, []byte(want[call]))):
				t.Errorf("protocol %s: %s: %s, want %s", about, call, text, want[call])
			case fails && (got.Class != failure.Class || got.Text != failure.Text || !strings.Contains(got.Traceback, failure.Traceback)):
				t.Errorf("protocol %s: %s: %s, want %+v", about, call, text, failure)
			}
		}
	}
	if n := 2*(len(want)+len(failures)) - 2; compared != n { // chain and chord are there once
		t.Errorf("%d calls, want %d", compared, n)
	}
	s.mustBeIdle(t, DefaultQueue)
}

// Our client calls tasks of a Celery worker, with either protocol.
func TestWorkerOfPython(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	python := mustPython(t, s, "worker")
	var ready struct{ Ready bool }
	if err := python.Decode(&ready); err != nil || !ready.Ready {
		t.Fatalf("%+v, %v", ready, err)
	}
	for _, protocol := range []int{1, 2} {
		c := s.client(t, Config{Protocol: protocol})
		if got := mustGet(t, mustDelay(t, c, "peer.add", 5456, 2878), nil); got != 8334.0 {
			t.Errorf("protocol %d: add: %v", protocol, got)
		}
		r, err := c.DelayKwargs("peer.add", map[string]any{"x": 1, "y": 0.5})
		if got := mustGet(t, r, err); got != 1.5 {
			t.Errorf("protocol %d: add by name: %v", protocol, got)
		}
		_, err = mustDelay(t, c, "peer.fails").Get(waitLimit)
		failure, ok := errors.AsType[*worker.Exception](err)
		if !ok || failure.Type != "KeyError" || !strings.Contains(failure.Traceback, "raise KeyError") {
			t.Errorf("protocol %d: fails: %v", protocol, err)
		}
	}
}
