package channelslayer

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/internal/redisconn"
)

func TestDefaultsArePythons(t *testing.T) {
	t.Parallel()
	got := Config{}.withDefaults()
	if got.Hosts[0].URL != "redis://localhost:6379" || got.Prefix != "asgi" || got.Expiry != 60*time.Second || got.GroupExpiry != 86400*time.Second ||
		got.Capacity != 100 || got.RandomPrefixLength != 12 {
		t.Errorf("%+v", got)
	}
	if got := (Config{RandomPrefixLength: NoRandomPrefix}).withDefaults().RandomPrefixLength; got != 0 {
		t.Errorf("NoRandomPrefix is %d", got)
	}
}

func TestOpenNamesAllFaults(t *testing.T) {
	t.Parallel()
	_, err := Open(Config{
		Hosts: make([]Host, MaxHosts+1), Backend: "site.layers.Layer", SerializerFormat: "site-format", SymmetricEncryptionKeys: []Secret{"hush"},
		Expiry: 1500 * time.Millisecond, GroupExpiry: -time.Second, Capacity: -1, RandomPrefixLength: -2, ChannelCapacity: []CapacityRule{{Glob: "x", Capacity: -1}},
	})
	if !errors.Is(err, ErrUnsupported) {
		t.Fatalf("%v", err)
	}
	for _, option := range []string{"BACKEND", "hosts", "serializer_format", "option expiry", "group_expiry", "option capacity", "random_prefix_length", "channel_capacity"} {
		if !strings.Contains(err.Error(), option) {
			t.Errorf("the error does not name %s: %v", option, err)
		}
	}
	if strings.Contains(err.Error(), "hush") {
		t.Error("the error shows a key")
	}
}

func TestReceiverConfigRefuses(t *testing.T) {
	t.Parallel()
	l, err := Open(Config{Prefix: "dfws:layer"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = l.NewReceiver(ReceiverConfig{AliveTTL: 1, ProbeInterval: 1, MaxBatch: -1, StopTimeout: -1})
	for _, part := range []string{"KeyPrefix", "AliveTTL", "ProbeInterval", "MaxBatch", "StopTimeout"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %s: %v", part, err)
		}
	}
	if _, err := l.NewReceiver(ReceiverConfig{KeyPrefix: "other:"}); err != nil {
		t.Error(err)
	}
}

// What redis-py makes of a URL (hosts_forms.json), in go-redis' words.
func TestGoldenHosts(t *testing.T) {
	t.Parallel()
	g := mustGolden[struct {
		Hosts []struct {
			Hosts json.RawMessage `json:"hosts"`
			Pools []struct {
				Connection string         `json:"connection"`
				Kwargs     map[string]any `json:"kwargs"`
			} `json:"pools"`
		} `json:"hosts"`
	}](t, "hosts_forms")
	checked := 0
	for _, form := range g.Hosts {
		var urls []string
		if json.Unmarshal(form.Hosts, &urls) != nil || len(urls) != 1 || len(form.Pools) != 1 {
			continue // other forms than URLs are normalized before they come here
		}
		o, _, err := Host{URL: urls[0]}.parse()
		if err != nil {
			t.Errorf("%s: %v", urls[0], err)
			continue
		}
		checked++
		want := map[string]any{}
		for k, v := range form.Pools[0].Kwargs {
			want[k] = fmt.Sprint(v)
		}
		if diff := gocmp.Diff(want, pythonKwargs(&o, want)); diff != "" {
			t.Errorf("%s (-redis-py +ours):\n%s", urls[0], diff)
		}
		if tls := form.Pools[0].Connection == "SSLConnection"; tls != (o.TLS != nil) {
			t.Errorf("%s: TLS %t, want %t", urls[0], o.TLS != nil, tls)
		}
	}
	if checked != 4 {
		t.Errorf("%d forms checked", checked)
	}
}

func pythonKwargs(o *redisconn.Endpoint, want map[string]any) map[string]any {
	got := map[string]any{}
	for k := range want {
		switch k {
		case "host":
			got[k] = o.Addr[:strings.LastIndex(o.Addr, ":")]
		case "port":
			got[k] = o.Addr[strings.LastIndex(o.Addr, ":")+1:]
		case "path":
			got[k] = o.Addr
		case "db":
			got[k] = fmt.Sprint(o.DB)
		case "username":
			got[k] = o.Username
		case "password":
			got[k] = o.Password
		}
	}
	return got
}

func TestHostURLs(t *testing.T) {
	t.Parallel()
	type want struct {
		end               redisconn.Endpoint
		connect, exchange time.Duration
	}
	good := map[string]want{
		"redis://":                {end: redisconn.Endpoint{Addr: "localhost:6379"}},
		"redis://h":               {end: redisconn.Endpoint{Addr: "h:6379"}},
		"redis://h:1/":            {end: redisconn.Endpoint{Addr: "h:1"}},
		"redis://[::1]:7/2":       {end: redisconn.Endpoint{Addr: "[::1]:7", DB: 2}},
		"redis://u%40x:p%2Fw@h/1": {end: redisconn.Endpoint{Addr: "h:6379", DB: 1, Username: "u@x", Password: "p/w"}},
		"redis://h/1?db=3":        {end: redisconn.Endpoint{Addr: "h:6379", DB: 3}},
		"redis://h?password=x&socket_timeout=1.5":                     {end: redisconn.Endpoint{Addr: "h:6379", Password: "x"}, exchange: 1500 * time.Millisecond},
		"redis://h?socket_connect_timeout=2&health_check_interval=30": {end: redisconn.Endpoint{Addr: "h:6379"}, connect: 2 * time.Second},
		"unix:///run/r.sock?db=2":                                     {end: redisconn.Endpoint{Network: "unix", Addr: "/run/r.sock", DB: 2}},
		"rediss://h?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem":          {end: redisconn.Endpoint{Addr: "h:6379", TLS: &TLSOptions{CertReqs: "none", CACerts: "/ca.pem"}}},
	}
	for url, w := range good {
		w.end.Network = cmp.Or(w.end.Network, "tcp")
		end, o, err := Host{URL: url}.parse()
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if diff := gocmp.Diff(w.end, end); diff != "" {
			t.Errorf("%s (-want +got):\n%s", url, diff)
		}
		if o.ConnectTimeout != cmp.Or(w.connect, defaultConnectTimeout) || o.SocketTimeout != cmp.Or(w.exchange, defaultSocketTimeout) {
			t.Errorf("%s: %+v", url, o)
		}
	}
}

func TestHostRefuses(t *testing.T) {
	t.Parallel()
	many := make([]string, redisconn.MaxServers+1)
	for _, c := range []struct {
		host Host
		word string
	}{
		{Host{URL: "http://h"}, "scheme"},
		{Host{URL: "redis+sentinel://h"}, "scheme"},
		{Host{URL: "unix://?db=1"}, "path"},
		{Host{URL: "redis://:secret@h/x"}, "database"},
		{Host{URL: "redis://:secret@h?db=x"}, "db"},
		{Host{URL: "redis://:secret@h?ssl_ca_certs=/x"}, "rediss"},
		{Host{URL: "redis://:secret@h?socket_timeout="}, "socket_timeout"},
		{Host{URL: "redis://:secret@h?credential_provider=x"}, "credential_provider"},
		{Host{URL: "redis://:secret@h:%zz"}, "not a URL"},
		{Host{URL: "rediss://h?ssl_cert_reqs=maybe"}, "ssl_cert_reqs"},
		{Host{URL: "rediss://h?ssl_ciphers=x"}, "ssl_ciphers"},
		{Host{URL: "rediss://h", TLS: &TLSOptions{CertReqs: "maybe"}}, "ssl_cert_reqs"},
		{Host{URL: "rediss://h?ssl_ca_certs=/nonexistent"}, "ssl_ca_certs"},
		{Host{URL: "redis://:secret@", MasterName: "m"}, "sentinels"},
		{Host{URL: "redis://:secret@", Sentinels: []string{"s:1"}}, "master_name"},
		{Host{URL: "unix:///x", Sentinels: []string{"s:1"}, MasterName: "m"}, "unix"},
		{Host{Sentinels: many, MasterName: "m"}, "sentinels"},
	} {
		_, err := c.host.servers(slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), c.word) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: %v, want an error about %s", c.host, err, c.word)
		}
	}
}

func TestHostTLS(t *testing.T) {
	t.Parallel()
	given := &TLSOptions{MinVersion: tls.VersionTLS13, CertReqs: "none"}
	end, _, err := Host{URL: "rediss://h?ssl_cert_reqs=required", TLS: given}.parse()
	if want := (&TLSOptions{MinVersion: tls.VersionTLS13, CertReqs: "required"}); err != nil || *end.TLS != *want || given.CertReqs != "none" {
		t.Errorf("%+v, %v", end.TLS, err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	cfg := Config{Hosts: []Host{{URL: "redis://user:hush@h:1/2?password=hush"}}, SymmetricEncryptionKeys: []Secret{"hush"}}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, cfg); strings.Contains(text, "hush") {
			t.Errorf("%s prints a secret: %s", verb, text)
		}
	}
	b, err := json.Marshal(cfg.SymmetricEncryptionKeys)
	if err != nil || strings.Contains(string(b), "hush") {
		t.Errorf("JSON: %s, %v", b, err)
	}
	if got := cfg.Hosts[0].String(); got != "redis://redacted@h:1/2" {
		t.Errorf("Host prints as %s", got)
	}
}
