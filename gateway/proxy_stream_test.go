package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// TestEvents: each event of a stream is there before the next is sent.
func TestEvents(t *testing.T) {
	t.Parallel()
	nextC := make(chan int)
	r := proxied(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for {
			select {
			case n := <-nextC:
				_, _ = fmt.Fprintf(w, "data: %d\n\n", n)
				_ = http.NewResponseController(w).Flush()
			case <-req.Context().Done():
				return
			}
		}
	}, nil)
	conn := r.dialRaw()
	_, _ = io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
	nextC <- 0
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	for n := range 3 {
		line, err := lines.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", n) {
			t.Fatalf("got %q, %v", line, err)
		}
		_, _ = lines.ReadString('\n')
		if n < 2 {
			nextC <- n + 1
		}
	}
	_ = conn.Close() // the application hears of it: its handler ends
}

// TestExpectContinue: the client sends its body only when the application wants it.
func TestExpectContinue(t *testing.T) {
	t.Parallel()
	r := proxied(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/refuse" {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		body, _ := io.ReadAll(req.Body)
		_, _ = fmt.Fprintf(w, "%s %s", req.Header.Get("Expect"), body)
	}, nil)

	conn := r.dialRaw()
	in := bufio.NewReader(conn)
	_, _ = io.WriteString(conn, "POST /take HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	line, err := in.ReadString('\n')
	if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	_, _ = in.ReadString('\n')
	_, _ = io.WriteString(conn, "hello")
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "100-continue hello" {
		t.Errorf("got %q, %v", body, err)
	}

	conn = r.dialRaw()
	in = bufio.NewReader(conn)
	_, _ = io.WriteString(conn, "POST /refuse HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	if resp, err = http.ReadResponse(in, nil); err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %v, %v", resp, err)
	}
}

// TestEarlyAnswer: an answer that comes before the end of an upload reaches a client that sends no more until it has one.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	w := answering(t, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
	r := proxiedTo(t, w.url(), nil)
	for _, framing := range []string{"Content-Length: 1000\r\n\r\nhello", "Content-Length: 1000000000\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"} {
		conn := r.dialRaw()
		_, _ = io.WriteString(conn, "POST /upload HTTP/1.1\r\nHost: x\r\n"+framing)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Fatalf("%q: got %v, %v", framing, resp, err)
		}
	}
}

// TestTrailers pass in both directions, those that a client may not say excepted.
func TestTrailers(t *testing.T) {
	t.Parallel()
	gotC := make(chan http.Header, 1)
	r := proxied(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		gotC <- req.Trailer
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Late", "43")
	}, nil)
	conn := r.dialRaw()
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check, X-Forwarded-For, X_Real_Ip\r\n\r\n"+
		"5\r\nhello\r\n0\r\nX-Check: 7\r\nX-Forwarded-For: 6.6.6.6\r\nX_Real_Ip: 6.6.6.6\r\nX-Unannounced: 8\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "body" {
		t.Errorf("got %q, %v", body, err)
	}
	if got := <-gotC; len(got) != 1 || got.Get("X-Check") != "7" {
		t.Errorf("the application server got the trailers %v", got)
	}
	if resp.Trailer.Get("X-Sum") != "42" || resp.Trailer.Get("X-Late") != "43" {
		t.Errorf("the client got the trailers %v", resp.Trailer)
	}
}

// TestOldClient: HTTP/1.0 knows neither chunks nor kept connections.
func TestOldClient(t *testing.T) {
	t.Parallel()
	r := proxied(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			_, _ = io.WriteString(w, "part ")
			_ = http.NewResponseController(w).Flush()
		}
	}, nil)
	conn := r.dialRaw()
	_, _ = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
	all, err := io.ReadAll(conn)
	if err != nil || !strings.HasSuffix(string(all), "\r\n\r\npart part part ") || strings.Contains(string(all), "chunked") {
		t.Errorf("got %q, %v", all, err)
	}
}

// TestEarlyHints: informational answers are passed on, and do not spoil the final one.
func TestEarlyHints(t *testing.T) {
	t.Parallel()
	r := proxied(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.Copy(io.Discard, req.Body)
		w.WriteHeader(http.StatusTeapot)
	}, nil)
	hints := 0
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == http.StatusEarlyHints && h.Get("Link") != "" {
			hints++
		}
		return nil
	}}
	resp, _ := r.get(func(req *http.Request) { *req = *req.WithContext(httptrace.WithClientTrace(req.Context(), trace)) })
	if resp.StatusCode != http.StatusTeapot || hints != 1 {
		t.Errorf("status %d after %d hints", resp.StatusCode, hints)
	}
}

// TestLargeUpload: the body is not held: the application server's pace is the client's.
func TestLargeUpload(t *testing.T) {
	t.Parallel()
	const size = 64 << 20
	startC := make(chan struct{})
	r := proxied(t, func(w http.ResponseWriter, req *http.Request) {
		<-startC
		n, err := io.Copy(io.Discard, req.Body)
		_, _ = fmt.Fprint(w, n, err)
	}, nil)
	conn := r.dialRaw()
	_, _ = fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
	chunk, sent := make([]byte, 1<<20), 0
	// Far less than all of it fits into what lies between: the buffers of two connections.
	for sent < size/2 {
		n, err := writeSome(conn, chunk)
		sent += n
		if err != nil {
			break
		}
	}
	if sent >= size/2 {
		t.Errorf("%d bytes were taken before the application read any", sent)
	}
	close(startC)
	for sent < size {
		n, err := conn.Write(chunk[:min(len(chunk), size-sent)])
		if sent += n; err != nil {
			t.Fatal(err)
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != fmt.Sprint(size, " <nil>") {
		t.Errorf("got %s", body)
	}
}

// writeSome writes for as long as the peer takes anything within half a second.
func writeSome(conn net.Conn, p []byte) (int, error) {
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second / 2))
	defer conn.SetWriteDeadline(time.Now().Add(patience))
	return conn.Write(p)
}
