package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/redistest"
)

// mustConnect opens services on a Redis.
func mustConnect(tb testing.TB, server *redistest.Server) *Services {
	tb.Helper()
	s, err := Connect(tb.Context(), ServicesConfig{Settings: mustSettings(tb, server.URL)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// TestTriggerEndToEnd: tasks are in their queues, and frames in the groups, as Python's own programs would find them.
func TestTriggerEndToEnd(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client, ctx := server.Client(t), t.Context()
	s := mustConnect(t, server)
	if s.Results == nil || s.Dispatcher == nil || s.Store.Ping(ctx) != nil {
		t.Fatalf("%+v", s)
	}
	inBackground(t, s.Run)
	for _, e := range site() {
		if err := s.Store.PublishRegistry(ctx, e); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both registries", func() bool { return len(s.Registry.Lookup("both")) == 2 })

	channel, err := s.Layer.NewChannel(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	group := compat.GroupName(compat.BroadcastTopic)
	if err := s.Layer.GroupAdd(ctx, group, channel); err != nil {
		t.Fatal(err)
	}
	plan, err := s.Dispatcher.Trigger(ctx, Trigger{Signal: "both", To: []Target{Server, Broadcast, Window}, Opts: map[string]any{"a": "\u00e9"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range plan.Messages {
		texts, err := client.LRange(ctx, m.Queue, 0, -1).Result()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{string(m.Envelope)}, texts); diff != "" {
			t.Errorf("queue %s:\n%s", m.Queue, diff)
		}
	}
	received, err := s.Layer.Receive(ctx, channel)
	if err != nil {
		t.Fatal(err)
	}
	frame, ok := FrameText(received)
	if !ok || frame != string(plan.Frame) || !json.Valid([]byte(frame)) {
		t.Errorf("%v", received)
	}
	if _, ok := FrameText(channelslayer.Message{"type": "other", "message": "x"}); ok {
		t.Error("a message of another type has no frame")
	}
}

// failing refuses the n-th call.
type failing struct {
	mu    sync.Mutex
	calls []string
	at    string
}

func (f *failing) note(call string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
	if call == f.at {
		return errors.New("down")
	}
	return nil
}

func (f *failing) Publish(_ context.Context, msgs ...redisbroker.Message) error {
	queues := make([]string, len(msgs))
	for i, m := range msgs {
		queues[i] = m.Queue
	}
	return f.note("publish " + strings.Join(queues, ","))
}

func (f *failing) GroupSend(_ context.Context, group string, _ channelslayer.Message) error {
	return f.note("send " + group[:4])
}

// TestTriggerOrder: one publish, then one group after the other; what fails stops the rest, as in Python.
func TestTriggerOrder(t *testing.T) {
	t.Parallel()
	broadcast, window := "send "+compat.GroupName("-broadcast")[:4], "send "+compat.GroupName("-window.None")[:4]
	all := []string{"publish celery,go", broadcast, window}
	for at, want := range map[string][]string{"": all, all[0]: all[:1], all[1]: all[:2], all[2]: all} {
		peer := &failing{at: at}
		d := mustDispatcher(t, site()...)
		d.cfg.Publisher, d.cfg.Layer = peer, peer
		plan, err := d.Trigger(t.Context(), Trigger{Signal: "both", To: []Target{Broadcast, Server, Window}})
		if (err != nil) != (at != "") || plan == nil {
			t.Errorf("failing at %q: %v", at, err)
		}
		if diff := cmp.Diff(want, peer.calls); diff != "" {
			t.Errorf("failing at %q:\n%s", at, diff)
		}
	}
	bare := mustDispatcher(t, site()...)
	for _, to := range []Target{Server, Broadcast} {
		if _, err := bare.Trigger(t.Context(), Trigger{Signal: "both", To: []Target{to}}); err == nil {
			t.Errorf("%s: sent without a connection", to)
		}
	}
	if _, err := bare.Trigger(t.Context(), Trigger{To: []Target{Sync}}); !errors.Is(err, ErrSyncUnsupported) {
		t.Error(err)
	}
}

func TestConnectWithoutRedis(t *testing.T) {
	t.Parallel()
	s, err := Connect(t.Context(), ServicesConfig{Settings: mustSettings(t, "redis://127.0.0.1:1/0")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestConnectResults(t *testing.T) {
	t.Parallel()
	for backend, want := range map[string]string{"": "has no result_backend", "db+sqlite:///x?topsecret": "", "django-db": ""} {
		settings := mustSettings(t, "redis://127.0.0.1:1/0")
		settings.Celery.ResultBackend, settings.Celery.ResultExpires = compat.Secret(backend), nil
		var log strings.Builder
		s, err := Connect(t.Context(), ServicesConfig{Settings: settings, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if s.Results != nil || !strings.Contains(log.String(), want) || strings.Contains(log.String(), "topsecret") {
			t.Errorf("%q: %v\n%s", backend, s.Results, log.String())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestConnectNamesAllFaults(t *testing.T) {
	t.Parallel()
	settings := mustSettings(t, "redis://h/0")
	settings.Celery.BrokerURL = "amqp://:topsecret@h"
	settings.Celery.ResultBackend = "rediss://:topsecret@h"
	settings.ChannelLayer.Hosts[0].URL = "sentinel://:topsecret@h"
	settings.DFWS.RedisURL = "http://:topsecret@h"
	_, err := Connect(t.Context(), ServicesConfig{Settings: settings})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, part := range []string{"broker", "result backend", "channel layer", "dfws.redis_url"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in:\n%v", part, err)
		}
	}
	if strings.Contains(err.Error(), "topsecret") {
		t.Error(err)
	}
	settings = mustSettings(t, "redis://h/0")
	settings.Celery.BrokerTransportOptions = []byte(`{"credential_provider": "x.Y"}`)
	settings.Celery.ResultBackendTransportOptions = []byte(`{"global_keyprefix": 5}`)
	_, err = Connect(t.Context(), ServicesConfig{Settings: settings})
	if err == nil || !strings.Contains(err.Error(), "credential_provider") || !strings.Contains(err.Error(), "global_keyprefix") {
		t.Error(err)
	}
	if _, err := Connect(t.Context(), ServicesConfig{}); err == nil {
		t.Error("connected without settings")
	}
}
