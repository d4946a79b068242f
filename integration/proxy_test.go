//go:build integration

package integration

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/dfws/dfws/integration/harness"
)

// echoed is what project/demo/views.py's echo says about a request.
type echoed struct {
	Method    string            `json:"method"`
	Path      string            `json:"path"`
	Host      string            `json:"host"`
	Headers   map[string]string `json:"headers"`
	BodyBytes int               `json:"body_bytes"`
}

// TestProxy: Django sees requests as if the gateway were not there, and the page's script is sent to the gateway.
func TestProxy(t *testing.T) {
	ctx := deadline(t)
	site := full(t)
	c := harness.NewClient(site.gateway.URL)
	body := strings.Repeat("0123456789abcdef", 1<<16)
	resp := must1(c.Do(ctx, http.MethodPost, "/echo/?a=%C3%A9&a=b%2Fc", strings.NewReader(body), "X-Forwarded-For", "6.6.6.6", "X-Custom", "kept"))(t)
	var got echoed
	must(t, json.Unmarshal([]byte(resp.Body), &got))
	if got.Method != http.MethodPost || got.Path != "/echo/?a=%C3%A9&a=b%2Fc" || got.Host != site.gateway.URL.Host || got.BodyBytes != len(body) {
		t.Errorf("Django saw %+v", got)
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": site.gateway.URL.Host, "X-Custom": "kept",
	} {
		if got.Headers[name] != want {
			t.Errorf("header %s is %q, want %q", name, got.Headers[name], want)
		}
	}
	must(t, c.Page(ctx))
	if got := must1(url.QueryUnescape(c.Cookie("dfwsurl")))(t); got != "ws://"+site.gateway.URL.Host+"/ws/" {
		t.Errorf("the page's websocket is at %q", got)
	}
	if resp := must1(c.Get(ctx, "/no/such/page/"))(t); resp.Status != http.StatusNotFound {
		t.Errorf("a page that is not there answers %d", resp.Status)
	}
}

// TestDjangoAway: without Django there are no pages, and everything between windows and workers goes on.
func TestDjangoAway(t *testing.T) {
	ctx := deadline(t)
	site := brokenSite(t, ctx)
	c := harness.NewClient(site.gateway.URL)
	must(t, c.Login(ctx, "alice"))
	must(t, c.Page(ctx))
	w := must1(c.Open(ctx))(t)
	t.Cleanup(func() { _ = w.Close() })
	must(t, site.django.Stop())
	if resp := must1(c.Get(ctx, "/"))(t); resp.Status != http.StatusBadGateway {
		t.Errorf("a page answers %d, want 502", resp.Status)
	}
	works(t, ctx, w)
	again := must1(c.Open(ctx))(t) // who a window is comes from Redis
	t.Cleanup(func() { _ = again.Close() })
	isUser(t, ctx, site, again, "alice")
}
