package redisbroker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

func sharedURL(t testing.TB) string { return redistest.Shared(t).URL }

// Redis is killed, restarted and its connections cut, while messages are published, taken and acked. Nothing is lost; a
// delivery comes twice at most where Redis itself forgot an ack.
func TestOutageWhileConsuming(t *testing.T) {
	t.Parallel()
	s := redistest.StartWith(t, redistest.Options{AppendOnly: true, Args: []string{"--appendfsync", "always"}})
	b := mustOpen(t, s, redisbroker.Options{})
	p, stopPublisher := mustRunPublisher(t, b, redisbroker.PublisherConfig{MaxBatch: 16, Deadline: time.Minute})
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 20})
	const total = 2000
	var mu sync.Mutex
	seen := make(map[string]int)
	var acked atomic.Int64
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for acked.Load() < total {
				select {
				case d := <-consumer.C:
					mu.Lock()
					seen[body(d)]++
					mu.Unlock()
					mustAck(t, d)
					acked.Add(1)
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
	}
	wg.Go(func() {
		for n := range total {
			msg := []redisbroker.Message{{Queue: "q", Envelope: envelope("q", n, 0)}}
			if err := p.Enqueue(msg, func(err error) {
				if err != nil {
					t.Errorf("message %d: %v", n, err)
				}
			}); err != nil {
				t.Error(err)
			}
			eventually(t, "messages are consumed", func() bool { return int64(n)-acked.Load() < 300 })
		}
	})
	c := s.Client(t)
	for i := range 3 {
		eventually(t, "some progress", func() bool { return acked.Load() > int64(i+1)*total/10 })
		for range 10 {
			_ = c.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err()
		}
		s.Kill()
		s.StartAgain()
	}
	wg.Wait()
	if err := stopPublisher(); err != nil {
		t.Error(err)
	}
	consumer.mustStop(t)
	for n := range total {
		if got := seen[fmt.Sprint(n)]; got != 1 {
			t.Errorf("message %d delivered %d times", n, got)
		}
	}
	if len(listOf(t, c, "q")) != 0 || len(unackedOf(t, c, "")) != 0 {
		t.Error("something is left")
	}
}

func TestAckAcrossRestart(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	lost := make(chan string, 10)
	b := mustOpen(t, s, redisbroker.Options{Observer: redisbroker.Observer{Lost: func(q string) { lost <- q }}})
	mustPublish(t, b, "q", 1, 2)
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 5})
	first, second := consumer.next(t), consumer.next(t)
	s.Restart() // with its data
	mustAck(t, first)
	if n := len(unackedOf(t, s.Client(t), "")); n != 1 {
		t.Errorf("%d unacked, want 1", n)
	}
	s.RestartEmpty()
	if err := second.Ack(t.Context()); !errors.Is(err, redisbroker.ErrLost) {
		t.Errorf("ack of what Redis forgot: %v", err)
	}
	if q := <-lost; q != "q" {
		t.Errorf("lost in %q", q)
	}
	mustPublish(t, b, "q", 3)
	if d := consumer.next(t); body(d) != "3" {
		t.Errorf("after the restart: %s", body(d))
	}
	// The binding is written again on the new connection.
	if n := s.Client(t).SCard(t.Context(), "_kombu.binding.q").Val(); n != 1 {
		t.Errorf("%d bindings", n)
	}
}

func TestRedisAwayAtStart(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Stop()
	b := mustOpen(t, s, redisbroker.Options{})
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 5})
	p, _ := mustRunPublisher(t, b, redisbroker.PublisherConfig{})
	if err := p.Enqueue([]redisbroker.Message{{Queue: "q", Envelope: envelope("q", 1, 0)}}, nil); err != nil {
		t.Fatal(err)
	}
	s.StartAgain()
	d := consumer.next(t)
	mustAck(t, d)
}

// An ack waits for a paused Redis, as long as its context allows, and is not forgotten.
func TestAckWhilePaused(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	b := mustOpen(t, s, redisbroker.Options{TransportOptions: redisbroker.TransportOptions{SocketTimeout: 200 * time.Millisecond}})
	mustPublish(t, b, "q", 1, 2)
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 5})
	first, second := consumer.next(t), consumer.next(t)
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := first.Ack(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ack: %v", err)
	}
	errC := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { errC <- second.Ack(t.Context()) })
	s.Resume()
	wg.Wait()
	if err := <-errC; err != nil {
		t.Errorf("ack across the pause: %v", err)
	}
	// The first ack was sent, and may have been obeyed although nobody was told: it can be tried again.
	eventually(t, "the first ack is over", func() bool {
		_ = first.Ack(t.Context()) // done now, or found to be done
		return consumer.Held() == 0
	})
	if n := len(unackedOf(t, s.Client(t), "")); n != 0 {
		t.Errorf("%d unacked", n)
	}
}

// A consumer whose Redis is away stops in time and says what it leaves behind.
func TestStopWithoutRedis(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	b := mustOpen(t, s, redisbroker.Options{})
	mustPublish(t, b, "q", 1)
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 5})
	d := consumer.next(t)
	s.Stop()
	if err := consumer.stop(); err == nil {
		t.Error("Run returned nil with a delivery left")
	}
	if err := d.Ack(t.Context()); !errors.Is(err, redisbroker.ErrClosed) {
		t.Errorf("ack after the end: %v", err)
	}
}

// A queue key of the wrong type does not stop the other queues.
func TestQueueOfWrongType(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	if err := c.Set(t.Context(), prefix+"broken", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"broken", "q"}, Prefetch: 5})
	mustPublish(t, b, "q", 1)
	mustAck(t, consumer.next(t))
	c.Del(t.Context(), prefix+"broken")
	mustPublish(t, b, "broken", 2)
	mustAck(t, consumer.next(t))
}
