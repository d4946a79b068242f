package canvas_test

import (
	"bufio"
	"bytes"
	_ "embed" // testdata/reference.py
	"encoding/json"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/needs"
)

//go:embed testdata/reference.py
var referenceSource string

// reference is a Python process with the real canvas of Celery.
type reference struct {
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// object is a JSON object of the test's own.
type object = map[string]any

// mustReference starts the process, and ends it by Cleanup. Without an interpreter in DFWS_PYTHON the test is skipped, or fails
// when DFWS_REQUIRE lists python.
func mustReference(t testing.TB) *reference {
	t.Helper()
	python := needs.Python(t, "Celery")
	var stderr bytes.Buffer
	cmd := exec.Command(python, "-c", referenceSource)
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", python, err)
	}
	r := &reference{stdin: stdin, stdout: bufio.NewReaderSize(stdout, 1<<16)}
	t.Cleanup(func() {
		_ = stdin.Close() // it may have ended already
		timer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("python: %v %s", err, stderr.String())
		}
	})
	versions, err := r.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("python: %v", err)
	}
	t.Logf("reference: %s", versions)
	return r
}

// answer is what Python did.
type answer struct {
	Sig      json.RawMessage   `json:"sig"`
	Result   json.RawMessage   `json:"result"`
	Children []json.RawMessage `json:"children"`
	Effects  []json.RawMessage `json:"effects"`
	Reprs    []string          `json:"reprs"`
	Error    string            `json:"error"`
	Where    string            `json:"where"`
}

// ask makes one request.
func (r *reference) ask(t testing.TB, request object) answer {
	t.Helper()
	line, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	return r.askText(t, string(line)+"\n")
}

// askText makes one request, a line of Python's JSON.
func (r *reference) askText(t testing.TB, line string) answer {
	t.Helper()
	if _, err := io.WriteString(r.stdin, line); err != nil {
		t.Fatalf("python: %v", err)
	}
	reply, err := r.stdout.ReadBytes('\n')
	if err != nil {
		t.Fatalf("python: %v", err)
	}
	var a answer
	if err := json.Unmarshal(reply, &a); err != nil {
		t.Fatalf("python: %v: %s", err, reply)
	}
	return a
}
