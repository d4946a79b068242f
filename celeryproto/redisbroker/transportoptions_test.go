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
		"unacked_restore_interval": 2, "fanout_prefix": true, "max_retries": 3, "client_name": null, "ack_emulation": false,
		"polling_interval": 2.5, "health_check_interval": 0, "fanout_patterns": 0, "socket_keepalive": true,
		"socket_keepalive_options": {"4": 60, "TCP_KEEPINTVL": 10, "6": 5}, "body_encoding": "utf-8", "master_name": "m",
		"min_other_sentinels": 1, "sentinel_fanout_compat": true, "retry_on_timeout": true,
		"sentinel_kwargs": {"password": "s", "socket_timeout": 0.1, "ssl": true, "ssl_cert_reqs": "none", "db": 0}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := TransportOptions{
		VisibilityTimeout: 12 * time.Hour, PrioritySteps: []int{0, 5}, Sep: ":", GlobalKeyPrefix: "p",
		QueueOrderStrategy: "priority", UnackedRestoreLimit: 10, SocketTimeout: 500 * time.Millisecond,
		UnackedRestoreInterval: 2 * time.Second, PollingInterval: 2500 * time.Millisecond, HealthCheckInterval: -1,
		NoFanoutPatterns: true, SocketKeepalive: Keepalive{Idle: time.Minute, Interval: 10 * time.Second, Count: 5},
		BodyEncoding: "utf-8", MasterName: "m", MinOtherSentinels: 1, SentinelFanoutCompat: true,
		Sentinel: SentinelOptions{
			Password: "s", SocketTimeout: 100 * time.Millisecond, TLS: &TLSOptions{CertReqs: CertNone},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	_, err = ParseTransportOptions([]byte(`{"credential_provider": "x.Y", "typo": 1, "sep": 3, "fanout_prefix": [],
		"socket_keepalive_options": {"7": 1}, "sentinel_kwargs": {"force_master_ip": "x"}, "visibility_timeout": 1e300}`))
	for _, name := range []string{
		"credential_provider", "typo", "sep", "fanout_prefix", "socket_keepalive_options: 7", "sentinel_kwargs: force_master_ip",
		"visibility_timeout: out of range",
	} {
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

func TestFanoutPrefixOption(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]TransportOptions{
		"true": {}, "false": {NoFanoutPrefix: true}, `"/x."`: {FanoutPrefix: "/x."}, `""`: {NoFanoutPrefix: true}, "null": {},
	} {
		got, err := ParseTransportOptions([]byte(`{"fanout_prefix": ` + value + `}`))
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %+v, %v", value, got, err)
		}
	}
}

func TestSetResultTransportOptions(t *testing.T) {
	t.Parallel()
	o := ResultOptions{URL: "redis://"}
	err := o.SetTransportOptions([]byte(`{"global_keyprefix": "p", "result_chord_ordered": false, "retry_policy": {"max_retries": 1},
		"master_name": "m", "sentinel_kwargs": {"username": "u"}, "min_other_sentinels": 2, "additional_connection_errors": null}`))
	if err != nil {
		t.Fatal(err)
	}
	want := ResultOptions{
		URL: "redis://", KeyPrefix: "p", ChordsUnordered: true, MasterName: "m", MinOtherSentinels: 2,
		Sentinel: SentinelOptions{Username: "u"},
	}
	ignore := cmp.FilterPath(func(p cmp.Path) bool {
		return p.Last().String() == ".Observer" || p.Last().String() == ".Codec" // functions, unexported fields
	}, cmp.Ignore())
	if d := cmp.Diff(want, o, ignore); d != "" {
		t.Error(d)
	}
	err = o.SetTransportOptions([]byte(`{"typo": 1, "result_chord_ordered": "x", "master_name": 1}`))
	for _, name := range []string{"typo", "result_chord_ordered", "master_name"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
}

// Faults of options are named as the operator wrote them.
func TestOptionFaults(t *testing.T) {
	t.Parallel()
	_, err := Open(Options{
		FailoverStrategy: "priority", UseTLS: &TLSOptions{CertReqs: "maybe"},
		TransportOptions: TransportOptions{FanoutPrefix: "/{x}.", MinOtherSentinels: -1, SocketTimeout: -1},
	})
	for _, name := range []string{"broker_failover_strategy", "broker_use_ssl", "fanout_prefix", "min_other_sentinels", "socket_timeout"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
	if _, err := Open(Options{URL: "sentinel://h"}); err == nil || !strings.Contains(err.Error(), "master_name") {
		t.Errorf("sentinel:// without master_name: %v", err)
	}
	if _, err := OpenResults(ResultOptions{URL: "sentinel://h"}); err == nil || !strings.Contains(err.Error(), "master_name") {
		t.Errorf("sentinel:// without master_name: %v", err)
	}
	_, err = OpenResults(ResultOptions{MaxConnections: -1, UseTLS: &TLSOptions{CertReqs: "maybe"}, CredentialProvider: "x.Y"})
	for _, name := range []string{"redis_max_connections", "redis_backend_use_ssl", "redis_backend_credential_provider"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in: %v", name, err)
		}
	}
	if _, err := OpenResults(ResultOptions{UseTLS: &TLSOptions{}}); err == nil || !strings.Contains(err.Error(), "ssl_cert_reqs") {
		t.Errorf("redis_backend_use_ssl without ssl_cert_reqs: %v", err)
	}
}
