package gateway

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// overTLS serves the gateway of a rig over TLS with HTTP/2, as `dfws gateway` does.
func (r *rig) overTLS() *httptest.Server {
	r.t.Helper()
	server := httptest.NewUnstartedServer(r.Handler())
	server.EnableHTTP2 = true
	server.StartTLS()
	r.t.Cleanup(server.Close)
	return server
}

// TestWindowOverTLS: a socket that can only be written with waiting works as any other, also with more than it takes at once.
func TestWindowOverTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	server := r.overTLS()
	r.tickets.set(testKey, windowTicket(t, testKey, "news"))
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, HandshakeTimeout: patience}
	ws, _, err := dialer.Dial("wss"+strings.TrimPrefix(server.URL, "https")+"/ws/", cookies(testKey, testSession))
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	c := &client{ws, t}
	c.beat()
	large := strings.Repeat("x", 500_000)
	r.receiver.send(groupOf("news"), "small")
	r.receiver.send(groupOf("news"), large)
	r.receiver.send(groupOf("news"), "small again")
	c.expect("small")
	c.expect(large)
	c.expect("small again")
	c.send(`{"signal":"site.signal","opts":{}}`)
	c.beat()
	if n := len(r.publisher.queued()); n != 1 {
		t.Errorf("%d signals", n)
	}
	r.stop()
	c.expectClose(CloseGoingAway)
}

// TestOverHTTP2: pages and streams work.
func TestOverHTTP2(t *testing.T) {
	t.Parallel()
	r := proxied(t, func(w http.ResponseWriter, req *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		lines := bufio.NewReader(req.Body)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				break
			}
			_, _ = io.WriteString(w, req.Proto+" "+req.Header.Get("X-Forwarded-Proto")+" "+line)
			_ = http.NewResponseController(w).Flush()
		}
		w.Header().Set("X-Sum", "1")
	}, nil)
	server := r.overTLS()
	body, writer := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/stream", body)
	if err != nil {
		t.Fatal(err)
	}
	respC := make(chan *http.Response, 1)
	go func() {
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Error(err)
		}
		respC <- resp
	}()
	_, _ = io.WriteString(writer, "one\n")
	resp := <-respC
	if resp == nil {
		return
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != "HTTP/1.1 https one\n" || resp.ProtoMajor != 2 {
		t.Fatalf("%s: %q, %v", resp.Proto, line, err)
	}
	_, _ = io.WriteString(writer, "two\n")
	if line, err := lines.ReadString('\n'); err != nil || line != "HTTP/1.1 https two\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_ = writer.Close()
	if _, err := io.ReadAll(lines); err != nil || resp.Trailer.Get("X-Sum") != "1" {
		t.Errorf("trailers %v, %v", resp.Trailer, err)
	}
}

// TestWebsocketOverHTTP2: it is not offered (RFC 8441), and a client that asks all the same is refused before the gateway sees it.
func TestWebsocketOverHTTP2(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	server := r.overTLS()
	for name, tc := range map[string]struct {
		head []string
		want string
	}{
		"upgrade":          {[]string{":method", "GET", ":scheme", "https", ":path", "/ws/", ":authority", "x", "upgrade", "websocket"}, "400"},
		"extended connect": {[]string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/ws/", ":authority", "x"}, "reset"},
	} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(server.URL, "https://"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(patience))
		var block []byte // HPACK: literal fields without indexing, no Huffman (RFC 7541, section 6.2.2)
		for i := 0; i < len(tc.head); i += 2 {
			block = append(append(append(block, 0, byte(len(tc.head[i]))), tc.head[i]...), byte(len(tc.head[i+1])))
			block = append(block, tc.head[i+1]...)
		}
		_, _ = io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
		_, _ = conn.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0})                                  // SETTINGS
		_, _ = conn.Write(append([]byte{0, 0, byte(len(block)), 1, 5, 0, 0, 0, 1}, block...)) // HEADERS, the end of stream 1
		if got := h2Outcome(t, conn); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
	if r.counts.get("opened") != 0 {
		t.Error("a window over HTTP/2")
	}
}

// h2Outcome reads frames until there is one about stream 1: "400", "reset", or its bytes. It checks the settings on its way.
func h2Outcome(t *testing.T, conn io.Reader) string {
	t.Helper()
	for {
		head := make([]byte, 9)
		if _, err := io.ReadFull(conn, head); err != nil {
			t.Fatal(err)
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(conn, payload); err != nil {
			t.Fatal(err)
		}
		switch kind, stream := head[3], head[8]; {
		case kind == 4: // SETTINGS: pairs of two and four bytes
			for ; len(payload) >= 6; payload = payload[6:] {
				if payload[1] == 8 && payload[5] != 0 {
					t.Error("SETTINGS_ENABLE_CONNECT_PROTOCOL is on")
				}
			}
		case stream != 1:
		case kind == 3:
			return "reset"
		case kind == 1 && payload[0] == 0x80|12: // the static table's ":status: 400"
			return "400"
		default:
			return fmt.Sprintf("frame %d %x", kind, payload)
		}
	}
}
