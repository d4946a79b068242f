package redisbroker_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

func mustRunPublisher(t testing.TB, b *redisbroker.Broker, cfg redisbroker.PublisherConfig) (*redisbroker.Publisher, func() error) {
	t.Helper()
	p := b.NewPublisher(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var runErr error
	wg.Go(func() { runErr = p.Run(ctx) })
	stop := sync.OnceValue(func() error {
		cancel()
		wg.Wait()
		return runErr
	})
	t.Cleanup(func() { _ = stop() })
	return p, stop
}

func one(n int) []redisbroker.Message {
	return []redisbroker.Message{{Queue: "q", Envelope: []byte(strconv.Itoa(n))}}
}

// checkSequence expects the list to be 0..n-1, newest left, each once.
func checkSequence(t *testing.T, list []string, n int) {
	t.Helper()
	if len(list) != n {
		t.Errorf("%d elements, want %d", len(list), n)
	}
	for i, v := range list {
		if want := strconv.Itoa(len(list) - 1 - i); v != want {
			t.Fatalf("element %d from the left is %s, want %s", i, v, want)
		}
	}
}

func TestPublisherOrder(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	p, stop := mustRunPublisher(t, b, redisbroker.PublisherConfig{})
	const total = 20_000
	var done atomic.Int64
	for n := range total {
		err := p.Enqueue(one(n), func(err error) {
			if err != nil {
				t.Errorf("message %d: %v", n, err)
			}
			if int(done.Add(1)) != n+1 {
				t.Errorf("done of message %d out of order", n)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := stop(); err != nil { // drains
		t.Error(err)
	}
	if done.Load() != total {
		t.Errorf("%d done calls", done.Load())
	}
	checkSequence(t, listOf(t, c, prefix+"q"), total)
	if err := p.Enqueue(one(0), nil); !errors.Is(err, redisbroker.ErrClosed) {
		t.Errorf("after Run: %v", err)
	}
	if n, bytes := p.Queued(); n != 0 || bytes != 0 {
		t.Errorf("left over: %d, %d", n, bytes)
	}
}

// Redis is restarted and its connections are killed over and over: each message arrives once and in order.
func TestPublisherRestarts(t *testing.T) {
	t.Parallel()
	s := redistest.StartWith(t, redistest.Options{AppendOnly: true, Args: []string{"--appendfsync", "always"}})
	b := mustOpen(t, s, redisbroker.Options{})
	var retried atomic.Int64
	p, stop := mustRunPublisher(t, b, redisbroker.PublisherConfig{MaxBatch: 8, Deadline: time.Minute})
	const total = 4000
	var enqueued, done atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := range total {
			if err := p.Enqueue(one(n), func(err error) {
				if err != nil {
					retried.Add(1)
				}
				done.Add(1)
			}); err != nil {
				t.Errorf("enqueue: %v", err)
				return
			}
			enqueued.Add(1)
			if n%8 == 0 {
				eventually(t, "the queue gets shorter", func() bool { m, _ := p.Queued(); return m < 200 })
			}
		}
	})
	c := s.Client(t)
	for range 3 {
		for range 20 {
			_ = c.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err()
		}
		s.Kill()
		s.StartAgain()
	}
	wg.Wait()
	eventually(t, "all messages are done", func() bool { return done.Load() == enqueued.Load() })
	if err := stop(); err != nil {
		t.Error(err)
	}
	if retried.Load() != 0 {
		t.Errorf("%d messages failed", retried.Load())
	}
	checkSequence(t, listOf(t, c, "q"), total)
}

func TestPublisherPausedRedis(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	b := mustOpen(t, s, redisbroker.Options{})
	const deadline = 2 * time.Second // in which 11 messages are enqueued, and one is published
	p, _ := mustRunPublisher(t, b, redisbroker.PublisherConfig{MaxQueued: 10, MaxQueuedBytes: 2000, Deadline: deadline})
	okC := make(chan error, 1)
	if err := p.Enqueue(one(0), func(err error) { okC <- err }); err != nil {
		t.Fatal(err)
	}
	if err := await(t, "the first message", okC); err != nil {
		t.Fatal(err)
	}

	s.Pause()
	resultC := make(chan error, 10)
	start := time.Now()
	for n := range 10 {
		if err := p.Enqueue(one(n+1), func(err error) { resultC <- err }); err != nil {
			t.Fatalf("message %d: %v", n, err)
		}
	}
	if err := p.Enqueue(one(99), nil); !errors.Is(err, redisbroker.ErrPublishQueueFull) {
		t.Errorf("too many messages: %v", err)
	}
	if n := len(resultC); n != 0 {
		t.Errorf("Enqueue blocked until %d messages were given up", n)
	}
	for range 10 { // while Redis is still away
		if err := await(t, "an outcome", resultC); !errors.Is(err, redisbroker.ErrPublishDeadline) || !redisbroker.Retryable(err) {
			t.Errorf("outcome %v", err)
		}
	}
	if took := time.Since(start); took < deadline {
		t.Errorf("given up after %v, the deadline is %v", took, deadline)
	}
	big := []redisbroker.Message{{Queue: "q", Envelope: make([]byte, 2001)}}
	if err := p.Enqueue(big, nil); !errors.Is(err, redisbroker.ErrPublishQueueFull) {
		t.Errorf("too many bytes: %v", err)
	}

	s.Resume()
	if err := p.Enqueue(one(77), func(err error) { okC <- err }); err != nil {
		t.Fatal(err)
	}
	if err := await(t, "a message after the pause", okC); err != nil {
		t.Errorf("after the pause: %v", err)
	}
	list := listOf(t, s.Client(t), "q")
	seen := make(map[string]int)
	for _, v := range list {
		seen[v]++
	}
	if seen["77"] != 1 || seen["0"] != 1 || len(list) > 12 {
		t.Errorf("after the pause: %v", list)
	}
}

// An entry with a message that cannot be pushed does not hurt the others of its batch.
func TestPublisherWrongType(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	if err := c.Set(t.Context(), prefix+"broken", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	p := b.NewPublisher(redisbroker.PublisherConfig{})
	errC := make(chan error, 3)
	for _, queue := range []string{"q", "broken", "q"} {
		msg := redisbroker.Message{Queue: queue, Envelope: []byte("m")}
		if err := p.Enqueue([]redisbroker.Message{msg}, func(err error) { errC <- err }); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); err != nil { // publishes what is queued, in one batch
		t.Fatal(err)
	}
	if err := <-errC; err != nil {
		t.Error(err)
	}
	if err := <-errC; err == nil || redisbroker.Retryable(err) {
		t.Errorf("broken queue: %v", err)
	}
	if err := <-errC; err != nil {
		t.Error(err)
	}
	if n := len(listOf(t, c, prefix+"q")); n != 2 {
		t.Errorf("%d messages", n)
	}
}

func TestPublisherOutOfMemory(t *testing.T) {
	t.Parallel()
	s := redistest.StartWith(t, redistest.Options{MaxMemory: "1mb"}) // less than an empty server needs
	b := mustOpen(t, s, redisbroker.Options{})
	p, _ := mustRunPublisher(t, b, redisbroker.PublisherConfig{Deadline: 10 * time.Second})
	errC := make(chan error, 1)
	if err := p.Enqueue(one(0), func(err error) { errC <- err }); err != nil {
		t.Fatal(err)
	}
	c := s.Client(t)
	if err := c.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-errC; err != nil {
		t.Errorf("after there was memory: %v", err)
	}
	checkSequence(t, listOf(t, c, "q"), 1)
}

func TestPublisherGivesUpAtTheEnd(t *testing.T) {
	t.Parallel()
	b, err := redisbroker.Open(redisbroker.Options{URL: "redis://127.0.0.1:1/0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	p, stop := mustRunPublisher(t, b, redisbroker.PublisherConfig{DrainTimeout: 50 * time.Millisecond})
	errC := make(chan error, 1)
	if err := p.Enqueue(one(0), func(err error) { errC <- err }); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err == nil {
		t.Error("Run returned nil with a message left")
	}
	if err := <-errC; !errors.Is(err, redisbroker.ErrClosed) {
		t.Errorf("outcome %v", err)
	}
}
