package redisbroker

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/internal/redisconn"
)

// Complete ends the delivery of a task that ran: it stores m in ConsumerConfig.Results, unless m is nil, and then acks. It returns
// once the work is queued; done is called once with the outcome, by a goroutine that must not be held up. It is not called when
// Complete itself returns an error: m cannot be encoded, the delivery is settled already, or the consumer has stopped.
//
// Where results and messages are on one server this is one step, which the completions of many deliveries share, and a
// delivery that was lost meanwhile (ErrLost) has its result stored all the same. Otherwise the result is stored first, and a
// crash in between runs the task again.
func (d *Delivery) Complete(ctx context.Context, m *celeryproto.ResultMeta, done func(error)) error {
	op := &operation{kind: opAck, outcome: OutcomeAcked, d: d, ctx: ctx, done: done}
	if m == nil {
		return d.submit(ctx, op)
	}
	r := d.c.cfg.Results
	if r == nil {
		return errors.New("redisbroker: complete: ConsumerConfig.Results: none")
	}
	s, err := r.storing(ctx, m)
	if err != nil {
		return err
	}
	if d.c.sharesResults {
		op.kind, op.value, op.ttl, op.status = opComplete, s.meta, s.ttl, s.status
		op.key[0] = s.key
		op.keys = op.key[:]
		return d.submit(ctx, op)
	}
	s.done = func(err error) {
		if err == nil {
			err = d.submit(ctx, op)
			if err == nil {
				return
			}
		}
		done(err)
	}
	return r.submit(&s)
}

// submit hands an operation to the settler, which calls its done function unless there is an error.
func (d *Delivery) submit(ctx context.Context, op *operation) error {
	if !d.state.CompareAndSwap(stateHeld, stateSettling) {
		return ErrSettled
	}
	if op.kind == opAck && d.lost.Load() {
		d.c.finish(d, op, ErrLost)
		return ErrLost
	}
	return d.c.settler.submit(ctx, op)
}

// sameServer compares where two clients connect to, and as whom; databases may differ. Clients with a failover list never match,
// those with Sentinels when their databases are the same.
func sameServer(a, b *redis.Options) bool {
	return a.Network == b.Network && a.Addr == b.Addr && a.Addr != redisconn.LookedUp &&
		a.Username == b.Username && (a.TLSConfig == nil) == (b.TLSConfig == nil)
}
