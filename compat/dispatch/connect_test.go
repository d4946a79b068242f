package dispatch

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat"
)

func TestResultOptions(t *testing.T) {
	t.Parallel()
	plain := compat.DefaultCelery()
	plain.ResultBackend = "redis://localhost/1"
	want := redisbroker.ResultOptions{URL: "redis://localhost/1", Expires: 24 * time.Hour, ChordJoinTimeout: 3 * time.Second}
	want.Codec.Serializer = "json"

	everything := plain
	everything.ResultExpires, everything.ResultFailureExpires, everything.ResultChordExpires = nil, new(compat.Seconds(0.25)), new(compat.Seconds(0))
	everything.ResultChordJoinTimeout = nil
	everything.RedisSocketTimeout, everything.RedisSocketConnectTimeout = new(compat.Seconds(7)), new(compat.Seconds(1.5))
	everything.RedisMaxConnections, everything.RedisClientName = new(9), "shop"
	everything.RedisBackendHealthCheckInterval = new(compat.Seconds(30))
	everything.ResultCompression, everything.ResultSerializer = "gzip", "yaml"
	everything.ResultAcceptContent = []string{"yaml"}
	everything.RedisBackendUseSSL = compat.SecretJSON(`{"ssl_cert_reqs": "none"}`)
	everything.ResultBackendTransportOptions = compat.SecretJSON(`{"global_keyprefix": "shop", "result_chord_ordered": false}`)
	all := redisbroker.ResultOptions{
		URL: "redis://localhost/1", KeyPrefix: "shop", Expires: neverExpires, FailureExpires: time.Second, ChordExpires: neverExpires,
		ChordJoinTimeout: patientJoin, SocketTimeout: 7 * time.Second, SocketConnectTimeout: 1500 * time.Millisecond, MaxConnections: 9,
		ClientName: "shop", HealthCheckInterval: 30 * time.Second, ChordsUnordered: true,
		UseTLS: &redisbroker.TLSOptions{CertReqs: redisbroker.CertNone},
	}
	all.Codec.Serializer, all.Codec.Compression = "yaml", "gzip"

	for _, test := range []struct {
		name     string
		settings compat.Celery
		want     redisbroker.ResultOptions
	}{{"Celery's defaults", plain, want}, {"everything else", everything, all}} {
		got, err := redisResultOptions(&test.settings)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got, cmpopts.IgnoreUnexported(celeryproto.Accept{})); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
		yaml := got.Codec.Accept.Accepts("application/x-yaml")
		if yaml != (test.name != "Celery's defaults") {
			t.Errorf("%s: YAML accepted: %t", test.name, yaml)
		}
	}
}

func TestFaultyConnections(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*compat.Celery){
		"accepted content":       func(c *compat.Celery) { c.AcceptContent = []string{"morse"} },
		"redis_backend_use_ssl":  func(c *compat.Celery) { c.RedisBackendUseSSL = compat.SecretJSON(`{"ssl_cert_reqs": 7}`) },
		"broker_use_ssl":         func(c *compat.Celery) { c.BrokerUseSSL = compat.SecretJSON(`true`) },
		"round-robin or shuffle": func(c *compat.Celery) { c.BrokerFailoverStrategy.Name = "shuffled" },
	} {
		s := &compat.Settings{Celery: compat.DefaultCelery()}
		s.Celery.BrokerURL, s.Celery.ResultBackend = "redis://localhost/1", "redis://localhost/1"
		s.ChannelLayer.Hosts = []compat.LayerHost{{URL: "redis://localhost/1"}}
		change(&s.Celery)
		services, err := Connect(t.Context(), ServicesConfig{Settings: s})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if services != nil {
			t.Errorf("%s: connected", name)
			if err := services.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestLayerConfig(t *testing.T) {
	t.Parallel()
	s := &compat.Settings{ChannelLayer: compat.ChannelLayer{
		Backend: compat.PubSubLayerBackend, Prefix: "shop", Expiry: 10, GroupExpiry: 20, Capacity: 30, SerializerFormat: "json",
		SymmetricEncryptionKeys: []compat.Secret{"key"}, ChannelCapacity: []compat.ChannelCapacity{{Pattern: "x*", Capacity: 5}},
		Hosts: []compat.LayerHost{{URL: "redis://a/1"}, {
			URL: "rediss:///2", Sentinels: []string{"s:1"}, MasterName: "m", SentinelKwargs: compat.SecretJSON(`{"username": "u", "socket_timeout": 2}`),
		}},
	}}
	got, err := layerConfig(&ServicesConfig{Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	want := channelslayer.Config{
		Backend: channelslayer.BackendPubSub, Prefix: "shop", Expiry: 10 * time.Second, GroupExpiry: 20 * time.Second, Capacity: 30,
		SerializerFormat: "json", RandomPrefixLength: channelslayer.NoRandomPrefix, SymmetricEncryptionKeys: []channelslayer.Secret{"key"},
		ChannelCapacity: []channelslayer.CapacityRule{{Glob: "x*", Capacity: 5}},
		Hosts: []channelslayer.Host{{URL: "redis://a/1"}, {
			URL: "rediss:///2", Sentinels: []string{"s:1"}, MasterName: "m",
			Sentinel: channelslayer.SentinelOptions{Username: "u", SocketTimeout: 2 * time.Second},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	s.ChannelLayer.Hosts[1].SentinelKwargs = compat.SecretJSON(`{"ssl_ciphers": "x", "nonsense": 1}`)
	if _, err := openLayer(&ServicesConfig{Settings: s}); err == nil || !strings.Contains(err.Error(), "sentinel_kwargs: nonsense") {
		t.Errorf("%v", err)
	}
}
