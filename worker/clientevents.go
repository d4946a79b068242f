package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/monitor"
	"github.com/dfws/dfws/celeryproto/redisbroker"
)

// EventOptions of an EventReceiver.
type EventOptions struct {
	// RoutingKey chooses events: "worker.#", "task.#", "task.failed"; all when empty. Workers publish task events in batches, as
	// "task.multi", so that only "task.#" gets them.
	RoutingKey string
	// State takes all events, before Run's function does; nil for none.
	State *monitor.State
	// NoWakeup does not ask the workers for a heartbeat at the start: until its next one a worker then is not known.
	NoWakeup bool
	// MaxQueued bounds the messages that wait for a slow receiver; 10,000 when 0. What has no room is lost, and told to Gap.
	MaxQueued int
	// Gap is told of times from which events may be missing. Optional.
	Gap func(redisbroker.Gap)
	// Fault is told of messages that are no events of Celery's, which are skipped, and of a wake-up that failed. Optional.
	Fault func(error)
}

// EventReceiver receives the events of all workers and clients. It subscribes again by itself after any loss of connection; events of
// the time in between are lost.
type EventReceiver struct {
	client  *Client
	options EventOptions
	sub     *redisbroker.Subscriber
	clock   celeryproto.Clock
}

// Events returns a receiver of events. Workers publish those of tasks only when they are asked to: Control.EnableEvents.
func (c *Client) Events(o EventOptions) (*EventReceiver, error) {
	if o.RoutingKey == "" {
		o.RoutingKey = "#"
	}
	sub, err := c.services.Broker.NewSubscriber(redisbroker.SubscriberConfig{
		Queues: []redisbroker.FanoutQueue{{
			Exchange: c.site.eventExchange, RoutingKey: o.RoutingKey, Queue: c.site.eventPrefix + "." + uuid.NewString(), Expires: c.site.eventExpires,
		}},
		MaxQueued: o.MaxQueued, Gap: o.Gap,
	})
	if err != nil {
		return nil, fmt.Errorf("worker: events: %w", err)
	}
	return &EventReceiver{client: c, options: o, sub: sub}, nil
}

// Ready is closed when events are sure to come.
func (r *EventReceiver) Ready() <-chan struct{} { return r.sub.Ready() }

// Run gives each event to handle, one after the other, with the time at which it came, until ctx ends; then it returns nil. handle may be
// nil. A receiver runs once.
func (r *EventReceiver) Run(ctx context.Context, handle func(e *celeryproto.Event, received time.Time)) error {
	var waking sync.WaitGroup
	waking.Go(func() { r.wakeUp(ctx) })
	err := r.sub.Run(ctx, func(d redisbroker.FanoutDelivery) { r.receive(d, handle) })
	waking.Wait()
	if err != nil {
		return fmt.Errorf("worker: events: %w", err)
	}
	return nil
}

// wakeUp asks all workers for a heartbeat (celery 5.7, events/receiver.py, wakeup_workers).
func (r *EventReceiver) wakeUp(ctx context.Context) {
	if r.options.NoWakeup {
		return
	}
	select {
	case <-ctx.Done():
		return
	case <-r.sub.Ready():
	}
	if err := r.client.mailbox.cast(ctx, request{method: "heartbeat"}); err != nil && ctx.Err() == nil && r.options.Fault != nil {
		r.options.Fault(err)
	}
}

func (r *EventReceiver) receive(d redisbroker.FanoutDelivery, handle func(*celeryproto.Event, time.Time)) {
	events, err := celeryproto.DecodeEvents(d.Envelope, r.client.site.limits)
	if err != nil {
		if r.options.Fault != nil {
			r.options.Fault(err)
		}
		return
	}
	now := time.Now()
	for i := range events {
		e := &events[i]
		r.order(e)
		if r.options.State != nil {
			r.options.State.Apply(e, now)
		}
		if handle != nil {
			handle(e, now)
		}
	}
}

// order gives events that have no clock one of this receiver's, and follows those that have (celery 5.7, events/receiver.py,
// event_from_message): a client's clock is not that of the workers.
func (r *EventReceiver) order(e *celeryproto.Event) {
	switch {
	case e.Type == celeryproto.EventTaskSent:
		clock := max(r.clock.Value(), 1) - 1
		e.Clock = &clock
		r.clock.Adjust(clock)
	case e.Clock != nil:
		r.clock.Adjust(*e.Clock)
	case e.NoClock:
		clock := r.clock.Forward()
		e.Clock = &clock
	}
}
