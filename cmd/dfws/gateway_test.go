package main

import (
	"io"
	"strings"
	"testing"

	"github.com/dfws/dfws/gateway"
)

// TestWrittenZeros: a zero is never silently the default.
func TestWrittenZeros(t *testing.T) {
	t.Parallel()
	none := func(string) (string, bool) { return "", false }
	options, o := newGatewayOptions(environment{stderr: io.Discard})
	args := []string{"--drain", "0", "--upstream-timeout", "0s", "--frames-per-second", "0"}
	if err := options.Parse(args, none); err != nil {
		t.Fatal(err)
	}
	if err := writtenZeros(options, o); err != nil || o.DrainWindow != gateway.Off || o.UpstreamHeaderTimeout != gateway.Off {
		t.Errorf("drain %v, upstream-timeout %v, %v", o.DrainWindow, o.UpstreamHeaderTimeout, err)
	}
	options, o = newGatewayOptions(environment{stderr: io.Discard})
	if err := options.Parse([]string{"--max-windows", "0", "--ping-timeout=0s", "--outbox-bytes", "1"}, none); err != nil {
		t.Fatal(err)
	}
	err := writtenZeros(options, o)
	if err == nil || !strings.Contains(err.Error(), "max-windows") || !strings.Contains(err.Error(), "ping-timeout") || strings.Contains(err.Error(), "outbox") {
		t.Errorf("got %v", err)
	}
}
