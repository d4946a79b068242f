package layertest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/channelslayer"
	"golang.org/x/sync/errgroup"
)

// Factory makes a layer for a test and closes it by Cleanup. Layers made with the same t.Name() are different processes' views of one store;
// layers of different tests share nothing. Capacity must be between 2 and 1,000, expiry at least 30 s.
type Factory func(t testing.TB) channelslayer.Layer

// Traits are in what the layers under test differ from a core layer on one server with msgpack.
type Traits struct {
	// TextOnly: byte strings have no place in a message (the json serializer).
	TextOnly bool
	// Hosts is the number of servers when there are several: general channels are on all of them, so their messages have no order.
	Hosts int
	// OneAtATime: a Receive on a general channel looks at one of the hosts until something comes there (channels_redis up to 4.3.0), so only
	// messages that were sent in step with the receives arrive.
	OneAtATime bool
	// PubSub: nothing waits for a receiver, general channels are for all, and only its own process can add a channel to a group.
	PubSub bool
}

// Run holds a layer to the contract of channelslayer.Layer, with itself as the peer.
func Run(t *testing.T, traits Traits, newLayer Factory) {
	t.Helper()
	RunPair(t, traits, newLayer, newLayer)
}

// RunPair holds two kinds of layers to the contract: the first sends, the second receives.
func RunPair(t *testing.T, traits Traits, newSender, newReceiver Factory) {
	t.Helper()
	tests := coreTests
	if traits.PubSub {
		tests = pubSubTests
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, &pair{Traits: traits, sender: newSender(t), receiver: newReceiver(t)})
		})
	}
}

var coreTests = map[string]func(*testing.T, *pair){
	"values arrive as they were":              testValues,
	"a general channel is a queue":            testGeneral,
	"specific channels are told apart":        testSpecific,
	"concurrent receivers":                    testConcurrent,
	"new channels":                            testNewChannel,
	"a foreign specific channel":              testForeignChannel,
	"a group reaches all its members":         testGroup,
	"members of several processes":            testGroupOfTwo,
	"joining twice is joining once":           testGroupAddTwice,
	"empty groups and missing members":        testEmptyGroup,
	"a general channel in a group":            testGeneralMember,
	"a full channel":                          testFull,
	"a full member does not hold up others":   testFullMember,
	"invalid names":                           testInvalidNames,
	"reserved key":                            testReservedKey,
	"a receive that gives up loses nothing":   testGiveUp,
	"close ends a receive":                    testClose,
	"the message belongs to its sender again": testNotModified,
}

type pair struct {
	Traits
	sender, receiver channelslayer.Layer
}

// patience bounds every wait of the suite.
const patience = 20 * time.Second

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func mustReceive(t testing.TB, l channelslayer.Layer, channel string, want channelslayer.Message) {
	t.Helper()
	got, err := l.Receive(within(t), channel)
	if err != nil {
		t.Fatalf("Receive(%s): %v", channel, err)
	}
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("Receive(%s):\n%#v\nwant\n%#v", channel, got, want)
	}
}

// newChannel makes a channel of a layer.
func newChannel(t testing.TB, l channelslayer.Layer, prefix string) string {
	t.Helper()
	name, err := l.NewChannel(within(t), prefix)
	if err != nil {
		t.Fatalf("NewChannel(%s): %v", prefix, err)
	}
	return name
}

// mustBeNext proves that nothing else waits on the channel: what is sent now comes next.
func mustBeNext(t testing.TB, p *pair, channel string) {
	t.Helper()
	last := channelslayer.Message{"type": "last"}
	must(t, p.sender.Send(within(t), channel, last))
	mustReceive(t, p.receiver, channel, last)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func testValues(t *testing.T, p *pair) {
	m := channelslayer.Message{
		"type": "ws_message", "message": `{"signal": "demo", "opts": {"é": "🎈"}}`, "nil": nil, "yes": true, "no": false,
		"ints":   []any{int64(0), int64(127), int64(128), int64(-1), int64(-33), int64(math.MaxInt64), int64(math.MinInt64), uint64(math.MaxUint64)},
		"floats": []any{0.0, 1.5, -2.25, 1e300, 1.0}, "text": strings.Repeat("é", 40000),
		"nested": map[string]any{"a": []any{map[string]any{}, []any{}, ""}}, "": "empty key",
	}
	channel := newChannel(t, p.receiver, "")
	if !p.TextOnly {
		m["bytes"] = []byte{0, 255}
	} else if err := p.sender.Send(within(t), channel, channelslayer.Message{"type": "t", "bytes": []byte{0}}); err == nil {
		t.Error("bytes were sent as JSON")
	}
	must(t, p.sender.Send(within(t), channel, m))
	mustReceive(t, p.receiver, channel, m)
	must(t, p.receiver.GroupAdd(within(t), "g", channel))
	must(t, p.sender.GroupSend(within(t), "g", m))
	mustReceive(t, p.receiver, channel, m)
}

func testGeneral(t *testing.T, p *pair) {
	for i := range 5 {
		must(t, p.sender.Send(within(t), "tasks", channelslayer.Message{"type": "t", "n": int64(i)}))
	}
	if p.Hosts > 1 {
		mustReceiveAll(t, p, "tasks", 5)
		return
	}
	for i := range 5 {
		mustReceive(t, p.receiver, "tasks", channelslayer.Message{"type": "t", "n": int64(i)})
	}
	mustBeNext(t, p, "tasks")
}

// mustReceiveAll receives the messages that are numbered from 0, in any order, each once.
func mustReceiveAll(t *testing.T, p *pair, channel string, n int) {
	t.Helper()
	seen := map[any]bool{}
	for range n {
		m, err := p.receiver.Receive(within(t), channel)
		must(t, err)
		if number, ok := m["n"].(int64); !ok || number < 0 || number >= int64(n) || seen[number] {
			t.Errorf("received %v; before %v", m, seen)
		}
		seen[m["n"]] = true
	}
}

func testSpecific(t *testing.T, p *pair) {
	a, b := newChannel(t, p.receiver, ""), newChannel(t, p.receiver, "other")
	must(t, p.sender.Send(within(t), a, channelslayer.Message{"type": "t", "for": "a"}))
	must(t, p.sender.Send(within(t), b, channelslayer.Message{"type": "t", "for": "b"}))
	mustReceive(t, p.receiver, b, channelslayer.Message{"type": "t", "for": "b"})
	mustReceive(t, p.receiver, a, channelslayer.Message{"type": "t", "for": "a"})
}

func testConcurrent(t *testing.T, p *pair) {
	const channels, messages = 5, 10
	ctx := within(t)
	var receivers errgroup.Group
	names := make([]string, channels)
	for i := range names {
		names[i] = newChannel(t, p.receiver, "")
	}
	for _, name := range names {
		receivers.Go(func() error { return receiveAll(ctx, p.receiver, name, messages) })
	}
	for n := range messages {
		for _, name := range names {
			sendPatiently(t, p, name, channelslayer.Message{"type": "t", "channel": name, "n": int64(n)})
		}
	}
	must(t, receivers.Wait())
}

// sendPatiently waits while the channel is full.
func sendPatiently(t *testing.T, p *pair, channel string, m channelslayer.Message) {
	t.Helper()
	ctx := within(t)
	for {
		err := p.sender.Send(ctx, channel, m)
		if !errors.Is(err, channelslayer.ErrChannelFull) {
			must(t, err)
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		case <-time.After(time.Millisecond):
		}
	}
}

func receiveAll(ctx context.Context, l channelslayer.Layer, channel string, messages int) error {
	for n := range messages {
		m, err := l.Receive(ctx, channel)
		if err != nil {
			return err
		}
		if m["channel"] != channel || m["n"] != int64(n) {
			return fmt.Errorf("%s got %v, want message %d of its own", channel, m, n)
		}
	}
	return nil
}

func testNewChannel(t *testing.T, p *pair) {
	seen := map[string]bool{}
	for range 10 {
		name := newChannel(t, p.receiver, "")
		if seen[name] || !strings.HasPrefix(name, "specific.") || strings.Count(name, "!") != 1 || len(name) >= 100 {
			t.Errorf("NewChannel: %q", name)
		}
		seen[name] = true
	}
	if name := newChannel(t, p.receiver, "http.response"); !strings.HasPrefix(name, "http.response.") {
		t.Errorf("NewChannel(http.response): %q", name)
	}
}

func testForeignChannel(t *testing.T, p *pair) {
	if _, err := p.receiver.Receive(within(t), newChannel(t, p.sender, "")); !errors.Is(err, channelslayer.ErrWrongClientPrefix) {
		t.Errorf("Receive on a channel of another layer: %v, want ErrWrongClientPrefix", err)
	}
}

func testGroup(t *testing.T, p *pair) {
	a, b := newChannel(t, p.receiver, ""), newChannel(t, p.receiver, "")
	must(t, p.receiver.GroupAdd(within(t), "g", a))
	must(t, p.sender.GroupAdd(within(t), "g", b)) // anybody may add
	first := channelslayer.Message{"type": "ws_message", "message": "1"}
	must(t, p.sender.GroupSend(within(t), "g", first))
	mustReceive(t, p.receiver, a, first)
	mustReceive(t, p.receiver, b, first)
	must(t, p.sender.GroupDiscard(within(t), "g", a))
	second := channelslayer.Message{"type": "ws_message", "message": "2"}
	must(t, p.sender.GroupSend(within(t), "g", second))
	mustReceive(t, p.receiver, b, second)
	mustBeNext(t, p, a)
}

func testGroupOfTwo(t *testing.T, p *pair) {
	ours, theirs := newChannel(t, p.receiver, ""), newChannel(t, p.sender, "")
	must(t, p.receiver.GroupAdd(within(t), "g", ours))
	must(t, p.sender.GroupAdd(within(t), "g", theirs))
	for i, from := range []channelslayer.Layer{p.sender, p.receiver} {
		m := channelslayer.Message{"type": "ws_message", "message": fmt.Sprint(i)}
		must(t, from.GroupSend(within(t), "g", m))
		mustReceive(t, p.receiver, ours, m)
		mustReceive(t, p.sender, theirs, m)
	}
}

func testGroupAddTwice(t *testing.T, p *pair) {
	channel := newChannel(t, p.receiver, "")
	must(t, p.receiver.GroupAdd(within(t), "g", channel))
	must(t, p.sender.GroupAdd(within(t), "g", channel))
	m := channelslayer.Message{"type": "ws_message", "message": "once"}
	must(t, p.sender.GroupSend(within(t), "g", m))
	mustReceive(t, p.receiver, channel, m)
	mustBeNext(t, p, channel)
}

func testEmptyGroup(t *testing.T, p *pair) {
	must(t, p.sender.GroupSend(within(t), "nobody", channelslayer.Message{"type": "t"}))
	must(t, p.sender.GroupDiscard(within(t), "nobody", newChannel(t, p.receiver, "")))
}

func testGeneralMember(t *testing.T, p *pair) {
	if p.OneAtATime {
		t.Skip("the group's message is on the server of the channel's name, the receiver looks at another one")
	}
	must(t, p.sender.GroupAdd(within(t), "g", "queue"))
	m := channelslayer.Message{"type": "t", "n": int64(1)}
	must(t, p.sender.GroupSend(within(t), "g", m))
	mustReceive(t, p.receiver, "queue", m)
}

// fill sends until the channel is full and returns how many messages it took.
func fill(t *testing.T, p *pair, channel string) int {
	t.Helper()
	for n := range 1001 {
		err := p.sender.Send(within(t), channel, channelslayer.Message{"type": "fill", "n": int64(n)})
		if errors.Is(err, channelslayer.ErrChannelFull) {
			return n
		}
		must(t, err)
	}
	t.Fatal("the channel was never full")
	return 0
}

func testFull(t *testing.T, p *pair) {
	n := fill(t, p, "tasks")
	if p.Hosts > 1 {
		mustReceiveAll(t, p, "tasks", n)
		return
	}
	mustReceive(t, p.receiver, "tasks", channelslayer.Message{"type": "fill", "n": int64(0)})
	must(t, p.sender.Send(within(t), "tasks", channelslayer.Message{"type": "fill", "n": int64(n)}))
	for i := range n {
		mustReceive(t, p.receiver, "tasks", channelslayer.Message{"type": "fill", "n": int64(i + 1)})
	}
}

func testFullMember(t *testing.T, p *pair) {
	fill(t, p, "full")
	channel := newChannel(t, p.receiver, "")
	must(t, p.sender.GroupAdd(within(t), "g", "full"))
	must(t, p.sender.GroupAdd(within(t), "g", channel))
	m := channelslayer.Message{"type": "ws_message", "message": "x"}
	must(t, p.sender.GroupSend(within(t), "g", m))
	mustReceive(t, p.receiver, channel, m)
}

func testInvalidNames(t *testing.T, p *pair) {
	m := channelslayer.Message{"type": "t"}
	for _, name := range []string{"", "with space", "a!b!c", "!x", "é", "plus+", strings.Repeat("a", 100)} {
		for operation, err := range map[string]error{
			"Send":         p.sender.Send(within(t), name, m),
			"GroupSend":    p.sender.GroupSend(within(t), name, m),
			"GroupAdd":     p.sender.GroupAdd(within(t), "g", name),
			"GroupDiscard": p.sender.GroupDiscard(within(t), name, "c"),
		} {
			if !errors.Is(err, channelslayer.ErrInvalidName) {
				t.Errorf("%s with name %q: %v, want ErrInvalidName", operation, name, err)
			}
		}
		if _, err := p.receiver.Receive(within(t), name); !errors.Is(err, channelslayer.ErrInvalidName) {
			t.Errorf("Receive(%q): %v, want ErrInvalidName", name, err)
		}
	}
	if err := p.sender.GroupAdd(within(t), "group!", "c"); !errors.Is(err, channelslayer.ErrInvalidName) {
		t.Errorf("a group with '!': %v, want ErrInvalidName", err)
	}
}

func testReservedKey(t *testing.T, p *pair) {
	m := channelslayer.Message{"type": "t", "__asgi_channel__": "x"}
	if err := p.sender.Send(within(t), "c", m); err == nil {
		t.Error("Send took a message with __asgi_channel__")
	}
	channel := newChannel(t, p.receiver, "")
	must(t, p.sender.GroupAdd(within(t), "g", channel))
	must(t, p.sender.GroupSend(within(t), "g", m)) // overwritten
	mustReceive(t, p.receiver, channel, channelslayer.Message{"type": "t"})
}

func testGiveUp(t *testing.T, p *pair) {
	channels := []string{newChannel(t, p.receiver, "")}
	if !p.OneAtATime {
		channels = append(channels, "general")
	}
	for _, channel := range channels {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := p.receiver.Receive(ctx, channel)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Receive with nothing to receive: %v, want DeadlineExceeded", err)
		}
		m := channelslayer.Message{"type": "t", "channel": channel}
		must(t, p.sender.Send(within(t), channel, m))
		mustReceive(t, p.receiver, channel, m)
	}
}

func testClose(t *testing.T, p *pair) {
	channel := newChannel(t, p.receiver, "")
	closeWhileReceiving(t, p, channel)
	if _, err := p.receiver.Receive(within(t), channel); !errors.Is(err, channelslayer.ErrClosed) {
		t.Errorf("Receive after Close: %v, want ErrClosed", err)
	}
}

// closeWhileReceiving closes the receiver's layer while it waits for a message.
func closeWhileReceiving(t *testing.T, p *pair, channel string) {
	t.Helper()
	ctx := within(t)
	started := make(chan struct{})
	var receiver errgroup.Group
	receiver.Go(func() error {
		close(started)
		_, err := p.receiver.Receive(ctx, channel)
		return err
	})
	<-started
	must(t, p.receiver.Close())
	if err := receiver.Wait(); !errors.Is(err, channelslayer.ErrClosed) {
		t.Errorf("Receive during Close: %v, want ErrClosed", err)
	}
}

func testNotModified(t *testing.T, p *pair) {
	m := channelslayer.Message{"type": "t"}
	channel := newChannel(t, p.receiver, "")
	must(t, p.sender.Send(within(t), channel, m))
	must(t, p.sender.GroupAdd(within(t), "g", channel))
	must(t, p.sender.GroupSend(within(t), "g", m))
	if len(m) != 1 {
		t.Errorf("the sender's message was changed: %v", m)
	}
}
