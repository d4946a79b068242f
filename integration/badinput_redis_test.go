//go:build integration

package integration

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/vmihailenco/msgpack/v5"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/worker"
)

// TestJunkInLayer: messages in the channel layer that cannot be read, or are for no window, are dropped and counted; the next one
// arrives.
func TestJunkInLayer(t *testing.T) {
	ctx := deadline(t)
	site := full(t)
	c := harness.NewClient(site.gateway.URL)
	must(t, c.Page(ctx))
	w := must1(c.Open(ctx))(t)
	t.Cleanup(func() { _ = w.Close() })
	layer := site.Database(harness.LayerDB)
	defer layer.Close()
	channel := gatewayChannel(t, ctx, layer)
	queue := "asgi" + channel[:strings.Index(channel, "!")+1]
	for _, tc := range []struct {
		name    string
		message []byte
		series  string
	}{
		{"no msgpack", []byte("\xc1\xc1\xc1"), `dfws_layer_messages_dropped_total{reason="undecodable"}`},
		{"cut off", []byte("\xdf\xff"), `dfws_layer_messages_dropped_total{reason="undecodable"}`},
		{"nothing", nil, `dfws_layer_messages_dropped_total{reason="undecodable"}`},
		{"no map", mustPack(t, []any{1, 2}), `dfws_layer_messages_dropped_total{reason="undecodable"}`},
		{"no channel", mustPack(t, map[string]any{"type": "ws_message", "message": "x"}), `dfws_layer_messages_dropped_total{reason="no_channel"}`},
		{"channel is a number", mustPack(t, map[string]any{"__asgi_channel__": 5}), `dfws_layer_messages_dropped_total{reason="channel_type"}`},
		{"unknown channel", mustPack(t, map[string]any{"__asgi_channel__": "specific.somebody!else"}), `dfws_layer_messages_dropped_total{reason="unknown_channel"}`},
		{"another type", mustPack(t, map[string]any{"__asgi_channel__": channel, "type": "receive", "message": "x"}), `dfws_gateway_messages_dropped_total{reason="type"}`},
		{"no text", mustPack(t, map[string]any{"__asgi_channel__": channel, "type": "ws_message"}), `dfws_gateway_messages_dropped_total{reason="text"}`},
		{"text is a list", mustPack(t, map[string]any{"__asgi_channel__": channel, "type": "ws_message", "message": []any{}}), `dfws_gateway_messages_dropped_total{reason="text"}`},
	} {
		before := must1(site.gateway.Metric(ctx, tc.series))(t)
		// channels_redis puts twelve random bytes before the message.
		member := append(randomBytes(12), tc.message...)
		must(t, layer.ZAdd(ctx, queue, redis.Z{Score: 4e9, Member: string(member)}).Err())
		if err := site.gateway.WaitMetric(soon(t, ctx), tc.series, before+1); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	must(t, layer.ZAdd(ctx, queue, redis.Z{Score: 4e9, Member: "short"}).Err())
	works(t, ctx, w)
	if n := len(w.Frames()); n != 2 {
		t.Errorf("the window got %d frames, want the heartbeat and the answer", n)
	}
}

// gatewayChannel finds the channel that the gateway has in the group of all windows.
func gatewayChannel(t *testing.T, ctx context.Context, layer *redis.Client) string {
	t.Helper()
	group := "asgi:group:" + compat.GroupName(compat.BroadcastTopic)
	channels := must1(layer.ZRange(ctx, group, 0, -1).Result())(t)
	if len(channels) != 1 {
		t.Fatalf("%s has the members %q, want the gateway's one", group, channels)
	}
	return channels[0]
}

func mustPack(t *testing.T, v any) []byte {
	t.Helper()
	return must1(msgpack.Marshal(v))(t)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.IntN(256))
	}
	return b
}

// TestJunkInQueue: what a Go worker cannot read goes to the dead letters, whole; the next task runs.
func TestJunkInQueue(t *testing.T) {
	ctx := deadline(t)
	site := full(t)
	broker := site.Database(harness.BrokerDB)
	defer broker.Close()
	body := base64.StdEncoding.EncodeToString([]byte(`[[1,2],{},{}]`))
	envelope := func(body, contentType, headers string) string {
		return fmt.Sprintf(`{"body":%q,"content-encoding":"utf-8","content-type":%q,"headers":%s,"properties":{"correlation_id":"c","reply_to":"r",`+
			`"delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"go-matrix"},"priority":0,"body_encoding":"base64","delivery_tag":"%x"}}`,
			body, contentType, headers, rand.Uint64())
	}
	header := `{"lang":"py","task":"matrix.add","id":"00000000-0000-4000-8000-000000000001"}`
	junk := []string{
		"", "junk", "null", "[]", "{}", `{"body":1}`, "\xff\xfe", strings.Repeat("[", 200_000),
		envelope("!!!", "application/json", header),
		envelope(base64.StdEncoding.EncodeToString([]byte("{")), "application/json", header),
		envelope(base64.StdEncoding.EncodeToString([]byte(`{"no":"protocol"}`)), "application/json", header),
		envelope(body, "application/x-python-serialize", header),
		envelope(body, "text/unknown", header),
		envelope(body, "application/json", `{"lang":"py","task":["matrix.add"],"id":5}`),
	}
	must(t, broker.Del(ctx, "dfws:dead:go-matrix").Err())
	for _, text := range junk {
		must(t, broker.LPush(ctx, "go-matrix", text).Err())
	}
	client := newClient(t, site.settings)
	var sum int
	pending := must1(client.Send(ctx, worker.TaskMessage{Name: "matrix.add", Queue: "go-matrix", Args: []any{2, 3}}))(t)
	must(t, pending.Get(soon(t, ctx), &sum))
	if sum != 5 {
		t.Errorf("2 + 3 = %d", sum)
	}
	err := harness.WaitFor(soon(t, ctx), "dead letters", func(ctx context.Context) error {
		n, err := broker.LLen(ctx, "dfws:dead:go-matrix").Result()
		if err == nil && n != int64(len(junk)) {
			err = fmt.Errorf("%d of %d", n, len(junk))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if n := must1(broker.HLen(ctx, "unacked").Result())(t); n != 0 {
		t.Errorf("%d entries are left unacked", n)
	}
}

// TestUnknownTask: a task that nobody here handles goes back a few times and then to the dead letters; it is never lost.
func TestUnknownTask(t *testing.T) {
	ctx := deadline(t)
	site := full(t)
	broker := site.Database(harness.BrokerDB)
	defer broker.Close()
	must(t, broker.Del(ctx, "dfws:dead:go-matrix").Err())
	client := newClient(t, site.settings)
	must1(client.Send(ctx, worker.TaskMessage{Name: "nobody.knows", Queue: "go-matrix", Args: []any{"kept"}}))(t)
	err := harness.WaitFor(soon(t, ctx), "dead letter", func(ctx context.Context) error {
		letters, err := broker.LRange(ctx, "dfws:dead:go-matrix", 0, -1).Result()
		if err == nil && len(letters) != 1 {
			err = fmt.Errorf("%d letters", len(letters))
		}
		return err
	})
	must(t, err)
}

// TestRedisAwayAtStart: the gateway starts without Redis, says that it is not ready, passes pages on, refuses windows with an
// answer that lets the script come back, and works as soon as Redis is there.
func TestRedisAwayAtStart(t *testing.T) {
	ctx := deadline(t)
	l := lab(t)
	site := must1(l.NewSite(ctx, harness.SiteOptions{}))(t)
	settings := must1(site.ExportSettings(ctx))(t)
	django := must1(site.Gunicorn(ctx))(t)
	must1(site.Celery(ctx, harness.CeleryOptions{}))(t)
	site.Redis.Save()
	site.Redis.Stop()
	gateway := must1(site.Gateway(ctx, harness.GatewayOptions{Upstream: django.URL, Settings: settings, NotReady: true}))(t)
	if resp := must1(harness.NewClient(gateway.Admin).Get(ctx, "/readyz"))(t); resp.Status != http.StatusServiceUnavailable {
		t.Errorf("readyz answers %d, want 503", resp.Status)
	}
	c := harness.NewClient(gateway.URL)
	if resp := must1(c.Get(ctx, "/echo/"))(t); resp.Status != http.StatusOK {
		t.Errorf("a page answers %d", resp.Status)
	}
	c.SetCookie("dfwskey", strings.Repeat("k", 32))
	_, err := c.Open(ctx)
	var refused *harness.HandshakeError
	if !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable || refused.Header.Get("Retry-After") == "" {
		t.Errorf("a window gets %v, want 503 with Retry-After", err)
	}
	site.Redis.StartAgain()
	must(t, harness.WaitFor(soon(t, ctx), "ready", func(ctx context.Context) error {
		resp, err := harness.NewClient(gateway.Admin).Get(ctx, "/readyz")
		if err == nil && resp.Status != http.StatusOK {
			err = errors.New(resp.Body)
		}
		return err
	}))
	must(t, c.Page(ctx))
	w := must1(c.Open(ctx))(t)
	t.Cleanup(func() { _ = w.Close() })
	works(t, ctx, w)
}
