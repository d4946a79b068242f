package channelslayer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/redistest"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
)

var (
	prefixes   sync.Map // testing.TB → its number: a test may run again on the same server
	lastPrefix atomic.Int64
)

// prefixOf is the test's own layer prefix on the shared server.
func prefixOf(t testing.TB) string {
	n, ok := prefixes.Load(t)
	if !ok {
		n, _ = prefixes.LoadOrStore(t, lastPrefix.Add(1))
	}
	return fmt.Sprintf("%s.%d.", t.Name(), n)
}

// open returns a layer on s, closed by Cleanup.
func open(t testing.TB, s *redistest.Server, cfg Config) *Core {
	t.Helper()
	cfg.Hosts = []Host{{URL: s.URL}}
	if cfg.Prefix == "" {
		cfg.Prefix = prefixOf(t)
	}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func members(t testing.TB, c *redis.Client, key string) []string {
	t.Helper()
	list, err := c.ZRange(t.Context(), key, 0, -1).Result()
	must(t, err)
	return list
}

// eventually waits for a condition; ten seconds are for a machine under load.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(context.Cause(t.Context()))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// The whole of a group send, byte for byte after the random prefix, for a group as Python left it.
func TestGroupSendWritesGolden(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := s.Client(t)
	g := mustGolden[golden](t, "core_group_send_msgpack_plain_shards1")
	l := open(t, s, Config{})
	at := func(key string) string { return l.cfg.Prefix + strings.TrimPrefix(key, "asgi") }
	now := time.Unix(1795427129, 0)
	l.now = func() time.Time { return now }
	for _, key := range g.Redis {
		if strings.Contains(key.Key, ":group:") {
			for i, m := range key.Members {
				must(t, c.ZAdd(t.Context(), at(key.Key), redis.Z{Score: m.Score, Member: key.member(t, i)}).Err())
			}
		}
	}
	var sent GroupSent
	l.cfg.Observer.GroupSent = func(s GroupSent) { sent = s }
	must(t, l.GroupSend(t.Context(), g.Input.Group, fromJSON(t, g.Expect.Message).(map[string]any)))
	if want := (GroupSent{Members: 4, Keys: 3}); sent != want {
		t.Errorf("observed %+v, want %+v", sent, want)
	}
	for _, key := range g.Redis {
		if strings.Contains(key.Key, ":group:") {
			continue
		}
		got, err := c.ZRangeWithScores(t.Context(), at(key.Key), 0, -1).Result()
		must(t, err)
		if len(got) != 1 || got[0].Score != 1795427129 {
			t.Fatalf("%s: %v", key.Key, got)
		}
		if got, want := got[0].Member.(string)[12:], key.member(t, 0)[12:]; got != want {
			t.Errorf("%s:\n%q\nwant\n%q", key.Key, got, want)
		}
		if ttl := c.TTL(t.Context(), at(key.Key)).Val(); ttl != 60*time.Second && ttl != 59*time.Second {
			t.Errorf("%s: ttl %v", key.Key, ttl)
		}
	}
}

func TestGroupAddWritesGolden(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := s.Client(t)
	g := mustGolden[golden](t, "core_group_members_shards1")
	l := open(t, s, Config{})
	for i, channel := range g.Input.Members {
		l.now = func() time.Time { return time.UnixMicro(int64(g.Redis[0].Members[i].Score * 1e6)) }
		must(t, l.GroupAdd(t.Context(), g.Input.Group, channel))
	}
	got, err := c.ZRangeWithScores(t.Context(), l.keys.group(g.Input.Group), 0, -1).Result()
	must(t, err)
	for i, z := range got {
		want := g.Redis[0].Members[i]
		if z.Member != unbase64(t, want.Value) || z.Score-want.Score > 1e-6 || want.Score-z.Score > 1e-6 {
			t.Errorf("member %d: %v, want %v", i, z, want)
		}
	}
	if ttl := c.TTL(t.Context(), l.keys.group(g.Input.Group)).Val(); ttl < 86390*time.Second || ttl > 86400*time.Second {
		t.Errorf("ttl %v", ttl)
	}
}

func TestLongListsOfNames(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	for _, n := range []int{1, 15, 16, 300, 66000} {
		l := open(t, s, Config{Prefix: prefixOf(t) + string(rune('a'+n%26))})
		c := s.Client(t)
		add := c.Pipeline()
		for i := range n {
			// names of 5 to 98 bytes: each form of text
			add.ZAdd(t.Context(), l.keys.group("g"), redis.Z{Score: float64(time.Now().Unix()), Member: "p!" + strings.Repeat("x", i%90) + "." + hexOf(i)})
		}
		_, err := add.Exec(t.Context())
		must(t, err)
		must(t, l.GroupSend(t.Context(), "g", Message{"type": "t"}))
		got := members(t, c, l.keys.channel("p!"))
		if len(got) != 1 {
			t.Fatalf("%d messages", len(got))
		}
		_, names, err := l.codec.decode(got[0], 1)
		must(t, err)
		if diff := cmp.Diff(members(t, c, l.keys.group("g")), allNames(names)); diff != "" {
			t.Errorf("%d names differ", n)
		}
	}
}

func hexOf(i int) string {
	return string("0123456789abcdef"[i>>12&15]) + string("0123456789abcdef"[i>>8&15]) + string("0123456789abcdef"[i>>4&15]) + string("0123456789abcdef"[i&15]) + string(rune('a'+i>>16))
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := s.Client(t)
	l := open(t, s, Config{Expiry: 10 * time.Second, GroupExpiry: 100 * time.Second})
	now := time.Now()
	l.now = func() time.Time { return now.Add(-11 * time.Second) }
	must(t, l.Send(t.Context(), "c", Message{"type": "old"}))
	must(t, l.GroupAdd(t.Context(), "g", "c"))
	l.now = func() time.Time { return now }
	must(t, l.Send(t.Context(), "c", Message{"type": "new"}))
	if got := members(t, c, l.keys.channel("c")); len(got) != 1 || !strings.Contains(got[0], "new") {
		t.Errorf("after a send: %q", got)
	}
	l.now = func() time.Time { return now.Add(80 * time.Second) }
	must(t, l.GroupSend(t.Context(), "g", Message{"type": "newer"}))
	if got := members(t, c, l.keys.channel("c")); len(got) != 1 || !strings.Contains(got[0], "newer") {
		t.Errorf("after a group send: %q", got)
	}
	l.now = func() time.Time { return now.Add(90 * time.Second) }
	must(t, l.GroupSend(t.Context(), "g", Message{"type": "nobody"}))
	if got := members(t, c, l.keys.group("g")); len(got) != 0 {
		t.Errorf("expired memberships stay: %q", got)
	}
}

func TestGroupSendCapacity(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := s.Client(t)
	l := open(t, s, Config{Capacity: 2, ChannelCapacity: []CapacityRule{{Glob: "big*!*", Capacity: 4}, {Glob: "big*", Capacity: 3}}})
	var over, full int
	l.cfg.Observer.GroupSent = func(s GroupSent) { over += s.OverCapacity }
	l.cfg.Observer.ChannelFull = func() { full++ }
	for _, channel := range []string{"small", "big", "big.x!y", "big.x!z"} {
		must(t, l.GroupAdd(t.Context(), "g", channel))
	}
	for range 5 {
		must(t, l.GroupSend(t.Context(), "g", Message{"type": "t"}))
	}
	for channel, want := range map[string]int{"small": 2, "big": 3, "big.x!": 4} {
		if got := len(members(t, c, l.keys.channel(channel))); got != want {
			t.Errorf("%s holds %d, want %d", channel, got, want)
		}
	}
	if over != 3+2+1 {
		t.Errorf("%d over capacity", over)
	}
	if err := l.Send(t.Context(), "big.x!y", Message{"type": "t"}); !errors.Is(err, ErrChannelFull) || !Retryable(err) || full != 1 {
		t.Errorf("Send: %v, observed %d", err, full)
	}
}

// What somebody else put into a group or on a member's key costs only that member its message.
func TestGroupSendSurvivesJunk(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := s.Client(t)
	l := open(t, s, Config{})
	now := float64(time.Now().Unix())
	for _, m := range []string{"\xff", "p!\xed\xa0\x80", "p!good", "p!é٣𝄞", "wrong", strings.Repeat("long", 20000), "", "plain"} {
		must(t, c.ZAdd(t.Context(), l.keys.group("g"), redis.Z{Score: now, Member: m}).Err())
	}
	must(t, c.Set(t.Context(), l.keys.channel("wrong"), "text", time.Minute).Err())
	var sent GroupSent
	l.cfg.Observer.GroupSent = func(s GroupSent) { sent = s }
	must(t, l.GroupSend(t.Context(), "g", Message{"type": "t"}))
	if want := (GroupSent{Members: 8, Keys: 4, Rejected: 4}); sent != want {
		t.Errorf("observed %+v, want %+v", sent, want)
	}
	got := members(t, c, l.keys.channel("p!"))
	_, names, err := l.codec.decode(got[0], 0)
	if err != nil || !cmp.Equal(allNames(names), []string{"p!good", "p!é٣𝄞"}) {
		t.Errorf("names %q, %v", allNames(names), err)
	}
	if len(members(t, c, l.keys.channel("plain"))) != 1 {
		t.Error("the plain member got nothing")
	}
	must(t, c.Set(t.Context(), l.keys.group("text"), "text", time.Minute).Err())
	if err := l.GroupSend(t.Context(), "text", Message{"type": "t"}); err == nil || Retryable(err) {
		t.Errorf("a group of another type: %v", err)
	}
}

// The Lua patterns say the same as fnmatch.
func TestGlobsInRedis(t *testing.T) {
	t.Parallel()
	c := redistest.Shared(t).Client(t)
	find := func(pattern, name string) bool {
		n, err := c.Eval(t.Context(), `return string.find(ARGV[2], ARGV[1]) and 1 or 0`, nil, pattern, name).Int()
		if err != nil {
			t.Errorf("pattern %q: %v", pattern, err)
		}
		return n == 1
	}
	for _, tt := range globTable {
		_, lua, err := compileGlob(tt.glob)
		must(t, err)
		for _, name := range tt.matches {
			if !find(lua, name) {
				t.Errorf("%q as %q does not match %q", tt.glob, lua, name)
			}
		}
		for _, name := range tt.not {
			if find(lua, name) {
				t.Errorf("%q as %q matches %q", tt.glob, lua, name)
			}
		}
	}
}

func TestFlushDeletesThePrefixOnly(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := s.Client(t)
	l := open(t, s, Config{Prefix: prefixOf(t) + "[*]"})
	other := open(t, s, Config{Prefix: prefixOf(t) + "x"})
	must(t, l.Send(t.Context(), "c", Message{"type": "t"}))
	must(t, other.Send(t.Context(), "c", Message{"type": "t"}))
	must(t, l.Flush(t.Context()))
	if len(members(t, c, l.keys.channel("c"))) != 0 || len(members(t, c, other.keys.channel("c"))) != 1 {
		t.Error("flush deleted too much or too little")
	}
}

func TestRedisAway(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	l := open(t, s, Config{})
	must(t, l.Ping(t.Context()))
	must(t, l.Send(t.Context(), "c", Message{"type": "t"}))
	s.Stop()
	for what, err := range map[string]error{
		"Ping": l.Ping(t.Context()), "Send": l.Send(t.Context(), "c", Message{}), "GroupSend": l.GroupSend(t.Context(), "g", Message{}),
		"GroupAdd": l.GroupAdd(t.Context(), "g", "c"), "GroupDiscard": l.GroupDiscard(t.Context(), "g", "c"),
	} {
		if !Retryable(err) {
			t.Errorf("%s while Redis is away: %v, want a retryable error", what, err)
		}
	}
	if _, err := l.Receive(t.Context(), "c"); !Retryable(err) {
		t.Errorf("Receive while Redis is away: %v", err)
	}
	s.StartAgain()
	must(t, l.Send(t.Context(), "c", Message{"type": "again"}))
	m, err := l.Receive(t.Context(), "c")
	if err != nil || m["type"] != "again" {
		t.Errorf("after the restart: %v, %v", m, err)
	}
}

func TestRedisHangs(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	l := open(t, s, Config{})
	must(t, l.Ping(t.Context()))
	s.Pause()
	defer s.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := l.GroupSend(ctx, "g", Message{}); !Retryable(err) || time.Since(start) > 2*time.Second {
		t.Errorf("GroupSend after %v: %v", time.Since(start), err)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	l := open(t, redistest.Shared(t), Config{})
	must(t, l.Close())
	must(t, l.Close())
	if err := l.Send(t.Context(), "c", Message{}); !errors.Is(err, ErrClosed) || Retryable(err) {
		t.Errorf("Send: %v", err)
	}
	if err := l.GroupAdd(t.Context(), "g", "c"); !errors.Is(err, ErrClosed) {
		t.Errorf("GroupAdd: %v", err)
	}
}
