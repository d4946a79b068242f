package latencyproxy_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/bench/latencyproxy"
)

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, delay time.Duration) (net.Conn, *latencyproxy.Proxy) {
	t.Helper()
	p, err := latencyproxy.Listen(echo(t), delay)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn, p
}

// A round trip is late by both delays, and much that is sent at once is not later by much.
func TestDelay(t *testing.T) {
	t.Parallel()
	const delay = 20 * time.Millisecond
	conn, p := dial(t, delay)
	start := time.Now()
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB: many chunks
	errC := make(chan error, 1)
	go func() {
		_, err := conn.Write(sent)
		errC <- err
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if err := <-errC; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Error("the bytes changed")
	}
	if took := time.Since(start); took < 2*delay {
		t.Errorf("a round trip took %v", took)
	} else if took > 16*2*delay { // one delay for each chunk would be more than that
		t.Errorf("a mebibyte took %v", took)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

// Close ends the connections, and one side's end reaches the other.
func TestEnd(t *testing.T) {
	t.Parallel()
	conn, p := dial(t, time.Millisecond)
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := net.Dial("tcp", p.Addr()); err == nil {
		t.Error("it still listens")
	}
}
