package gateway

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/compat"
)

func TestMessagesReachTheirWindows(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	a, b := r.connect("a", "-str.x"), r.connect("b")
	r.receiver.send(groupOf(compat.WindowTopic("a")), "for a")
	r.receiver.send(groupOf(compat.BroadcastTopic), "for all")
	r.receiver.send(groupOf("-str.x"), "for x")
	r.receiver.send(groupOf("-nobody"), "for nobody")
	r.receiver.deliverC <- fakeDelivery{[]string{groupOf("-auth.user.1"), groupOf("-str.x")}, fakeMessage{"ws.message", "for both groups"}}
	for _, want := range []string{"for a", "for all", "for x", "for both groups", "for both groups"} {
		a.expect(want)
	}
	for _, want := range []string{"for all", "for both groups"} {
		b.expect(want)
	}
	a.beat()
	b.beat()
}

func TestMessagesThatAreNone(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	c := r.connect("a")
	all := []string{groupOf(compat.BroadcastTopic)}
	for _, m := range []fakeMessage{{"disconnect", "x"}, {"", "x"}, {"ws_message", ""}, {"ws_message", "\xff"}} {
		r.receiver.deliverC <- fakeDelivery{all, m}
	}
	r.receiver.send(all[0], "good")
	c.expect("good")
	if kinds, texts := r.counts.get("message type"), r.counts.get("message text"); kinds != 2 || texts != 2 {
		t.Errorf("%d and %d dropped, want 2 and 2", kinds, texts)
	}
}

// TestNothingIsMissedFromOpenOn: the groups are joined when the handshake is answered.
func TestNothingIsMissedFromOpenOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for i := range 50 {
		key := fmt.Sprint("key", i)
		c := r.connect(key)
		r.receiver.send(groupOf(compat.WindowTopic(key)), "hello")
		c.expect("hello")
	}
}

func TestGroupsAreJoinedOnceAndLeft(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.ParkFor = Off })
	var wg sync.WaitGroup
	clients := make([]*client, 40)
	for i := range clients {
		key := fmt.Sprint("key", i%4) // several windows of the same page
		r.tickets.set(key, windowTicket(t, key))
		wg.Go(func() { clients[i], _, _ = r.dial(cookies(key, testSession)) })
	}
	wg.Wait()
	if want := 4 + 2; len(r.receiver.groups()) != want || r.Stats().Groups != want {
		t.Fatalf("joined %d groups, stats say %d, want %d", len(r.receiver.groups()), r.Stats().Groups, want)
	}
	for i, c := range clients {
		if c == nil {
			t.Fatalf("window %d did not open", i)
		}
		if i > 0 {
			_ = c.Close()
		}
	}
	left := windowTicket(t, "key0").Groups
	slices.Sort(left)
	r.eventually("only the groups of the last window stay", func() bool { return slices.Equal(r.receiver.groups(), left) })
	clients[0].beat()
	r.receiver.send(groupOf(compat.BroadcastTopic), "still here")
	clients[0].expect("still here")
	_ = clients[0].Close()
	r.eventually("no group", func() bool { return len(r.receiver.groups()) == 0 && r.Stats().Groups == 0 })
}

// TestGroupComesBackWhileItIsLeft: joins and leaves of one group in any order end as the windows want it.
func TestGroupComesBackWhileItIsLeft(t *testing.T) {
	t.Parallel()
	layer := &fakeReceiver{joined: map[string]bool{}}
	h := newHub()
	m := newMemberships(h, layer, time.Second, discard())
	m.delay = time.Millisecond / 10
	ctx, stop := contextOf(t)
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.run(ctx) })
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() {
			for n := range 200 {
				w := new(window)
				if err := m.join(ctx, w, []string{fmt.Sprint("g", (i+n)%3), "all"}); err != nil {
					t.Error(err)
				}
				layer.mu.Lock()
				joined := layer.joined["all"]
				layer.mu.Unlock()
				if !joined {
					t.Error("a window is open and its group is not joined")
				}
				m.leave(w)
			}
		})
	}
	workers.Wait()
	eventually(t, "all left", func() bool { return len(layer.groups()) == 0 && h.count() == 0 })
	stop()
	wg.Wait()
}

func TestJoinFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.ParkFor = Off })
	r.tickets.set("a", windowTicket(t, "a"))
	r.receiver.fail(errAway)
	_, resp, err := r.dial(cookies("a", testSession))
	if err == nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "3" {
		t.Fatalf("got %v, %v", resp, err)
	}
	if s := r.Stats(); s.Windows != 0 || s.Groups != 0 {
		t.Errorf("left behind: %+v", s)
	}
	r.eventually("the layer gives the groups up", func() bool { return len(r.receiver.groups()) == 0 })
	r.receiver.fail(nil)
	c := r.connect("a")
	r.receiver.send(groupOf(compat.BroadcastTopic), "works")
	c.expect("works")
	// Leaving fails, too, and is tried again.
	r.receiver.fail(errAway)
	_ = c.Close()
	r.eventually("tried", func() bool { r.receiver.mu.Lock(); defer r.receiver.mu.Unlock(); return r.receiver.leaves > 1 })
	r.receiver.fail(nil)
	r.eventually("left", func() bool { return len(r.receiver.groups()) == 0 })
}

// TestLeaveFails: a window that comes after a leave that failed is no member of a group that the layer has forgotten.
func TestLeaveFails(t *testing.T) {
	t.Parallel()
	layer := &fakeReceiver{joined: map[string]bool{}}
	h := newHub()
	m := newMemberships(h, layer, time.Second, discard())
	m.delay = time.Hour // the test leaves
	ctx, stop := contextOf(t)
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.run(ctx) })
	open := func() *window {
		w := new(window)
		if err := m.join(ctx, w, []string{"g"}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(layer.groups(), []string{"g"}) {
			t.Error("a window is open and its group is not joined")
		}
		return w
	}
	m.leave(open())
	layer.fail(errAway)
	m.leavePending(ctx)
	layer.fail(nil)
	second := open()
	m.leavePending(ctx) // what failed is tried again: not any more
	open()
	m.leave(second)
	m.leavePending(ctx)
	if groups := layer.groups(); len(groups) != 1 || h.count() != 1 {
		t.Errorf("joined %v, %d in the hub: the last window is in g", groups, h.count())
	}
	stop()
	wg.Wait()
}
