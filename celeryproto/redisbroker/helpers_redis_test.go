package redisbroker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

// waitLimit is for what takes milliseconds on a machine that has nothing else to do. A Sentinel that the machine held up for 2 s does
// nothing for 30 s (Redis, sentinel.c, SENTINEL_TILT_PERIOD).
const waitLimit = time.Minute

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

// mustOpen opens a broker on the server; a test that shares a server gives a key prefix of its own.
func mustOpen(t testing.TB, s *redistest.Server, opts redisbroker.Options) *redisbroker.Broker {
	t.Helper()
	if opts.URL == "" {
		opts.URL = s.URL
	}
	b, err := redisbroker.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close broker: %v", err)
		}
	})
	return b
}

var prefixes atomic.Int64

// ownPrefix is for keys of one run of a test.
func ownPrefix(t testing.TB) string { return fmt.Sprintf("%s-%d:", t.Name(), prefixes.Add(1)) }

// shared opens a broker on the package's server under a prefix of the test's own.
func shared(t testing.TB, opts redisbroker.Options) (b *redisbroker.Broker, c *redis.Client, prefix string) {
	t.Helper()
	s := redistest.Shared(t)
	opts.GlobalKeyPrefix = ownPrefix(t)
	return mustOpen(t, s, opts), s.Client(t), opts.GlobalKeyPrefix
}

// envelope is a message as Python writes it, numbered in its body and tag.
func envelope(queue string, n, priority int) []byte {
	return fmt.Appendf(nil, `{"body": "%d", "content-encoding": "utf-8", "content-type": "application/json", `+
		`"headers": {"lang": "py", "task": "demo.add", "id": "id-%[1]d"}, "properties": {"correlation_id": "id-%[1]d", `+
		`"reply_to": "", "delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": "%[2]s"}, "priority": %[3]d, `+
		`"body_encoding": "utf-8", "delivery_tag": "tag-%[2]s-%[1]d"}}`, n, queue, priority)
}

func mustPublish(t testing.TB, b *redisbroker.Broker, queue string, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		if err := b.Publish(t.Context(), redisbroker.Message{Queue: queue, Envelope: envelope(queue, n, 0)}); err != nil {
			t.Fatal(err)
		}
	}
}

// running is a consumer whose deliveries wait in C.
type running struct {
	*redisbroker.Consumer
	C    chan *redisbroker.Delivery
	stop func() error // ends Run and returns its error; further calls return nil
}

func mustConsume(t testing.TB, b *redisbroker.Broker, cfg redisbroker.ConsumerConfig) *running {
	t.Helper()
	c, err := b.NewConsumer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Consumer: c, C: make(chan *redisbroker.Delivery, 100_000)}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var runErr error
	wg.Go(func() { runErr = c.Run(ctx, func(d *redisbroker.Delivery) { r.C <- d }) })
	r.stop = sync.OnceValue(func() error {
		cancel()
		wg.Wait()
		return runErr
	})
	t.Cleanup(func() { _ = r.stop() }) // before the broker closes; tests that care look at the error
	return r
}

func (r *running) next(t testing.TB) *redisbroker.Delivery {
	t.Helper()
	timer := time.NewTimer(waitLimit)
	defer timer.Stop()
	select {
	case d := <-r.C:
		return d
	case <-timer.C:
		t.Fatal("no delivery")
		return nil
	}
}

func (r *running) mustStop(t testing.TB) {
	t.Helper()
	if err := r.stop(); err != nil {
		t.Errorf("consumer: %v", err)
	}
}

func mustAck(t testing.TB, d *redisbroker.Delivery) {
	t.Helper()
	if err := d.Ack(t.Context()); err != nil {
		t.Errorf("ack %s: %v", d.Tag, err)
	}
}

func body(d *redisbroker.Delivery) string {
	if d.Envelope == nil {
		return "undecodable"
	}
	return d.Envelope.Body
}

// listOf is a whole list, left to right.
func listOf(t testing.TB, c *redis.Client, key string) []string {
	t.Helper()
	all, err := c.LRange(context.Background(), key, 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func unackedOf(t testing.TB, c *redis.Client, prefix string) map[string]string {
	t.Helper()
	all, err := c.HGetAll(context.Background(), prefix+"unacked").Result()
	if err != nil {
		t.Fatal(err)
	}
	index, err := c.ZCard(context.Background(), prefix+"unacked_index").Result()
	if err != nil {
		t.Fatal(err)
	}
	if int(index) != len(all) {
		t.Errorf("unacked has %d entries, unacked_index %d", len(all), index)
	}
	return all
}

type letter struct {
	Reason, Queue string
	At            time.Time
	Envelope      []byte
}

func deadLetters(t testing.TB, c *redis.Client, key string) []letter {
	t.Helper()
	var letters []letter
	for _, text := range listOf(t, c, key) {
		var l letter
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		letters = append(letters, l)
	}
	return letters
}
