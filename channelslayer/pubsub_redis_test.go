package channelslayer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dfws/dfws/integration/redistest"
)

func openPubSub(t testing.TB, cfg Config) *PubSub {
	t.Helper()
	cfg.Backend = BackendPubSub
	return openLayer(t, cfg).(*PubSub)
}

// reconnects counts Observer.Reconnected and drops.
type reconnects struct {
	drops
	c chan struct{}
}

func newReconnects() *reconnects { return &reconnects{c: make(chan struct{}, 1000)} }

func (r *reconnects) observer() Observer {
	return Observer{Reconnected: func() { r.c <- struct{}{} }, Dropped: r.observe}
}

// What is asked of Redis, and when an answer is waited for.
func TestPubSubSubscriptions(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	l := openPubSub(t, Config{Hosts: []Host{{URL: s.URL}}, Prefix: "asgi"})
	channels := func() []string {
		list, err := c.PubSubChannels(t.Context(), "*").Result()
		must(t, err)
		slices.Sort(list)
		return list
	}
	r := startGroupReceiver(t, l)
	var many []string
	for n := range 2 * maxSubscribe {
		many = append(many, fmt.Sprintf("g%d", n))
	}
	must(t, r.Join(t.Context(), many...))
	if got := channels(); len(got) != len(many) || got[0] != "asgi__group__g0" {
		t.Errorf("%d channels, the first %q", len(got), got[0])
	}
	must(t, r.Leave(t.Context(), many[1:]...))
	must(t, r.Leave(t.Context(), "unknown"))
	must(t, r.Join(t.Context(), "g0"))
	eventually(t, "one channel", func() bool { return slices.Equal(channels(), []string{"asgi__group__g0"}) })

	a, err := l.NewChannel(t.Context(), "")
	must(t, err)
	if !strings.HasPrefix(a, "asgispecific.") || len(a) != len("asgispecific.")+32 {
		t.Errorf("NewChannel: %q", a)
	}
	must(t, l.GroupAdd(t.Context(), "h", a))
	must(t, l.GroupAdd(t.Context(), "h", a))
	if got, want := channels(), []string{"asgi__group__g0", "asgi__group__h", a}; !slices.Equal(got, want) {
		t.Errorf("channels %q, want %q", got, want)
	}
	must(t, l.GroupDiscard(t.Context(), "h", a))
	must(t, l.GroupDiscard(t.Context(), "h", "unknown"))
	l.CloseChannel(a)
	eventually(t, "one channel again", func() bool { return len(channels()) == 1 })
	if err := l.GroupAdd(t.Context(), "h", a); !errors.Is(err, ErrUnknownChannel) {
		t.Errorf("a channel that is closed: %v", err)
	}
	must(t, r.stop())
	if err := r.Join(t.Context(), "late"); !errors.Is(err, ErrClosed) {
		t.Errorf("Join after the stop: %v", err)
	}
	if err := r.Leave(t.Context(), "late"); !errors.Is(err, ErrClosed) {
		t.Errorf("Leave after the stop: %v", err)
	}
	if err := r.Run(t.Context(), nil); !errors.Is(err, ErrRunning) {
		t.Errorf("a second Run: %v", err)
	}
	eventually(t, "no channel", func() bool { return len(channels()) == 0 })
}

// A connection that is cut, and a server that is started anew: the subscriptions are there again.
func TestPubSubReconnects(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	seen := newReconnects()
	l := openPubSub(t, Config{Hosts: []Host{{URL: s.URL}}, Observer: seen.observer()})
	r := startGroupReceiver(t, l)
	must(t, r.Join(t.Context(), "g", "h"))
	channel, err := l.NewChannel(t.Context(), "")
	must(t, err)
	must(t, l.GroupAdd(t.Context(), "g", channel))
	for name, cut := range map[string]func(){
		"kill":    func() { must(t, s.Client(t).ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err()) },
		"restart": s.RestartEmpty,
	} {
		cut()
		<-seen.c // of the receiver and of the layer
		<-seen.c
		deadline, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		must(t, r.Join(deadline, "g", "h")) // they wait for Redis' word
		must(t, l.GroupAdd(deadline, "g", channel))
		must(t, l.GroupSend(deadline, "g", text(name)))
		if m, err := l.Receive(deadline, channel); err != nil || m["message"] != name {
			t.Errorf("%s: the layer received %v, %v", name, m, err)
		}
		eventually(t, name, func() bool { return r.has("g:" + name) })
		cancel()
	}
}

// A Join while Redis is away is an error, and holds all the same.
func TestPubSubJoinDuringOutage(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	l := openPubSub(t, Config{Hosts: []Host{{URL: s.URL}}})
	s.Stop()
	r := startGroupReceiver(t, l)
	if err := r.Join(t.Context(), "g", "h"); !Retryable(err) {
		t.Errorf("Join while Redis is away: %v", err)
	}
	must(t, r.Leave(t.Context(), "h"))
	if _, err := l.NewChannel(t.Context(), ""); !Retryable(err) {
		t.Errorf("NewChannel while Redis is away: %v", err)
	}
	if err := l.GroupSend(t.Context(), "g", text("x")); !Retryable(err) {
		t.Errorf("GroupSend while Redis is away: %v", err)
	}
	s.StartAgain()
	eventually(t, "the group", func() bool { return l.GroupSend(t.Context(), "g", text("x")) == nil && r.has("g:x") })
	if r.Joined() != 1 {
		t.Errorf("%d joined", r.Joined())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Pause()
	defer s.Resume()
	if err := r.Join(ctx, "i"); !errors.Is(err, context.Canceled) {
		t.Errorf("Join that is given up: %v", err)
	}
}

func TestPubSubDrops(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	seen := newReconnects()
	l := openPubSub(t, Config{Hosts: []Host{{URL: s.URL}}, Prefix: "asgi", SymmetricEncryptionKeys: []Secret{"k"}, Observer: seen.observer()})
	r := startGroupReceiver(t, l)
	must(t, r.Join(t.Context(), "g"))
	channel, err := l.NewChannel(t.Context(), "")
	must(t, err)
	foreign := openPubSub(t, Config{Hosts: []Host{{URL: s.URL}}, Prefix: "asgi", SymmetricEncryptionKeys: []Secret{"another"}})
	plain, err := l.codec.fernet.encrypt([]byte("\xc1"))
	must(t, err)
	for _, payload := range []string{"", "junk", string(plain), strings.Repeat("x", MaxPublished+1)} {
		must(t, c.Publish(t.Context(), "asgi__group__g", payload).Err())
		must(t, c.Publish(t.Context(), channel, payload).Err())
	}
	must(t, foreign.GroupSend(t.Context(), "g", text("not ours")))
	must(t, foreign.Send(t.Context(), channel, text("not ours")))
	must(t, l.GroupSend(t.Context(), "g", text("1")))
	must(t, l.Send(t.Context(), channel, text("1")))
	if m, err := l.Receive(t.Context(), channel); err != nil || m["message"] != "1" {
		t.Errorf("received %v, %v", m, err)
	}
	eventually(t, "the message", func() bool { return r.has("g:1") })
	if got := r.list(); len(got) != 1 {
		t.Errorf("received %q", got)
	}
	for reason, want := range map[DropReason]int{DropUndecryptable: 6, DropUndecodable: 2, DropOversized: 2} {
		if got := seen.of(reason); got != want {
			t.Errorf("%s: %d drops, want %d", reason, got, want)
		}
	}
	select {
	case <-seen.c:
		t.Error("junk cost the connection")
	default:
	}
}

// What nobody receives is bounded; Flush and Close end who waits.
func TestPubSubBacklog(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	seen := newReconnects()
	l := openPubSub(t, Config{Hosts: threeHosts(s), Observer: seen.observer()})
	channel, err := l.NewChannel(t.Context(), "")
	must(t, err)
	bytes, err := l.codec.encode(text("x"), "")
	must(t, err)
	for range MaxBacklog + 5 {
		l.deliver(channel, bytes)
	}
	if got := seen.of(DropBufferFull); got != 5 {
		t.Errorf("%d dropped", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.Receive(ctx, "general"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Receive that gives up: %v", err)
	}
	must(t, l.Send(t.Context(), "general", text("kept"))) // still subscribed
	if m, err := l.Receive(t.Context(), "general"); err != nil || m["message"] != "kept" {
		t.Errorf("%v, %v", m, err)
	}
	for n, end := range []func() error{func() error { return l.Flush(t.Context()) }, l.Close} {
		var g errgroup.Group
		g.Go(func() error {
			_, err := l.Receive(t.Context(), "waiting")
			return err
		})
		eventually(t, "the wait", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.channels["waiting"] != nil && len(l.channels["waiting"].waiters) == 1
		})
		must(t, end())
		if err := g.Wait(); !errors.Is(err, ErrClosed) {
			t.Errorf("end %d: %v", n, err)
		}
	}
	must(t, l.Close())
	if _, err := l.NewChannel(t.Context(), ""); !errors.Is(err, ErrClosed) {
		t.Errorf("NewChannel after Close: %v", err)
	}
	if err := l.Send(t.Context(), channel, Message{"__asgi_channel__": 1}); !errors.Is(err, ErrReservedKey) {
		t.Errorf("the reserved key: %v", err)
	}
}

// Answers of Redis out of order, or none of ours, do not confuse the count of subscriptions.
func TestSubscriberCounts(t *testing.T) {
	t.Parallel()
	l, err := OpenPubSub(Config{})
	must(t, err)
	defer l.Close()
	s := l.subscribers[0]
	s.subscribe("a")
	s.subscribe("a", "b")
	s.unsubscribe("b", "unknown")
	s.connect()
	s.unsubscribe("a")
	s.unsubscribe("a")
	s.subscribe("a")
	want := []subscribeOp{{name: "a"}, {name: "a", off: true}, {name: "a"}}
	if !slices.Equal(s.ops, want) {
		t.Errorf("operations %v", s.ops)
	}
	var joined errgroup.Group
	joined.Go(func() error { return s.wait(t.Context(), "a") })
	eventually(t, "the wait", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.subs["a"].waiters) == 1
	})
	must(t, s.handle([]any{"subscribe", "a", int64(1)}))
	must(t, s.handle([]any{"unsubscribe", "a", int64(0)}))
	must(t, s.handle([]any{"subscribe", "nobody's", int64(1)}))
	if len(s.subs["a"].waiters) != 1 {
		t.Error("the last command has no answer yet")
	}
	must(t, s.handle([]any{"subscribe", "a", int64(1)}))
	must(t, joined.Wait())
	must(t, s.handle("PONG"))
	must(t, s.handle([]any{"pong", ""}))
	for _, reply := range []any{"x", int64(1), nil, []any{"message"}, []any{"message", "a"}, []any{"message", "a", int64(1)}} {
		if err := s.handle(reply); err == nil {
			t.Errorf("%v was taken", reply)
		}
	}
}

func TestSubscribeCommands(t *testing.T) {
	t.Parallel()
	ops := []subscribeOp{{name: "a"}, {name: "b"}, {name: "b", off: true}, {name: "c"}}
	got := subscribeCommands(ops)
	want := [][]string{{"SUBSCRIBE", "a", "b"}, {"UNSUBSCRIBE", "b"}, {"SUBSCRIBE", "c"}}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("%q", got)
	}
	many := make([]subscribeOp, 2*maxSubscribe+1)
	if got := subscribeCommands(many); len(got) != 3 || len(got[0]) != maxSubscribe+1 || len(got[2]) != 2 {
		t.Errorf("%d commands", len(got))
	}
	if got := subscribeCommands(nil); got != nil {
		t.Errorf("%q", got)
	}
}
