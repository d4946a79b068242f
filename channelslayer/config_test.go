package channelslayer

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
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
		Hosts: []Host{{}, {}}, Backend: "channels_redis.pubsub.RedisPubSubChannelLayer", SerializerFormat: "json", SymmetricEncryptionKeys: []Secret{"hush"},
		Expiry: 1500 * time.Millisecond, GroupExpiry: -time.Second, Capacity: -1, RandomPrefixLength: -2, ChannelCapacity: []CapacityRule{{Glob: "x", Capacity: -1}},
	})
	if !errors.Is(err, ErrUnsupported) {
		t.Fatalf("%v", err)
	}
	for _, option := range []string{"BACKEND", "hosts", "serializer_format", "symmetric_encryption_keys", "option expiry", "group_expiry", "option capacity", "random_prefix_length", "channel_capacity"} {
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
		o, err := Host{URL: urls[0]}.options()
		if err != nil {
			t.Errorf("%s: %v", urls[0], err)
			continue
		}
		checked++
		want := map[string]any{}
		for k, v := range form.Pools[0].Kwargs {
			want[k] = fmt.Sprint(v)
		}
		if diff := cmp.Diff(want, pythonKwargs(o, want)); diff != "" {
			t.Errorf("%s (-redis-py +ours):\n%s", urls[0], diff)
		}
		if tls := form.Pools[0].Connection == "SSLConnection"; tls != (o.TLSConfig != nil) {
			t.Errorf("%s: TLS %t, want %t", urls[0], o.TLSConfig != nil, tls)
		}
	}
	if checked != 4 {
		t.Errorf("%d forms checked", checked)
	}
}

func pythonKwargs(o *redis.Options, want map[string]any) map[string]any {
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
	good := map[string]redis.Options{
		"redis://":                {Network: "tcp", Addr: "localhost:6379"},
		"redis://h":               {Network: "tcp", Addr: "h:6379"},
		"redis://h:1/":            {Network: "tcp", Addr: "h:1"},
		"redis://[::1]:7/2":       {Network: "tcp", Addr: "[::1]:7", DB: 2},
		"redis://u%40x:p%2Fw@h/1": {Network: "tcp", Addr: "h:6379", DB: 1, Username: "u@x", Password: "p/w"},
		"redis://h/1?db=3":        {Network: "tcp", Addr: "h:6379", DB: 3},
		"redis://h?password=x&socket_timeout=1.5":                     {Network: "tcp", Addr: "h:6379", Password: "x", ReadTimeout: 1500 * time.Millisecond, WriteTimeout: 1500 * time.Millisecond},
		"redis://h?socket_connect_timeout=2&health_check_interval=30": {Network: "tcp", Addr: "h:6379", DialTimeout: 2 * time.Second},
		"unix:///run/r.sock?db=2":                                     {Network: "unix", Addr: "/run/r.sock", DB: 2},
	}
	for url, want := range good {
		o, err := Host{URL: url}.options()
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got := redis.Options{Network: o.Network, Addr: o.Addr, DB: o.DB, Username: o.Username, Password: o.Password, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, DialTimeout: o.DialTimeout}
		if got.Addr != want.Addr || got.Network != want.Network || got.DB != want.DB || got.Username != want.Username || got.Password != want.Password ||
			got.ReadTimeout != want.ReadTimeout || got.WriteTimeout != want.WriteTimeout || got.DialTimeout != want.DialTimeout {
			t.Errorf("%s: %+v", url, got)
		}
	}
	for url, word := range map[string]string{
		"http://h":                          "scheme",
		"redis+sentinel://h":                "scheme",
		"unix://?db=1":                      "path",
		"redis://:secret@h/x":               "database",
		"redis://:secret@h?db=x":            "db",
		"redis://:secret@h?ssl_ca_certs=/x": "ssl_ca_certs",
		"redis://:secret@h?socket_timeout=": "socket_timeout",
		"redis://:secret@h:%zz":             "not a URL",
		"rediss://h?ssl_check_hostname=no":  "ssl_check_hostname",
		"rediss://h?ssl_cert_reqs=optional": "ssl_cert_reqs",
	} {
		_, err := Host{URL: url}.options()
		if err == nil || !strings.Contains(err.Error(), word) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want an error about %s", url, err, word)
		}
	}
}

func TestHostTLS(t *testing.T) {
	t.Parallel()
	o, err := Host{URL: "rediss://h", TLS: &tls.Config{MinVersion: tls.VersionTLS13}}.options()
	if err != nil || o.TLSConfig.ServerName != "h" || o.TLSConfig.MinVersion != tls.VersionTLS13 || o.TLSConfig.InsecureSkipVerify {
		t.Errorf("%+v, %v", o.TLSConfig, err)
	}
	o, err = Host{URL: "rediss://h?ssl_cert_reqs=none"}.options()
	if err != nil || !o.TLSConfig.InsecureSkipVerify {
		t.Errorf("ssl_cert_reqs=none: %v", err)
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
