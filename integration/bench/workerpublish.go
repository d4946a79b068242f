package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
)

const (
	publishRounds   = 3 // of each publisher, one after the other
	celeryPublished = 4_000
	goPipelined     = 250_000
	goSingle        = 20_000
	// publishersWait is how many messages may wait in the Publisher at once.
	publishersWait = 20_000

	aimPipelined     = 100_000
	aimPipelineTimes = 75
	aimSingle        = 10_000
)

// envelope is a call of the task as any Go program sends it. eta may be zero.
func envelope(i int, eta time.Time) (id string, message redisbroker.Message, err error) {
	t, err := celeryproto.NewTask(taskName, []any{i, 2}, nil)
	if err != nil {
		return "", message, err
	}
	t.Properties.DeliveryInfo.RoutingKey = queue
	if !eta.IsZero() {
		t.ETA = &eta
	}
	text, err := t.Append(nil)
	return t.ID, redisbroker.Message{Queue: queue, Envelope: text}, err
}

// publishing measures publishers, Celery's and ours, and leaves in Redis what Celery published for the laps.
func (b *workerBench) publishing(ctx context.Context) (err error) {
	broker, err := redisbroker.Open(redisbroker.Options{URL: redisURL(b.server.Addr, 0)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	var celery, pipelined, single []float64
	for range publishRounds {
		seconds, err := b.celeryPublish(ctx, 1, celeryPublished)
		if err == nil {
			err = b.emptied(ctx, celeryPublished)
		}
		if err != nil {
			return err
		}
		celery = append(celery, celeryPublished/seconds)
		took, err := publishAll(ctx, broker, goPipelined, func(int) time.Time { return time.Time{} })
		if err == nil {
			err = b.emptied(ctx, goPipelined)
		}
		if err != nil {
			return err
		}
		pipelined = append(pipelined, goPipelined/took.Seconds())
		if took, err = publishEach(ctx, broker, goSingle); err == nil {
			err = b.emptied(ctx, goSingle)
		}
		if err != nil {
			return err
		}
		single = append(single, goSingle/took.Seconds())
		progress("  celery %.0f/s, go %.0f/s pipelined, %.0f/s one by one", celery[len(celery)-1],
			pipelined[len(pipelined)-1], single[len(single)-1])
	}
	b.pipelined = median(pipelined).median
	b.add(
		atLeast("published, pipelined", "/s", b.pipelined, aimPipelined),
		times("published, pipelined", "/s", b.pipelined, celeryLabel, median(celery).median, aimPipelineTimes, false),
		atLeast("published, each with its round trip", "/s", median(single).median, aimSingle),
	)
	if _, err := b.celeryPublish(ctx, publishWorkers, b.tasks); err != nil {
		return err
	}
	return b.redis.Rename(ctx, queue, template).Err()
}

// publishEach publishes n calls, each after the answer to the one before.
func publishEach(ctx context.Context, broker *redisbroker.Broker, n int) (time.Duration, error) {
	start := time.Now()
	for i := range n {
		_, m, err := envelope(i, time.Time{})
		if err == nil {
			err = broker.Publish(ctx, m)
		}
		if err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}

// emptied checks the length of the queue, and empties it.
func (b *workerBench) emptied(ctx context.Context, want int) error {
	got, err := b.redis.LLen(ctx, queue).Result()
	if err == nil && int(got) != want {
		err = fmt.Errorf("%d messages in the queue, not %d", got, want)
	}
	return errors.Join(err, b.redis.Unlink(ctx, queue).Err())
}

// publishAll publishes n calls through a Publisher, from their arguments to Redis' answer to the last one. The goroutines of the
// senders encode while Redis writes.
func publishAll(ctx context.Context, broker *redisbroker.Broker, n int, eta func(i int) time.Time) (time.Duration, error) {
	p := broker.NewPublisher(redisbroker.PublisherConfig{})
	running, stop := context.WithCancel(ctx)
	defer stop()
	runC := make(chan error, 1)
	go func() { runC <- p.Run(running) }()
	waitC := make(chan struct{}, publishersWait)
	const senders, batch = 2, 50
	errs := make([]error, senders)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error // of what was published
	start := time.Now()
	for s := range senders {
		wg.Go(func() {
			for first := s * batch; first < n && errs[s] == nil; first += senders * batch {
				size := min(batch, n-first)
				messages := make([]redisbroker.Message, size)
				for i := range messages {
					if _, messages[i], errs[s] = envelope(first+i, eta(first+i)); errs[s] != nil {
						return
					}
					waitC <- struct{}{}
				}
				errs[s] = p.Enqueue(messages, func(err error) {
					for range size {
						<-waitC
					}
					mu.Lock()
					failed = errors.Join(failed, err)
					mu.Unlock()
				})
			}
		})
	}
	wg.Wait()
	stop() // Run writes what is queued, then ends
	err := errors.Join(errors.Join(errs...), <-runC)
	took := time.Since(start)
	mu.Lock()
	defer mu.Unlock()
	return took, errors.Join(err, failed)
}
