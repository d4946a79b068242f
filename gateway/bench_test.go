package gateway

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
)

// rawWindow opens a window with as little on the client's side as can be.
func rawWindow(b testing.TB, addr, key string) net.Conn {
	b.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "GET /ws/ HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: dfwskey=%s; sessionid=%s\r\n\r\n", addr, key, testSession)
	if err != nil {
		b.Fatal(err)
	}
	var head strings.Builder
	buf := make([]byte, 1)
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		if _, err := io.ReadFull(conn, buf); err != nil {
			b.Fatal(err, head.String())
		}
		head.Write(buf)
	}
	if !strings.HasPrefix(head.String(), "HTTP/1.1 101") {
		b.Fatal(head.String())
	}
	return conn
}

// BenchmarkFanout measures one frame to many windows, up to the sockets; ns/frame is per delivered frame, the readers' share of the
// processors included.
func BenchmarkFanout(b *testing.B) {
	for _, windows := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint("windows=", windows), func(b *testing.B) {
			r := newRig(b, func(c *Config) { c.PingInterval, c.PongTimeout = time.Hour, time.Hour }) // the readers know messages only
			addr := strings.TrimPrefix(r.server.URL, "http://")
			var readers sync.WaitGroup
			text := strings.Repeat("x", 200)
			size := len(encodeFrame(1, text))
			var perRound sync.WaitGroup
			for i := range windows {
				key := fmt.Sprint("key", i)
				r.tickets.set(key, windowTicket(b, key))
				conn := rawWindow(b, addr, key)
				b.Cleanup(func() { _ = conn.Close() })
				readers.Go(func() {
					buf := make([]byte, size)
					for {
						if _, err := io.ReadFull(conn, buf); err != nil || buf[0] != 0x81 {
							return
						}
						perRound.Done()
					}
				})
			}
			all := []string{groupOf(compat.BroadcastTopic)}
			b.ReportAllocs()
			for b.Loop() {
				perRound.Add(windows)
				r.deliver(all, fakeMessage{messageType, text})
				perRound.Wait()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*windows), "ns/frame")
		})
	}
}

// nullPublisher takes everything.
type nullPublisher struct{ fakePublisher }

func (*nullPublisher) Enqueue(_ []redisbroker.Message, done func(error)) error {
	done(nil)
	return nil
}

// BenchmarkIntake measures one signal from its frame to the publisher's queue.
func BenchmarkIntake(b *testing.B) {
	r := newRig(b, nil)
	r.ports.publisher = &nullPublisher{}
	r.connect(testKey).beat()
	w := r.windows.all()[0]
	frame := []byte(`{"signal":"site.signal","opts":{"a":1,"text":"some words","list":[1,2,3],"form":[{"name":"x","value":"y"}]}}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		r.intake(w, frame)
	}
}

// BenchmarkIdleWindow reports the memory that an idle window costs in this process, its client's end included.
func BenchmarkIdleWindow(b *testing.B) {
	r := newRig(b, nil)
	addr := strings.TrimPrefix(r.server.URL, "http://")
	before := memoryNow()
	n := 0
	for b.Loop() {
		key := fmt.Sprintf("key%029d", n)
		n++
		r.tickets.set(key, windowTicket(b, key))
		conn := rawWindow(b, addr, key)
		b.Cleanup(func() { _ = conn.Close() })
		r.tickets.set(key, nil)
	}
	after := memoryNow()
	b.ReportMetric(float64(after.HeapInuse-before.HeapInuse)/float64(n), "heap-B/window")
	b.ReportMetric(float64(after.StackInuse-before.StackInuse)/float64(n), "stack-B/window")
}

func memoryNow() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}
