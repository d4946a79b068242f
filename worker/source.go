package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat/dispatch"
)

// stopMargin is what the consumer waits for longer than the handlers may take to stop, before it gives back by itself
// what is still held.
const stopMargin = 5 * time.Second

// redisSource is the consumer of a running worker.
type redisSource struct {
	broker   *redisbroker.Broker
	results  *redisbroker.Results // nil: not in Redis
	consumer *redisbroker.Consumer
	log      *slog.Logger
	ended    atomic.Bool // everything was given back: what comes now goes back as well
}

func newRedisSource(services *dispatch.Services, queues []string, cfg Config) (*redisSource, error) {
	drain := noDrainLimit
	if cfg.SoftStopTimeout >= 0 {
		drain = cfg.SoftStopTimeout + cfg.HardStopTimeout + stopMargin
	}
	c, err := services.Broker.NewConsumer(redisbroker.ConsumerConfig{
		Queues: queues, Prefetch: cfg.prefetch(), DrainTimeout: drain, Results: services.Results,
	})
	if err != nil {
		return nil, err
	}
	return &redisSource{broker: services.Broker, results: services.Results, consumer: c, log: cfg.Logger}, nil
}

// noDrainLimit is for workers that wait for their handlers as long as it takes.
const noDrainLimit = 10 * 365 * 24 * time.Hour

// run implements consumer.
func (s *redisSource) run(fetch context.Context, handle func(received)) error {
	return s.consumer.Run(fetch, func(d *redisbroker.Delivery) {
		if s.ended.Load() {
			s.restoreLate(fetch, d)
			return
		}
		handle(received{
			delivery: &redisDelivery{Delivery: d, source: s}, queue: d.Queue, size: len(d.Raw), envelope: d.Envelope,
			decodeErr: d.DecodeErr, redelivered: d.Redelivered,
		})
	})
}

// restoreLate gives a delivery back that arrived after giveBackAll. If it fails, the end of the consumer tries again.
func (s *redisSource) restoreLate(ctx context.Context, d *redisbroker.Delivery) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if err := d.Restore(ctx); err != nil {
		s.log.Warn("task taken during the stop not given back yet", "queue", d.Queue, "err", err)
	}
}

// takingEnded implements consumer.
func (s *redisSource) takingEnded() <-chan struct{} { return s.consumer.TakingEnded() }

// giveBack implements consumer.
func (s *redisSource) giveBack(ctx context.Context, jobs []*job) error {
	deliveries := make([]*redisbroker.Delivery, 0, len(jobs))
	for _, j := range jobs {
		if d, ok := j.delivery.(*redisDelivery); ok {
			deliveries = append(deliveries, d.Delivery)
		}
	}
	return s.consumer.Restore(ctx, deliveries...)
}

// giveBackAll implements consumer.
func (s *redisSource) giveBackAll(ctx context.Context) error {
	s.ended.Store(true)
	return s.consumer.RestoreAll(ctx)
}

// addPrefetch implements consumer.
func (s *redisSource) addPrefetch(n int) { s.consumer.AddPrefetch(n) }

// prefetch implements consumer.
func (s *redisSource) prefetch() int { return s.consumer.Prefetch() }

// queues implements consumer.
func (s *redisSource) queues() []string { return s.consumer.Queues() }

// addQueue implements consumer.
func (s *redisSource) addQueue(queue string) { s.consumer.AddQueue(queue) }

// cancelQueue implements consumer.
func (s *redisSource) cancelQueue(queue string) { s.consumer.CancelQueue(queue) }

// redisDelivery is a delivery of a running worker.
type redisDelivery struct {
	*redisbroker.Delivery
	source *redisSource
	parked bool // changed by the goroutine that holds the job, one after the other
	acked  bool // likewise
}

// ended notes the end of a delivery. One that was lost meanwhile has ended as well: it is somebody else's.
func (d *redisDelivery) ended(err error) error {
	if err != nil && !errors.Is(err, redisbroker.ErrLost) {
		return err
	}
	if d.parked {
		d.parked = false
		d.source.consumer.AddPrefetch(-1)
	}
	return nil
}

func (d *redisDelivery) ack(ctx context.Context) error {
	err := d.ended(d.Ack(ctx))
	d.acked = err == nil
	return err
}

func (d *redisDelivery) complete(ctx context.Context, meta *celeryproto.ResultMeta, done func(error)) error {
	if !d.acked {
		return d.Complete(ctx, meta, func(err error) { done(d.ended(err)) })
	}
	if meta == nil {
		done(nil)
		return nil
	}
	return d.source.results.StoreAsync(ctx, meta, done)
}

func (d *redisDelivery) reject(ctx context.Context) error { return d.ended(d.Reject(ctx, true)) }

func (d *redisDelivery) requeue(ctx context.Context, envelope []byte, wait, rest time.Duration) error {
	return d.ended(d.Requeue(ctx, envelope, redisbroker.RequeueOptions{Delay: wait, Rest: rest}))
}

func (d *redisDelivery) deadLetter(ctx context.Context, reason string) error {
	return d.ended(d.DeadLetter(ctx, reason))
}

// move publishes first: a crash between the two steps leaves the task in both queues rather than in none.
func (d *redisDelivery) move(ctx context.Context, queue string, priority int, envelope []byte) error {
	message := redisbroker.Message{Queue: queue, Priority: priority, Envelope: envelope}
	if err := d.source.broker.Publish(ctx, message); err != nil {
		return err
	}
	return d.ack(ctx)
}

// park widens the prefetch window by one until the delivery has ended, as Celery does for a task with an ETA.
func (d *redisDelivery) park() {
	if !d.parked {
		d.parked = true
		d.source.consumer.AddPrefetch(1)
	}
}

// retryable tells whether writing again may help. Errors of result backends say it themselves.
func retryable(err error) bool {
	if own, ok := errors.AsType[interface {
		error
		Retryable() bool
	}](err); ok {
		return own.Retryable()
	}
	return redisbroker.Retryable(err)
}
