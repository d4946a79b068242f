package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// proxied starts a gateway in front of an application server.
func proxied(t testing.TB, app http.HandlerFunc, change func(*Config)) *rig {
	t.Helper()
	upstream := httptest.NewServer(app)
	t.Cleanup(upstream.Close)
	return proxiedTo(t, upstream.URL, change)
}

func proxiedTo(t testing.TB, upstream string, change func(*Config)) *rig {
	t.Helper()
	u, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	return newRig(t, func(c *Config) {
		c.Upstream = u
		if change != nil {
			change(c)
		}
	})
}

// get sends one request and returns the answer and its body.
func (r *rig) get(change func(*http.Request)) (*http.Response, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.server.URL+"/path", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	return resp, string(body)
}

func TestProxyHeaders(t *testing.T) {
	t.Parallel()
	forged := http.Header{
		"X-Forwarded-For": {"6.6.6.6"}, "X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Port": {"443"},
		"Forwarded": {"for=6.6.6.6"}, "X-Real-Ip": {"6.6.6.6"}, "X_Forwarded_For": {"6.6.6.6"}, "X-Scheme": {"https"}, "X_Scheme": {"http"}, "X_Other": {"kept"},
		"Connection": {"X-Forwarded-For, X-Hop"}, "X-Hop": {"1"}, "Accept-Encoding": {"br"}, "Keep-Alive": {"1"}, "Te": {"trailers"},
		"Proxy-Authorization": {"x"}, "X-Own": {"kept"},
	}
	for name, tc := range map[string]struct {
		change func(*Config)
		want   map[string]string
	}{
		"replaced": {nil, map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "site.example:81", "X-Forwarded-Proto": "http", "X-Forwarded-Port": "",
			"Forwarded": "", "X-Real-Ip": "", "X_forwarded_for": "", "X-Hop": "", "Accept-Encoding": "br", "Keep-Alive": "",
			"Proxy-Authorization": "", "X-Own": "kept", "Host": "site.example:81", "X-Scheme": "https",
		}},
		"trusted": {func(c *Config) { c.TrustForwarded = true }, map[string]string{
			"X-Forwarded-For": "6.6.6.6, 127.0.0.1", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443",
			"Forwarded": "for=6.6.6.6, for=127.0.0.1", "X-Real-Ip": "6.6.6.6", "X_forwarded_for": "",
		}},
		"trusted address": {func(c *Config) {
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.1/32")}
		}, map[string]string{"X-Forwarded-For": "6.6.6.6, 127.0.0.1", "X-Forwarded-Proto": "https", "Forwarded": "for=6.6.6.6, for=127.0.0.1"}},
		"other address": {func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }, map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "Forwarded": "",
		}},
		"underscores": {func(c *Config) { c.AllowUnderscoreHeaders = true }, map[string]string{"X_forwarded_for": "", "X-Forwarded-For": "127.0.0.1"}},
		"underscores, secure header": {func(c *Config) {
			c.AllowUnderscoreHeaders = true
			c.Settings.Site.SecureProxySSLHeader = []string{"HTTP_X_SCHEME", "https"}
		}, map[string]string{"X-Scheme": "", "X_scheme": ""}},
		"underscores, trusted": {func(c *Config) { c.AllowUnderscoreHeaders, c.TrustForwarded = true, true }, map[string]string{
			"X_forwarded_for": "", "X_other": "kept", "X-Scheme": "https", "X_scheme": "http",
		}},
		"secure header": {func(c *Config) { c.Settings.Site.SecureProxySSLHeader = []string{"HTTP_X_SCHEME", "https"} }, map[string]string{
			"X-Scheme": "",
		}},
		"secure header is the usual one": {
			func(c *Config) { c.Settings.Site.SecureProxySSLHeader = []string{"HTTP_X_FORWARDED_PROTO", "https"} },
			map[string]string{"X-Forwarded-Proto": "http"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got http.Header
			r := proxied(t, func(_ http.ResponseWriter, req *http.Request) {
				got = req.Header.Clone()
				got.Set("Host", req.Host)
				if req.RequestURI != "/a%2Fb//c;d?x=1;y=%zz&z" {
					t.Errorf("request URI %q", req.RequestURI)
				}
			}, tc.change)
			resp, _ := r.get(func(req *http.Request) {
				req.Header = forged.Clone()
				if strings.HasPrefix(name, "trusted") {
					req.Header.Del("Connection")
				}
				req.Host = "site.example:81"
				req.URL.Path, req.URL.RawPath, req.URL.RawQuery = "/a/b//c;d", "/a%2Fb//c;d", "x=1;y=%zz&z"
			})
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("status %d", resp.StatusCode)
			}
			for name, want := range tc.want {
				if v := strings.Join(got[http.CanonicalHeaderKey(name)], ", "); v != want {
					t.Errorf("%s: %q, want %q", name, v, want)
				}
			}
		})
	}
}

func TestProxySecureHeaderOverTLS(t *testing.T) {
	t.Parallel()
	gotC := make(chan string, 1)
	r := proxied(t, func(_ http.ResponseWriter, req *http.Request) {
		gotC <- req.Header.Get("X-Scheme") + " " + req.Header.Get("X-Forwarded-Proto")
	}, func(c *Config) { c.Settings.Site.SecureProxySSLHeader = []string{"HTTP_X_SCHEME", "on"} })
	server := httptest.NewTLSServer(r.Handler())
	t.Cleanup(server.Close)
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := <-gotC; got != "on https" {
		t.Errorf("got %q", got)
	}
}

// TestProxyStreams: each side sees what the other has sent before the end of the body.
func TestProxyStreams(t *testing.T) {
	t.Parallel()
	r := proxied(t, func(w http.ResponseWriter, req *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex()
		lines := bufio.NewReader(req.Body)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			_, _ = io.WriteString(w, "echo "+line)
			_ = rc.Flush()
		}
	}, nil)
	body, writer := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.server.URL+"/stream", body)
	if err != nil {
		t.Fatal(err)
	}
	writeC := make(chan string, 1)
	writeC <- "0\n"
	ctx, stop := contextOf(t)
	defer stop()
	go func() {
		for {
			select {
			case line := <-writeC:
				_, _ = io.WriteString(writer, line)
			case <-ctx.Done():
				_ = writer.Close()
				return
			}
		}
	}()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for i := range 5 {
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("echo %d\n", i) {
			t.Fatalf("line %d: %q, %v", i, line, err)
		}
		writeC <- fmt.Sprintf("%d\n", i+1)
	}
}

// quietAddr is an address at which nothing listens, and nobody else will: others get ports of 127.0.0.1.
func quietAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.N(254), rand.N(256), 1+rand.N(254)))
	if err != nil { // where 127.0.0.1 is the only one
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	return l.Addr().String()
}

func TestUpstreamAway(t *testing.T) {
	t.Parallel()
	addr := quietAddr(t)
	r := proxiedTo(t, "http://"+addr, nil)
	for range 3 {
		resp, body := r.get(nil)
		id := resp.Header.Get("X-Request-Id")
		if resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "application server is not available") || id == "" || !strings.Contains(body, id) {
			t.Fatalf("got %d %q", resp.StatusCode, body)
		}
	}
	if n := strings.Count(r.logs.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d error lines for one event", n)
	}
	r.anonymous().beat() // windows do not need the application server
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	app := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.NotFoundHandler()}}
	app.Start()
	t.Cleanup(app.Close)
	if resp, _ := r.get(nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("after it came back: %d", resp.StatusCode)
	}
	if !strings.Contains(r.logs.String(), "application server is back") {
		t.Error("its return is not in the log")
	}
	r.eventually("all is counted", func() bool { // what the client has seen to its end, the gateway may not have counted yet
		return r.counts.get("proxy away") == 3 && r.counts.get("proxied Bad Gateway") == 3 && r.counts.get("proxied Not Found") == 1
	})
}

func TestUpstreamBreaksOff(t *testing.T) {
	t.Parallel()
	r := proxied(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}, nil)
	resp, _ := r.get(func(req *http.Request) { req.Method = http.MethodPost })
	if resp.StatusCode != http.StatusBadGateway || r.counts.get("proxy broken") != 1 {
		t.Errorf("got %d, counts %v", resp.StatusCode, r.counts.n)
	}
}

func TestUpstreamTimeout(t *testing.T) {
	t.Parallel()
	ctx, stop := contextOf(t)
	r := proxied(t, func(http.ResponseWriter, *http.Request) { <-ctx.Done() },
		func(c *Config) { c.UpstreamHeaderTimeout = 20 * time.Millisecond })
	resp, body := r.get(nil)
	stop()
	if resp.StatusCode != http.StatusGatewayTimeout || !strings.Contains(body, resp.Header.Get("X-Request-Id")) {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	arrived, ctx := make(chan struct{}), t.Context()
	r := proxied(t, func(_ http.ResponseWriter, req *http.Request) {
		close(arrived)
		<-req.Context().Done()
	}, nil)
	ctx, cancel := context.WithCancel(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-arrived
		cancel()
	}()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	if _, err := tr.RoundTrip(req); err == nil {
		t.Fatal("no error")
	}
	r.eventually("counted", func() bool { return r.counts.get("proxy canceled") == 1 })
	if strings.Contains(r.logs.String(), "level=ERROR") {
		t.Error("a client that left is in the log as an error")
	}
}

// TestClientBreaksOffItsBody: a request that ends too early is the client's fault, not the application server's.
func TestClientBreaksOffItsBody(t *testing.T) {
	t.Parallel()
	r := proxied(t, func(_ http.ResponseWriter, req *http.Request) { _, _ = io.Copy(io.Discard, req.Body) }, nil)
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// A chunk size that is none: the connection stays open, so only the body's own error tells.
	if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"); err != nil {
		t.Fatal(err)
	}
	r.eventually("counted", func() bool { return r.counts.get("proxy canceled") == 1 })
	if logs := r.logs.String(); strings.Contains(logs, "application server") {
		t.Errorf("the application server is blamed: %s", logs)
	}
}

func TestUnixUpstream(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "app.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	app := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Host)
	})}}
	app.Start()
	t.Cleanup(app.Close)
	r := proxiedTo(t, "unix://"+path, nil)
	if resp, body := r.get(nil); resp.StatusCode != http.StatusOK || "http://"+body != r.server.URL {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

// TestOtherWebsockets go to the application server, and end when the gateway does.
func TestOtherWebsockets(t *testing.T) {
	t.Parallel()
	r := proxied(t, func(w http.ResponseWriter, req *http.Request) {
		up := websocket.Upgrader{Subprotocols: []string{"chat"}}
		ws, err := up.Upgrade(w, req, nil)
		if err != nil {
			return
		}
		defer func() { _ = ws.Close() }()
		for {
			kind, data, err := ws.ReadMessage()
			if err != nil || ws.WriteMessage(kind, append([]byte(req.URL.Path+" "), data...)) != nil {
				return
			}
		}
	}, nil)
	d := websocket.Dialer{Subprotocols: []string{"chat"}}
	ws, _, err := d.Dial("ws"+strings.TrimPrefix(r.server.URL, "http")+"/other/", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{ws, t}
	defer func() { _ = c.Close() }()
	if c.Subprotocol() != "chat" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	c.send("hello")
	c.expect("/other/ hello")
	r.stop()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, _, err := c.ReadMessage(); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("after the drain: %v", err)
	}
	r.eventually("counted", func() bool { return r.counts.get("proxied Switching Protocols") == 1 })
}

// TestPathsBesideTheWebsocket: only a handshake at exactly the path is a window.
func TestPathsBesideTheWebsocket(t *testing.T) {
	t.Parallel()
	r := proxied(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, nil)
	for _, path := range []string{"/ws", "/ws/extra", "/ws/", "/"} {
		resp, _ := r.get(func(req *http.Request) { req.URL.Path = path })
		if resp.StatusCode != http.StatusTeapot {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if _, resp, err := (&websocket.Dialer{}).Dial("ws"+strings.TrimPrefix(r.server.URL, "http")+"/ws/extra", nil); err == nil || resp.StatusCode != http.StatusTeapot {
		t.Errorf("handshake at another path: %v", err)
	}
}

func TestWithoutUpstream(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	if resp, _ := r.get(nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("got %d", resp.StatusCode)
	}
}

// TestOtherUpgrades: the application server is asked for websockets only, so that nobody speaks to it past the gateway.
func TestOtherUpgrades(t *testing.T) {
	t.Parallel()
	for upgrade, want := range map[string]string{"h2c": "", "TLS/1.0": "", "h2c, WebSocket": "websocket", "websocket": "websocket"} {
		t.Run(upgrade, func(t *testing.T) {
			t.Parallel()
			gotC := make(chan string, 1)
			r := proxied(t, func(w http.ResponseWriter, req *http.Request) {
				gotC <- req.Header.Get("Upgrade")
				w.WriteHeader(http.StatusTeapot)
			}, nil)
			resp, _ := r.get(func(req *http.Request) {
				req.Header.Set("Connection", "Upgrade, HTTP2-Settings")
				req.Header.Set("Upgrade", upgrade)
			})
			if got := <-gotC; got != want || resp.StatusCode != http.StatusTeapot {
				t.Errorf("asked for %q, want %q; status %d", got, want, resp.StatusCode)
			}
		})
	}
}
