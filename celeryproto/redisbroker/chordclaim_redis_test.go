package redisbroker_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

// The claim belongs to one worker at a time.
func TestChordClaim(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	r := mustResults(t, s, redisbroker.ResultOptions{KeyPrefix: ownPrefix(t)})
	c := s.Client(t)
	mustStart(t, r, celeryproto.ChordStart{GroupID: "g", Size: 1})
	last := part("g", "a", 0, "SUCCESS", "1")
	first := mustPart(t, r, last)
	if err := c.Del(t.Context(), r.GroupKey("g")+".c").Err(); err != nil { // it takes too long
		t.Fatal(err)
	}
	if renewed, err := r.RenewChord(t.Context(), first); err != nil || !renewed {
		t.Errorf("nobody else has claimed it: %v, %v", renewed, err)
	}
	if ttl := c.TTL(t.Context(), r.GroupKey("g")+".c").Val(); ttl < 15*time.Second || ttl > 21*time.Second {
		t.Errorf("renewed for %v", ttl)
	}
	if err := c.Del(t.Context(), r.GroupKey("g")+".c").Err(); err != nil {
		t.Fatal(err)
	}
	second := mustPart(t, r, last) // the task is delivered again
	if second == nil {
		t.Fatal("not claimed by the second worker")
	}
	if renewed, err := r.RenewChord(t.Context(), first); err != nil || renewed {
		t.Errorf("the first worker still has it: %v, %v", renewed, err)
	}
	if err := r.FinishChord(t.Context(), first); err != nil {
		t.Error(err)
	}
	if c.Exists(t.Context(), r.GroupKey("g")+".j").Val() != 1 {
		t.Error("the first worker removed what the second needs")
	}
	mustFinish(t, r, second)
}

func TestAddToChord(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	r := mustResults(t, s, redisbroker.ResultOptions{KeyPrefix: ownPrefix(t)})
	mustStart(t, r, celeryproto.ChordStart{GroupID: "g", Size: 1})
	for range 2 { // the reply was lost
		if err := r.AddToChord(t.Context(), "g", &celeryproto.ResultTree{ID: "added"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := mustPart(t, r, part("g", "a", 0, "SUCCESS", "1")); got != nil {
		t.Errorf("complete without the added one: %+v", got)
	}
	if got := valuesOf(mustPart(t, r, part("g", "added", 0, "SUCCESS", "2"))); got != "SUCCESS 1, SUCCESS 2" {
		t.Errorf("results %s", got)
	}
}

// Many return parts at once, over connections that break: exactly one gets the chord, also when the reply that says so is lost.
func TestChordRace(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	var broken atomic.Int64
	opts := redisbroker.ResultOptions{Observer: redisbroker.Observer{Disconnected: func(string, error) { broken.Add(1) }}}
	a, b := mustResults(t, s, opts), mustResults(t, s, opts)
	const size = 200
	mustStart(t, a, celeryproto.ChordStart{GroupID: "g", Size: size})
	claims := make(chan *celeryproto.Chord, 2*size)
	var wg sync.WaitGroup
	for i := range 2 * size { // each part twice
		r := a
		if i%2 == 1 {
			r = b
		}
		wg.Go(func() {
			chord, err := r.ChordPart(t.Context(), part("g", fmt.Sprint(i/2), i/2, "SUCCESS", fmt.Sprint(i/2)))
			if err != nil {
				t.Error(err)
			}
			if chord != nil {
				claims <- chord
			}
		})
	}
	over := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			if err := c.ClientKillByFilter(context.WithoutCancel(t.Context()), "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	eventually(t, "connections were broken", func() bool { return broken.Load() > 20 })
	close(over)
	killer.Wait()
	wg.Wait()
	close(claims)
	n := 0
	for chord := range claims {
		n++
		if len(chord.Results) != size || chord.Results[7].Result.String() != "7" {
			t.Errorf("%d results", len(chord.Results))
		}
	}
	if n != 1 {
		key := a.GroupKey("g")
		t.Errorf("%d claims of %d parts, %d counted, claimed by %q; %d connections broken", n, c.ZCard(t.Context(), key+".j").Val(),
			c.SCard(t.Context(), key+".d").Val(), c.Get(t.Context(), key+".c").Val(), broken.Load())
	}
}
