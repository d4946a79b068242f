package redisbroker_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

// popAsPython takes n messages as a Python worker: blocked in BRPOP, then away for a moment to record what it has.
func popAsPython(ctx context.Context, c *redis.Client, n int, key string) error {
	for range n {
		if err := c.BRPop(ctx, waitLimit, key, key+"\x06\x163", key+"\x06\x166", key+"\x06\x169").Err(); err != nil {
			return err
		}
		if err := c.Ping(ctx).Err(); err != nil {
			return err
		}
	}
	return nil
}

// What a consumer gives back with a rest goes to a Python worker that waits behind it, all of it, although the consumer is idle;
// its other queues are served meanwhile.
func TestRestLeavesQueueToOthers(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q", "other"}, Prefetch: 100})
	const n = 10
	for range n {
		mustPublish(t, b, "q", 1)
	}
	var all []*redisbroker.Delivery
	for range n {
		all = append(all, consumer.next(t))
	}
	poppedC := make(chan error, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { poppedC <- popAsPython(t.Context(), c, n, prefix+"q") })
	for i, d := range all { // all at one time, in two priorities
		err := d.Requeue(t.Context(), envelope("q", i, i%2*3), redisbroker.RequeueOptions{Delay: 300 * time.Millisecond, Rest: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "they went back", func() bool { return consumer.Held() == 0 })
	mustPublish(t, b, "other", 77)
	if d := consumer.next(t); d.Queue != "other" {
		t.Errorf("the consumer took %s from %s", body(d), d.Queue)
	} else {
		mustAck(t, d)
	}
	if err := <-poppedC; err != nil {
		t.Errorf("the other worker: %v", err)
	}
	if len(consumer.C) > 0 || consumer.Held() > 0 {
		t.Errorf("the consumer took %d again", consumer.Held())
	}
}

// What nobody else takes the consumer takes after the rest; during the rest it does not run in circles, and can stop.
func TestRestEnds(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	b, c := mustOpen(t, s, redisbroker.Options{}), s.Client(t)
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q", "other"}, Prefetch: 10})
	const rest = 700 * time.Millisecond
	mustPublish(t, b, "q", 1)
	d := consumer.next(t)
	before, start := commandsOf(t, c), time.Now()
	if err := d.Requeue(t.Context(), nil, redisbroker.RequeueOptions{Rest: rest}); err != nil {
		t.Fatal(err)
	}
	mustPublish(t, b, "q", 2) // late by the rest, no more
	for range 2 {
		d := consumer.next(t)
		if took := time.Since(start); took < rest {
			t.Errorf("%s after %v", body(d), took)
		}
		mustAck(t, d)
	}
	if took := time.Since(start); took > rest+time.Second {
		t.Errorf("after %v", took)
	}
	if n := commandsOf(t, c) - before; n > 1000 { // ten thousands in a circle
		t.Errorf("%d commands during a rest", n)
	}
	mustPublish(t, b, "other", 3)
	d = consumer.next(t)
	if err := d.Requeue(t.Context(), nil, redisbroker.RequeueOptions{Rest: 2 * time.Second}); err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	consumer.mustStop(t)
	if took := time.Since(start); took > time.Second {
		t.Errorf("the stop took %v", took)
	}
	if n := len(listOf(t, c, "other")); n != 1 {
		t.Errorf("%d in the queue", n)
	}
}

// commandsOf is the number of commands that the server has processed.
func commandsOf(t testing.TB, c *redis.Client) int {
	t.Helper()
	info := c.Info(context.Background(), "stats").Val()
	_, rest, _ := strings.Cut(info, "total_commands_processed:")
	text, _, _ := strings.Cut(rest, "\r\n")
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
