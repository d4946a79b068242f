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

// results stores what tasks return.
type results interface {
	Store(ctx context.Context, meta *celeryproto.ResultMeta) error
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
