package redisbroker

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseTransportOptions(t *testing.T) {
	t.Parallel()
	got, err := ParseTransportOptions([]byte(`{"visibility_timeout": 43200, "priority_steps": [0, 5], "sep": ":",
		"global_keyprefix": "p", "queue_order_strategy": "priority", "unacked_restore_limit": 10, "socket_timeout": 0.5,
		"unacked_restore_interval": 2, "fanout_prefix": true, "max_retries": 3, "client_name": null, "ack_emulation": true}`))
	if err != nil {
		t.Fatal(err)
	}
	want := TransportOptions{
		VisibilityTimeout: 12 * time.Hour, PrioritySteps: []int{0, 5}, Sep: ":", GlobalKeyPrefix: "p",
		QueueOrderStrategy: "priority", UnackedRestoreLimit: 10, SocketTimeout: 500 * time.Millisecond,
		UnackedRestoreInterval: 2 * time.Second,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	_, err = ParseTransportOptions([]byte(`{"master_name": "m", "ack_emulation": false, "typo": 1, "sep": 3}`))
	for _, name := range []string{"master_name", "ack_emulation", "typo", "sep"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
	if !errors.Is(err, ErrUnsupported) {
		t.Errorf("not ErrUnsupported: %v", err)
	}
	if _, err := ParseTransportOptions([]byte(`[`)); err == nil {
		t.Error("no JSON: accepted")
	}
}
