package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
)

// Operations of settle.lua.
const (
	opAck     = "ack"
	opLeft    = "left"
	opRight   = "right"
	opRefresh = "refresh"
	opPark    = "park"
	// opComplete stores a result, then acks.
	opComplete = "complete"
)

// keptReply is added to the reply of opComplete when a SUCCESS was stored already.
const keptReply = 2

const (
	settleBatch = 512     // operations in one script call
	settleBytes = 4 << 20 // keeps the script short when what it writes is large
	settleQueue = 1024
)

// operation is one step for the settler.
type operation struct {
	kind    string
	d       *Delivery
	keys    []string  // lists to push to; of opComplete the result's
	key     [1]string // room for keys
	value   []byte
	ttl     int           // seconds, of a result
	status  string        // of a result
	outcome Outcome       // of the delivery; "" when it stays held
	rest    time.Duration // of the queue from the push on
	resting bool          // the consumer's rests were told of the push

	ctx     context.Context // of the caller: no attempt after its end
	unclear bool            // an attempt got no answer and may have been obeyed
	done    func(error)     // called once by the settler; must not block
}

// settler performs the operations of one consumer, in order, many in a round trip. It keeps trying while Redis is away.
type settler struct {
	b      *Broker
	finish func(d *Delivery, op *operation, err error)
	inC    chan *operation // submit sends, run receives; never closed. A full one makes callers wait, as Redis does
	outage outageLog       // run only
	ownDB  int             // of the messages
	// resultsDB is where opComplete stores; the server is the same.
	resultsDB int
	doneC     chan struct{} // closed by run at its end
}

func newSettler(b *Broker, finish func(*Delivery, *operation, error)) *settler {
	return &settler{
		b: b, finish: finish, inC: make(chan *operation, settleQueue), doneC: make(chan struct{}),
		outage: outageLog{logger: b.logger, what: "settling deliveries"},
	}
}

// submit queues an operation; its done function will be called, unless submit returns an error.
func (s *settler) submit(ctx context.Context, op *operation) error {
	if op.rest > 0 {
		op.resting = op.d.c.rests.begin(op.d.Queue, time.Now())
	}
	err := ErrClosed
	select {
	case <-s.doneC: // first, since the select below chooses at random
	default:
		select {
		case s.inC <- op:
			return nil
		case <-s.doneC:
		case <-ctx.Done():
			err = opError("settle", context.Cause(ctx))
		}
	}
	s.finish(op.d, op, err)
	return err
}

// run works until ctx ends. Then everything still queued fails with ErrClosed.
func (s *settler) run(ctx context.Context) {
	var pause backoff
	var unanswered []*operation // of an attempt that failed as a whole: they go first
	var refused []*operation    // Redis cannot do them now, being full for instance: the others do not wait for them
	var refusedC <-chan time.Time
	defer func() { s.close(append(unanswered, refused...)) }()
	for ctx.Err() == nil {
		batch := unanswered
		unanswered = nil
		if len(batch) == 0 {
			select {
			case <-ctx.Done():
				return
			case op := <-s.inC:
				batch = []*operation{op}
			case <-refusedC:
				n := min(len(refused), settleBatch)
				batch, refused, refusedC = refused[:n:n], refused[n:], nil
			}
		}
		if batch = s.wanted(s.gather(batch)); len(batch) > 0 {
			again, err := s.perform(ctx, batch)
			if err != nil {
				s.outage.failed(err)
				unanswered = batch
				pause.wait(ctx)
				continue
			}
			if refused = append(refused, again...); len(refused) == 0 {
				s.outage.worked()
				pause.reset()
			}
		}
		if len(refused) > 0 && refusedC == nil {
			refusedC = time.After(pause.pause())
		}
	}
}

// close ends what is left and whatever else was queued.
func (s *settler) close(left []*operation) {
	close(s.doneC)
	for _, op := range left {
		s.end(op, ErrClosed)
	}
	for {
		select {
		case op := <-s.inC:
			s.end(op, ErrClosed)
		default:
			return
		}
	}
}

// gather adds what else is queued to a batch, as far as one script call should do at once.
func (s *settler) gather(batch []*operation) []*operation {
	size := 0
	for _, op := range batch {
		size += len(op.value)
	}
	for len(batch) < settleBatch && size < settleBytes {
		select {
		case op := <-s.inC:
			batch = append(batch, op)
			size += len(op.value)
		default:
			return batch
		}
	}
	return batch
}

// perform makes one attempt. It ends the operations that have their answer and returns those that Redis cannot do now; the
// error is that of an attempt to be repeated.
func (s *settler) perform(ctx context.Context, batch []*operation) (again []*operation, err error) {
	replies, err := s.attempt(ctx, batch)
	switch {
	case err == nil:
		return s.answer(batch, replies), nil
	case Retryable(err):
		s.b.obs.disconnected("settle", err)
		for _, op := range batch {
			op.unclear = op.unclear || maybeObeyed(err)
		}
		return nil, err
	default:
		for _, op := range batch {
			s.end(op, opError("settle", err))
		}
		return nil, nil
	}
}

// wanted drops the operations whose caller has gone.
func (s *settler) wanted(batch []*operation) []*operation {
	kept := batch[:0:0]
	for _, op := range batch {
		if err := op.ctx.Err(); err != nil {
			s.end(op, opError("settle", context.Cause(op.ctx)))
			continue
		}
		kept = append(kept, op)
	}
	return kept
}

// attempt performs a batch, which it sorts into the order of the replies.
func (s *settler) attempt(ctx context.Context, batch []*operation) ([]any, error) {
	start := time.Now()
	keys, args := s.arguments(batch)
	// Never cut off in flight: the answer is needed. The socket timeout bounds it.
	replies, err := settleScript.Run(context.WithoutCancel(ctx), s.b.client, keys, args...).Slice()
	if err == nil && len(replies) != len(batch) {
		err = fmt.Errorf("settle script: %d replies to %d operations", len(replies), len(batch))
	}
	if err == nil {
		s.b.obs.roundTrip("settle", len(batch), start)
	}
	return replies, err
}

// arguments are those of settle.lua for a batch, which is sorted as the script wants it. Pointers to texts save a copy of each.
func (s *settler) arguments(batch []*operation) (keys []string, args []any) {
	ttl := 0
	for _, op := range batch {
		if op.kind == opComplete {
			ttl = op.ttl // most have the same
			break
		}
	}
	completions, acks := sortPlain(batch, ttl)
	k := &s.b.keys
	keys = make([]string, 0, 4+len(batch))
	keys = append(keys, k.unacked, k.index, k.held(), k.heldIndex())
	args = make([]any, 0, 5+3*completions+2*acks+9*(len(batch)-completions-acks))
	args = append(args, s.resultsDB, s.ownDB, completions, ttl, acks)
	for _, op := range batch[:completions] {
		keys = append(keys, op.keys...)
		args = append(args, &op.d.Tag, &op.d.score, op.value)
	}
	for _, op := range batch[completions : completions+acks] {
		args = append(args, &op.d.Tag, &op.d.score)
	}
	for _, op := range batch[completions+acks:] {
		held := 0
		if op.d.held {
			held = 1
		}
		first := len(keys) + 1
		keys = append(keys, op.keys...)
		args = append(args, op.kind, held, op.d.Tag, op.d.score, op.d.alt, first, len(op.keys), op.value, op.ttl)
		if op.kind == opRefresh {
			op.d.alt = string(op.value) // from now on it may be the score
		}
	}
	return keys, args
}

// sortPlain puts plain completions first, then plain acks; the others keep their order. See settle.lua.
func sortPlain(batch []*operation, ttl int) (completions, acks int) {
	var plainAcks, others []*operation
	for _, op := range batch {
		isPlain := !op.d.held && op.d.alt == ""
		switch {
		case isPlain && op.kind == opComplete && op.ttl == ttl:
			batch[completions] = op
			completions++
		case isPlain && op.kind == opAck:
			plainAcks = append(plainAcks, op)
		default:
			others = append(others, op)
		}
	}
	copy(batch[completions:], plainAcks)
	copy(batch[completions+len(plainAcks):], others)
	return completions, len(plainAcks)
}

// answer ends the operations that have their answer and returns those to try again.
func (s *settler) answer(batch []*operation, replies []any) (again []*operation) {
	for i, op := range batch {
		switch reply := replies[i].(type) {
		case int64:
			err := error(nil)
			if op.kind == opComplete {
				s.b.obs.resultStored(op.status, reply >= keptReply)
				reply %= keptReply
			}
			switch {
			case reply == 1 && op.kind == opRefresh:
				op.d.score, op.d.alt = string(op.value), op.d.score // a replica that becomes the master may know the last one only
			case reply == 1 && op.kind == opPark:
				op.d.held = true
			case reply == 1:
			case op.unclear && op.kind != opRefresh && op.kind != opPark:
				// An earlier attempt without an answer was obeyed, or somebody restored it in between: it cannot be told.
			default:
				err = ErrLost
			}
			s.end(op, err)
		case string:
			if err := replyError(reply); Retryable(err) {
				s.b.servers.Answered(err)
				s.outage.failed(err)
				again = append(again, op)
			} else {
				s.end(op, opError("settle", err))
			}
		default:
			s.end(op, fmt.Errorf("redisbroker: settle script: reply of type %T", reply))
		}
	}
	return again
}

func (s *settler) end(op *operation, err error) {
	s.finish(op.d, op, err)
	if op.done != nil {
		op.done(err)
	}
}

// do submits an operation and waits for its outcome. When ctx ends first, the outcome is not known.
func (s *settler) do(ctx context.Context, op *operation) error {
	resultC := make(chan error, 1) // run must not wait for a caller that gave up
	op.ctx, op.done = ctx, func(err error) { resultC <- err }
	if err := s.submit(ctx, op); err != nil {
		return err
	}
	return s.await(ctx, resultC)
}

// await receives one outcome. An operation that was submitted just when run ended has none.
func (s *settler) await(ctx context.Context, resultC <-chan error) error {
	select {
	case err := <-resultC:
		return err
	case <-ctx.Done():
		return opError("settle", context.Cause(ctx))
	case <-s.doneC:
	}
	select {
	case err := <-resultC:
		return err
	default:
		return ErrClosed
	}
}

// maybeObeyed reports whether Redis may have carried out a command that failed with err: not when it answered, nor when no
// connection was made.
func maybeObeyed(err error) bool {
	if _, answered := errors.AsType[redis.Error](err); answered {
		return false
	}
	opErr, ok := errors.AsType[*net.OpError](err)
	return !ok || opErr.Op != "dial"
}

// isEnd reports whether the delivery is over with this outcome of an operation.
func isEnd(err error) bool { return err == nil || errors.Is(err, ErrLost) }
