package redisbroker_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto/redisbroker"
)

// A consumer that stops gives back what it holds so that it is consumed next, in the old order, as Python should.
func TestStopRestoresInOrder(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	mustPublish(t, b, "q", 1, 2, 3, 4, 5, 6)
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 4, MaxBatch: 2})
	for n := range 4 {
		if d := consumer.next(t); body(d) != fmt.Sprint(n+1) {
			t.Fatalf("got %s", body(d))
		}
	}
	consumer.mustStop(t)
	if left := unackedOf(t, c, prefix); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	next := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 100})
	for n := range 6 {
		d := next.next(t)
		if body(d) != fmt.Sprint(n+1) || d.Redelivered != (n < 4) {
			t.Errorf("%d: got %s, redelivered %v", n+1, body(d), d.Redelivered)
		}
	}
}

// DrainTimeout lets running work end after the consumer was told to stop.
func TestStopWaitsForRunning(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	mustPublish(t, b, "q", 1, 2)
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 2, DrainTimeout: waitLimit})
	running, waiting := consumer.next(t), consumer.next(t)
	stopped := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { stopped <- consumer.stop() })
	if err := waiting.Restore(t.Context()); err != nil {
		t.Error(err)
	}
	mustAck(t, running)
	wg.Wait()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if n := len(listOf(t, c, prefix+"q")); n != 1 {
		t.Errorf("%d messages in the queue, want 1", n)
	}
}

// TestStopRestoresWhatWasNotHandedOver guards against waiting for the whole DrainTimeout for deliveries that nobody was given.
func TestStopRestoresWhatWasNotHandedOver(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	mustPublish(t, b, "q", 1, 2, 3, 4)
	consumer, err := b.NewConsumer(redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 4, DrainTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err = consumer.Run(ctx, func(d *redisbroker.Delivery) {
		cancel() // the end comes while the batch is being handed over
		mustAck(t, d)
	})
	if err != nil {
		t.Error(err)
	}
	want := []string{"4", "3", "2"}
	var got []string
	for _, raw := range listOf(t, c, prefix+"q") {
		var e struct{ Body string }
		if err := json.Unmarshal([]byte(raw), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Body)
	}
	if !slices.Equal(got, want) || len(unackedOf(t, c, prefix)) != 0 {
		t.Errorf("queue %v, want %v; unacked %v", got, want, unackedOf(t, c, prefix))
	}
}

// What was taken while a batch was handed over goes back behind it.
func TestStopRestoresTheNextBatchToo(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	mustPublish(t, b, "q", 1, 2, 3, 4, 5, 6)
	consumer, err := b.NewConsumer(redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 6, MaxBatch: 2})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	handlingC, goOnC := make(chan struct{}), make(chan struct{})
	var handled atomic.Int32
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := consumer.Run(ctx, func(*redisbroker.Delivery) {
			if handled.Add(1) == 1 {
				close(handlingC)
				<-goOnC
			}
		}); err != nil {
			t.Error(err)
		}
	})
	<-handlingC
	eventually(t, "the next batch is taken", func() bool {
		return c.HLen(t.Context(), prefix+"unacked").Val() == 4 && consumer.Held() == 4
	})
	cancel()
	close(goOnC)
	wg.Wait()
	if n := handled.Load(); n != 1 {
		t.Errorf("%d were handled, want 1", n)
	}
	next := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 100})
	for n := range 6 {
		if d := next.next(t); body(d) != fmt.Sprint(n+1) {
			t.Errorf("%d: got %s", n+1, body(d))
		}
	}
}

// TestStopDoesNotWaitForDelay: a requeue whose delay begins during the stop goes back at once, as one that began before.
func TestStopDoesNotWaitForDelay(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	mustPublish(t, b, "q", 1, 2)
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 2, DrainTimeout: time.Hour})
	before, during := consumer.next(t), consumer.next(t)
	if err := before.Requeue(t.Context(), nil, redisbroker.RequeueOptions{Delay: time.Hour}); err != nil {
		t.Fatal(err)
	}
	stoppedC := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { stoppedC <- consumer.stop() })
	defer wg.Wait()
	eventually(t, "the first went back", func() bool { return len(listOf(t, c, prefix+"q")) == 1 })
	if err := during.Requeue(t.Context(), nil, redisbroker.RequeueOptions{Delay: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if err := <-stoppedC; err != nil {
		t.Error(err)
	}
	if n := len(listOf(t, c, prefix+"q")); n != 2 || len(unackedOf(t, c, prefix)) != 0 {
		t.Errorf("%d messages in the queue, unacked %v", n, unackedOf(t, c, prefix))
	}
}
