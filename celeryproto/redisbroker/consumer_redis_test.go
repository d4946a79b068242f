package redisbroker_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto/redisbroker"
)

// What Python records for a taken message, byte for byte, and that an ack removes it.
func TestTakeRecordsAsPython(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	recorded := mustFixture(t, "unacked_entries").entries()
	for _, value := range recorded {
		raw := strings.TrimSuffix(strings.TrimPrefix(value, "["), `, "", "celery"]`)
		if err := b.Publish(t.Context(), redisbroker.Message{Queue: "celery", Envelope: []byte(raw)}); err != nil {
			t.Fatal(err)
		}
	}
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"celery"}, Prefetch: 10})
	var all []*redisbroker.Delivery
	for range recorded {
		all = append(all, consumer.next(t))
	}
	if d := cmp.Diff(recorded, unackedOf(t, c, prefix)); d != "" {
		t.Error(d)
	}
	now := float64(c.Time(t.Context()).Val().UnixMicro()) / 1e6
	for _, z := range c.ZRangeWithScores(t.Context(), prefix+"unacked_index", 0, -1).Val() {
		if z.Score > now || z.Score < now-60 {
			t.Errorf("score %f, now %f", z.Score, now)
		}
	}
	var wg sync.WaitGroup
	for _, d := range all {
		if d.DecodeErr != nil || d.Envelope.TaskName() == "" || d.Redelivered || d.Envelope.Properties.DeliveryTag != d.Tag {
			t.Errorf("delivery %+v", d)
		}
		wg.Go(func() { mustAck(t, d) })
	}
	wg.Wait()
	if left := unackedOf(t, c, prefix); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := all[0].Ack(t.Context()); !errors.Is(err, redisbroker.ErrSettled) {
		t.Errorf("second ack: %v", err)
	}
	consumer.mustStop(t)
	keys := c.Keys(t.Context(), prefix+"*").Val()
	slices.Sort(keys)
	if d := cmp.Diff([]string{prefix + "_kombu.binding.celery", prefix + "_kombu.binding_permanent.celery"}, keys); d != "" {
		t.Errorf("keys left: %s", d)
	}
}

// Reject with requeue leaves what Python leaves.
func TestRequeueAsPython(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	pushes := mustFixture(t, "unacked_reject_requeue").commands(t, "LPUSH")
	published, requeued := pushes[0][1], pushes[1][1]
	mustPublish(t, b, "celery", 1)
	if err := b.Publish(t.Context(), redisbroker.Message{Queue: "celery", Envelope: []byte(published)}); err != nil {
		t.Fatal(err)
	}
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"celery"}, Prefetch: 2})
	first, second := consumer.next(t), consumer.next(t)
	consumer.AddPrefetch(-2) // what goes back must not be taken again at once
	mustPublish(t, b, "celery", 2)
	if err := second.Reject(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{requeued, string(envelope("celery", 2, 0))}, listOf(t, c, prefix+"celery")); d != "" {
		t.Error(d)
	}
	if err := first.Reject(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if left := unackedOf(t, c, prefix); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	consumer.AddPrefetch(2)
	if d := consumer.next(t); body(d) != "2" {
		t.Errorf("first comes %s", body(d))
	}
	if d := consumer.next(t); !d.Redelivered {
		t.Error("the requeued delivery is not marked as redelivered")
	}
}

func TestRequeueWithDelay(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{TransportOptions: redisbroker.TransportOptions{VisibilityTimeout: time.Second}})
	mustPublish(t, b, "q", 1, 2)
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 1})
	d := consumer.next(t)
	const delay = 1500 * time.Millisecond // longer than the visibility timeout: it is refreshed
	start := time.Now()
	if err := d.Requeue(t.Context(), envelope("q", 100, 6), redisbroker.RequeueOptions{Delay: delay}); err != nil {
		t.Fatal(err)
	}
	if second := consumer.next(t); body(second) != "2" { // the waiting one does not count as held
		t.Fatalf("got %s", body(second))
	} else {
		mustAck(t, second)
	}
	if n := len(unackedOf(t, c, prefix)); n != 1 {
		t.Errorf("%d unacked while it waits", n)
	}
	if err := d.Ack(t.Context()); !errors.Is(err, redisbroker.ErrSettled) {
		t.Errorf("ack of a delayed requeue: %v", err)
	}
	again := consumer.next(t)
	if took := time.Since(start); took < delay || body(again) != "100" {
		t.Errorf("%s after %v", body(again), took)
	}
	if err := again.Requeue(t.Context(), nil, redisbroker.RequeueOptions{Delay: time.Hour}); err != nil {
		t.Fatal(err)
	}
	consumer.mustStop(t) // does not wait an hour
	if n := len(listOf(t, c, prefix+"q\x06\x166")); n != 1 || consumer.Held() != 0 {
		t.Errorf("%d elements, %d held", n, consumer.Held())
	}
}

func TestDeadLetter(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	mustPublish(t, b, "q", 1)
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 1})
	d := consumer.next(t)
	if err := d.DeadLetter(t.Context(), "nobody knows it"); err != nil {
		t.Fatal(err)
	}
	letters := deadLetters(t, c, prefix+"dfws:dead:q")
	if len(letters) != 1 || letters[0].Reason != "nobody knows it" || letters[0].Queue != "q" ||
		string(letters[0].Envelope) != string(envelope("q", 1, 0)) || time.Since(letters[0].At) > time.Minute {
		t.Errorf("%+v", letters)
	}
	if left := unackedOf(t, c, prefix); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Everything that Python cannot digest arrives once, with its bytes, and the messages around it too.
func TestUndecodable(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	bad := []string{
		"", "not JSON", "\x00\xff\xfe", `{"body": `, "[1, 2]", `"text"`, "null", strings.Repeat("[", 5000),
		`{"properties": {"delivery_tag": "bad-utf8-` + "\xff" + `", "delivery_info": {}}}`,
		`{"headers": {"x": {"__type__": "no such type", "__value__": 1}}, "properties": {"delivery_tag": "t"`,
		// Ends as Python's messages do, which take.lua trusts, but is no JSON.
		`{"body": "x", broken, "properties": {"delivery_info": {"exchange": "", "routing_key": "q"}, "priority": 0, ` +
			`"body_encoding": "base64", "delivery_tag": "tail"}}`,
	}
	mustPublish(t, b, "q", 0)
	for _, raw := range bad {
		if err := b.Publish(t.Context(), redisbroker.Message{Queue: "q", Envelope: []byte(raw)}); err != nil {
			t.Fatal(err)
		}
	}
	mustPublish(t, b, "q", 1)
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 100})
	if d := consumer.next(t); body(d) != "0" {
		t.Errorf("first: %s", body(d))
	}
	tags := make(map[string]bool)
	for _, raw := range bad {
		d := consumer.next(t)
		if string(d.Raw) != raw || d.DecodeErr == nil || d.Envelope != nil || tags[d.Tag] {
			t.Errorf("want undecodable %q, got %q, error %v, tag %q", raw, d.Raw, d.DecodeErr, d.Tag)
		}
		tags[d.Tag] = true
		if err := d.DeadLetter(t.Context(), "undecodable"); err != nil {
			t.Errorf("%q: %v", raw, err)
		}
	}
	if d := consumer.next(t); body(d) != "1" {
		t.Errorf("last: %s", body(d))
	}
	if n := len(unackedOf(t, c, prefix)); n != 2 {
		t.Errorf("%d unacked, the two good ones should be", n)
	}
	if n := c.Exists(t.Context(), prefix+"dfws:held", prefix+"dfws:held_index").Val(); n != 0 {
		t.Error("something stays held")
	}
	letters := deadLetters(t, c, prefix+"dfws:dead:q")
	slices.Reverse(letters)
	for i, raw := range bad {
		if string(letters[i].Envelope) != raw {
			t.Errorf("dead letter %d: %q, want %q", i, letters[i].Envelope, raw)
		}
	}
}

// What only lacks the delivery's names is delivered under generated ones, and can be restored by anybody.
func TestMissingProperties(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	for _, raw := range []string{
		`{"body": "a", "content-type": "application/json", "content-encoding": "utf-8", "headers": {}, "properties": {"delivery_info": {"exchange": "e/x", "routing_key": "r"}}}`,
		`{"body": "b", "content-type": "application/json", "content-encoding": "utf-8", "headers": {}, "properties": {"delivery_tag": "b"}}`,
		`{"body": "c", "content-type": "application/json", "content-encoding": "utf-8", "headers": {}, "properties": {"delivery_tag": 5, "delivery_info": {"exchange": null}}}`,
	} {
		if err := b.Publish(t.Context(), redisbroker.Message{Queue: "ü/q", Envelope: []byte(raw)}); err != nil {
			t.Fatal(err)
		}
	}
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"ü/q"}, Prefetch: 10})
	want := map[string]string{}
	for i, suffix := range []string{`, "e/x", "r"]`, `, "", "\u00fc/q"]`, `, "", "\u00fc/q"]`} {
		d := consumer.next(t)
		if d.DecodeErr != nil {
			t.Fatalf("delivery %d: %v", i, d.DecodeErr)
		}
		if i == 1 && d.Tag != "b" || d.Tag == "" || d.Envelope.Properties.DeliveryTag != d.Tag {
			t.Errorf("delivery %d: tag %q, in the envelope %q", i, d.Tag, d.Envelope.Properties.DeliveryTag)
		}
		if info := d.Envelope.Properties.DeliveryInfo; info.RoutingKey == "" {
			t.Errorf("delivery %d: %+v", i, info)
		}
		want[d.Tag] = "[" + string(d.Raw) + suffix
	}
	if d := cmp.Diff(want, unackedOf(t, c, prefix)); d != "" {
		t.Error(d)
	}
	consumer.mustStop(t)
	for _, raw := range listOf(t, c, prefix+"ü/q") { // now Python can take them
		if !strings.Contains(raw, `"delivery_tag": "`) || !strings.Contains(raw, `"routing_key": "`) {
			t.Errorf("restored without what was missing: %s", raw)
		}
	}
}

// Two copies of one publish have one tag (an exchange with two queues): neither record may replace the other.
func TestSharedDeliveryTag(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	raw := envelope("a", 1, 0)
	err := b.Publish(t.Context(), redisbroker.Message{Queue: "a", Envelope: raw}, redisbroker.Message{Queue: "b", Envelope: raw})
	if err != nil {
		t.Fatal(err)
	}
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"a", "b"}, Prefetch: 10})
	first, second := consumer.next(t), consumer.next(t)
	if n := len(unackedOf(t, c, prefix)); n != 2 || first.Tag == second.Tag {
		t.Errorf("%d unacked, tags %q and %q", n, first.Tag, second.Tag)
	}
	mustAck(t, first)
	if n := len(unackedOf(t, c, prefix)); n != 1 {
		t.Errorf("%d unacked after one ack", n)
	}
}

func TestPriorityOrder(t *testing.T) {
	t.Parallel()
	b, _, _ := shared(t, redisbroker.Options{})
	for _, p := range []int{9, 6, 3, 0, 9, 0} {
		for _, q := range []string{"a", "b"} {
			if err := b.Publish(t.Context(), redisbroker.Message{Queue: q, Priority: p, Envelope: envelope(q, p, p)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, batch := range []int{1, 100} {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"a", "b"}, Prefetch: 100, MaxBatch: batch})
			var got []string
			var all []*redisbroker.Delivery
			for range 12 {
				d := consumer.next(t)
				got = append(got, d.Queue+body(d))
				all = append(all, d)
			}
			want := []string{"a0", "b0", "a0", "b0", "a3", "b3", "a6", "b6", "a9", "b9", "a9", "b9"}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
			if err := consumer.Restore(t.Context(), all...); err != nil { // for the next run; order is kept
				t.Error(err)
			}
			consumer.mustStop(t)
		})
	}
}

func TestQueueOrder(t *testing.T) {
	t.Parallel()
	for strategy, want := range map[string]string{
		redisbroker.OrderRoundRobin: "cbacbacba", redisbroker.OrderPriority: "cccbbbaaa", redisbroker.OrderSorted: "aaabbbccc",
	} {
		for _, batch := range []int{1, 4, 100} {
			t.Run(fmt.Sprint(strategy, batch), func(t *testing.T) {
				t.Parallel()
				b, _, _ := shared(t, redisbroker.Options{TransportOptions: redisbroker.TransportOptions{QueueOrderStrategy: strategy}})
				for _, q := range []string{"a", "b", "c"} {
					mustPublish(t, b, q, 1, 2, 3)
				}
				consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"c", "b", "a"}, Prefetch: 100, MaxBatch: batch})
				got := ""
				for range 9 {
					got += consumer.next(t).Queue
				}
				if got != want {
					t.Errorf("%s, want %s", got, want)
				}
			})
		}
	}
}

// Several consumers share a queue: each message once, none holds more than its prefetch.
func TestPrefetchAndEachOnce(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	const total, consumers, prefetch = 3000, 4, 7
	var msgs []redisbroker.Message
	for n := range total {
		msgs = append(msgs, redisbroker.Message{Queue: "q", Envelope: envelope("q", n, 0)})
	}
	if err := b.Publish(t.Context(), msgs...); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := make(map[string]int)
	var wg sync.WaitGroup
	var all []*running
	for range consumers {
		consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: prefetch})
		all = append(all, consumer)
		for range prefetch {
			wg.Go(func() {
				for {
					mu.Lock()
					done := len(seen) == total
					mu.Unlock()
					if done {
						return
					}
					select {
					case d := <-consumer.C:
						if n := consumer.Held(); n > prefetch {
							t.Errorf("%d held", n)
						}
						mu.Lock()
						seen[d.Tag]++
						mu.Unlock()
						mustAck(t, d)
					case <-time.After(10 * time.Millisecond):
					}
				}
			})
		}
	}
	wg.Wait()
	for tag, n := range seen {
		if n != 1 {
			t.Errorf("%s delivered %d times", tag, n)
		}
	}
	for _, consumer := range all {
		consumer.mustStop(t)
	}
	if len(listOf(t, c, prefix+"q")) != 0 || len(unackedOf(t, c, prefix)) != 0 {
		t.Error("something is left")
	}
}

// A waiting consumer gets a message of any queue and priority at once.
func TestIdleLatency(t *testing.T) {
	t.Parallel()
	b, _, _ := shared(t, redisbroker.Options{})
	queues := []string{"a", "b", "c"}
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: queues, Prefetch: 10})
	var all []time.Duration
	for n := range 40 {
		queue, priority := queues[n%3], n%4*3
		start := time.Now()
		if err := b.Publish(t.Context(), redisbroker.Message{Queue: queue, Priority: priority, Envelope: envelope(queue, n, priority)}); err != nil {
			t.Fatal(err)
		}
		d := consumer.next(t)
		all = append(all, time.Since(start))
		mustAck(t, d)
	}
	slices.Sort(all)
	t.Logf("p50 %v, p90 %v, max %v", all[20], all[36], all[39])
	if all[20] > 100*time.Millisecond { // a second when the waiting does not work
		t.Errorf("median %v", all[20])
	}
}

func TestNewConsumerRefuses(t *testing.T) {
	t.Parallel()
	b, _, _ := shared(t, redisbroker.Options{})
	for _, cfg := range []redisbroker.ConsumerConfig{
		{Prefetch: 1}, {Queues: []string{"q"}}, {Queues: []string{"q", "q"}, Prefetch: 1}, {Queues: []string{""}, Prefetch: 1},
		{Queues: []string{"q"}, Prefetch: 1, DrainTimeout: -1},
	} {
		if _, err := b.NewConsumer(cfg); err == nil {
			t.Errorf("%+v: accepted", cfg)
		}
	}
}

// Queues are added and cancelled while the consumer runs, waiting or not.
func TestAddAndCancelQueue(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{redisbroker.OrderRoundRobin, redisbroker.OrderPriority, redisbroker.OrderSorted} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			b, c, prefix := shared(t, redisbroker.Options{TransportOptions: redisbroker.TransportOptions{QueueOrderStrategy: strategy}})
			consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"one"}, Prefetch: 10})
			mustPublish(t, b, "two", 1)
			mustPublish(t, b, "one", 2)
			if d := consumer.next(t); d.Queue != "one" {
				t.Errorf("from %s", d.Queue)
			}
			if !consumer.AddQueue("two") || consumer.AddQueue("two") || consumer.AddQueue("") {
				t.Error("AddQueue")
			}
			if d := consumer.next(t); d.Queue != "two" {
				t.Errorf("from %s", d.Queue)
			}
			if !consumer.CancelQueue("one") || consumer.CancelQueue("one") {
				t.Error("CancelQueue")
			}
			mustPublish(t, b, "two", 3)
			if d := consumer.next(t); d.Queue != "two" {
				t.Errorf("from %s", d.Queue)
			}
			mustPublish(t, b, "one", 4)
			mustPublish(t, b, "two", 5)
			if d := consumer.next(t); d.Queue != "two" {
				t.Errorf("from %s", d.Queue)
			}
			if n := c.LLen(t.Context(), prefix+"one").Val(); n != 1 {
				t.Errorf("%d left in the cancelled queue", n)
			}
			if got := consumer.Queues(); !slices.Equal(got, []string{"two"}) {
				t.Errorf("queues %v", got)
			}
			consumer.CancelQueue("two")
			consumer.AddQueue("one")
			if d := consumer.next(t); d.Queue != "one" {
				t.Errorf("from %s", d.Queue)
			}
		})
	}
}
