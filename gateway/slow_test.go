package gateway

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dfws/dfws/compat"
)

// TestSlowReader: a window that does not read is closed with 4408; the others get every frame meanwhile.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.OutboxBytes = 256 << 10 })
	slow, quick := r.connect("slow"), r.connect("quick")
	slow.beat() // the server knows that it is open, too
	frame := strings.Repeat("x", 64<<10)
	for n := 0; r.counts.get("closed 4408") == 0 && !r.closing("slow"); n++ {
		if n == 2000 {
			t.Fatal("the slow window is still open")
		}
		r.receiver.send(groupOf(compat.BroadcastTopic), frame)
		quick.expect(frame)
	}
	quick.beat()
	slow.expectClose(CloseSlowReader)
	r.eventually("counted", func() bool { return r.counts.get("closed 4408") == 1 })
}

// closing says whether the window of a key has begun to close.
func (r *rig) closing(key string) bool {
	for _, w := range r.windows.all() {
		if w.identity.window == windowHash(key) {
			return w.closing()
		}
	}
	return true
}

// TestStuckReader: one that reads nothing for WriteTimeout is cut, whatever the limits are.
func TestStuckReader(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) {
		c.OutboxBytes, c.WriteTimeout, c.ParkFor = 1<<30, 50*time.Millisecond, Off
	})
	r.connect("stuck")
	r.receiver.send(groupOf(compat.BroadcastTopic), strings.Repeat("x", 64<<20))
	r.eventually("cut", func() bool { return r.Stats().Windows == 0 && r.counts.get("closed 4408") == 1 })
	if r.counts.get("dropped") == 0 {
		t.Error("no dropped frame counted")
	}
}

// TestSlowLink: one that reads a large frame slowly, but reads, is not stuck. On a busy machine it may be, for a while: then all is done
// again, more slowly.
func TestSlowLink(t *testing.T) {
	t.Parallel()
	for timeout := 250 * time.Millisecond; ; timeout *= 2 {
		err := readSlowly(t, timeout)
		if err == nil {
			return
		}
		if timeout > patience {
			t.Fatalf("with the timeout %v: %v", timeout, err)
		}
		t.Logf("with the timeout %v: %v", timeout, err)
	}
}

// readSlowly reads a large frame in four times WriteTimeout.
func readSlowly(t *testing.T, timeout time.Duration) error {
	t.Helper()
	const size, chunk = 24 << 20, 512 << 10
	pause := 4 * timeout / (size / chunk)
	r := newRig(t, func(c *Config) { c.WriteTimeout = timeout })
	c := r.connect("slow")
	// Not less: into a window below a loopback segment of 64 KiB the kernel sends by a timer only, which doubles each time.
	if err := c.NetConn().(*net.TCPConn).SetReadBuffer(chunk); err != nil {
		t.Fatal(err)
	}
	r.receiver.send(groupOf(compat.BroadcastTopic), strings.Repeat("x", size))
	link := time.NewTicker(pause)
	defer link.Stop()
	_, frame, err := c.NextReader()
	if err != nil {
		return err
	}
	for n := int64(0); n < size; n += chunk {
		<-link.C
		_ = c.SetReadDeadline(time.Now().Add(patience)) // fails only on a closed connection, as the read does
		if _, err := io.CopyN(io.Discard, frame, chunk); err != nil {
			return fmt.Errorf("after %d bytes: %w", n, err)
		}
	}
	c.beat()
	return nil
}

// TestOverTLS: there, every write is made by a goroutine that may wait.
func TestOverTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	server := httptest.NewTLSServer(r.Handler())
	t.Cleanup(server.Close)
	r.tickets.set("a", windowTicket(t, "a"))
	d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	ws, _, err := d.Dial("wss"+strings.TrimPrefix(server.URL, "https")+"/ws/", cookies("a", testSession))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.Close() }()
	c := &client{ws, t}
	for range 100 {
		r.receiver.send(groupOf(compat.BroadcastTopic), strings.Repeat("x", 1000))
	}
	for range 100 {
		c.expect(strings.Repeat("x", 1000))
	}
	c.beat()
}

func TestPing(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) {
		c.PingInterval, c.PongTimeout, c.CloseTimeout = 20*time.Millisecond, 60*time.Millisecond, 50*time.Millisecond
	})
	answers, silent := r.anonymous(), r.anonymous()
	var pings atomic.Int32
	answers.SetPingHandler(func(data string) error {
		pings.Add(1)
		return answers.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(patience))
	})
	silent.SetPingHandler(func(string) error { return nil })
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, _, err := answers.ReadMessage(); !websocket.IsCloseError(err, int(CloseGoingAway)) {
			t.Errorf("the window that answers: %v", err)
		}
	})
	silent.expectClose(CloseNoPong)
	r.eventually("gone", func() bool { return r.counts.get("closed 4409") == 1 && pings.Load() > 10 })
	r.stop()
	wg.Wait()
}

// TestPong: the browser's side may ping, too.
func TestPong(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	c := r.anonymous()
	pongs := 0
	c.SetPongHandler(func(data string) error {
		if data == "hello" {
			pongs++
		}
		return nil
	})
	if err := c.WriteControl(websocket.PingMessage, []byte("hello"), time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c.beat()
	if pongs != 1 {
		t.Errorf("%d pongs", pongs)
	}
}

// TestBrokerAway: what the publisher says closes the window that asked, and no other one.
func TestBrokerAway(t *testing.T) {
	t.Parallel()
	t.Run("queue full", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nil)
		c, other := r.connect("a"), r.connect("b")
		r.publisher.change(func() { r.publisher.err = errAway })
		c.send(goodFrame)
		c.expectClose(CloseTryAgain)
		other.beat()
		if r.counts.get("frame queue_full") != 1 {
			t.Errorf("counts %v", r.counts.n)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nil)
		c, other := r.connect("a"), r.connect("b")
		r.publisher.change(func() { r.publisher.hold = true })
		c.send(goodFrame)
		c.beat() // the publisher waits, the window does not
		r.receiver.send(groupOf(compat.BroadcastTopic), "meanwhile")
		c.expect("meanwhile")
		other.expect("meanwhile")
		r.publisher.change(func() {
			for _, done := range r.publisher.held {
				done(errAway)
			}
		})
		c.expectClose(CloseTryAgain)
		other.beat()
		if r.counts.get("publish failed") != 1 || r.Stats().PublishErrors != 1 {
			t.Errorf("counts %v", r.counts.n)
		}
	})
}
