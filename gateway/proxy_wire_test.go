package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// wire is an application server that answers with given bytes and keeps the heads of the requests as they came.
type wire struct {
	net.Listener
	wg sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	heads []string
}

// newWire listens; serve handles each connection, the first has number 1.
func newWire(t *testing.T, serve func(w *wire, number int, conn net.Conn, in *bufio.Reader)) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l}
	w.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			w.conns = append(w.conns, conn)
			number := len(w.conns)
			w.mu.Unlock()
			w.wg.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(patience))
				serve(w, number, conn, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.mu.Lock()
		for _, conn := range w.conns {
			_ = conn.Close()
		}
		w.mu.Unlock()
		w.wg.Wait()
	})
	return w
}

// head reads and notes the head of one request.
func (w *wire) head(in *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return "", err
		}
		head.WriteString(line)
		if line == "\r\n" {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.heads = append(w.heads, head.String())
			return head.String(), nil
		}
	}
}

func (w *wire) seen() (heads []string, conns int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heads, len(w.conns)
}

func (w *wire) url() string { return "http://" + w.Addr().String() }

// answering answers every request with the same bytes and keeps the connection.
func answering(t *testing.T, answer string) *wire {
	t.Helper()
	return newWire(t, func(w *wire, _ int, conn net.Conn, in *bufio.Reader) {
		for {
			if _, err := w.head(in); err != nil {
				return
			}
			if _, err := io.WriteString(conn, answer); err != nil {
				return
			}
		}
	})
}

const emptyOK = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

// dialRaw opens a connection to the gateway that ends with the test.
func (r *rig) dialRaw() net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.server.URL, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// statuses sends bytes and returns the statuses of all answers until the gateway closes the connection.
func (r *rig) statuses(text string) []int {
	r.t.Helper()
	conn := r.dialRaw()
	if _, err := io.WriteString(conn, text); err != nil {
		r.t.Fatal(err)
	}
	in := bufio.NewReader(conn)
	var got []int
	for {
		resp, err := http.ReadResponse(in, nil)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return got
		}
		if err != nil {
			r.t.Fatalf("after %v: %v", got, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		got = append(got, resp.StatusCode)
	}
}

// TestSmuggling: no two servers may see different requests in the same bytes. Where the gateway could see one request and a proxy before it
// two, or the reverse, nothing else is read from that connection.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	const next = "GET /smuggled HTTP/1.1\r\nHost: site.example\r\nConnection: close\r\n\r\n"
	const chunks = "5\r\nhello\r\n0\r\n\r\n"
	for name, tc := range map[string]struct {
		request string
		want    []int  // statuses until the connection is closed
		head    string // in what the application server got
		without string // not in it
	}{
		"plain":                        {"GET /a HTTP/1.1\r\nHost: site.example\r\n\r\n" + next, []int{200, 200}, "GET /a HTTP/1.1\r\nHost: site.example\r\n", ""},
		"two hosts":                    {"GET /a HTTP/1.1\r\nHost: site.example\r\nHost: evil.example\r\n\r\n" + next, []int{400}, "", ""},
		"no host":                      {"GET /a HTTP/1.1\r\n\r\n" + next, []int{400}, "", ""},
		"bad host":                     {"GET /a HTTP/1.1\r\nHost: a b\r\n\r\n" + next, []int{400}, "", ""},
		"absolute form":                {"GET http://real.example/a HTTP/1.1\r\nHost: site.example\r\n\r\n" + next, []int{200, 200}, "GET /a HTTP/1.1\r\nHost: real.example\r\n", "site.example\r\nHost"},
		"two lengths":                  {"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + next, []int{400}, "", ""},
		"the same length twice":        {"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello" + next, []int{200, 200}, "Content-Length: 5\r\n", "Content-Length: 5\r\nContent-Length"},
		"list of lengths":              {"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello" + next, []int{400}, "", ""},
		"signed length":                {"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello" + next, []int{400}, "", ""},
		"length and chunks":            {"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + next, []int{200}, "Transfer-Encoding: chunked\r\n", "Content-Length"},
		"chunks":                       {"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + next, []int{200}, "Transfer-Encoding: chunked\r\n", "Content-Length"},
		"other encoding":               {"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n" + chunks + next, []int{501}, "", ""},
		"two encodings":                {"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunks + next, []int{501}, "", ""},
		"list of encodings":            {"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity, chunked\r\n\r\n" + chunks + next, []int{501}, "", ""},
		"vertical tab in the encoding": {"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \vchunked\r\n\r\n" + chunks + next, []int{400}, "", ""},
		"chunks in HTTP/1.0":           {"POST /a HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + next, []int{200}, "POST /a HTTP/1.1\r\n", "chunked"},
		"HTTP/1.0, kept":               {"GET /a HTTP/1.0\r\nConnection: keep-alive\r\nHost: x\r\n\r\n" + next, []int{200}, "GET /a HTTP/1.1\r\n", ""},
		"space before the colon":       {"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\nhello" + next, []int{400}, "", ""},
		"folded line":                  {"GET /a HTTP/1.1\r\nHost: x\r\nX-Long: one\r\n two\r\n\r\n" + next, []int{200, 200}, "X-Long: one two\r\n", ""},
		"folded encoding":              {"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n" + chunks + next, []int{200}, "Transfer-Encoding: chunked\r\n", ""},
		"first line folded":            {"GET /a HTTP/1.1\r\n Host: x\r\n\r\n" + next, []int{400}, "", ""},
		"NUL":                          {"GET /a HTTP/1.1\r\nHost: x\r\nX-Nul: a\x00b\r\n\r\n" + next, []int{400}, "", ""},
		"bare CR":                      {"GET /a HTTP/1.1\r\nHost: x\r\nX-Cr: a\rTransfer-Encoding: chunked\r\n\r\n" + next, []int{400}, "", ""},
		"header without a name":        {"GET /a HTTP/1.1\r\nHost: x\r\n: value\r\n\r\n" + next, []int{400}, "", ""},
		"line without a colon":         {"GET /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding\r\n\r\n" + next, []int{400}, "", ""},
		"underscore":                   {"GET /a HTTP/1.1\r\nHost: x\r\nContent_Length: 5\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n" + next, []int{200, 200}, "X-Forwarded-For: 127.0.0.1\r\n", "_"},
		"upgrade with a body":          {"GET /a HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello" + next, []int{400}, "", ""},
		"window with a body":           {"GET /ws/ HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello" + next, []int{400}, "", ""},
		"window with two keys": {"GET /ws/ HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + next, []int{400}, "", ""},
		"tunnel":           {"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n" + next, []int{405}, "", ""},
		"trace":            {"TRACE / HTTP/1.1\r\nHost: x\r\nCookie: secret\r\n\r\n" + next, []int{405}, "", ""},
		"HTTP/2 in clear":  {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + next, []int{505}, "", ""},
		"HTTP/0.9":         {"GET /a\r\n\r\n" + next, []int{400}, "", ""},
		"two slashes":      {"GET //evil.example/a HTTP/1.1\r\nHost: x\r\n\r\n" + next, []int{200, 200}, "GET //evil.example/a HTTP/1.1\r\n", ""},
		"space in the URI": {"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n" + next, []int{400}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, func(w *wire, _ int, conn net.Conn, in *bufio.Reader) {
				for {
					head, err := w.head(in)
					if err != nil {
						return
					}
					if strings.Contains(head, "chunked") {
						_, err = io.CopyN(io.Discard, in, int64(len(chunks)))
					} else if strings.Contains(head, "Content-Length: 5") {
						_, err = io.CopyN(io.Discard, in, 5)
					}
					if err != nil {
						return
					}
					if _, err := io.WriteString(conn, emptyOK); err != nil {
						return
					}
				}
			})
			r := proxiedTo(t, w.url(), nil)
			got := r.statuses(tc.request)
			heads, _ := w.seen()
			if fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Fatalf("answers %v, want %v; the application server got %q", got, tc.want, heads)
			}
			passed := 0
			for _, status := range tc.want {
				if status == http.StatusOK {
					passed++
				}
			}
			if len(heads) != passed {
				t.Fatalf("the application server got %q", heads)
			}
			if passed > 0 && (!strings.Contains(heads[0], tc.head) || tc.without != "" && strings.Contains(heads[0], tc.without)) {
				t.Errorf("the application server got %q", heads[0])
			}
		})
	}
}

// TestRetries: a request is sent again only when the kept connection was dead before a byte of an answer came, and then only when nobody can
// have acted on it twice.
func TestRetries(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		method, body string
		answer       string // to the second request of the first connection, before it is closed
		status       int
		requests     int // that the application server has seen, the first included
	}{
		"GET":                         {http.MethodGet, "", "", 200, 3},
		"HEAD":                        {http.MethodHead, "", "", 200, 3},
		"POST without a body":         {http.MethodPost, "", "", 502, 2},
		"POST":                        {http.MethodPost, "body", "", 502, 2},
		"PUT":                         {http.MethodPut, "body", "", 502, 2},
		"GET with a body":             {http.MethodGet, "body", "", 502, 2},
		"GET, after a byte of answer": {http.MethodGet, "", "HTTP/1.1 2", 502, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, func(w *wire, number int, conn net.Conn, in *bufio.Reader) {
				for n := 1; ; n++ {
					if _, err := w.head(in); err != nil {
						return
					}
					answer := emptyOK
					if number == 1 && n == 2 {
						_, _ = io.WriteString(conn, tc.answer)
						return
					}
					if _, err := io.WriteString(conn, answer); err != nil {
						return
					}
				}
			})
			r := proxiedTo(t, w.url(), nil)
			r.get(nil) // makes the connection
			resp, _ := r.get(func(req *http.Request) {
				req.Method = tc.method
				if tc.body != "" {
					req.Body, req.ContentLength = io.NopCloser(strings.NewReader(tc.body)), int64(len(tc.body))
				}
			})
			if heads, _ := w.seen(); resp.StatusCode != tc.status || len(heads) != tc.requests {
				t.Errorf("status %d, requests %q", resp.StatusCode, heads)
			}
		})
	}
}

func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	w := answering(t, emptyOK)
	r := proxiedTo(t, w.url(), nil)
	for range 5 {
		if resp, _ := r.get(nil); resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	if heads, conns := w.seen(); len(heads) != 5 || conns != 1 {
		t.Errorf("%d requests on %d connections", len(heads), conns)
	}
}

// TestAnswerHeaders: what the application server says to a web server in headers is data here, and hop-by-hop headers end here.
func TestAnswerHeaders(t *testing.T) {
	t.Parallel()
	w := answering(t, "HTTP/1.1 200 OK\r\nX-Sendfile: /etc/passwd\r\nX-Accel-Redirect: /internal/x\r\nX-Accel-Buffering: no\r\n"+
		"Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: x\r\nServer: app\r\n"+
		"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 4\r\n\r\nbody")
	r := proxiedTo(t, w.url(), nil)
	resp, body := r.get(nil)
	if resp.StatusCode != http.StatusOK || body != "body" {
		t.Fatalf("got %d %q", resp.StatusCode, body)
	}
	for name, want := range map[string]string{
		"X-Sendfile": "/etc/passwd", "X-Accel-Redirect": "/internal/x", "X-Accel-Buffering": "no", "X-Hop": "", "Keep-Alive": "", "Connection": "",
		"Proxy-Authenticate": "", "Server": "app", "Set-Cookie": "a=1|b=2",
	} {
		if got := strings.Join(resp.Header[name], "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestBrokenAnswers: a part of an answer is never taken for the whole.
func TestBrokenAnswers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer string
		status int // 0: the answer breaks off
		kind   string
	}{
		"length":             {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart", 0, ProxyCut},
		"chunks":             {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n", 0, ProxyCut},
		"headers":            {"HTTP/1.1 200 OK\r\nContent-Le", 502, ProxyBroken},
		"no HTTP":            {"hello\r\n\r\n", 502, ProxyBroken},
		"endless headers":    {"HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 2*maxAnswerHeaderBytes), 502, ProxyBroken},
		"two lengths":        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 502, ProxyBroken},
		"unasked for":        {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 502, ProxyBroken},
		"until it is closed": {"HTTP/1.0 200 OK\r\n\r\nwhole", 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire(t, func(w *wire, _ int, conn net.Conn, in *bufio.Reader) {
				if _, err := w.head(in); err == nil {
					_, _ = io.WriteString(conn, tc.answer)
				}
			})
			r := proxiedTo(t, w.url(), nil)
			resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(must(http.NewRequest(http.MethodGet, r.server.URL, nil)))
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if tc.status == 0 && err == nil || tc.status != 0 && (err != nil || resp.StatusCode != tc.status) {
				t.Errorf("status %d, %v", resp.StatusCode, err)
			}
			if tc.kind != "" {
				r.eventually("counted", func() bool { return r.counts.get("proxy "+tc.kind) == 1 })
			}
			if tc.kind == ProxyCut {
				r.eventually("logged", func() bool { return strings.Contains(r.logs.String(), "no whole answer") })
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestFindUpstream: requests go where the application server is now, and to nobody while there is none.
func TestFindUpstream(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var now *url.URL
	set := func(u *url.URL) {
		mu.Lock()
		defer mu.Unlock()
		now = u
	}
	r := newRig(t, func(c *Config) {
		c.FindUpstream = func() *url.URL {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	resp, body := r.get(nil)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "is starting") {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	if r.counts.get("proxy starting") != 1 {
		t.Errorf("counts %v", r.counts.n)
	}
	dir := t.TempDir()
	for _, name := range []string{"1", "2"} {
		path := filepath.Join(dir, name)
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = server.Serve(l)
		}()
		t.Cleanup(func() {
			_ = server.Shutdown(context.Background())
			<-served
		})
		set(&url.URL{Scheme: "unix", Path: path})
		// The one before still keeps a connection of ours open.
		if resp, body := r.get(nil); resp.StatusCode != http.StatusOK || body != name {
			t.Errorf("got %d %q, want %q", resp.StatusCode, body, name)
		}
	}
}
