package redisbroker

import (
	"slices"
	"testing"
	"time"
)

func TestRests(t *testing.T) {
	t.Parallel()
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	var s rests
	check := func(ms int, want bool) {
		t.Helper()
		if got := s.resting("a", at(ms)); got != want {
			t.Errorf("after %d ms: resting %v", ms, got)
		}
	}
	push := func(ms int, d time.Duration) bool {
		if !s.begin("a", at(ms)) {
			return false
		}
		check(ms, true) // before it is answered
		s.pushed("a", d, at(ms))
		return true
	}
	check(0, false)
	if !push(0, 200*time.Millisecond) {
		t.Error("the first rest is refused")
	}
	check(199, true)
	check(200, false)
	if push(399, time.Second) {
		t.Error("a rest before the consumer had the queue for as long")
	}
	check(399, false)
	if !push(400, 500*time.Millisecond) || !push(800, 500*time.Millisecond) {
		t.Error("a rest, or going on with it, is refused")
	}
	check(1299, true)
	check(1300, false)
	for ms := 3000; ms < 5000; ms += 100 {
		push(ms, time.Minute)
	}
	check(4999, true)
	check(5000, false) // the bound
	if push(5000, time.Second) || push(6999, time.Second) {
		t.Error("rests without an end")
	}
	if !s.begin("a", at(7000)) {
		t.Error("no rest ever after")
	}
	s.pushed("a", 0, at(7010)) // failed
	check(7010, false)
	s.begin("a", at(8000))
	check(9999, true)
	check(10_000, false) // a push without an answer does not keep the consumer from the queue
	if got := s.awake([]string{"b", "a", "c"}, at(9000)); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("awake: %v", got)
	}
	if got := s.next(at(9700), time.Second); got != 300*time.Millisecond {
		t.Errorf("next: %v", got)
	}
	if got := s.next(at(8000), time.Second); got != time.Second {
		t.Errorf("next: %v", got)
	}
}
