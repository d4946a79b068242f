package worker

import (
	"context"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// delivery is what the executor asks of a message that it holds; *redisbroker.Delivery behind an adapter, or a fake in
// tests. Each method but park is called at most once in the end, and may be called again when it returned an error.
type delivery interface {
	// ack takes it out of unacked.
	ack(ctx context.Context) error
	// complete stores meta, unless that is nil, and acks what was not acked before. done is called once with the outcome, by a
	// goroutine that must not be held up, unless complete itself returns an error.
	complete(ctx context.Context, meta *celeryproto.ResultMeta, done func(error)) error
	// reject puts it at the end of its queue as it is, marked as redelivered.
	reject(ctx context.Context) error
	// requeue puts envelope at the end of its queue in its place, after a wait during which it stays ours. Then this worker
	// leaves the queue to others for the time of rest.
	requeue(ctx context.Context, envelope []byte, wait, rest time.Duration) error
	// move puts envelope at the end of another queue in its place.
	move(ctx context.Context, queue string, priority int, envelope []byte) error
	// deadLetter puts it into the dead letters of its queue.
	deadLetter(ctx context.Context, reason string) error
	// park takes it out of the prefetch window until it has ended: it waits for its ETA.
	park()
}

// received is a message as it came.
type received struct {
	delivery
	queue       string
	size        int
	envelope    *celeryproto.Envelope // nil when it cannot be decoded
	decodeErr   error
	redelivered bool
}
