package redisbroker

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// Delivery is an envelope taken from a queue and recorded in the unacked set. It must be settled once, by Ack, Reject,
// Requeue, Restore or DeadLetter; what is not settled goes back to its queue when the consumer stops or, if the process
// dies, after the visibility timeout. Its methods may be called from any goroutine.
type Delivery struct {
	// Queue that it was taken from.
	Queue string
	// Tag is its delivery tag: the field in the unacked set.
	Tag string
	// Raw is the element of the queue, byte for byte.
	Raw []byte
	// Envelope is the decoded element, nil when that was not possible. A missing delivery tag or delivery info is filled in.
	Envelope *celeryproto.Envelope
	// DecodeErr says why there is no Envelope. Such a delivery should be dead-lettered.
	DecodeErr error
	// Redelivered is set when it was given back to its queue before: it may have run already.
	Redelivered bool

	prev, next *Delivery // of the consumer's held deliveries, under its lock

	c     *Consumer
	key   string // list it was taken from
	back  []byte // what goes back to the queue: Raw, or its completed form
	order int64  // ascending in the order taken
	state atomic.Int32
	lost  atomic.Bool // found to be somebody else's when it was refreshed

	// Only the settler's goroutine uses these.
	held       bool   // in the own held set instead of unacked
	score, alt string // the scores that prove that it is ours; alt is one that may have been set
}

// States of a delivery.
const (
	stateHeld int32 = iota
	stateSettling
	stateSettled
)

// Ack removes the delivery from the unacked set: its message is done. It returns when Redis has answered, which may take
// several attempts while Redis is away; ctx bounds that. An attempt in flight at the end of ctx may still be obeyed. Acks of
// many goroutines share round trips.
func (d *Delivery) Ack(ctx context.Context) error {
	return d.settle(ctx, operation{kind: opAck, outcome: OutcomeAcked})
}

// Reject ends the delivery: with requeue it goes to the end of its queue, marked as redelivered; without, it is dropped.
func (d *Delivery) Reject(ctx context.Context, requeue bool) error {
	if requeue {
		return d.Requeue(ctx, nil, RequeueOptions{})
	}
	return d.settle(ctx, operation{kind: opAck, outcome: OutcomeRejected})
}

// RequeueOptions of Delivery.Requeue. The zero value: at once, and the consumer may take it again.
type RequeueOptions struct {
	// Delay is the time until it goes back. Requeue returns at once and the delivery stays in the unacked set, refreshed,
	// until then; up to MaxDelayed such deliveries do not count as held. A consumer that stops does not wait for the delay.
	Delay time.Duration
	// Rest is how long, from the moment it goes back, this consumer leaves the queue with all its priorities alone, so that
	// others get it first. What else is in the queue is late by that much; other queues go on. At most 2 s: requeues during a
	// rest make it longer, up to 2 s altogether, and after it the consumer has the queue for as long again before another
	// begins; a requeue meanwhile has none.
	Rest time.Duration
}

// Requeue puts newEnvelope at the end of the delivery's queue in its place, in one atomic step. nil stands for the
// delivery's own envelope, marked as redelivered.
func (d *Delivery) Requeue(ctx context.Context, newEnvelope []byte, opts RequeueOptions) error {
	if newEnvelope == nil {
		newEnvelope = redelivered(d.back)
	}
	op := operation{kind: opLeft, outcome: OutcomeRequeued, keys: []string{d.queueKey(newEnvelope)}, value: newEnvelope}
	op.rest = opts.Rest
	if opts.Delay > 0 {
		return d.c.delay(d, op, time.Now().Add(opts.Delay))
	}
	return d.settle(ctx, op)
}

// Restore puts the envelope back to the head of its queue, marked as redelivered: it is consumed next. See Consumer.Restore
// for several.
func (d *Delivery) Restore(ctx context.Context) error {
	return d.settle(ctx, d.restoreOperation())
}

func (d *Delivery) restoreOperation() operation {
	value := redelivered(d.back)
	return operation{kind: opRight, outcome: OutcomeRestored, keys: []string{d.queueKey(value)}, value: value}
}

// deadLetter is one element of a dead letter list.
type deadLetter struct {
	Reason   string    `json:"reason"`
	Queue    string    `json:"queue"`
	At       time.Time `json:"at"`
	Envelope []byte    `json:"envelope"` // base64, since it may be anything
}

func encodeDeadLetter(reason, queue string, raw []byte) ([]byte, error) {
	b, err := json.Marshal(deadLetter{Reason: reason, Queue: queue, At: time.Now().UTC(), Envelope: raw})
	if err != nil {
		return nil, fmt.Errorf("redisbroker: dead letter: %w", err)
	}
	return b, nil
}

// DeadLetter moves the delivery to the dead letters of its queue (Broker.DeadLetterKey), in one atomic step, as the JSON
// object {"reason", "queue", "at" (RFC 3339), "envelope" (base64)}.
func (d *Delivery) DeadLetter(ctx context.Context, reason string) error {
	value, err := encodeDeadLetter(reason, d.Queue, d.Raw)
	if err != nil {
		return err
	}
	keys := []string{d.c.b.keys.dead(d.Queue)}
	return d.settle(ctx, operation{kind: opLeft, outcome: OutcomeDeadLettered, keys: keys, value: value})
}

// queueKey is the list for an envelope in the delivery's queue.
func (d *Delivery) queueKey(envelope []byte) string {
	if d.DecodeErr != nil {
		return d.key
	}
	return d.c.b.keys.queue(d.Queue, priorityOf(envelope))
}

// settle hands the operation to the settler and waits for the outcome.
func (d *Delivery) settle(ctx context.Context, op operation) error {
	if !d.state.CompareAndSwap(stateHeld, stateSettling) {
		return ErrSettled
	}
	if d.lost.Load() {
		d.c.finish(d, &op, ErrLost)
		return ErrLost
	}
	op.d = d
	return d.c.settler.do(ctx, &op)
}
