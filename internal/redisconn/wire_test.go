package redisconn

import (
	"bytes"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"
)

// readOnly is a connection that only has what was sent.
type readOnly struct {
	net.Conn
	r io.Reader
}

func (c readOnly) Read(b []byte) (int, error) { return c.r.Read(b) }

func wireOf(text string, maxBulk int) *Wire {
	return NewWire(readOnly{r: strings.NewReader(text)}, maxBulk)
}

func TestWireReceive(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3*wireBuffer)
	for text, want := range map[string]any{
		"+OK\r\n": "OK", ":-7\r\n": int64(-7), "$-1\r\n": nil, "$0\r\n\r\n": "", "$5\r\na\r\nbc\r\n": "a\r\nbc", "*-1\r\n": nil, "*0\r\n": []any{},
		"*3\r\n$1\r\na\r\n:1\r\n*1\r\n-ERR x\r\n":      []any{"a", int64(1), []any{ReplyError("ERR x")}},
		"$12288\r\n" + long + "\r\n":                   long,
		"*2\r\n$12289\r\n" + long + "y\r\n$1\r\nz\r\n": []any{Oversized(len(long) + 1), "z"},
	} {
		w := wireOf(text, len(long))
		got, err := w.Receive()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%.40q: %v, %v", text, got, err)
		}
		if w.r.Buffered() != 0 {
			t.Errorf("%.40q: %d bytes left", text, w.r.Buffered())
		}
	}
}

func TestWireReceiveFails(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]error{
		"": io.EOF, "+OK": io.ErrUnexpectedEOF, "$5\r\nab": io.ErrUnexpectedEOF, "*2\r\n+a\r\n": io.ErrUnexpectedEOF, "$1\r\nab\r\n": ErrWire,
		"?\r\n": ErrWire, "\r\n": ErrWire, "+a\n": ErrWire, ":x\r\n": ErrWire, "$-2\r\n": ErrWire, "$x\r\n": ErrWire, "*-2\r\n": ErrWire,
		"*99999\r\n": ErrWire, "+" + strings.Repeat("x", maxWireLine+1) + "\r\n": ErrWire, strings.Repeat("*1\r\n", maxWireDepth+1) + ":1\r\n": ErrWire,
		"$99999999999\r\nab": io.ErrUnexpectedEOF, "-NOAUTH x\r\n": ReplyError("NOAUTH x"),
	} {
		_, err := wireOf(text, 10).Receive()
		if !errors.Is(err, want) {
			t.Errorf("%.40q: %v, want %v", text, err, want)
		}
	}
}

func TestWireSend(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	defer func() { _ = server.Close() }()
	got := make(chan string, 1)
	go func() { // ends when the pipe is closed, below
		b, _ := io.ReadAll(server)
		got <- string(b)
	}()
	if err := client.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	w := NewWire(client, 10)
	if err := w.Send([]string{"AUTH", "ü"}, []string{"PING"}); err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
	if text := <-got; text != "*2\r\n$4\r\nAUTH\r\n$2\r\nü\r\n*1\r\n$4\r\nPING\r\n" {
		t.Errorf("%q", text)
	}
}

// FuzzWireReceive: no panic, and no more memory than what came.
func FuzzWireReceive(f *testing.F) {
	for _, s := range []string{
		"*4\r\n$8\r\npmessage\r\n$1\r\np\r\n$1\r\nc\r\n$4\r\ndata\r\n", "*3\r\n$10\r\npsubscribe\r\n$1\r\np\r\n:1\r\n", "+OK\r\n-ERR x\r\n",
		"$3\r\nabc\r\n", "*2\r\n*1\r\n:1\r\n$-1\r\n", "$1000000000\r\nabc",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		w := NewWire(readOnly{r: bytes.NewReader(b)}, 100)
		for range 100 {
			reply, err := w.Receive()
			if _, isReply := errors.AsType[ReplyError](err); err != nil && !isReply {
				return
			}
			if s, ok := reply.(string); ok && len(s) > max(100, maxWireLine) {
				t.Fatalf("%d bytes", len(s))
			}
		}
	})
}
