package celeryproto

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/needs"
)

// python is a process with real kombu and Celery (testdata/peer.py).
type python struct {
	mu       sync.Mutex
	stdin    io.WriteCloser
	stdout   *bufio.Reader
	versions map[string]string
}

// peerModules are what kombu's serializers and compressions need.
var peerModules = []string{"kombu", "celery", "msgpack", "yaml", "brotli", "zstd"}

// startPython starts the process and ends it by Cleanup. Without an interpreter in DFWS_PYTHON that has what kombu needs, the test
// is skipped, or fails when DFWS_REQUIRE lists python.
func startPython(t testing.TB) *python {
	t.Helper()
	cmd := exec.Command(needs.Python(t, "kombu"), "testdata/peer.py")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close() // which ends the process
		timer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil {
			t.Logf("python: %v", err)
		}
	})
	p := &python{stdin: stdin, stdout: bufio.NewReader(stdout)}
	if err := p.ask(map[string]any{"op": "versions"}, &p.versions); err != nil {
		t.Fatalf("python: %v", err)
	}
	for _, module := range peerModules {
		if p.versions[module] == "" {
			needs.Missing(t, "python", "the Python of DFWS_PYTHON lacks "+module)
		}
	}
	return p
}

// pythonError is an exception of Python.
type pythonError struct{ Class, Text string }

func (e *pythonError) Error() string { return e.Class + ": " + e.Text }

// ask sends a request and reads the answer.
func (p *python) ask(request map[string]any, into any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		return err
	}
	if line, err = p.stdout.ReadBytes('\n'); err != nil {
		return err
	}
	var answer struct {
		OK          json.RawMessage `json:"ok"`
		Error, Text string
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return &pythonError{answer.Error, answer.Text}
	}
	return json.Unmarshal(answer.OK, into)
}

// loads lets kombu deserialize data, and gives the value as JSON.
func (p *python) loads(serializer string, data []byte) (Raw, error) {
	var text string
	err := p.ask(map[string]any{"op": "loads", "serializer": serializer, "data": data}, &text)
	return Raw(text), err
}

// mustAsk is ask where Python has to succeed.
func mustAsk[T any](t testing.TB, p *python, request map[string]any) (answer T) {
	t.Helper()
	if err := p.ask(request, &answer); err != nil {
		t.Fatalf("python: %v: %v", request, err)
	}
	return answer
}

func isPythonError(err error) bool {
	_, ok := errors.AsType[*pythonError](err)
	return ok
}
