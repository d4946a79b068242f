package redisbroker

import (
	"errors"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	type want struct {
		network, addr, user, password string
		db                            int
	}
	local := "127.0.0.1:6379"
	for raw, w := range map[string]want{
		"":                           {"tcp", local, "", "", 0},
		"redis://":                   {"tcp", local, "", "", 0},
		"redis://:pw@h:1234/3":       {"tcp", "h:1234", "", "pw", 3},
		"redis://user:pw@H/3":        {"tcp", "h:6379", "user", "pw", 3},
		"redis://user@h//2":          {"tcp", "h:6379", "user", "", 2},
		"redis://:p%40%2Fs%zz@h/":    {"tcp", "h:6379", "", "p@/s%zz", 0},
		"redis://u:a@b@h/1":          {"tcp", "h:6379", "u", "a@b", 1},
		"redis://[::1]:6380/0":       {"tcp", "[::1]:6380", "", "", 0},
		"redis://h:0":                {"tcp", "h:6379", "", "", 0},
		"redis://h/1#fragment":       {"tcp", "h:6379", "", "", 1},
		"redis+socket:///tmp/r.sock": {"unix", "/tmp/r.sock", "", "", 0},
		"redis+socket://:pw@/a%20b.sock?virtual_host=5": {"unix", "/a b.sock", "", "pw", 5},
		"unix:///r.sock?db=2":                           {"unix", "/r.sock", "", "", 2},
		"socket:///r.sock?virtual_host=/7":              {"unix", "/r.sock", "", "", 7},
	} {
		e, err := parseURL(raw, brokerURL)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if got := (want{e.network, e.addr, e.username, e.password, e.db}); got != w {
			t.Errorf("%s: %+v, want %+v", raw, got, w)
		}
	}
	if e, err := parseURL("redis://", backendURL); err != nil || e.addr != "localhost:6379" {
		t.Errorf("result backend: %+v, %v", e, err)
	}
}

func TestParseURLRefuses(t *testing.T) {
	t.Parallel()
	const secret = "s3cret"
	for _, c := range []struct {
		raw, part   string
		kind        urlKind
		unsupported bool
	}{
		{"redis://:s3cret@a:1/1;redis://:s3cret@b:2/2", "failover list", brokerURL, true},
		{"sentinel://:s3cret@a:26379/2", "sentinel", brokerURL, true},
		{"redis://:s3cret@h?credential_provider=x.Y", "credential_provider", brokerURL, true},
		{"redis://:s3cret@h?socket_timeout=5", "socket_timeout", brokerURL, true},
		{"redis://:s3cret@h?nonsense=5", "nonsense", backendURL, true},
		{"amqp://:s3cret@h", "scheme", brokerURL, false},
		{"s3cret", "scheme", brokerURL, false},
		{"redis://:s3cret@h:99999", "port", brokerURL, false},
		{"redis://:s3cret@h/db", "database", brokerURL, false},
		{"redis://:s3cret@h/-1", "database", brokerURL, false},
		{"redis://:s3cret@[::1", "host", brokerURL, false},
		{"redis://:s3cret@::1", "host", brokerURL, false},
		{"redis+socket://:s3cret@host/x", "host", brokerURL, false},
		{"redis+socket://", "path", brokerURL, false},
		{"rediss://:s3cret@h?ssl_cert_reqs=maybe", "ssl_cert_reqs", brokerURL, false},
		{"rediss://:s3cret@h", "ssl_cert_reqs", backendURL, false},
		{"redis://:s3cret@h?ssl_cert_reqs=none", "ssl_", backendURL, false},
		{"redis://:s3cret@h?socket_timeout=x", "socket_timeout", backendURL, false},
	} {
		_, err := parseURL(c.raw, c.kind)
		var urlErr *URLError
		if !errors.As(err, &urlErr) || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%s: error %v does not name %q", c.raw, err, c.part)
			continue
		}
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error contains the password: %v", c.raw, err)
		}
		if errors.Is(err, ErrUnsupported) != c.unsupported {
			t.Errorf("%s: %v: errors.Is(ErrUnsupported) is not %v", c.raw, err, c.unsupported)
		}
	}
}

func TestParseURLTLS(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]struct {
		insecure, custom bool
		warnings         int
	}{
		"rediss://h":                                                 {true, false, 1}, // kombu's default
		"rediss://h?ssl_cert_reqs=none":                              {true, false, 1},
		"rediss://h?ssl_cert_reqs=required":                          {false, false, 0},
		"rediss://h?ssl_cert_reqs=CERT_OPTIONAL":                     {false, false, 0},
		"redis://h?ssl_cert_reqs=required":                           {false, false, 0}, // kombu switches TLS on
		"rediss://h?ssl_cert_reqs=required&ssl_check_hostname=false": {true, true, 0},
	} {
		e, err := parseURL(raw, brokerURL)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		cfg, err := e.tls.config()
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if cfg.InsecureSkipVerify != want.insecure || (cfg.VerifyConnection != nil) != want.custom ||
			len(e.warnings) != want.warnings || cfg.ServerName != "h" {
			t.Errorf("%s: %+v, warnings %q", raw, cfg, e.warnings)
		}
	}
	e, err := parseURL("rediss://h?ssl_cert_reqs=required&ssl_ca_certs=/nonexistent", brokerURL)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.tls.config(); err == nil || !strings.Contains(err.Error(), "ssl_ca_certs") {
		t.Errorf("missing CA file: %v", err)
	}
}

func TestParseBackendQuery(t *testing.T) {
	t.Parallel()
	e, err := parseURL("redis://h?socket_timeout=1.5&db=4&max_connections=7&health_check_interval=3&client_name=x", backendURL)
	if err != nil {
		t.Fatal(err)
	}
	if e.db != 4 || e.timeouts.socket.Seconds() != 1.5 || e.timeouts.maxConnections != 7 || e.timeouts.clientName != "x" {
		t.Errorf("%+v", e)
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{
		"", "redis://", "redis://u:p@[::1]:6379/3", "rediss://h?ssl_cert_reqs=none", "redis+socket:///x?virtual_host=5",
		"redis://:p%zz%4@h//2?a=b#c", "unix://", "sentinel://a;b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		for _, kind := range []urlKind{brokerURL, backendURL} {
			e, err := parseURL(raw, kind)
			if err != nil {
				continue
			}
			if e.addr == "" || e.db < 0 || e.network != "tcp" && e.network != "unix" {
				t.Errorf("%q: %+v", raw, e)
			}
		}
	})
}
