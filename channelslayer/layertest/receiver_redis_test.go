package layertest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/channelslayer/layertest"
	"github.com/dfws/dfws/integration/redistest"
	"golang.org/x/sync/errgroup"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inbox is what a receiver was given, as "group:type:text".
type inbox struct {
	mu  sync.Mutex
	got []string
}

// gateway is a running Receiver.
type gateway struct {
	*channelslayer.Receiver
	inbox
}

func (g *inbox) deliver(groups []string, m *channelslayer.Received) {
	text, ok := m.Text()
	if !ok {
		text = "no text"
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, group := range groups {
		g.got = append(g.got, group+":"+m.Type()+":"+text)
	}
}

func (g *inbox) list() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.got)
}

func (g *inbox) wait(t testing.TB, want ...string) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !slices.Equal(g.list(), want) {
		if time.Now().After(deadline) {
			t.Fatalf("delivered %q, want %q", g.list(), want)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func startGateway(t testing.TB, l *channelslayer.Core) *gateway {
	t.Helper()
	r, err := l.NewReceiver(channelslayer.ReceiverConfig{KeyPrefix: "own:" + prefix(t), ProbeInterval: 20 * time.Millisecond})
	must(t, err)
	g := &gateway{Receiver: r}
	startRun(t, func(ctx context.Context) error { return r.Run(ctx, g.deliver) })
	return g
}

// startRun runs until Cleanup.
func startRun(t testing.TB, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running errgroup.Group
	running.Go(func() error { return run(ctx) })
	t.Cleanup(func() {
		cancel()
		if err := running.Wait(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func newChannel(t testing.TB, l channelslayer.Layer) string {
	t.Helper()
	name, err := l.NewChannel(t.Context(), "")
	must(t, err)
	return name
}

func frame(text string) channelslayer.Message {
	return channelslayer.Message{"type": "ws_message", "message": text}
}

func mustReceive(t testing.TB, l channelslayer.Layer, channel, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	m, err := l.Receive(ctx, channel)
	must(t, err)
	if m["message"] != want {
		t.Errorf("%s got %v, want %q", channel, m, want)
	}
}

func TestPythonSendsToReceiver(t *testing.T) {
	t.Parallel()
	peer := layertest.StartPeer(t)
	python, golang := peer.Layer(t, pythonConfig(t)), goLayer(t)
	g := startGateway(t, golang)
	window := strings.Repeat("5e", 32) // as long as df_websockets' group names
	must(t, g.Join(t.Context(), window, "all"))

	must(t, python.GroupSend(t.Context(), window, frame(`{"signal": "demo", "opts": {"é": "\ud83c"}}`)))
	must(t, python.GroupSend(t.Context(), "all", frame("🎈")))
	must(t, python.Send(t.Context(), g.GroupChannel(window), frame("direct")))
	must(t, python.GroupSend(t.Context(), "all", channelslayer.Message{"type": "other", "message": []any{int64(1)}}))
	want := []string{window + `:ws_message:{"signal": "demo", "opts": {"é": "\ud83c"}}`, "all:ws_message:🎈", window + ":ws_message:direct", "all:other:no text"}
	g.wait(t, want...)

	// More than the layer's capacity, one by one: the receiver keeps up.
	for i := range 3 * capacity {
		must(t, python.GroupSend(t.Context(), "all", frame(fmt.Sprint(i))))
		want = append(want, fmt.Sprintf("all:ws_message:%d", i))
		g.wait(t, want...)
	}
	must(t, g.Leave(t.Context(), "all"))
	must(t, python.GroupSend(t.Context(), "all", frame("nobody")))
	must(t, python.GroupSend(t.Context(), window, frame("last")))
	g.wait(t, append(want, window+":ws_message:last")...)
}

// One group with a Go gateway and two websockets of a Python process: everybody hears everybody.
func TestReceiverBesidePython(t *testing.T) {
	t.Parallel()
	peer := layertest.StartPeer(t)
	python, golang := peer.Layer(t, pythonConfig(t)), goLayer(t)
	g := startGateway(t, golang)
	must(t, g.Join(t.Context(), "g"))
	a, b := newChannel(t, python), newChannel(t, python)
	must(t, python.GroupAdd(t.Context(), "g", a))
	must(t, python.GroupAdd(t.Context(), "g", b))
	var want []string
	for i, sender := range []channelslayer.Layer{python, golang, python} {
		text := fmt.Sprint(i)
		must(t, sender.GroupSend(t.Context(), "g", frame(text)))
		mustReceive(t, python, a, text)
		mustReceive(t, python, b, text)
		want = append(want, "g:ws_message:"+text)
	}
	g.wait(t, want...)
}

func TestPythonFlush(t *testing.T) {
	t.Parallel()
	peer := layertest.StartPeer(t)
	python, golang := peer.Layer(t, pythonConfig(t)), goLayer(t)
	g := startGateway(t, golang)
	must(t, g.Join(t.Context(), "g"))
	c := redistest.Shared(t).Client(t)
	ours := func() []string {
		keys, err := c.Keys(t.Context(), "own:"+prefix(t)+"*").Result()
		must(t, err)
		slices.Sort(keys)
		return keys
	}
	before := ours()
	if len(before) < 3 {
		t.Fatalf("keys of our own: %q", before)
	}
	must(t, python.Flush(t.Context()))
	if after := ours(); !slices.Equal(before, after) {
		t.Errorf("flush() left %q of %q", after, before)
	}
	deadline := time.Now().Add(20 * time.Second)
	for len(g.list()) == 0 && time.Now().Before(deadline) {
		must(t, python.GroupSend(t.Context(), "g", frame("after")))
		<-time.After(10 * time.Millisecond)
	}
	if got := g.list(); len(got) == 0 || got[0] != "g:ws_message:after" {
		t.Errorf("after flush(): %q", got)
	}
}

// A Python process that dies leaves its memberships; sending goes on.
func TestPythonDies(t *testing.T) {
	t.Parallel()
	peer := layertest.StartPeer(t)
	python, golang := peer.Layer(t, pythonConfig(t)), goLayer(t)
	g := startGateway(t, golang)
	must(t, g.Join(t.Context(), "g"))
	must(t, python.GroupAdd(t.Context(), "g", newChannel(t, python)))
	must(t, peer.Kill())
	var want []string
	for i := range 2 * capacity {
		must(t, golang.GroupSend(t.Context(), "g", frame(fmt.Sprint(i))))
		want = append(want, fmt.Sprintf("g:ws_message:%d", i))
		g.wait(t, want...)
	}
}

// Every variant of the layer, with a Python process and a Go gateway in one group: everybody hears everybody, and what one sends to the other
// directly arrives.
func TestReceiverOfEveryLayer(t *testing.T) {
	t.Parallel()
	peer := layertest.StartPeer(t)
	for name, v := range variants {
		t.Run(name, func(t *testing.T) {
			python, golang := v.pythonLayer(t, peer), v.goLayer(t)
			g := startGroupReceiver(t, golang)
			var want []string
			for n := range 6 { // the groups are on different servers
				group := fmt.Sprintf("%sg%d", prefix(t), n)
				must(t, g.Join(t.Context(), group))
				a, b := newChannel(t, python), newChannel(t, python)
				must(t, python.GroupAdd(t.Context(), group, a))
				must(t, python.GroupAdd(t.Context(), group, b))
				for i, sender := range []channelslayer.Layer{python, golang} {
					text := fmt.Sprint(i)
					must(t, sender.GroupSend(t.Context(), group, frame(text)))
					mustReceive(t, python, a, text)
					mustReceive(t, python, b, text)
					want = append(want, group+":ws_message:"+text)
					g.wait(t, want...)
				}
				if r, ok := g.GroupReceiver.(*channelslayer.Receiver); ok {
					must(t, python.Send(t.Context(), r.GroupChannel(group), frame("direct")))
					want = append(want, group+":ws_message:direct")
					g.wait(t, want...)
				}
				must(t, g.Leave(t.Context(), group))
				must(t, python.GroupSend(t.Context(), group, frame("nobody")))
			}
		})
	}
}

// groupGateway is a running GroupReceiver and what it was given.
type groupGateway struct {
	channelslayer.GroupReceiver
	inbox
}

func startGroupReceiver(t testing.TB, l channelslayer.RedisLayer) *groupGateway {
	t.Helper()
	r, err := l.NewGroupReceiver(channelslayer.ReceiverConfig{KeyPrefix: "own:" + prefix(t), ProbeInterval: 20 * time.Millisecond})
	must(t, err)
	g := &groupGateway{GroupReceiver: r}
	startRun(t, func(ctx context.Context) error { return r.Run(ctx, g.deliver) })
	return g
}
