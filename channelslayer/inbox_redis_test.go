package channelslayer

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/redistest"
	"github.com/redis/go-redis/v9"
)

// drops counts by reason.
type drops struct {
	mu sync.Mutex
	n  map[DropReason]int
}

func (d *drops) observe(reason DropReason, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.n == nil {
		d.n = map[DropReason]int{}
	}
	d.n[reason] += n
}

func (d *drops) of(reason DropReason) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n[reason]
}

func zOf(score int, member string) redis.Z { return redis.Z{Score: float64(score), Member: member} }

func put(t testing.TB, c *redis.Client, key, member string) {
	t.Helper()
	must(t, c.ZAdd(t.Context(), key, redis.Z{Score: float64(time.Now().UnixNano()) / 1e9, Member: member}).Err())
}

func TestReceiveDropsJunk(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	var d drops
	l := open(t, s, Config{Observer: Observer{Dropped: d.observe}})
	channel, err := l.NewChannel(t.Context(), "")
	must(t, err)
	key := l.keys.channel(channel)
	c := s.Client(t)
	put(t, c, key, "junk")
	put(t, c, key, "0123456789ab\x81\xa4type\xa1t")
	put(t, c, key, "0123456789ab\x81\xa4type\xd4\x01x")
	must(t, l.Send(t.Context(), channel, Message{"type": "good"}))
	m, err := l.Receive(t.Context(), channel)
	if err != nil || m["type"] != "good" {
		t.Fatalf("%v, %v", m, err)
	}
	if d.of(DropUndecodable) != 1 || d.of(DropNoChannel) != 1 || d.of(DropExtension) != 1 {
		t.Errorf("counted %v", d.n)
	}
}

// A general channel is shared between processes: what this one took for a receiver that left goes back.
func TestReceiveGivesBack(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	l, other := open(t, s, Config{}), open(t, s, Config{})
	k := &keyInbox{key: l.keys.channel("c"), name: "c", waiters: map[string][]chan delivery{}, buffers: map[string][]buffered{}}
	encoded, err := l.codec.encode(Message{"type": "t"}, "")
	must(t, err)
	if !l.inbox.dispatch(k, encoded, 1) {
		t.Fatal("the message was kept, and nobody waits")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Receive(ctx, "c"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	must(t, l.Send(t.Context(), "c", Message{"type": "t"})) // its pop may still be in flight
	m, err := other.Receive(t.Context(), "c")
	if err != nil || m["type"] != "t" {
		t.Errorf("%v, %v", m, err)
	}
}

func TestReceiveBuffers(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	var d drops
	l := open(t, s, Config{Capacity: 3, Observer: Observer{Dropped: d.observe}})
	now := time.Now()
	l.inbox.core.now = func() time.Time { return now }
	k := &keyInbox{name: "specific." + l.clientPrefix + "!", waiters: map[string][]chan delivery{}, buffers: map[string][]buffered{}}
	l.inbox.keys[k.name] = k
	give := func(channel, typ string) {
		encoded, err := l.codec.encode(Message{"type": typ}, channel)
		must(t, err)
		l.inbox.dispatch(k, encoded, 1)
	}
	mine, gone := k.name+"mine", k.name+"gone"
	for _, typ := range strings.Fields("1 2 3 4 5") {
		give(mine, typ)
	}
	give(gone, "x")
	if d.of(DropBufferFull) != 2 {
		t.Errorf("%d dropped from a full buffer", d.of(DropBufferFull))
	}
	for _, want := range strings.Fields("3 4 5") {
		m, err := l.Receive(t.Context(), mine)
		if err != nil || m["type"] != want {
			t.Errorf("%v, %v; want %s", m, err, want)
		}
	}
	now = now.Add(2 * DefaultExpiry)
	give(mine, "6")
	if d.of(DropExpired) != 1 || len(k.buffers[gone]) != 0 {
		t.Errorf("%d expired, %d left", d.of(DropExpired), len(k.buffers[gone]))
	}
}
