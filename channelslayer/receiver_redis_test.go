package channelslayer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/redistest"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// inbasket keeps what a Receiver delivered.
type inbasket struct {
	mu  sync.Mutex
	got []string // "group,group:text"
}

func (b *inbasket) deliver(groups []string, m *Received) {
	text, _ := m.Text()
	sorted := slices.Sorted(slices.Values(groups))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, strings.Join(sorted, ",")+":"+text)
}

func (b *inbasket) list() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.got)
}

func (b *inbasket) has(want string) bool { return slices.Contains(b.list(), want) }

// fastUpkeep makes the receiver notice within milliseconds.
func fastUpkeep() ReceiverConfig {
	return ReceiverConfig{ProbeInterval: 20 * time.Millisecond, AliveTTL: 300 * time.Millisecond}
}

// running is a receiver whose Run was started.
type running struct {
	*Receiver
	inbasket
	stop func() error // ends Run and returns its result; Cleanup calls it, too
}

func startReceiver(t testing.TB, l *Core, cfg ReceiverConfig) *running {
	t.Helper()
	r, err := l.NewReceiver(cfg)
	must(t, err)
	run := &running{Receiver: r}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var g errgroup.Group
	g.Go(func() error { return r.Run(ctx, run.deliver) })
	run.stop = sync.OnceValue(func() error {
		cancel()
		return g.Wait()
	})
	t.Cleanup(func() {
		if err := run.stop(); err != nil {
			t.Logf("Run: %v", err)
		}
	})
	return run
}

func text(s string) Message { return Message{"type": "ws_message", "message": s} }

func TestReceiver(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := s.Client(t)
	l, sender := open(t, s, Config{}), open(t, s, Config{})
	r := startReceiver(t, l, ReceiverConfig{})
	group := strings.Repeat("0123456789abcdef", 4)
	must(t, r.Join(t.Context(), group, "other"))
	name := r.GroupChannel(group)
	if len(name) != 85 || !strings.HasPrefix(name, "specific."+r.ClientPrefix()+"!") || CheckChannelName(name) != nil {
		t.Errorf("GroupChannel: %q, %d characters", name, len(name))
	}
	if got := members(t, c, l.keys.group(group)); !slices.Equal(got, []string{name}) {
		t.Errorf("members %q", got)
	}
	must(t, sender.GroupSend(t.Context(), group, text("1")))
	must(t, sender.Send(t.Context(), name, text("2")))
	must(t, sender.GroupAdd(t.Context(), "both", name))
	must(t, sender.GroupAdd(t.Context(), "both", r.GroupChannel("other")))
	must(t, sender.GroupAdd(t.Context(), "both", r.GroupChannel("unknown")))
	must(t, sender.GroupSend(t.Context(), "both", text("3")))
	want := []string{group + ":1", group + ":2", group + ",other:3"}
	eventually(t, "three messages", func() bool { return slices.Equal(r.list(), want) })

	must(t, r.Leave(t.Context(), group))
	if got := members(t, c, l.keys.group(group)); len(got) != 0 {
		t.Errorf("after Leave: %q", got)
	}
	must(t, sender.GroupSend(t.Context(), group, text("4")))
	must(t, sender.GroupSend(t.Context(), "other", text("5")))
	eventually(t, "the message of the group that is left", func() bool { return r.has("other:5") })
	if r.has(group + ":4") {
		t.Error("a message after Leave")
	}
}

func TestReceiverDropsJunk(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := s.Client(t)
	var d drops
	l := open(t, s, Config{Observer: Observer{Dropped: d.observe}})
	r := startReceiver(t, l, ReceiverConfig{})
	must(t, r.Join(t.Context(), "g"))
	put(t, c, r.key, "")
	put(t, c, r.key, "0123456789ab\xc1")
	put(t, c, r.key, "0123456789ab\x81\xa4type\xa1t")
	put(t, c, r.key, "0123456789ab\x81\xb0__asgi_channel__\x01")
	put(t, c, r.key, "0123456789ab\x81\xa1a"+strings.Repeat("\x91", 2000)+"\xc0")
	must(t, l.Send(t.Context(), r.GroupChannel("unknown"), text("x")))
	must(t, l.GroupSend(t.Context(), "g", text("good")))
	eventually(t, "the good message", func() bool { return r.has("g:good") })
	for reason, n := range map[DropReason]int{DropUndecodable: 2, DropNoChannel: 1, DropChannelType: 1, DropTooDeep: 1, DropUnknownChannel: 1} {
		if d.of(reason) != n {
			t.Errorf("%s: %d, want %d", reason, d.of(reason), n)
		}
	}
	// A key of another type is trouble until it goes away, and no longer.
	must(t, c.Set(t.Context(), r.key, "text", 0).Err())
	must(t, c.Del(t.Context(), r.key).Err())
	must(t, l.GroupSend(t.Context(), "g", text("after")))
	eventually(t, "the message after a wrong key", func() bool { return r.has("g:after") })
}

func TestReceiverStops(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := s.Client(t)
	l := open(t, s, Config{})
	own := "own:" + prefixOf(t) + ":"
	r := startReceiver(t, l, ReceiverConfig{KeyPrefix: own})
	must(t, r.Join(t.Context(), "g", "h"))
	eventually(t, "the sentinel", func() bool { return c.Exists(t.Context(), r.sentinelKey()).Val() == 1 })
	start := time.Now()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > popBlock/2 {
		t.Errorf("stopping took %v: the pop was not woken", took)
	}
	keys, err := c.Keys(t.Context(), "*"+prefixOf(t)+"*").Result()
	must(t, err)
	if len(keys) != 0 {
		t.Errorf("left behind: %q", keys)
	}
	if err := r.Join(t.Context(), "g"); !errors.Is(err, ErrClosed) {
		t.Errorf("Join after the stop: %v", err)
	}
	if err := r.Leave(t.Context(), "g"); !errors.Is(err, ErrClosed) {
		t.Errorf("Leave after the stop: %v", err)
	}
	if err := r.Run(t.Context(), r.deliver); !errors.Is(err, ErrRunning) {
		t.Errorf("second Run: %v", err)
	}
}

// What had arrived when the stop began is delivered.
func TestReceiverStopDelivers(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	l := open(t, s, Config{Capacity: 5000})
	r := startReceiver(t, l, ReceiverConfig{MaxBatch: 7})
	must(t, r.Join(t.Context(), "g"))
	for i := range 200 {
		must(t, l.GroupSend(t.Context(), "g", text(fmt.Sprint(i))))
	}
	must(t, r.stop())
	if got := r.list(); len(got) != 200 || got[199] != "g:199" {
		t.Errorf("%d delivered", len(got))
	}
}

func TestReceiverWithoutBatchPop(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	l := open(t, s, Config{Capacity: 5000})
	r, err := l.NewReceiver(ReceiverConfig{})
	must(t, err)
	r.shards[0].noBatchPop = true // as after "unknown command" of a Redis before 7
	must(t, r.Join(t.Context(), "g"))
	for i := range 50 {
		must(t, l.GroupSend(t.Context(), "g", text(fmt.Sprint(i))))
	}
	batch, err := r.shards[0].pop(t.Context())
	if err != nil || len(batch) != 50 {
		t.Errorf("%d taken, %v", len(batch), err)
	}
	batch, err = r.shards[0].pop(t.Context())
	if err != nil || len(batch) != 0 {
		t.Errorf("from an empty key: %d, %v", len(batch), err)
	}
	must(t, r.shards[0].client.Close())
	if !isUnknownCommand(errors.New("ERR unknown command 'bzmpop', with args beginning with: '1' ")) || isUnknownCommand(redis.Nil) {
		t.Error("unknown command is not recognized")
	}
}

// Joins and leaves that cross: Redis ends as the last call of each group wanted it.
func TestReceiverConcurrentChanges(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := s.Client(t)
	l := open(t, s, Config{})
	r := startReceiver(t, l, ReceiverConfig{})
	var g errgroup.Group
	for worker := range 8 {
		g.Go(func() error {
			own := fmt.Sprintf("g%d", worker)
			for i := range 50 {
				if err := r.Join(t.Context(), own, "shared"); err != nil {
					return err
				}
				if n := c.ZCard(t.Context(), l.keys.group(own)).Val(); n != 1 {
					return fmt.Errorf("%s after Join %d: %d members", own, i, n)
				}
				if err := r.Leave(t.Context(), own); err != nil {
					return err
				}
				if n := c.ZCard(t.Context(), l.keys.group(own)).Val(); n != 0 {
					return fmt.Errorf("%s after Leave %d: %d members", own, i, n)
				}
			}
			return r.Join(t.Context(), own)
		})
	}
	must(t, g.Wait())
	for worker := range 8 {
		own := fmt.Sprintf("g%d", worker)
		if got := members(t, c, l.keys.group(own)); !slices.Equal(got, []string{r.GroupChannel(own)}) {
			t.Errorf("%s: %q", own, got)
		}
	}
	if n := c.SCard(t.Context(), r.own.groups(r.id)).Val(); n != 9 {
		t.Errorf("%d groups in the list, want 9", n)
	}
}

func TestReceiverManyGroups(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := s.Client(t)
	l := open(t, s, Config{})
	r := startReceiver(t, l, ReceiverConfig{})
	groups := make([]string, 2*maxPipeline+1)
	for i := range groups {
		groups[i] = fmt.Sprintf("g%d", i)
	}
	must(t, r.Join(t.Context(), groups...))
	if n := c.SCard(t.Context(), r.own.groups(r.id)).Val(); int(n) != len(groups) {
		t.Errorf("%d groups in the list", n)
	}
	must(t, r.stop())
	if n := c.Exists(t.Context(), l.keys.group("g0"), l.keys.group(groups[len(groups)-1])).Val(); n != 0 {
		t.Error("memberships stay after the stop")
	}
}

func TestReceiverJoinRefusals(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := s.Client(t)
	l := open(t, s, Config{})
	r := startReceiver(t, l, ReceiverConfig{})
	if err := r.Join(t.Context(), "good", "not good"); !errors.Is(err, ErrInvalidName) {
		t.Errorf("an invalid name: %v", err)
	}
	must(t, c.Set(t.Context(), l.keys.group("text"), "text", time.Minute).Err())
	var g errgroup.Group
	g.Go(func() error { return r.Join(t.Context(), "fine") })
	if err := r.Join(t.Context(), "text"); err == nil {
		t.Error("a group of another type was joined")
	}
	must(t, g.Wait())
	must(t, r.Leave(t.Context(), "never joined"))
	must(t, r.Leave(t.Context(), "text"))
}
