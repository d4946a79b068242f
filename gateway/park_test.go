package gateway

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
)

// signalText is a frame as df_websockets makes it.
func signalText(id string) string {
	return `{"signal": "s", "opts": {}, "signal_id": "` + id + `"}`
}

// toWindow sends a frame to the window of a key.
func (r *rig) toWindow(key, id string) {
	r.receiver.send(groupOf(compat.WindowTopic(key)), signalText(id))
}

// gone waits until the gateway has no open window any more.
func (r *rig) gone() {
	r.t.Helper()
	r.eventually("no window is open", func() bool { return r.Stats().Windows == 0 })
}

// come opens the window of a key whose ticket is there.
func (r *rig) come(key, session string) *client {
	r.t.Helper()
	c, _, err := r.dial(cookies(key, session))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// cuts are the ways in which a page loses its socket.
var cuts = map[string]func(c *client){
	"FIN": func(c *client) { _ = c.NetConn().Close() },
	"RST": func(c *client) {
		_ = c.NetConn().(*net.TCPConn).SetLinger(0)
		_ = c.NetConn().Close()
	},
	"close 1001": func(c *client) {
		_ = c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, ""))
		c.expectClose(CloseNormal)
	},
	"close without code": func(c *client) {
		_ = c.WriteMessage(websocket.CloseMessage, nil)
		c.expectClose(CloseNormal)
	},
	"bad frame": func(c *client) {
		c.send("\xff")
		c.expectClose(CloseInvalidUTF8)
	},
}

// TestParked: what comes while a page has no socket waits for the next one, in order, each once.
func TestParked(t *testing.T) {
	t.Parallel()
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			c := r.connect("a")
			r.toWindow("a", "1")
			c.expect(signalText("1"))
			c.beat()
			r.windows.all()[0].out.proven(1, &r.outLimits) // as a pong would
			cut(c)
			r.gone()
			if s := r.Stats(); s.Parked != 1 || s.Groups != 3 {
				t.Fatalf("%+v, want one parked window that stays in its groups", s)
			}
			r.toWindow("a", "2")
			r.receiver.send(groupOf(compat.BroadcastTopic), signalText("3"))
			r.receiver.deliverC <- fakeDelivery{[]string{groupOf("-auth.user.1"), groupOf(compat.BroadcastTopic)}, fakeMessage{messageType, signalText("4")}}
			c = r.come("a", testSession)
			for _, id := range []string{"2", "3", "4"} { // 4 came through two groups
				c.expect(signalText(id))
			}
			r.toWindow("a", "5")
			c.expect(signalText("5"))
			c.beat()
			if s := r.Stats(); s.Parked != 0 || r.counts.get("parked") != 0 || r.counts.get("dropped") != 0 || r.counts.get("taken over here") != 1 {
				t.Errorf("%+v, %v", s, r.counts.n)
			}
		})
	}
}

// TestWrittenIsNotDelivered: what was written to a socket that broke is sent again, unless the browser has proven that it has it.
func TestWrittenIsNotDelivered(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.PingInterval = 100 * time.Millisecond })
	c := r.connect("a")
	r.toWindow("a", "1")
	c.expect(signalText("1"))
	w := r.windows.all()[0]
	r.readUntil(c, "the first is proven", func() bool { w.out.mu.Lock(); defer w.out.mu.Unlock(); return w.out.gone == 1 })
	r.stopReading(c)
	r.toWindow("a", "2") // written, and nobody reads it
	r.eventually("written", func() bool { n, _ := w.out.load(); return n == 0 && w.out.unproven() })
	cuts["RST"](c)
	r.gone()
	c = r.come("a", testSession)
	c.expect(signalText("2"))
	if r.counts.get("dropped") != 0 {
		t.Errorf("%v", r.counts.n)
	}
}

// stopReading makes sure that no pong is sent any more.
func (r *rig) stopReading(c *client) { c.SetPingHandler(func(string) error { return nil }) }

// readUntil lets the library read, and answer pings, until a condition holds.
func (r *rig) readUntil(c *client, what string, ok func() bool) {
	r.t.Helper()
	doneC := make(chan struct{})
	go func() {
		defer close(doneC)
		_, _, _ = c.ReadMessage() // the heartbeat's echo ends it
	}()
	r.eventually(what, ok)
	c.send(compat.HeartbeatFrame)
	<-doneC
}

// TestNeverRobbed: a second tab that shares the cookie gets nothing of what the first one was sent, and the first one keeps its messages.
func TestNeverRobbed(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	first := r.connect("a")
	r.toWindow("a", "1")
	first.expect(signalText("1"))
	stop := r.answerPings(first)
	second := r.come("a", testSession)
	second.beat()
	stop()
	r.toWindow("a", "2")
	first.expect(signalText("2"))
	second.expect(signalText("2"))
	if r.counts.get("taken over here") != 0 {
		t.Errorf("%v", r.counts.n)
	}
}

// answerPings reads until stop is called.
func (r *rig) answerPings(c *client) (stop func()) {
	doneC := make(chan struct{})
	go func() {
		defer close(doneC)
		_, _, _ = c.ReadMessage()
	}()
	return func() {
		r.t.Helper()
		c.send(compat.HeartbeatFrame)
		<-doneC
	}
}

// TestHalfOpen: a socket that has died without a sign gives what it has swallowed to the next one of its page.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	first := r.connect("a")
	first.beat()
	r.toWindow("a", "1") // into the void
	second := r.come("a", testSession)
	r.toWindow("a", "2")
	second.expect(signalText("1"))
	second.expect(signalText("2"))
	second.beat()
	r.eventually("the first is gone", func() bool { return r.Stats().Windows == 1 && r.Stats().Parked == 0 })
	if r.counts.get("closed 4409") != 1 || r.counts.get("dropped") != 0 {
		t.Errorf("%v", r.counts.n)
	}
}

// TestSlowReaderComesBack: a page that was suspended gets what it did not read.
func TestSlowReaderComesBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.OutboxBytes, c.ParkBytes, c.CloseTimeout = 256<<10, 64<<10, 50*time.Millisecond })
	slow := r.connect("slow")
	slow.beat()
	text := func(n int) string {
		return `{"signal": "s", "opts": {"n":"` + strings.Repeat("x", 4<<10) + `"}, "signal_id": "` + fmt.Sprint(n) + `"}`
	}
	last := 0
	for ; r.counts.get("closed 4408") == 0; last++ {
		r.receiver.send(groupOf(compat.WindowTopic("slow")), text(last))
	}
	again := r.come("slow", testSession)
	again.beatAfter(func(got string) {
		if got == text(last-1) {
			last = -1
		}
	})
	if last != -1 {
		t.Error("the newest message is missing")
	}
	if r.counts.get("dropped overflow")+r.counts.get("dropped unproven") == 0 {
		t.Errorf("the messages that there was no room for are not counted: %v", r.counts.n)
	}
}

// beatAfter reports what arrives before the answer to a heartbeat.
func (c *client) beatAfter(report func(text string)) {
	c.t.Helper()
	c.send(compat.HeartbeatFrame)
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for {
		_, got, err := c.ReadMessage()
		if err != nil {
			c.t.Fatal(err)
		}
		if string(got) == compat.HeartbeatFrame {
			return
		}
		report(string(got))
	}
}

// nothing asserts that nothing arrives before the answer to a heartbeat.
func (c *client) nothing() {
	c.t.Helper()
	c.beatAfter(func(text string) { c.t.Errorf("got %.200s", text) })
}

// TestOthersGetNothing: only the same key with the same session takes messages over.
func TestOthersGetNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	c := r.connect("a")
	c.beat()
	cuts["RST"](c)
	r.gone()
	r.toWindow("a", "1")
	r.receiver.send(groupOf(compat.BroadcastTopic), signalText("2"))

	r.connect("new page").nothing()
	r.come("a", "another session").nothing()
	r.come("a", "").nothing()
	anonymous, _, err := r.dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	anonymous.nothing()
	changed := windowTicket(t, "a")
	changed.Session = dispatch.SessionHash("next login")
	r.tickets.set("a", changed)
	r.come("a", "next login").nothing()

	r.tickets.set("a", windowTicket(t, "a"))
	owner := r.come("a", testSession)
	owner.expect(signalText("1"))
	owner.expect(signalText("2"))
}

// TestLogoutWhileParked: the session's messages are wiped at once.
func TestLogoutWhileParked(t *testing.T) {
	t.Parallel()
	for name, rev := range map[string]dispatch.Revocation{
		"session": {Session: dispatch.SessionHash(testSession)},
		"user":    {User: "auth.user.1", Stamp: "stamp2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			c := r.connect("a")
			c.beat()
			cuts["FIN"](c)
			r.gone()
			r.toWindow("a", "1")
			r.eventually("collected", func() bool { return r.parking.all()[0].out.lastingNow() == 1 })
			r.tickets.revokeC <- rev
			r.eventually("wiped", func() bool { return r.Stats().Parked == 0 && r.counts.get("dropped revoked") == 1 })
			if n := r.outLimits.memory.used.Load(); n != 0 {
				t.Errorf("%d bytes are still held", n)
			}
			r.come("a", testSession).nothing()
		})
	}
}

// TestRevokedIsNotParked: a window that was closed because of its session does not collect.
func TestRevokedIsNotParked(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	c := r.connect("a")
	c.beat()
	r.tickets.revokeC <- dispatch.Revocation{Session: dispatch.SessionHash(testSession)}
	c.expectClose(CloseRevoked)
	r.gone()
	if n := r.Stats().Parked; n != 0 {
		t.Errorf("%d parked", n)
	}
}

func TestParkExpires(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.ParkFor, c.PingInterval = 300*time.Millisecond, time.Second })
	c := r.connect("a")
	c.beat()
	cuts["RST"](c)
	r.eventually("parked", func() bool { return r.Stats().Parked == 1 })
	r.toWindow("a", "1")
	r.eventually("expired", func() bool { return r.Stats().Parked == 0 && r.counts.get("dropped expired") == 1 })
	r.eventually("the groups are left", func() bool { return len(r.receiver.groups()) == 0 })
	if !strings.Contains(r.logs.String(), "window="+windowHash("a")+" reason=expired frames=1") {
		t.Error("the log does not say whose message was lost")
	}
	r.come("a", testSession).nothing()
}

// TestParkLimits: each bound counts what it costs.
func TestParkLimits(t *testing.T) {
	t.Parallel()
	park := func(r *rig, key string) {
		c := r.connect(key)
		c.beat()
		cuts["FIN"](c)
		r.gone()
	}
	t.Run("frames", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, func(c *Config) { c.ParkFrames = 3 })
		park(r, "a")
		for i := range 5 {
			r.toWindow("a", fmt.Sprint(i))
		}
		c := r.come("a", testSession)
		for _, id := range []string{"2", "3", "4"} {
			c.expect(signalText(id))
		}
		if n := r.counts.get("dropped overflow"); n != 2 {
			t.Errorf("%d counted, want 2", n)
		}
	})
	t.Run("windows", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, func(c *Config) { c.MaxParked = 2 })
		for _, key := range []string{"a", "b", "c"} {
			park(r, key)
			r.toWindow(key, key)
		}
		if s := r.Stats(); s.Parked != 2 || r.counts.get("dropped evicted") != 1 || r.counts.get("parked") != 2 {
			t.Errorf("%+v, %v", s, r.counts.n)
		}
		r.come("a", testSession).nothing()
		r.come("b", testSession).expect(signalText("b"))
	})
	t.Run("all bytes", func(t *testing.T) {
		t.Parallel()
		const shared = 200
		r := newRig(t, func(c *Config) { c.ParkTotalBytes = 30 * len(newMessage(signalText("00")).wire) })
		for i := range shared {
			park(r, fmt.Sprint(i))
		}
		for i := range 20 { // each message counts once, not two hundred times
			r.receiver.send(groupOf(compat.BroadcastTopic), signalText(fmt.Sprintf("%02d", i)))
		}
		r.eventually("delivered", func() bool { return r.parking.all()[shared-1].out.lastingNow() == 20 })
		if n := r.counts.get("dropped"); n != 0 {
			t.Errorf("%d lost although shared messages have room", n)
		}
		for i := range 20 {
			r.toWindow("7", fmt.Sprintf("own%02d", i))
		}
		r.eventually("counted", func() bool { return r.counts.get("dropped overflow") > 0 })
		if r.outLimits.memory.full() {
			t.Error("more is held than the limit")
		}
	})
	t.Run("off", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, func(c *Config) { c.ParkFor = Off })
		park(r, "a")
		if s := r.Stats(); s.Parked != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func (o *outbox) lastingNow() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lasting
}

// TestTabsWithOneKey: tabs that share the cookie and are cut together each get what they missed.
func TestTabsWithOneKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	first := r.connect("a")
	first.beat()
	stop := r.answerPings(first)
	second := r.come("a", testSession)
	second.beat()
	stop()
	cuts["RST"](first)
	r.eventually("one is parked", func() bool { return r.Stats().Parked == 1 })
	r.toWindow("a", "1")
	second.expect(signalText("1"))
	cuts["RST"](second)
	r.gone()
	r.toWindow("a", "2")
	for range 2 { // whichever comes first
		c := r.come("a", testSession)
		c.expect(signalText("1"))
		c.expect(signalText("2"))
		c.nothing()
	}
	if s := r.Stats(); s.Parked != 0 {
		t.Errorf("%+v", s)
	}
}

// TestBrokenHandshakeLosesNothing: what a window took over waits again when its handshake cannot be answered.
func TestBrokenHandshakeLosesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	c := r.connect("a")
	c.beat()
	cuts["RST"](c)
	r.gone()
	r.toWindow("a", "1")
	// A window that takes over and ends before it opens.
	win := r.newWindow(identity{window: windowHash("a"), session: dispatch.SessionHash(testSession), user: "auth.user.1", stamp: "stamp1"})
	groups := uniqueGroups(windowTicket(t, "a").Groups)
	r.setPage(win, "a", groups)
	if err := r.memberships.join(t.Context(), win, groups); err != nil {
		t.Fatal(err)
	}
	r.takeOver(win)
	r.Gateway.park(win)
	r.toWindow("a", "2")
	c = r.come("a", testSession)
	c.expect(signalText("1"))
	c.expect(signalText("2"))
}

// TestManyCutsWhileMessagesFlow: a page that is cut again and again gets every message once, in order, if it drops repeats as the script does.
func TestManyCutsWhileMessagesFlow(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	const messages = 600
	r.tickets.set("a", windowTicket(t, "a"))
	r.connect("first").beat()
	p := newPage(t, func() *rig { return r }, "a")
	p.connect()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range messages {
			if !p.await(i - 300) { // within what is kept for it
				return
			}
			r.toWindow("a", fmt.Sprint(i))
		}
	}()
	for i := 0; len(p.got) < messages && i < 400; i++ {
		p.read(i % 50)
		p.cut(i)
		p.connect()
	}
	p.giveUp.Store(true)
	<-sent
	p.check(messages)
}
