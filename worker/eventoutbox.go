package worker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
)

// Why an event was not published. The values serve as metric labels.
const (
	// EventFull: Redis was away or slow, and too many events were waiting.
	EventFull = "full"
	// EventOffline: a heartbeat while Redis was away; it would come too late to mean anything.
	EventOffline = "offline"
	// EventRefused: Redis does not take it.
	EventRefused = "refused"
	// EventUnencodable: it has no place in a message.
	EventUnencodable = "unencodable"
	// EventStopped: the worker stopped first.
	EventStopped = "stopped"
)

// Bounds of the events that wait for Redis.
const (
	maxEvents     = 10_000
	maxEventBytes = 16 << 20
	eventCost     = 200 // bytes that an event takes beside its fields
	// eventBatch is how many task events make one message at most (celery 5.7, events/dispatcher.py, buffer_limit).
	eventBatch = 24
	// eventRound is how many events are published in one round trip at most.
	eventRound = 20 * eventBatch
	// eventDrain bounds the publishing of the last events when the worker stops.
	eventDrain = 2 * time.Second
)

// fanout publishes to fanout exchanges: *redisbroker.Broker.
type fanout interface {
	PublishFanout(ctx context.Context, msgs ...redisbroker.FanoutMessage) error
}

// eventOutbox stands between the tasks and Redis: add never waits. It publishes in the order of the clock. While Redis is away events
// wait within bounds, as in Python without.
type eventOutbox struct {
	node     *node
	exchange string
	options  celeryproto.BusOptions
	fanout   fanout
	log      *slog.Logger
	observer *Observer
	wakeC    chan struct{} // add and close send, run receives; capacity 1: run looks at everything
	closedC  chan struct{} // closed by close

	mu      sync.Mutex // guards all below
	queue   []queuedEvent
	bytes   int
	failing bool // the last try failed
	closed  bool // nothing more is taken; run ends when the queue is empty
}

// queuedEvent is an event that waits. Task events travel together.
type queuedEvent struct {
	celeryproto.Event
	group string
	bytes int
}

func newEventOutbox(n *node, exchange string, f fanout, log *slog.Logger, observer *Observer) *eventOutbox {
	return &eventOutbox{
		node: n, exchange: exchange, fanout: f, log: log, observer: observer, wakeC: make(chan struct{}, 1),
		closedC: make(chan struct{}),
	}
}

// add queues an event that happens now.
func (o *eventOutbox) add(group, typ string, fields celeryproto.Members) {
	bytes := eventCost
	for _, f := range fields {
		bytes += len(f.Key) + len(f.Value)
	}
	if reason := o.enqueue(group, typ, fields, bytes); reason != "" {
		o.drop(reason, 1, nil)
	}
}

func (o *eventOutbox) enqueue(group, typ string, fields celeryproto.Members, bytes int) (dropped string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return EventStopped
	case o.failing && typ == celeryproto.EventWorkerHeartbeat:
		return EventOffline
	case len(o.queue) >= maxEvents, o.bytes+bytes > maxEventBytes:
		return EventFull
	}
	clock := o.node.clock.Forward() // under the lock, so that clocks rise in the order of the events
	o.queue = append(o.queue, queuedEvent{group: group, bytes: bytes, Event: celeryproto.Event{
		Type: typ, Hostname: o.node.name, PID: o.node.pid, Clock: &clock,
		Timestamp: celeryproto.UnixSeconds(time.Now()), Fields: fields,
	}})
	o.bytes += bytes
	if len(o.queue) == 1 {
		o.wake()
	}
	return ""
}

func (o *eventOutbox) wake() {
	select {
	case o.wakeC <- struct{}{}:
	default:
	}
}

// drop counts events that are lost.
func (o *eventOutbox) drop(reason string, n int, err error) {
	o.observer.eventsDropped(reason, n)
	if err != nil {
		o.log.Warn("events lost", "reason", reason, "events", n, "err", err)
	}
}

// close makes run publish what waits, within eventDrain, and end.
func (o *eventOutbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.closed = true
	close(o.closedC)
	o.wake()
}

// run publishes until close.
func (o *eventOutbox) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	var watch sync.WaitGroup
	defer watch.Wait()
	defer close(ended)
	watch.Go(func() {
		<-o.closedC
		within(eventDrain, ended)
		cancel()
	})
	for {
		events, more := o.take()
		switch {
		case len(events) > 0:
			o.publish(ctx, events)
		case !more:
			return
		default:
			<-o.wakeC
		}
	}
}

// take removes the next events; more is false when none will come.
func (o *eventOutbox) take() (events []queuedEvent, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := min(len(o.queue), eventRound)
	events = o.queue[:n:n]
	if o.queue = o.queue[n:]; len(o.queue) == 0 {
		o.queue = nil
	}
	for i := range events {
		o.bytes -= events[i].bytes
	}
	return events, !o.closed
}

// publish tries until Redis has the events or ctx ends.
func (o *eventOutbox) publish(ctx context.Context, events []queuedEvent) {
	messages, n := o.pack(events)
	if n == 0 {
		return
	}
	for wait := settleMinWait; ; wait = min(2*wait, settleMaxWait) {
		err := o.fanout.PublishFanout(ctx, messages...)
		switch {
		case err == nil:
			o.setFailing(false)
			return
		case ctx.Err() != nil:
			o.drop(EventStopped, n, err)
			return
		case !retryable(err):
			o.drop(EventRefused, n, err)
			return
		case wait == settleMinWait:
			o.log.Warn("publishing events, trying again", "err", err)
		}
		o.setFailing(true)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (o *eventOutbox) setFailing(failing bool) {
	o.mu.Lock()
	o.failing = failing
	o.mu.Unlock()
}

// pack makes messages of events: of task events that follow each other up to eventBatch one, of all others one each. packed is how many
// events are in them.
func (o *eventOutbox) pack(events []queuedEvent) (messages []redisbroker.FanoutMessage, packed int) {
	for len(events) > 0 {
		n := 1
		for n < min(len(events), eventBatch) && events[0].group == groupTask && events[n].group == groupTask {
			n++
		}
		m, err := o.message(events[:n])
		if err != nil {
			o.drop(EventUnencodable, n, err)
		} else {
			messages = append(messages, m)
			packed += n
		}
		events = events[n:]
	}
	return messages, packed
}

func (o *eventOutbox) message(events []queuedEvent) (redisbroker.FanoutMessage, error) {
	var e *celeryproto.Envelope
	var err error
	if events[0].group == groupTask {
		batch := make([]celeryproto.Event, len(events))
		for i := range events {
			batch[i] = events[i].Event
		}
		e, err = celeryproto.EventBatch(o.exchange, groupTask, batch, o.options)
	} else {
		e, err = events[0].Envelope(o.exchange, o.options)
	}
	if err != nil {
		return redisbroker.FanoutMessage{}, err
	}
	return fanoutMessage(e)
}

// fanoutMessage is an envelope on its way to the exchange that it names.
func fanoutMessage(e *celeryproto.Envelope) (redisbroker.FanoutMessage, error) {
	raw, err := e.Append(nil)
	address := &e.Properties.DeliveryInfo
	return redisbroker.FanoutMessage{Exchange: address.Exchange, RoutingKey: address.RoutingKey, Envelope: raw}, err
}
