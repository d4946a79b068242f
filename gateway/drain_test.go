package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/compat"
)

func TestDrain(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.DrainWindow = 200 * time.Millisecond })
	clients := make([]*client, 20)
	for i := range clients {
		clients[i] = r.connect(fmt.Sprint("key", i))
	}
	clients[0].send(goodFrame)
	clients[0].beat()
	if err := r.Ready(); err != nil {
		t.Fatalf("Ready: %v", err)
	}
	start := time.Now()
	r.stop()
	r.eventually("draining", func() bool { return errors.Is(r.Ready(), ErrDraining) })
	if _, resp, err := r.dial(nil); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a handshake while draining: %v, %v", resp, err)
	}
	for _, c := range clients {
		c.expectClose(CloseGoingAway)
	}
	if d := time.Since(start); d < 100*time.Millisecond {
		t.Errorf("all closed within %v: not staggered", d)
	}
	<-r.doneC
	if r.runErr != nil {
		t.Errorf("Run: %v", r.runErr)
	}
	if !r.publisher.flushed || !r.receiver.stopped {
		t.Errorf("flushed %v, groups left %v", r.publisher.flushed, r.receiver.stopped)
	}
	if s := r.Stats(); s.Windows != 0 {
		t.Errorf("%d windows left", s.Windows)
	}
	if err := r.Run(context.Background()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("second Run: %v", err)
	}
}

// TestDrainDeliversUntilTheEnd: what a window is sent before its own close arrives.
func TestDrainDeliversUntilTheEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.DrainWindow = time.Hour })
	c := r.connect("a")
	c.beat() // the server knows that it is open, too
	r.stop()
	r.eventually("draining", func() bool { return errors.Is(r.Ready(), ErrDraining) })
	r.receiver.send(groupOf(compat.BroadcastTopic), "still")
	c.expect("still")
	_ = c.Close()
	// With no window left, the rest of the drain window is not waited for.
	<-r.doneC
}

// TestDrainTakesWhatIsOnItsWay: signals that a browser sent before it saw the close frame are not lost, however large.
func TestDrainTakesWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	c := r.connect("a")
	c.beat()
	w := r.windows.all()[0]
	r.stop()
	r.eventually("the close frame is sent", w.closing)
	const signals = 20
	for range signals {
		c.send(`{"signal":"site.signal","opts":{"a":"` + strings.Repeat("x", 2*largeFrame) + `"}}`)
	}
	r.eventually("the signals are with the publisher", func() bool { return len(r.publisher.queued()) == signals })
	c.expectClose(CloseGoingAway)
	<-r.doneC
}

func TestBrowserIgnoresClose(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.CloseTimeout = 50 * time.Millisecond })
	c := r.anonymous()
	r.stop()
	<-r.doneC // although c answers nothing: it does not read
	c.expectClose(CloseGoingAway)
}

func TestReady(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	if err := r.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
	r.health.mu.Lock()
	r.health.layerErr = errAway
	r.health.mu.Unlock()
	if err := r.Ready(); !errors.Is(err, errAway) {
		t.Errorf("layer away: %v", err)
	}
	r.health.mu.Lock()
	r.health.registryErr = errNoRegistry
	r.health.mu.Unlock()
	if err := r.Ready(); !errors.Is(err, errNoRegistry) {
		t.Errorf("registry away: %v", err)
	}
	g, err := newGateway(Config{Settings: testSettings()}.withDefaults(), ports{})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Ready(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("before Run: %v", err)
	}
}
