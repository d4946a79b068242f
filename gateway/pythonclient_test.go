package gateway

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/needs"
)

// TestPythonClient drives the endpoint with Python's websockets library, which checks what it gets more strictly than browsers do.
func TestPythonClient(t *testing.T) {
	t.Parallel()
	python := needs.Python(t, "websockets")
	r := newRig(t, nil)
	r.tickets.set(testKey, windowTicket(t, testKey))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	url := "ws" + strings.TrimPrefix(r.server.URL, "http") + "/ws/"
	cmd := exec.CommandContext(ctx, python, "testdata/websockets_client.py", url, cookies(testKey, testSession).Get("Cookie"), compat.HeartbeatFrame)
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "ok" {
		t.Fatalf("%v\n%s", err, out)
	}
	texts := r.saidTexts(t)
	if len(texts) != 1 || texts[0] != strings.Repeat("é", 100_000) {
		t.Errorf("%d signals arrived, want the one in fragments", len(texts))
	}
	for counter, n := range map[string]int{"closed 4000": 1, "closed 1009": 1, "closed 1007": 1, "frame binary": 1, "frame heartbeat": 2} {
		r.eventually(counter, func() bool { return r.counts.get(counter) == n })
	}
}
