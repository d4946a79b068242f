package gateway

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/compat"
)

// pair are two gateways that hand over to each other.
func pair(t *testing.T, change func(*Config)) (a, b *rig, space *parkedSpace) {
	t.Helper()
	space = newParkedSpace()
	return newRigBeside(t, space, change), newRigBeside(t, space, change), space
}

// toBoth sends a frame to the window of a key through the layer, as each gateway that is in the group gets it.
func toBoth(a, b *rig, key, id string) {
	for _, r := range []*rig{a, b} {
		select {
		case r.receiver.deliverC <- fakeDelivery{[]string{groupOf(compat.WindowTopic(key))}, fakeMessage{messageType, signalText(id)}}:
		case <-r.doneC:
		}
	}
}

// announced waits until the other gateways can know of so many pages.
func (s *parkedSpace) announced(t *testing.T, pages int) {
	t.Helper()
	eventually(t, fmt.Sprint(pages, " pages are announced"), func() bool { n, _ := s.size(); return n == pages })
}

// TestHandover: a page that comes back to another gateway gets what it missed, in order, also what was under way to the first.
func TestHandover(t *testing.T) {
	t.Parallel()
	a, b, space := pair(t, nil)
	c := a.connect("a")
	b.tickets.set("a", windowTicket(t, "a"))
	c.beat()
	cuts["RST"](c)
	a.gone()
	space.announced(t, 1)
	toBoth(a, b, "a", "1")
	c = b.come("a", testSession)
	c.expect(signalText("1"))
	toBoth(a, b, "a", "2") // a still collects
	c.expect(signalText("2"))
	a.toWindow("a", "3") // was under way to the first gateway alone
	c.expect(signalText("3"))
	c.nothing()
	a.eventually("nothing is left", func() bool {
		pages, messages := space.size()
		return pages == 0 && messages == 0 && a.Stats().Parked == 0 && a.Stats().Groups == 0 && !a.handover.busy()
	})
	if a.counts.get("dropped")+b.counts.get("dropped") != 0 || b.counts.get("taken over there") != 1 || a.outLimits.memory.used.Load() != 0 {
		t.Errorf("%v, %v, %d bytes", a.counts.n, b.counts.n, a.outLimits.memory.used.Load())
	}
}

// TestHandoverOfOthers: another session gets nothing, at another gateway as well.
func TestHandoverOfOthers(t *testing.T) {
	t.Parallel()
	a, b, space := pair(t, nil)
	c := a.connect("a")
	b.tickets.set("a", windowTicket(t, "a"))
	c.beat()
	cuts["FIN"](c)
	a.gone()
	space.announced(t, 1)
	a.toWindow("a", "1")
	b.come("a", "another session").nothing()
	b.connect("b").nothing()
	b.come("a", testSession).expect(signalText("1"))
}

// TestDrainHandsOver: a gateway that stops stays until its windows have come back elsewhere.
func TestDrainHandsOver(t *testing.T) {
	t.Parallel()
	space := newParkedSpace()
	b := newRigBeside(t, space, nil)
	a := newRigBeside(t, space, func(c *Config) { c.DrainLinger = DefaultDrainLinger })
	const windows = 20
	var clients [windows]*client
	for i := range clients {
		key := fmt.Sprint(i)
		clients[i] = a.connect(key)
		b.tickets.set(key, windowTicket(t, key))
	}
	a.stop()
	for _, c := range clients {
		c.expectClose(CloseGoingAway)
	}
	a.gone()
	for i := range clients {
		a.toWindow(fmt.Sprint(i), "while it has no socket")
	}
	for i := range clients {
		c := b.come(fmt.Sprint(i), testSession)
		c.expect(signalText("while it has no socket"))
	}
	start := time.Now()
	<-a.doneC
	if d := time.Since(start); d > DefaultDrainLinger/2 {
		t.Errorf("the gateway stayed for %v after its last window had moved", d)
	}
	if n := b.counts.get("taken over there"); n != windows {
		t.Errorf("%d taken over, want %d", n, windows)
	}
}

// TestDrainLeavesInRedis: without another gateway, or when a page comes too late, what it missed waits in Redis.
func TestDrainLeavesInRedis(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]bool{"alone": false, "too late": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			space := newParkedSpace()
			a := newRigBeside(t, space, func(c *Config) { c.DrainLinger = 100 * time.Millisecond })
			var b *rig
			if other {
				b = newRigBeside(t, space, nil)
			}
			c := a.connect("a")
			c.beat()
			cuts["RST"](c)
			a.gone()
			a.toWindow("a", "1")
			a.eventually("collected", func() bool { return a.parking.all()[0].out.lastingNow() == 1 })
			a.stop()
			<-a.doneC
			if !other {
				b = newRigBeside(t, space, nil) // started again
			}
			b.tickets.set("a", windowTicket(t, "a"))
			c = b.come("a", testSession)
			c.expect(signalText("1"))
			c.nothing()
			if pages, messages := space.size(); pages+messages != 0 {
				t.Errorf("%d pages, %d messages are left", pages, messages)
			}
		})
	}
}

// TestHandoverFails: a window opens without what another gateway keeps for it when it cannot be had, and that is counted.
func TestHandoverFails(t *testing.T) {
	t.Parallel()
	prepare := func(t *testing.T) (a, b *rig, space *parkedSpace) {
		a, b, space = pair(t, func(c *Config) { c.HandoverTimeout = 50 * time.Millisecond })
		c := a.connect("a")
		b.tickets.set("a", windowTicket(t, "a"))
		c.beat()
		cuts["FIN"](c)
		a.gone()
		space.announced(t, 1)
		a.toWindow("a", "1")
		return a, b, space
	}
	t.Run("Redis away", func(t *testing.T) {
		t.Parallel()
		a, b, space := prepare(t)
		space.fail(errAway)
		b.come("a", testSession).nothing()
		if b.counts.get("handover redis") != 1 {
			t.Errorf("%v", b.counts.n)
		}
		space.fail(nil)
		if a.Stats().Parked != 1 {
			t.Error("the first gateway does not keep the window")
		}
	})
	t.Run("no answer", func(t *testing.T) {
		t.Parallel()
		_, b, space := prepare(t)
		space.change(func() { space.deaf = true })
		b.come("a", testSession).nothing()
		if b.counts.get("handover timeout") != 1 {
			t.Errorf("%v", b.counts.n)
		}
	})
	t.Run("gone", func(t *testing.T) {
		t.Parallel()
		a, b, space := prepare(t)
		space.change(func() { delete(space.channels, a.parked.self) }) // as if killed
		b.come("a", testSession).nothing()
		if b.counts.get("handover gone") != 1 {
			t.Errorf("%v", b.counts.n)
		}
	})
	t.Run("not written", func(t *testing.T) {
		t.Parallel()
		a, b, space := prepare(t)
		space.change(func() { space.putErr = errAway })
		b.come("a", testSession).nothing()
		space.change(func() { space.putErr = nil })
		a.eventually("parked again", func() bool { return a.Stats().Parked == 1 })
		b.come("a", testSession).expect(signalText("1"))
	})
}

func (s *parkedSpace) change(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// TestMarksKeepTheirOrder: a page that comes and goes at once is announced as it is in the end.
func TestMarksKeepTheirOrder(t *testing.T) {
	t.Parallel()
	a, _, space := pair(t, nil)
	page := newPageKey("a", &identity{})
	a.handover.queue(func() {
		a.handover.marks = append(a.handover.marks, mark{page, true}, mark{page, false}, mark{page, true})
	})
	space.announced(t, 1)
	a.handover.queue(func() { a.handover.marks = append(a.handover.marks, mark{page, true}, mark{page, false}) })
	space.announced(t, 0)
}

// TestLateHandover: when the first gateway notices only later that its socket was dead, what it had swallowed still arrives.
func TestLateHandover(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t, func(c *Config) {
		c.PingInterval, c.PongTimeout, c.CloseTimeout = 200*time.Millisecond, 200*time.Millisecond, 50*time.Millisecond
	})
	a.connect("a") // reads nothing, answers nothing
	b.tickets.set("a", windowTicket(t, "a"))
	a.toWindow("a", "1")
	c := b.come("a", testSession)
	c.expect(signalText("1"))
}

// TestHandoverWhileMessagesFlow: a page that goes from gateway to gateway gets every message once.
func TestHandoverWhileMessagesFlow(t *testing.T) {
	t.Parallel()
	a, b, space := pair(t, nil)
	const messages = 400
	for _, r := range []*rig{a, b} {
		r.tickets.set("a", windowTicket(t, "a"))
	}
	var turn atomic.Int32
	p := newPage(t, func() *rig { return []*rig{a, b}[turn.Load()%2] }, "a")
	p.connect()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for i := range messages {
			if !p.await(i - 50) {
				return
			}
			toBoth(a, b, "a", fmt.Sprint(i))
		}
	}()
	for i := 0; len(p.got) < messages && i < 100; i++ {
		p.read(i % 50)
		p.cut(i)
		there := p.at()
		turn.Add(1)
		there.eventually("parked", func() bool { return there.Stats().Windows == 0 })
		space.announced(t, 1)
		p.connect()
	}
	p.giveUp.Store(true)
	<-sent
	p.check(messages)
}
