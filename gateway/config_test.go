package gateway

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*Config)
		want   []string // in the error; none: valid
	}{
		"defaults":     {func(*Config) {}, nil},
		"off":          {func(c *Config) { c.MaxWindows, c.DrainWindow, c.UpstreamHeaderTimeout = Off, Off, Off }, nil},
		"no settings":  {func(c *Config) { c.Settings = nil }, []string{"Settings: missing"}},
		"relative url": {func(c *Config) { c.Settings.WebSocket.URL = "ws/" }, []string{"Settings.WebSocket.URL"}},
		"all at once": {func(c *Config) {
			c.PingInterval, c.OutboxBytes, c.FramesPerSecond, c.MaxWindows = -time.Second, -1, -1, -2
			c.AllowedOrigins = []string{"example.com", "https://a.*.com", "https://x/y", "*", "https://*.ok.example"}
		}, []string{"PingInterval", "OutboxBytes", "FramesPerSecond", "MaxWindows", `"example.com"`, `"https://a.*.com"`, `"https://x/y"`}},
		"upstream": {func(c *Config) { c.Upstream = &url.URL{Scheme: "http", Host: "127.0.0.1:8000"} }, nil},
		"two upstreams": {func(c *Config) {
			c.Upstream, c.FindUpstream = &url.URL{Scheme: "http", Host: "x"}, func() *url.URL { return nil }
		}, []string{"FindUpstream"}},
		"no prefix":            {func(c *Config) { c.TrustedProxies = make([]netip.Prefix, 1) }, []string{"TrustedProxies"}},
		"upstream unix":        {func(c *Config) { c.Upstream = &url.URL{Scheme: "unix", Path: "/run/app.sock"} }, nil},
		"upstream unix host":   {func(c *Config) { c.Upstream = &url.URL{Scheme: "unix", Host: "run", Path: "/app.sock"} }, []string{"unix:///"}},
		"upstream scheme":      {func(c *Config) { c.Upstream = &url.URL{Scheme: "ftp", Host: "x"} }, []string{"scheme"}},
		"upstream host":        {func(c *Config) { c.Upstream = &url.URL{Scheme: "http"} }, []string{"host"}},
		"upstream path":        {func(c *Config) { c.Upstream = &url.URL{Scheme: "http", Host: "x", Path: "/y"} }, []string{"path"}},
		"upstream credentials": {func(c *Config) { c.Upstream = &url.URL{Scheme: "http", Host: "x", User: url.User("u")} }, []string{"credentials"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Settings: testSettings()}
			tc.change(&cfg)
			cfg = cfg.withDefaults()
			err := cfg.validate()
			if err == nil && tc.want != nil {
				t.Fatal("no error")
			}
			if err != nil && tc.want == nil {
				t.Fatal(err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %s", err, want)
				}
			}
		})
	}
	if _, err := New(Config{Settings: testSettings()}); err == nil || !strings.Contains(err.Error(), "Services") {
		t.Errorf("New without services: %v", err)
	}
}

func TestCloseCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []CloseCode{CloseNormal, CloseGoingAway, CloseTooBig, CloseTryAgain, CloseRevoked, CloseSlowReader, CloseNoPong} {
		f := c.frame()
		if len(f) > 2+125 || int(f[1]) != len(f)-2 || int(f[2])<<8|int(f[3]) != int(c) || string(f[4:]) != c.Reason() {
			t.Errorf("%d: frame %q", c, f)
		}
		if !strings.Contains(c.Error(), c.String()) {
			t.Errorf("error %q", c.Error())
		}
	}
}
