package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/cmd/internal/app"
	"github.com/dfws/dfws/compat"
)

// frontOf makes a front from a command line.
func frontOf(t *testing.T, site compat.Site, args ...string) (*front, *gatewayOptions, error) {
	t.Helper()
	options, o := newGatewayOptions(environment{stderr: io.Discard})
	if err := options.Parse(args, func(string) (string, bool) { return "", false }); err != nil {
		t.Fatal(err)
	}
	f, err := newFront(o, &compat.Settings{Site: site}, app.NewMetrics(), slog.New(slog.DiscardHandler))
	if err == nil {
		t.Cleanup(func() {
			if err := f.close(); err != nil {
				t.Error(err)
			}
		})
	}
	return f, o, err
}

func TestFrontFaults(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want []string
	}{
		{[]string{"--trusted-proxy", "10.0.0.0/8,here,10.0.0.1/33"}, []string{"trusted-proxy", `"here"`, `"10.0.0.1/33"`}},
		{[]string{"--proxy-protocol"}, []string{"proxy-protocol", "--trusted-proxy"}},
		{[]string{"--pprof"}, []string{"pprof", "--admin"}},
		{[]string{"--exec", "gunicorn x", "--upstream", "http://x"}, []string{"exec", "--upstream"}},
		{[]string{"--exec", "myserver"}, []string{"exec", "{socket}"}},
		{[]string{"--tls-cert", "a,b", "--tls-key", "a"}, []string{"tls-key", "1 keys for 2"}},
		{[]string{"--tls-cert", "no-such-file", "--tls-key", "a"}, []string{"tls-cert", "no-such-file"}},
		{[]string{"--static"}, []string{"static", "STATIC_URL"}},
		{[]string{"--static", "--proxy-protocol", "--pprof"}, []string{"static", "proxy-protocol", "pprof"}}, // all at once
	} {
		_, _, err := frontOf(t, compat.Site{}, tc.args...)
		for _, want := range tc.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v: %v does not say %s", tc.args, err, want)
			}
		}
	}
}

func TestParsePrefixes(t *testing.T) {
	t.Parallel()
	got, err := parsePrefixes([]string{"10.0.0.0/8", "192.0.2.1", "::1", "2001:db8::/32", "::ffff:192.0.2.2"})
	var want []netip.Prefix
	for _, text := range []string{"10.0.0.0/8", "192.0.2.1/32", "::1/128", "2001:db8::/32", "192.0.2.2/32"} {
		want = append(want, netip.MustParsePrefix(text))
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestReadyHost(t *testing.T) {
	t.Parallel()
	for want, allowed := range map[string][]string{
		"localhost": nil, "a.example": {"*", "a.example"}, "b.example": {".b.example"}, "c.example:81": {"c.example:81", "d"},
	} {
		if got := readyHost(allowed); got != want {
			t.Errorf("%v: %s", allowed, got)
		}
	}
}

// serveFront serves a front, with a gateway that says who its client is, until the test ends.
func serveFront(t *testing.T, f *front) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := f.server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "gateway ", r.Proto, " ", r.TLS != nil, " ", r.RemoteAddr)
	}))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.serve(server, l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		_ = server.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// writeCertificate writes a certificate into files.
func writeCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM, keyPEM := testCertificate(t)
	if err := errors.Join(os.WriteFile(cert, certPEM, 0o600), os.WriteFile(key, keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// TestEverythingBefore: PROXY header, then TLS, then HTTP/1.1 or HTTP/2, then static files beside the gateway.
func TestEverythingBefore(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.css"), []byte("css"), 0o600); err != nil {
		t.Fatal(err)
	}
	cert, key := writeCertificate(t)
	f, o, err := frontOf(t, compat.Site{StaticURL: "/static/", StaticRoot: root},
		"--static", "--static-max-age", "0", "--tls-cert", cert, "--tls-key", key, "--proxy-protocol", "--trusted-proxy", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if len(o.TrustedProxies) != 1 {
		t.Errorf("trusted %v", o.TrustedProxies)
	}
	addr := serveFront(t, f)
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		transport := &http.Transport{
			ForceAttemptHTTP2: protocol == "HTTP/2.0", TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				if err == nil {
					_, err = io.WriteString(conn, "PROXY TCP4 192.0.2.1 10.0.0.1 4660 443\r\n")
				}
				return conn, err
			},
		}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
		for path, want := range map[string]string{"/": "gateway " + protocol + " true 192.0.2.1:4660", "/static/a.css": "css"} {
			resp, err := client.Get("https://" + addr + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || string(body) != want {
				t.Errorf("%s %s: %q, %v", protocol, path, body, err)
			}
			if path != "/" && resp.Header.Get("Cache-Control") != "no-cache" {
				t.Errorf("headers %v", resp.Header)
			}
		}
	}
}

// TestLimitsOfRequests: what is too large, or could hide another request, ends its connection.
func TestLimitsOfRequests(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.css"), []byte("css"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, _, err := frontOf(t, compat.Site{StaticURL: "/static/", StaticRoot: root}, "--static")
	if err != nil {
		t.Fatal(err)
	}
	addr := serveFront(t, f)
	next := "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	for name, tc := range map[string]struct {
		request string
		want    []int
	}{
		"large header":         {"GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + strings.Repeat("x", 2*maxHeaderBytes) + "\r\n\r\n", []int{431}},
		"large request line":   {"GET /" + strings.Repeat("x", 2*maxHeaderBytes) + " HTTP/1.1\r\nHost: x\r\n\r\n", []int{431}},
		"many headers":         {"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-Many: 1\r\n", maxHeaderBytes/8) + "\r\n", []int{431}},
		"chunks to a file":     {"GET /static/a.css HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + next, []int{200}},
		"HTTP/1.0 to a file":   {"GET /static/a.css HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + next, []int{200}},
		"plain, to a file":     {"GET /static/a.css HTTP/1.1\r\nHost: x\r\n\r\n" + next, []int{200, 200}},
		"a file that is not":   {"GET /static/../secret HTTP/1.1\r\nHost: x\r\n\r\n" + next, []int{404, 200}},
		"encoded slash, a dot": {"GET /static/%2e%2e%2fsecret HTTP/1.1\r\nHost: x\r\n\r\n" + next, []int{404, 200}},
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = io.WriteString(conn, tc.request) // may be cut short by the answer
		in := bufio.NewReader(conn)
		var got []int
		for {
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				break
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			got = append(got, resp.StatusCode)
		}
		_ = conn.Close()
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// TestFrontWithoutOptions changes nothing.
func TestFrontWithoutOptions(t *testing.T) {
	t.Parallel()
	f, o, err := frontOf(t, compat.Site{})
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	f.handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })).
		ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/static/a.css", nil))
	ready := errors.New("gateway")
	if rec.Code != http.StatusTeapot || o.FindUpstream != nil || !errors.Is(f.ready(func() error { return ready })(), ready) {
		t.Errorf("status %d", rec.Code)
	}
	if err := f.runAppServer(t.Context(), func(err error) { t.Error(err) })(); err != nil {
		t.Error(err)
	}
	f.reload()
}
