package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/dfws/dfws/compat"
)

// TestSlowHandshakes: clients that let their request drip are cut when their time for the header is over; others are served meanwhile.
func TestSlowHandshakes(t *testing.T) {
	t.Parallel()
	f, _, err := frontOf(t, compat.Site{})
	if err != nil {
		t.Fatal(err)
	}
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	browsers := f.server(served)
	if browsers.ReadHeaderTimeout != readHeaderTimeout || browsers.MaxHeaderBytes != maxHeaderBytes || browsers.IdleTimeout != idleTimeout {
		t.Errorf("the server for browsers has the limits %v, %d bytes, %v", browsers.ReadHeaderTimeout, browsers.MaxHeaderBytes, browsers.IdleTimeout)
	}
	server := httptest.NewUnstartedServer(nil)
	server.Config = browsers
	browsers.ReadHeaderTimeout = 300 * time.Millisecond // the real one takes ten seconds
	server.Start()
	defer server.Close()
	var slow []net.Conn
	for range 100 {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := io.WriteString(conn, "GET /ws/ HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nX-Drip: "); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, conn)
	}
	resp, err := server.Client().Get(server.URL)
	if err != nil || resp.StatusCode != http.StatusNoContent {
		t.Fatalf("a client beside them got %v, %v", resp, err)
	}
	_ = resp.Body.Close()
	for _, conn := range slow {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		// net/http answers nothing, or 408; never as if the request were whole.
		if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil && resp.StatusCode < 400 {
			t.Fatalf("half a request was answered with %s", resp.Status)
		} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			t.Fatal("a slow client keeps its connection")
		}
	}
}
