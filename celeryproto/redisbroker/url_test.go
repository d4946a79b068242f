package redisbroker

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/internal/redisconn"
)

var broker, backend = urlRules{}, urlRules{backend: true}

func TestParseURL(t *testing.T) {
	t.Parallel()
	type want struct {
		network, addr, user, password string
		db                            int
	}
	local := "127.0.0.1:6379"
	for raw, w := range map[string]want{
		"redis://":                                      {"tcp", local, "", "", 0},
		"redis://:pw@h:1234/3":                          {"tcp", "h:1234", "", "pw", 3},
		"redis://user:pw@H/3":                           {"tcp", "h:6379", "user", "pw", 3},
		"redis://user@h//2":                             {"tcp", "h:6379", "user", "", 2},
		"redis://:p%40%2Fs%zz@h/":                       {"tcp", "h:6379", "", "p@/s%zz", 0},
		"redis://u:a@b@h/1":                             {"tcp", "h:6379", "u", "a@b", 1},
		"redis://[::1]:6380/0":                          {"tcp", "[::1]:6380", "", "", 0},
		"redis://h:0":                                   {"tcp", "h:6379", "", "", 0},
		"redis://h/1#fragment":                          {"tcp", "h:6379", "", "", 1},
		"redis+socket:///tmp/r.sock":                    {"unix", "/tmp/r.sock", "", "", 0},
		"redis+socket://:pw@/a%20b.sock?virtual_host=5": {"unix", "/a b.sock", "", "pw", 5},
		"unix:///r.sock?db=2":                           {"unix", "/r.sock", "", "", 2},
		"socket:///r.sock?virtual_host=/7":              {"unix", "/r.sock", "", "", 7},
	} {
		e, err := parseURL(raw, urlRules{})
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if got := (want{e.network, e.addr, e.username, e.password, e.db}); got != w {
			t.Errorf("%s: %+v, want %+v", raw, got, w)
		}
	}
	if e, err := parseURL("redis://", backend); err != nil || e.addr != "localhost:6379" {
		t.Errorf("result backend: %+v, %v", e, err)
	}
}

func TestParseURLRefuses(t *testing.T) {
	t.Parallel()
	const secret = "s3cret"
	for _, c := range []struct {
		raw, part   string
		rules       urlRules
		unsupported bool
	}{
		{"redis://:s3cret@a:1/1;redis://:s3cret@b:2/2", "failover list", backend, true},
		{"redis://:s3cret@a:1/1;sentinel://:s3cret@b:2/2", "failover list", broker, true},
		{"redis://:s3cret@a:1/1;s3cret", "scheme", broker, false},
		{strings.Repeat("redis://:s3cret@a;", redisconn.MaxServers+1), "failover list", broker, false},
		{";", "scheme", broker, false},
		{"redis+sentinel://:s3cret@a", "sentinel", backend, false},
		{"redis://:s3cret@h?credential_provider=x.Y", "credential_provider", broker, true},
		{"redis://:s3cret@h?socket_timeout=5", "socket_timeout", broker, true},
		{"redis://:s3cret@h?nonsense=5", "nonsense", backend, true},
		{"amqp://:s3cret@h", "scheme", broker, false},
		{"s3cret", "scheme", broker, false},
		{"redis://:s3cret@h:99999", "port", broker, false},
		{"redis://:s3cret@h/db", "database", broker, false},
		{"redis://:s3cret@h/-1", "database", broker, false},
		{"redis://:s3cret@[::1", "host", broker, false},
		{"redis://:s3cret@::1", "host", broker, false},
		{"redis+socket://:s3cret@host/x", "host", broker, false},
		{"redis+socket://", "path", broker, false},
		{"rediss://:s3cret@h?ssl_cert_reqs=maybe", "ssl_cert_reqs", broker, false},
		{"rediss://:s3cret@h", "ssl_cert_reqs", backend, false},
		{"redis://:s3cret@h?ssl_cert_reqs=none", "ssl_", backend, false},
		{"sentinel://:s3cret@h?ssl_cert_reqs=none", "ssl_", backend, false},
		{"rediss://:s3cret@h?ssl_password=s3cret", "ssl_password", broker, true},
		{"unix:///x?ssl_cert_reqs=none", "TLS", broker, false},
		{"unix:///x", "TLS", urlRules{useTLS: &TLSOptions{}}, false},
		{"redis://:s3cret@h?socket_timeout=x", "socket_timeout", backend, false},
	} {
		_, err := parseURLs(c.raw, c.rules)
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

func TestParseURLs(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]struct {
		rules urlRules
		addrs string
		first endpoint
	}{
		"":                                    {broker, "127.0.0.1:6379", endpoint{}},
		"redis://a:1/1; redis://u:p@b:2/2;":   {broker, "a:1 b:2", endpoint{db: 1}},
		"sentinel://u:p@A/2;sentinel://b:5/3": {broker, "a:26379 b:5", endpoint{db: 2, username: "u", password: "p", sentinel: true}},
		"sentinel://:p@/2;sentinel://b/2":     {backend, "localhost:6379 b:6379", endpoint{db: 2, password: "p", sentinel: true}},
		"redis://:q@h/3": {
			urlRules{backend: true, host: "other", port: 7, username: "u", password: "p"}, "h:7", endpoint{db: 3, username: "u", password: "q"},
		},
		"REDIS://": {urlRules{backend: true, host: "other", port: 7, password: "p"}, "other:7", endpoint{password: "p"}},
	} {
		ends, err := parseURLs(raw, want.rules)
		if err != nil {
			t.Errorf("%q: %v", raw, err)
			continue
		}
		var addrs []string
		for _, e := range ends {
			addrs = append(addrs, e.addr)
		}
		got := *ends[0]
		got.addr, got.network = "", ""
		if strings.Join(addrs, " ") != want.addrs || got != want.first {
			t.Errorf("%q: %v, %+v", raw, addrs, got)
		}
	}
}

func TestParseURLTLS(t *testing.T) {
	t.Parallel()
	secure := &TLSOptions{CACerts: "ca", CertReqs: CertRequired}
	withTLS := func(backend bool, o *TLSOptions) urlRules { return urlRules{backend: backend, useTLS: o} }
	for _, c := range []struct {
		raw   string
		rules urlRules
		want  *TLSOptions
	}{
		{"redis://h", broker, nil},
		{"rediss://h", broker, &TLSOptions{CertReqs: CertNone}}, // kombu's default
		{"rediss://h?ssl_cert_reqs=none", broker, &TLSOptions{CertReqs: CertNone}},
		{"rediss://h?ssl_cert_reqs=CERT_OPTIONAL", broker, &TLSOptions{CertReqs: CertOptional}},
		{"redis://h?ssl_cert_reqs=required", broker, &TLSOptions{CertReqs: CertRequired}}, // kombu switches TLS on
		{"rediss://h?ssl_ca_certs=x", broker, &TLSOptions{CACerts: "x"}},                  // redis-py's default is to verify
		{"rediss://h?ssl_cert_reqs=required&ssl_check_hostname=False", broker, &TLSOptions{CertReqs: CertRequired, AnyHostname: true}},
		{"redis://h", withTLS(false, secure), secure},
		{"rediss://h", withTLS(false, secure), secure},
		{"rediss://h?ssl_certfile=c", withTLS(false, secure), &TLSOptions{CertFile: "c"}}, // the URL's stand for all
		{"sentinel://h", withTLS(false, secure), secure},
		{"redis://h", withTLS(true, secure), secure},
		{"rediss://h?ssl_certfile=c", withTLS(true, secure), &TLSOptions{CertFile: "c", CACerts: "ca", CertReqs: CertRequired}},
		{"rediss://h?ssl_cert_reqs=none", backend, &TLSOptions{CertReqs: CertNone}},
	} {
		e, err := parseURL(c.raw, c.rules)
		if err != nil {
			t.Errorf("%s: %v", c.raw, err)
			continue
		}
		if (e.tls == nil) != (c.want == nil) || e.tls != nil && *e.tls != *c.want {
			t.Errorf("%s: %+v, want %+v", c.raw, e.tls, c.want)
		}
	}
}

func TestParseTLSOptions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]*TLSOptions{
		"null": nil, "false": nil, "{}": nil, "": nil,
		`{"ssl_cert_reqs": 2, "ssl_ca_certs": "a", "ssl_certfile": "b", "ssl_keyfile": "c", "ssl_check_hostname": false}`: {
			CertReqs: CertRequired, CACerts: "a", CertFile: "b", KeyFile: "c", AnyHostname: true,
		},
		`{"ssl_cert_reqs": null, "ssl_min_version": 772, "ssl_validate_ocsp": false}`: {CertReqs: CertNone, MinVersion: tls.VersionTLS13},
		`{"ssl_cert_reqs": "CERT_NONE", "ssl_ca_path": "p", "ssl_ca_data": "d"}`:      {CertReqs: CertNone, CAPath: "p", CAData: "d"},
	} {
		got, err := ParseTLSOptions([]byte(text))
		if err != nil || (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, name := range map[string]string{
		"true": "use_ssl", "[1]": "use_ssl", `{"ssl_password": "s3cret"}`: "ssl_password", `{"ssl_cert_reqs": 3}`: "ssl_cert_reqs",
		`{"ssl_certfile": ["s3cret"]}`: "ssl_certfile", `{"ssl_min_version": "s3cret"}`: "ssl_min_version",
	} {
		if _, err := ParseTLSOptions([]byte(text)); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestParseBackendQuery(t *testing.T) {
	t.Parallel()
	e, err := parseURL("redis://u:p@h?socket_timeout=1.5&db=4&max_connections=7&health_check_interval=3&client_name=x&password=q"+
		"&socket_connect_timeout=2&retry_on_timeout=1", backend)
	if err != nil {
		t.Fatal(err)
	}
	want := urlSettings{
		socketTimeout: 1500 * time.Millisecond, connectTimeout: 2 * time.Second, maxConnections: 7, clientName: "x",
		healthCheck: 3 * time.Second,
	}
	if e.db != 4 || e.username != "u" || e.password != "q" || e.settings != want {
		t.Errorf("%+v", e)
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{
		"", "redis://", "redis://u:p@[::1]:6379/3", "rediss://h?ssl_cert_reqs=none", "redis+socket:///x?virtual_host=5",
		"redis://:p%zz%4@h//2?a=b#c", "unix://", "sentinel://a;sentinel://b:1/2", "redis://a/1;redis://b/2",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		for _, rules := range []urlRules{broker, backend} {
			ends, err := parseURLs(raw, rules)
			if err != nil {
				continue
			}
			for _, e := range ends {
				if e.addr == "" || e.db < 0 || e.network != "tcp" && e.network != "unix" {
					t.Errorf("%q: %+v", raw, e)
				}
			}
		}
	})
}
