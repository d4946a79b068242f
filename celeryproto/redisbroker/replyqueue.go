package redisbroker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/internal/redisconn"
)

// ReplyQueueConfig of a ReplyQueue.
type ReplyQueueConfig struct {
	// Exchange for replies: "reply.celery.pidbox" when empty; it follows Celery's control_exchange.
	Exchange string
	// Expires is control_queue_expires, x-expires of the queue; 10 s when 0.
	Expires time.Duration
	// MaxReplies and MaxBytes bound what waits for Pending.Next, for each ticket; 10,000 and 64 MiB when 0.
	MaxReplies int
	MaxBytes   int64
}

// Defaults of a ReplyQueue.
const (
	defaultReplyExchange = "reply.celery.pidbox"
	defaultReplyExpires  = 10 * time.Second // reply_queue_expires (kombu 5.7, pidbox.py)
	defaultMaxReplies    = 10_000
	defaultMaxReplyBytes = 64 << 20
	// replyBlockTime is how long one BRPOP waits, as in kombu.
	replyBlockTime = time.Second
	ticketHeader   = "ticket"
)

// ReplyDrop is why a ReplyQueue did not hand a reply over.
type ReplyDrop string

// Reasons of a drop.
const (
	ReplyUnclaimed   ReplyDrop = "unclaimed"   // nobody waits for its ticket (any more)
	ReplyFull        ReplyDrop = "full"        // MaxReplies or MaxBytes
	ReplyUndecodable ReplyDrop = "undecodable" // no envelope
)

// ReplyQueue is a client's queue for the replies of remote control, one for a whole process. While somebody waits it pops
// replies, on a connection of its own, and gives each to the one who waits for its ticket. A reply that was popped when the
// connection broke is lost.
type ReplyQueue struct {
	b        *Broker
	cfg      ReplyQueueConfig
	oid      string
	running  atomic.Bool
	wakeC    chan struct{} // Expect sends, Run receives; capacity 1: Run looks at pending
	stoppedC chan struct{} // closed by Run at its end

	mu      sync.Mutex
	stopped bool
	used    bool // something was bound
	pending map[string]*Pending
}

// NewReplyQueue prepares a queue with an address of its own.
func (b *Broker) NewReplyQueue(cfg ReplyQueueConfig) *ReplyQueue {
	setDefault(&cfg.Exchange, defaultReplyExchange)
	setDefault(&cfg.Expires, defaultReplyExpires)
	setDefault(&cfg.MaxReplies, defaultMaxReplies)
	setDefault(&cfg.MaxBytes, defaultMaxReplyBytes)
	return &ReplyQueue{
		b: b, cfg: cfg, oid: uuid.NewString(),
		wakeC: make(chan struct{}, 1), stoppedC: make(chan struct{}), pending: make(map[string]*Pending),
	}
}

// binding is what kombu's Mailbox.get_reply_queue declares.
func (q *ReplyQueue) binding() Binding {
	return Binding{Exchange: q.cfg.Exchange, RoutingKey: q.oid, Queue: q.oid + "." + q.cfg.Exchange, Expires: q.cfg.Expires}
}

// Exchange is where replies must be sent, with RoutingKey: reply_to of a broadcast message.
func (q *ReplyQueue) Exchange() string { return q.cfg.Exchange }

// RoutingKey is the address of this queue.
func (q *ReplyQueue) RoutingKey() string { return q.oid }

// Expect prepares to receive the replies for a ticket, which must be new. It binds the queue, so it comes before publishing the
// request. The Pending must be closed.
func (q *ReplyQueue) Expect(ctx context.Context, ticket string) (*Pending, error) {
	p := &Pending{q: q, ticket: ticket, wakeC: make(chan struct{}, 1)}
	if err := q.register(p); err != nil {
		return nil, err
	}
	if err := q.b.insist(ctx, func() error { return q.b.Bind(ctx, q.binding()) }); err != nil {
		p.Close()
		return nil, err
	}
	select {
	case q.wakeC <- struct{}{}:
	default:
	}
	return p, nil
}

func (q *ReplyQueue) register(p *Pending) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stopped {
		return ErrClosed
	}
	if _, known := q.pending[p.ticket]; known || p.ticket == "" {
		return errors.New("redisbroker: reply queue: the ticket is empty or in use")
	}
	q.pending[p.ticket], q.used = p, true
	return nil
}

// waiting reports whether anybody waits.
func (q *ReplyQueue) waiting() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pending) > 0
}

// Run pops replies while somebody waits, until ctx ends. Then it ends every wait with ErrClosed, deletes the queue and returns
// nil. It goes on through any outage of Redis. A ReplyQueue runs once.
func (q *ReplyQueue) Run(ctx context.Context) error {
	if !q.running.CompareAndSwap(false, true) {
		return errors.New("redisbroker: reply queue: Run called twice")
	}
	client := q.b.waitClient(1)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { q.b.servers.Watch(ctx) })
	wg.Go(func() {
		<-ctx.Done()
		_ = client.Close() // ends a pop in flight: nobody waits for it any more
	})
	keeper := boundKeeper{b: q.b, bindings: []Binding{q.binding()}}
	var pause backoff
	for ctx.Err() == nil {
		if !q.waiting() {
			select {
			case <-ctx.Done():
			case <-q.wakeC:
			}
			continue
		}
		err := keeper.tick(ctx, time.Now())
		if err == nil {
			err = q.pop(ctx, client)
		}
		if err == nil {
			pause.reset()
			continue
		}
		if ctx.Err() == nil {
			q.b.obs.disconnected("replies", err)
			keeper.renewed = time.Time{} // it may be another Redis
			pause.wait(ctx)
		}
	}
	q.mu.Lock()
	q.stopped = true
	used := q.used
	q.mu.Unlock()
	close(q.stoppedC)
	if used {
		if err := keeper.remove(ctx); err != nil {
			q.b.logger.Warn("redisbroker: reply queue not deleted", "err", err)
		}
	}
	return nil
}

// pop waits for one reply.
func (q *ReplyQueue) pop(ctx context.Context, client *redis.Client) error {
	lists := q.b.keys.lists(q.binding().Queue)
	popped, err := client.BRPop(context.WithoutCancel(ctx), replyBlockTime, lists...).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil
	case err != nil:
		return err
	case len(popped) != 2:
		return redisconn.ErrWire
	}
	q.deliver([]byte(popped[1]))
	return nil
}

func (q *ReplyQueue) deliver(raw []byte) {
	e, err := celeryproto.DecodeEnvelope(raw)
	if err != nil {
		q.b.obs.replyDropped(ReplyUndecodable)
		q.b.logger.Warn("redisbroker: undecodable reply", "bytes", len(raw), "err", err)
		return
	}
	value, _ := e.Headers.Get(ticketHeader)
	ticket, _ := value.Text() // what is no text is nobody's
	q.mu.Lock()
	p := q.pending[ticket]
	q.mu.Unlock()
	switch {
	case p == nil:
		q.b.obs.replyDropped(ReplyUnclaimed)
	case !p.add(e, int64(len(raw))):
		q.b.obs.replyDropped(ReplyFull)
	}
}

// Pending are the replies to one request.
type Pending struct {
	q      *ReplyQueue
	ticket string
	wakeC  chan struct{} // add sends, Next receives; capacity 1: Next looks at everything

	mu      sync.Mutex
	replies []pendingReply
	bytes   int64
}

type pendingReply struct {
	envelope *celeryproto.Envelope
	bytes    int64
}

func (p *Pending) add(e *celeryproto.Envelope, bytes int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.replies) > 0 && (len(p.replies) >= p.q.cfg.MaxReplies || p.bytes+bytes > p.q.cfg.MaxBytes) {
		return false
	}
	p.replies = append(p.replies, pendingReply{e, bytes})
	p.bytes += bytes
	select {
	case p.wakeC <- struct{}{}:
	default:
	}
	return true
}

// Next waits for the next reply: one for each node that answers, in the order in which they come. ctx bounds the wait; kombu ends
// the collection when nothing came for the timeout of the request, one second by default.
func (p *Pending) Next(ctx context.Context) (*celeryproto.Envelope, error) {
	for {
		if e := p.take(); e != nil {
			return e, nil
		}
		select {
		case <-p.wakeC:
		case <-p.q.stoppedC:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, opError("reply", context.Cause(ctx))
		}
	}
}

func (p *Pending) take() *celeryproto.Envelope {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.replies) == 0 {
		return nil
	}
	first := p.replies[0]
	p.replies = p.replies[1:]
	p.bytes -= first.bytes
	return first.envelope
}

// Close ends the wait. Replies that come later are dropped.
func (p *Pending) Close() {
	p.q.mu.Lock()
	delete(p.q.pending, p.ticket)
	p.q.mu.Unlock()
}
