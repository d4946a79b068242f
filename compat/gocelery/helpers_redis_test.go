package gocelery

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/integration/redistest"
)

// waitLimit is for what takes milliseconds on a machine that has nothing else to do.
const waitLimit = 30 * time.Second

// eventually polls until condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(waitLimit)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %v: %s", waitLimit, what)
		case <-tick.C:
		}
	}
}

// site is a Redis of the test's own, with the broker in database 0 and the results in database 1.
type site struct {
	*redistest.Server
	broker *redis.Client
}

func startSite(t testing.TB) *site {
	t.Helper()
	s := redistest.Start(t)
	return &site{Server: s, broker: s.Client(t)}
}

// client makes a client of the site; cfg says what is not usual.
func (s *site) client(t testing.TB, cfg Config) *CeleryClient {
	t.Helper()
	if cfg.Broker == nil {
		cfg.Broker = NewRedisCeleryBroker(s.URLFor(0))
	}
	cfg.Backend = NewRedisCeleryBackend(s.URLFor(1))
	return mustNew(t, cfg)
}

// mustBeIdle checks that every message was acknowledged.
func (s *site) mustBeIdle(t testing.TB, queue string) {
	t.Helper()
	eventually(t, "nothing is queued or unacknowledged", func() bool {
		ctx := context.Background()
		return s.broker.LLen(ctx, queue).Val() == 0 && s.broker.HLen(ctx, "unacked").Val() == 0 && s.broker.ZCard(ctx, "unacked_index").Val() == 0
	})
}

// mustGet waits for a result.
func mustGet(t testing.TB, r *AsyncResult, err error) any {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	v, err := r.Get(waitLimit)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// inBackground runs f until the end of the test; the channel is closed when it has returned.
func inBackground(t testing.TB, f func()) <-chan struct{} {
	doneC := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		defer close(doneC)
		f()
	})
	t.Cleanup(group.Wait)
	return doneC
}

func mustEnd(t testing.TB, what string, doneC <-chan struct{}) {
	t.Helper()
	select {
	case <-doneC:
	case <-time.After(waitLimit):
		t.Fatalf("not within %v: %s", waitLimit, what)
	}
}
