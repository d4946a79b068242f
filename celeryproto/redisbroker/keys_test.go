package redisbroker

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func testKeys(t Options) keyspace {
	o := t.withDefaults()
	return o.keys()
}

func TestQueueKey(t *testing.T) {
	t.Parallel()
	k := testKeys(Options{})
	for priority, want := range map[int]string{
		-5: "celery", 0: "celery", 1: "celery", 2: "celery", 3: "celery\x06\x163", 5: "celery\x06\x163", 6: "celery\x06\x166",
		8: "celery\x06\x166", 9: "celery\x06\x169", 10: "celery\x06\x169", 1000: "celery\x06\x169",
	} {
		if got := k.queue("celery", priority); got != want {
			t.Errorf("priority %d: %q, want %q", priority, got, want)
		}
	}
}

func TestQueueKeyWithOptions(t *testing.T) {
	t.Parallel()
	k := testKeys(Options{TransportOptions: TransportOptions{
		PrioritySteps: []int{9, 2, 5}, Sep: ":", GlobalKeyPrefix: "pfx:",
	}})
	// Python: steps[bisect(steps, n) - 1] is the last step for a priority below the first.
	for priority, want := range map[int]string{0: "pfx:q:9", 2: "pfx:q:2", 4: "pfx:q:2", 5: "pfx:q:5", 9: "pfx:q:9"} {
		if got := k.queue("q", priority); got != want {
			t.Errorf("priority %d: %q, want %q", priority, got, want)
		}
	}
	got := []string{
		k.unacked, k.index, k.mutex, k.bindings("ex"), k.permanentBindings("ex"), k.bindingMember("rk", "", "q"), k.dead("q"),
		k.held(), k.heldIndex(), k.take("id"), k.publisher("id"),
	}
	want := []string{
		"pfx:unacked", "pfx:unacked_index", "pfx:unacked_mutex", "pfx:_kombu.binding.ex", "pfx:_kombu.binding_permanent.ex",
		"rk::q", "pfx:dfws:dead:q", "pfx:dfws:held", "pfx:dfws:held_index", "pfx:dfws:take:id", "pfx:dfws:publisher:id",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestOptionsValidate(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]TransportOptions{
		"visibility_timeout":   {VisibilityTimeout: -1},
		"priority_steps":       {PrioritySteps: []int{0, 12}},
		"priority_steps twice": {PrioritySteps: []int{3, 3}},
		"queue_order_strategy": {QueueOrderStrategy: "random"},
		"max_connections":      {MaxConnections: -1},
	} {
		if _, err := Open(Options{TransportOptions: o}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Open(Options{OwnPrefix: "_kombu.x"}); err == nil {
		t.Error("own prefix: accepted")
	}
}
