package listener

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// v2 is a header of version 2.
func v2(command, family byte, block []byte) string {
	h := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x20|command, family)
	return string(append(binary.BigEndian.AppendUint16(h, uint16(len(block))), block...))
}

var (
	addresses4 = []byte{192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80}
	tlvs       = []byte{0x04, 0, 3, 1, 2, 3} // PP2_TYPE_NOOP
	addresses6 = append(bytes.Repeat([]byte{0x20, 1}, 16), 0x12, 0x34, 0, 80)
)

// front serves behind WithProxyProtocol; a page says who its client is and whether its connection can be written past net/http.
func front(t *testing.T, trusted ...string) (addr string, refused *atomic.Int64) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var prefixes []netip.Prefix
	for _, p := range trusted {
		prefixes = append(prefixes, netip.MustParsePrefix(p))
	}
	refused = new(atomic.Int64)
	l := WithProxyProtocol(inner, prefixes, func(peer net.Addr, err error) {
		if !strings.HasPrefix(peer.String(), "127.0.0.1:") || err == nil {
			t.Errorf("refused %v, %v", peer, err)
		}
		refused.Add(1)
	})
	server := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		raw, err := conn.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Error(err)
			return
		}
		text := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.RemoteAddr), r.RemoteAddr)
		if err := raw.Write(func(fd uintptr) bool {
			_, err := syscall.Write(int(fd), []byte(text))
			return err == nil
		}); err != nil {
			t.Error(err)
		}
	})}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		_ = server.Close()
		wg.Wait()
	})
	return inner.Addr().String(), refused
}

// ask sends bytes and returns the status and body of the answer; 0 when there is none.
func ask(t *testing.T, addr, text string) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		t.Fatal("no answer and no end")
	}
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	addr, refused := front(t, "10.0.0.0/8", "127.0.0.0/8")
	for name, tc := range map[string]struct {
		header, client string // client: "" when the connection is closed, "peer" for the load balancer's own address
	}{
		"1, IPv4":               {"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n", "192.0.2.1:4660"},
		"1, IPv6":               {"PROXY TCP6 2001:db8::1 ::1 4660 80\r\n", "[2001:db8::1]:4660"},
		"1, unknown":            {"PROXY UNKNOWN\r\n", "peer"},
		"2, IPv4":               {v2(1, 0x11, addresses4), "192.0.2.1:4660"},
		"2, with more":          {v2(1, 0x11, append(bytes.Clone(addresses4), tlvs...)), "192.0.2.1:4660"},
		"2, IPv6":               {v2(1, 0x21, addresses6), "[2001:2001:2001:2001:2001:2001:2001:2001]:4660"},
		"2, local":              {v2(0, 0, nil), "peer"},
		"none":                  {"", ""},
		"2, UDP":                {v2(1, 0x12, addresses4), ""},
		"2, unix":               {v2(1, 0x31, make([]byte, 216)), ""},
		"2, no family":          {v2(1, 0, nil), ""},
		"2, unknown command":    {v2(2, 0x11, addresses4), ""},
		"2, too short":          {v2(1, 0x11, addresses4[:11]), ""},
		"2, too long":           {v2(1, 0x11, make([]byte, 60_000)), ""},
		"1, no address":         {"PROXY TCP4 192.0.2.999 10.0.0.1 4660 80\r\n", ""},
		"1, IPv6 as IPv4":       {"PROXY TCP4 2001:db8::1 ::1 4660 80\r\n", ""},
		"1, no port":            {"PROXY TCP4 192.0.2.1 10.0.0.1 70000 80\r\n", ""},
		"1, only a newline":     {"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\n", ""},
		"1, a line without end": {"PROXY TCP4 " + strings.Repeat("1", 200), ""},
		"two":                   {"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\nPROXY TCP4 192.0.2.2 10.0.0.1 4660 80\r\n", "400"},
	} {
		before := refused.Load()
		status, body := ask(t, addr, tc.header+request)
		got := body
		switch {
		case status == 0:
			got = ""
			eventually(t, name+": counted", func() bool { return refused.Load() == before+1 })
		case status != http.StatusOK:
			got = fmt.Sprint(status)
		case strings.HasPrefix(body, "127.0.0.1:"):
			got = "peer"
		}
		if got != tc.client {
			t.Errorf("%s: %d %q, want %q", name, status, body, tc.client)
		}
		if tc.client != "" && refused.Load() != before {
			t.Errorf("%s: counted as refused", name)
		}
	}
}

// TestProxyProtocolFromStrangers: who is not trusted is who he is, and cannot say otherwise.
func TestProxyProtocolFromStrangers(t *testing.T) {
	t.Parallel()
	addr, refused := front(t, "10.0.0.0/8")
	if status, body := ask(t, addr, request); status != http.StatusOK || !strings.HasPrefix(body, "127.0.0.1:") {
		t.Errorf("without a header: %d %q", status, body)
	}
	for _, header := range []string{"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n", v2(1, 0x11, addresses4)} {
		if status, body := ask(t, addr, header+request); status != http.StatusBadRequest {
			t.Errorf("%q: %d %q", header, status, body)
		}
	}
	if refused.Load() != 0 {
		t.Errorf("%d counted", refused.Load())
	}
}

// FuzzProxyHeader: a header either names a TCP address or changes nothing, and the bytes after it are whole.
func FuzzProxyHeader(f *testing.F) {
	for _, seed := range []string{
		"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n", "PROXY TCP6 2001:db8::1 ::1 4660 80\r\n", "PROXY UNKNOWN\r\n",
		v2(1, 0x11, addresses4), v2(1, 0x11, append(bytes.Clone(addresses4), tlvs...)), v2(1, 0x21, addresses6), v2(0, 0, nil), v2(1, 0x31, make([]byte, 216)),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, header []byte) {
		const rest = "rest of the stream"
		inner := &streamConn{Reader: strings.NewReader(string(header) + rest)}
		conn := proxyproto.NewConn(inner, proxyproto.WithPolicy(proxyproto.REQUIRE), proxyproto.SetReadHeaderTimeout(headerTimeout),
			proxyproto.ValidateHeader(onlyTCP))
		client := conn.RemoteAddr()
		all, err := io.ReadAll(conn)
		if err != nil {
			if client != streamAddr {
				t.Errorf("%q: refused (%v), and yet from %v", header, err, client)
			}
			return
		}
		if _, ok := client.(*net.TCPAddr); !ok || client.String() == "" {
			t.Errorf("%q: from %v", header, client)
		}
		if !strings.HasSuffix(string(header)+rest, string(all)) {
			t.Errorf("%q: the rest is %q", header, all)
		}
	})
}

var streamAddr net.Addr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}

// streamConn is a connection that gives bytes and ends.
type streamConn struct {
	io.Reader
	net.Conn
}

func (c *streamConn) Read(p []byte) (int, error)      { return c.Reader.Read(p) }
func (c *streamConn) RemoteAddr() net.Addr            { return streamAddr }
func (c *streamConn) SetReadDeadline(time.Time) error { return nil }
