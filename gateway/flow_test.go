package gateway

import (
	"errors"
	"testing"
)

func TestFlow(t *testing.T) {
	t.Parallel()
	const limit = 4
	var f flow
	for range limit {
		if f.enter(1, limit) != nil {
			t.Fatal("no place although there is one")
		}
	}
	freeC := f.enter(1, limit)
	if freeC == nil || f.enter(1, limit) != freeC {
		t.Fatal("a place beyond the limit")
	}
	f.leave(1, limit)
	select {
	case <-freeC:
		t.Fatal("woken for one place")
	default:
	}
	f.leave(1, limit)
	<-freeC
	if f.enter(1, limit) != nil || f.held != limit/2+1 {
		t.Errorf("%d held", f.held)
	}
}

// TestSignalsInFlight: a window that floods a broker that hangs waits at its own bound; the others go on, and nothing that was
// sent within the publisher's patience is lost.
func TestSignalsInFlight(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *Config) { cfg.SignalsInFlight = 3 })
	c, other := r.connect("a"), r.connect("b")
	r.publisher.change(func() { r.publisher.hold = true })
	for range 10 {
		c.send(goodFrame)
	}
	r.eventually("the window waits", func() bool { return r.counts.get("throttled") == 1 })
	if n := r.counts.get("frame signal"); n != 3 {
		t.Errorf("%d signals with the publisher, want 3", n)
	}
	other.beat()
	r.eventually("all ten are published", func() bool {
		var held []func(error)
		r.publisher.change(func() { held, r.publisher.held = r.publisher.held, nil })
		for _, done := range held {
			done(nil)
		}
		return r.counts.get("publish stored") == 10
	})
	c.beat()
	r.publisher.change(func() { r.publisher.hold = false })
}

// TestSignalRefusedGivesItsPlaceBack: a full queue does not use up the window's places.
func TestSignalRefusedGivesItsPlaceBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *Config) { cfg.SignalsInFlight = 1 })
	w := &window{g: r.Gateway, identity: identity{window: "hash"}}
	r.publisher.change(func() { r.publisher.err = errors.New("full") })
	w.waitForPlace()
	w.out.kill(&r.outLimits)
	r.publish(w, nil)
	if w.flow.held != 0 {
		t.Errorf("%d places held", w.flow.held)
	}
}

// TestFlowTakesWhatIsLargerThanItself: a signal larger than the whole queue goes in alone instead of waiting for ever.
func TestFlowTakesWhatIsLargerThanItself(t *testing.T) {
	t.Parallel()
	var f flow
	if f.enter(10, 4) != nil {
		t.Error("refused although nothing is held")
	}
	if f.enter(1, 4) == nil {
		t.Error("taken although the limit is passed")
	}
}

// TestQueueRoom: a burst beyond the queue's bytes waits for room; when none comes in time the window is told to try again,
// and others that send nothing go on.
func TestQueueRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *Config) { cfg.PublishBytes = 1 })
	c, other := r.connect("a"), r.connect("b")
	r.publisher.change(func() { r.publisher.hold = true })
	c.send(goodFrame)
	c.send(goodFrame)
	r.eventually("the second signal waits", func() bool { return r.counts.get("throttled") == 1 })
	other.beat()
	r.publisher.change(func() {
		r.publisher.held[0](nil)
		r.publisher.held = nil
	})
	r.eventually("the second signal is taken", func() bool { return r.counts.get("frame signal") == 2 })
	c.send(goodFrame)
	c.expectClose(CloseTryAgain)
	if r.counts.get("frame queue_full") != 1 {
		t.Errorf("counts %v", r.counts.n)
	}
	other.beat()
}
