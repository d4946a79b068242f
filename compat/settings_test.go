package compat

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const minimalSettings = `{"schema": 1, "celery": {"broker_url": "redis://:pw@h/0"}, "channel_layer": {"hosts": [{"url": "redis://:pw@h/1"}]}}`

func TestParseSettingsDefaults(t *testing.T) {
	t.Parallel()
	s, err := ParseSettings([]byte(minimalSettings))
	if err != nil {
		t.Fatal(err)
	}
	if s.DFWS.RedisURL != s.Celery.BrokerURL || s.DFWS.KeyPrefix != "dfws:" || s.DFWS.GoQueue != "go" {
		t.Errorf("dfws: %+v", s.DFWS)
	}
	if s.Celery.ResultExpires.Duration() != 24*time.Hour || s.Celery.ResultBackend != "" || !s.Celery.EnableUTC || s.Celery.BrokerTransportOptions != nil {
		t.Errorf("celery: %+v", s.Celery)
	}
	want := ChannelLayer{
		Backend: CoreLayerBackend, Hosts: []LayerHost{{URL: "redis://:pw@h/1"}}, Prefix: "asgi", Expiry: 60, GroupExpiry: 86400, Capacity: 100,
		RandomPrefixLength: 12, SerializerFormat: "msgpack",
	}
	if diff := cmp.Diff(want, s.ChannelLayer); diff != "" {
		t.Error(diff)
	}
	if s.WebSocket.URL != "/ws/" || s.WebSocket.CacheExpire.Duration() != 10*time.Hour || s.Site.SessionCookieAge.Duration() != 14*24*time.Hour {
		t.Errorf("%+v %+v", s.WebSocket, s.Site)
	}
}

func TestParseSettingsFull(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/settings.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSettings(b)
	if err != nil {
		t.Fatal(err)
	}
	if s.Celery.ResultExpires != nil {
		t.Error("result_expires null is not never")
	}
	if diff := cmp.Diff([]ChannelCapacity{{Pattern: "http.request", Capacity: 200}, {Pattern: "specific.*", Capacity: 50}}, s.ChannelLayer.ChannelCapacity); diff != "" {
		t.Error(diff)
	}
	if string(s.Celery.BrokerTransportOptions) != `{"visibility_timeout": 7200}` || s.Celery.ResultBackendTransportOptions != nil {
		t.Errorf("%s %s", s.Celery.BrokerTransportOptions, s.Celery.ResultBackendTransportOptions)
	}
	if len(s.Site.SecureProxySSLHeader) != 2 || s.Site.AuthUserModel != "accounts.member" || len(s.Site.SessionSigningKeys) != 2 || !s.Site.Debug {
		t.Errorf("%+v", s.Site)
	}
	if s.Site.StaticURL != "/static/" || s.Site.StaticRoot != "/srv/site/static" {
		t.Errorf("static files: %+v", s.Site)
	}
	if s.Generated.DFWebsockets != "1.2.6" || s.DFWS.RedisURL != "redis://:secret@127.0.0.1:6379/5" {
		t.Errorf("%+v", s)
	}
}

func TestParseSettingsNamesAllFaults(t *testing.T) {
	t.Parallel()
	_, err := ParseSettings([]byte(`{"schema": 1,
		"site": {"auth_user_model": "user", "session_cookie_name": "", "session_signing_keys": ["topsecret"], "secure_proxy_ssl_header": ["x"], "session_cookie_age": 0},
		"websocket": {"url": "ws/", "default_queue": "", "workers": "thread", "cache_expire": -1},
		"celery": {"accept_content": ["pickle"], "result_expires": -1, "broker_transport_options": ["topsecret"]},
		"channel_layer": {"backend": "channels.layers.InMemoryChannelLayer", "hosts": [{"unsupported": "sentinel m"}, {}], "capacity": 0, "expiry": 0, "group_expiry": 0,
			"random_prefix_length": -1},
		"dfws": {"key_prefix": "asgi-dfws:", "go_queue": ""}}`))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"site.auth_user_model", "site.session_cookie_name", "site.session_signing_keys", "site.secure_proxy_ssl_header", "site.session_cookie_age",
		"websocket.url", "websocket.default_queue", "websocket.workers", "websocket.cache_expire", "celery.broker_url", "celery.accept_content",
		"celery.result_expires", "celery.broker_transport_options", "channel_layer.backend", "host 1 is not supported: sentinel m", "host 2 has no url",
		"channel_layer.capacity", "channel_layer.expiry", "channel_layer.group_expiry", "channel_layer.random_prefix_length", "dfws.key_prefix", "dfws.go_queue",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "topsecret") {
		t.Errorf("a secret is in:\n%v", err)
	}
}

func TestParseLayer(t *testing.T) {
	t.Parallel()
	s, err := ParseSettings([]byte(`{"schema": 1, "celery": {"broker_url": "redis://h/0"}, "channel_layer": {
		"backend": "channels_redis.pubsub.RedisPubSubChannelLayer", "channel_capacity": [[{"regex": "specific\\.", "flags": "i"}, 5], ["x*", 6]],
		"hosts": [{"url": "redis://a/1"}, {"url": "rediss://u:p@/2", "sentinels": ["s:1", "s:2"], "master_name": "m", "sentinel_kwargs": {"password": "x"}}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	l := s.ChannelLayer
	want := LayerHost{URL: "rediss://u:p@/2", Sentinels: []string{"s:1", "s:2"}, MasterName: "m", SentinelKwargs: SecretJSON(`{"password": "x"}`)}
	if diff := cmp.Diff([]LayerHost{{URL: "redis://a/1"}, want}, l.Hosts); diff != "" {
		t.Error(diff)
	}
	if c := l.ChannelCapacity[0]; c.Regexp == nil || !c.Regexp.MatchString("SPECIFIC.x") || c.Regexp.MatchString("xspecific.") || c.Capacity != 5 {
		t.Errorf("%+v", c)
	}
	b, err := json.Marshal(l.ChannelCapacity)
	if err != nil || string(b) != `[[{"regex":"specific\\.","flags":"i"},5],["x*",6]]` {
		t.Errorf("%s, %v", b, err)
	}
}

func TestParseSettingsRefuses(t *testing.T) {
	t.Parallel()
	for text, part := range map[string]string{
		``:                "unexpected end",
		`[]`:              "array",
		`{}`:              "schema: missing",
		`{"schema": 2}`:   "schema: 2 is not supported, this program reads schema 1",
		`{"schema": "1"}`: "schema: a JSON string",
		`{"schema": 1.0}`: "schema: 1.0 is not supported",
		`{"schema": 1, "celery": {"broker_url": 5}}`:                                                                          "celery.broker_url: a JSON number does not fit",
		strings.Replace(minimalSettings, `"hosts"`, `"channel_capacity": [["x"]], "hosts"`, 1):                                "not a pair",
		strings.Replace(minimalSettings, `"hosts"`, `"channel_capacity": [[{}, 5]], "hosts"`, 1):                              "a pattern is neither a text nor a regular expression",
		strings.Replace(minimalSettings, `"hosts"`, `"channel_capacity": [[{"regex": "(?=x)", "flags": ""}, 5]], "hosts"`, 1): "channel_capacity: regular expression",
		strings.Replace(minimalSettings, `"hosts"`, `"channel_capacity": [[{"unsupported": "a thing"}, 5]], "hosts"`, 1):      "a thing is not supported",
		strings.Replace(minimalSettings, `"hosts"`, `"channel_capacity": [["x", "5"]], "hosts"`, 1):                           "capacity of \"x\" is not an integer",
		strings.Replace(minimalSettings, `"hosts"`, `"prefix": "", "hosts"`, 1):                                               "channel_layer.prefix",
		strings.Replace(minimalSettings, `"schema": 1`, `"schema": 1, "dfws": {"go_queue": "celery"}`, 1):                     "is also websocket.default_queue",
	} {
		if _, err := ParseSettings([]byte(text)); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want %q in it", text, err, part)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	s, err := ParseSettings([]byte(minimalSettings))
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "url", s.Celery.BrokerURL, "settings", s)
	encoded, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		log.String(), string(encoded), fmt.Sprint(s.Celery.BrokerURL), fmt.Sprintf("%s %q %v %+v %#v", s.Celery.BrokerURL, s.Celery.BrokerURL, *s, *s, *s),
	} {
		if strings.Contains(text, "pw") || !strings.Contains(text, redacted) {
			t.Error(text)
		}
	}
	if s.Celery.BrokerURL.Reveal() != "redis://:pw@h/0" {
		t.Error("Reveal")
	}
}

func FuzzParseSettings(f *testing.F) {
	f.Add([]byte(minimalSettings))
	byDefault, changed := recordedCelery(f)
	for _, b := range [][]byte{mustReadTestdata(f, "settings.json"), withCelery(string(byDefault)), withCelery(string(changed))} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSettings(b)
		if (s == nil) == (err == nil) {
			t.Errorf("%v, %v", s, err)
		}
		if err != nil {
			return
		}
		s.Warnings()
		routes := NewRoutes(&s.Celery)
		for _, q := range routes.Declared() {
			if q.TTL() < 0 {
				t.Errorf("%s: %v", q.Name, q.TTL())
			}
		}
		for _, task := range []string{"a.b", "web.é"} {
			if d, err := routes.Route(task, nil); (d == nil) == (err == nil) {
				t.Errorf("%v, %v", d, err)
			}
			if attributes, _ := s.Celery.Annotation(task); attributes == nil {
				t.Error("no attributes")
			}
		}
	})
}
