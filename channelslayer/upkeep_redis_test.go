package channelslayer

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/redistest"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

func TestReceiverSurvivesRestart(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	var reconnects atomic.Int64
	l := open(t, s, Config{Observer: Observer{Reconnected: func() { reconnects.Add(1) }}})
	r := startReceiver(t, l, fastUpkeep())
	must(t, r.Join(t.Context(), "g", "h"))
	for name, restart := range map[string]func(){"with its data": s.Restart, "empty": s.RestartEmpty} {
		restart()
		eventually(t, "a message after a restart "+name, func() bool {
			_ = l.GroupSend(t.Context(), "h", text(name)) // fails while Redis starts
			return r.has("h:" + name)
		})
	}
	if reconnects.Load() == 0 {
		t.Error("no reconnection was noticed")
	}
}

// Join and Leave while Redis is away return an error; when it is back, Redis gets what was wanted.
func TestReceiverChangesDuringOutage(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	l := open(t, s, Config{})
	r := startReceiver(t, l, fastUpkeep())
	must(t, r.Join(t.Context(), "old"))
	s.Save()
	s.Stop()
	if err := r.Join(t.Context(), "new"); !Retryable(err) {
		t.Errorf("Join: %v", err)
	}
	if err := r.Leave(t.Context(), "old"); !Retryable(err) {
		t.Errorf("Leave: %v", err)
	}
	s.StartAgain()
	eventually(t, "the new group", func() bool { return c.ZCard(t.Context(), l.keys.group("new")).Val() == 1 })
	eventually(t, "the old group", func() bool { return c.ZCard(t.Context(), l.keys.group("old")).Val() == 0 })
}

func TestReceiverHungRedis(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	l := open(t, s, Config{})
	cfg := fastUpkeep()
	cfg.StopTimeout = 200 * time.Millisecond
	r := startReceiver(t, l, cfg)
	must(t, r.Join(t.Context(), "g"))
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Join(ctx, "h"); !Retryable(err) {
		t.Errorf("Join: %v", err)
	}
	s.Resume()
	must(t, l.GroupSend(t.Context(), "g", text("1")))
	eventually(t, "a message after the pause", func() bool { return r.has("g:1") })
	s.Pause()
	start := time.Now()
	if err := r.stop(); err == nil {
		t.Error("Run returned nil, but it could not leave its groups")
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("stopping took %v", took)
	}
	s.Resume()
}

func TestReceiverRecoversFromFlush(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	refreshed := make(chan RefreshCause, 100)
	l := open(t, s, Config{Observer: Observer{Refreshed: func(cause RefreshCause, _ int) { refreshed <- cause }}})
	r := startReceiver(t, l, fastUpkeep())
	must(t, r.Join(t.Context(), "g"))
	if cause := <-refreshed; cause != RefreshScheduled {
		t.Errorf("first refresh: %s", cause)
	}
	flushes := []struct {
		name  string
		flush func() error
	}{
		{"the layer's flush", func() error { return l.Flush(t.Context()) }},
		{"FLUSHALL", func() error { return c.FlushAll(t.Context()).Err() }},
	}
	for _, f := range flushes {
		must(t, f.flush())
		must(t, r.Join(t.Context(), "late")) // a new membership must not hide the loss of the others
		if cause := <-refreshed; cause != RefreshLost {
			t.Errorf("%s: refreshed because %s", f.name, cause)
		}
		must(t, l.GroupSend(t.Context(), "g", text(f.name)))
		eventually(t, "a message after "+f.name, func() bool { return r.has("g:" + f.name) })
	}
	eventually(t, "the sign of life", func() bool {
		return c.Exists(t.Context(), r.own.alive(r.id)).Val() == 1 && c.SIsMember(t.Context(), r.own.receivers(), r.id).Val()
	})
	if n := c.SCard(t.Context(), r.own.groups(r.id)).Val(); n != 2 {
		t.Errorf("%d groups in the list", n)
	}
}

// With a group_expiry of 2 s a membership of Python is gone after 2 s; ours is renewed.
func TestReceiverRefreshes(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	refreshed := make(chan RefreshCause, 100)
	l := open(t, s, Config{GroupExpiry: 2 * time.Second, Observer: Observer{Refreshed: func(cause RefreshCause, _ int) { refreshed <- cause }}})
	r := startReceiver(t, l, fastUpkeep())
	must(t, r.Join(t.Context(), "g"))
	<-refreshed
	before := s.Client(t).ZScore(t.Context(), l.keys.group("g"), r.GroupChannel("g")).Val()
	for range 4 { // 4/3 of group_expiry
		if cause := <-refreshed; cause != RefreshScheduled {
			t.Errorf("refreshed because %s", cause)
		}
	}
	if after := s.Client(t).ZScore(t.Context(), l.keys.group("g"), r.GroupChannel("g")).Val(); after < before+2 {
		t.Errorf("score %f, then %f", before, after)
	}
	must(t, l.GroupSend(t.Context(), "g", text("still")))
	eventually(t, "a message after group_expiry", func() bool { return r.has("g:still") })
}

// abandon makes a receiver that has joined and then never gives a sign of life, as a killed process.
func abandon(t testing.TB, l *Core, cfg ReceiverConfig, groups ...string) *Receiver {
	t.Helper()
	r, err := l.NewReceiver(cfg)
	must(t, err)
	must(t, r.Join(t.Context(), groups...))
	must(t, r.core.ring[0].client.ZAdd(t.Context(), r.sentinelKey(), redis.Z{Score: 1, Member: r.name}).Err())
	return r
}

func TestSweep(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := s.Client(t)
	swept := make(chan int, 10)
	l := open(t, s, Config{Observer: Observer{Swept: func(n int) { swept <- n }}})
	cfg := fastUpkeep()
	cfg.KeyPrefix = "own:" + prefixOf(t) + ":"
	dead := abandon(t, l, cfg, "g", "h")
	must(t, l.GroupSend(t.Context(), "g", text("for nobody")))
	must(t, c.Set(t.Context(), l.keys.group("text"), "text", time.Minute).Err())
	must(t, c.SAdd(t.Context(), dead.own.groups(dead.id), "text", "left long ago").Err())
	alive := startReceiver(t, l, cfg)
	must(t, alive.Join(t.Context(), "g"))
	if n := <-swept; n != 2 {
		t.Errorf("%d memberships swept, want 2", n)
	}
	if got := members(t, c, l.keys.group("g")); !slices.Equal(got, []string{alive.GroupChannel("g")}) {
		t.Errorf("members of g: %q", got)
	}
	if n := c.Exists(t.Context(), l.keys.group("h"), dead.key, dead.sentinelKey(), dead.own.groups(dead.id)).Val(); n != 0 {
		t.Errorf("%d keys of the dead receiver stay", n)
	}
	if got := c.SMembers(t.Context(), alive.own.receivers()).Val(); !slices.Equal(got, []string{alive.id}) {
		t.Errorf("receivers %q", got)
	}
}

// A receiver that was taken for dead, because it was cut off for longer than its AliveTTL, joins again by itself.
func TestSweptAlive(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	l := open(t, s, Config{})
	cfg := fastUpkeep()
	cfg.KeyPrefix = "own:" + prefixOf(t) + ":"
	victim := startReceiver(t, l, cfg)
	must(t, victim.Join(t.Context(), "g"))
	other, err := l.NewReceiver(cfg)
	must(t, err)
	must(t, other.shards[0].sweepOne(t.Context(), victim.id))
	eventually(t, "the message of a receiver that was swept", func() bool {
		must(t, l.GroupSend(t.Context(), "g", text("x")))
		return victim.has("g:x")
	})
}

// Two layers on one server do not sweep each other.
func TestSweepKeepsToItsLayer(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	cfg := fastUpkeep()
	cfg.KeyPrefix = "own:" + prefixOf(t) + ":"
	other := abandon(t, open(t, s, Config{Prefix: prefixOf(t) + "1"}), cfg, "g")
	swept := make(chan int, 10)
	l := open(t, s, Config{Prefix: prefixOf(t) + "2", Observer: Observer{Swept: func(n int) { swept <- n }}})
	dead := abandon(t, l, cfg, "g")
	startReceiver(t, l, cfg)
	<-swept
	c := s.Client(t)
	if len(members(t, c, dead.core.keys.group("g"))) != 0 || len(members(t, c, other.core.keys.group("g"))) != 1 {
		t.Error("the wrong layer was swept")
	}
}

func TestRunWithoutRedis(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	l := open(t, s, Config{})
	s.Stop()
	r := startReceiver(t, l, fastUpkeep())
	if err := r.Join(t.Context(), "g"); !Retryable(err) {
		t.Errorf("Join: %v", err)
	}
	s.StartAgain()
	eventually(t, "a message after Redis came", func() bool {
		must(t, l.GroupSend(t.Context(), "g", text("x")))
		return r.has("g:x")
	})
	var g errgroup.Group
	g.Go(r.stop)
	must(t, g.Wait())
}
