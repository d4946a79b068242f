//go:build integration

package integration

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/harness"
)

// layers are ways to configure the channel layer of a site; all other tests have the usual one.
var layers = map[string]harness.SiteOptions{
	"pubsub": {Layer: compat.PubSubLayerBackend},
	"core with keys, json and three hosts": {
		LayerHosts: 3, LayerConfig: map[string]any{"symmetric_encryption_keys": []string{"new", "old"}, "serializer_format": "json"},
	},
}

// TestLayers: browsers, a Celery worker, Django, a Go worker and the gateway on every kind of channel layer.
func TestLayers(t *testing.T) {
	for name, opts := range layers {
		t.Run(name, func(t *testing.T) {
			ctx := deadline(t)
			site := must1(startFull(t.Context(), lab(t), opts, harness.CeleryOptions{}))(t)
			open := openAll(t, ctx, site.gateway.URL)
			for _, signal := range []string{"matrix.python", "matrix.go"} {
				must(t, open[0].Call(signal, map[string]any{"to": []string{"broadcast"}, "mark": signal}))
				untilMark(t, ctx, open, signal)
			}
			fromDjango(t, open, "matrix.seen", "broadcast", "django")
			untilMark(t, ctx, open, "django")
		})
	}
}

// fromDjango lets a view trigger.
func fromDjango(t *testing.T, open []visitor, signal, to, mark string) {
	t.Helper()
	arguments := `{"to": ["broadcast"], "mark": "` + mark + `"}`
	if to != "server" {
		arguments = `{"by": "django", "mark": "` + mark + `"}`
	}
	query := url.Values{"signal": {signal}, "to": {to}, "kwargs": {arguments}}
	resp := must1(open[0].client.XHR(t.Context(), "/trigger/?"+query.Encode()))(t)
	if resp.Status != http.StatusOK {
		t.Fatalf("/trigger/: %d %.500s", resp.Status, resp.Body)
	}
}

// TestChannelsWorkers: WEBSOCKET_WORKERS = "channels", at which df_websockets alone raises an error. Signals of browsers and of Django reach
// Channels' own worker and a Go worker, which trigger each other, and what they send reaches the browsers.
func TestChannelsWorkers(t *testing.T) {
	ctx := deadline(t)
	site := must1(lab(t).NewSite(ctx, harness.SiteOptions{Workers: compat.WorkersChannels}))(t)
	settings := must1(site.ExportSettings(ctx))(t)
	django := must1(site.Gunicorn(ctx))(t)
	must1(site.ChannelsWorker(ctx, "celery", "slow", "demo-queue"))(t)
	must1(site.GoWorker(ctx, matrixWorker(site, settings)))(t)
	gateway := must1(site.Gateway(ctx, harness.GatewayOptions{Upstream: django.URL, Settings: settings}))(t)
	open := openAll(t, ctx, gateway.URL)
	for _, signal := range []string{"matrix.python", "matrix.go"} {
		must(t, open[0].Call(signal, map[string]any{"to": []string{"broadcast"}, "mark": "browser, " + signal}))
		untilMark(t, ctx, open, "browser, "+signal)
		fromDjango(t, open, signal, "server", "django, "+signal)
		untilMark(t, ctx, open, "django, "+signal)
	}
	for from, signal := range map[string]string{"matrix.go_to": "matrix.python", "matrix.python_to": "matrix.go"} {
		must(t, open[0].Call(from, map[string]any{
			"signal": signal, "to": []string{"server"}, "arguments": map[string]any{"to": []string{"broadcast"}, "mark": from},
		}))
		untilMark(t, ctx, open, from)
	}
	if n := must1(site.Database(harness.BrokerDB).Exists(ctx, "celery", "go-matrix").Result())(t); n != 0 {
		t.Error("signals are on Celery's broker")
	}
}
