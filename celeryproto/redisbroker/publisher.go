package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// PublisherConfig of a Publisher. The zero value of each field is its default.
type PublisherConfig struct {
	// MaxQueued is the most messages waiting or in flight; 100,000 when 0.
	MaxQueued int
	// MaxQueuedBytes is the most bytes of their envelopes; 64 MiB when 0.
	MaxQueuedBytes int64
	// Deadline is how long an entry may wait until Redis has taken it; 10 s when 0.
	Deadline time.Duration
	// MaxBatch is the most messages in one round trip; 512 when 0. An entry with more messages is still sent as a whole.
	MaxBatch int
	// DrainTimeout bounds the work after the context of Run has ended; 5 s when 0, none when negative.
	DrainTimeout time.Duration
}

const (
	defaultMaxQueued      = 100_000
	defaultMaxQueuedBytes = 64 << 20
	defaultDeadline       = 10 * time.Second
	defaultMaxBatch       = 512
	defaultDrainTimeout   = 5 * time.Second
	// maxBatchBytes keeps one script call, during which Redis serves nobody else, short.
	maxBatchBytes = 4 << 20
	// publisherTTL keeps the number of the last batch; a retry comes within the deadline.
	publisherTTL = time.Hour
	entryCost    = 64 // bytes counted per message beside its envelope
)

func (c PublisherConfig) withDefaults() PublisherConfig {
	positive := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	positive(&c.MaxQueued, defaultMaxQueued)
	positive(&c.MaxBatch, defaultMaxBatch)
	if c.MaxQueuedBytes <= 0 {
		c.MaxQueuedBytes = defaultMaxQueuedBytes
	}
	if c.Deadline <= 0 {
		c.Deadline = defaultDeadline
	}
	setDefault(&c.DrainTimeout, defaultDrainTimeout)
	return c
}

// Publisher sends messages in order and in batches, without its callers waiting for Redis.
//
// Each message is published once: batches are numbered, and Redis does not repeat a batch whose answer was lost. While Redis
// is away, entries wait, up to the bounds and the deadline of the configuration. An entry given up because of its deadline
// may have been published when its last attempt got no answer; nothing else is uncertain.
type Publisher struct {
	b   *Broker
	cfg PublisherConfig
	key string // record of the last batch

	mu     sync.Mutex
	queue  []*publication // oldest first
	count  int            // messages in queue and in flight
	bytes  int64
	closed bool
	wakeC  chan struct{} // Enqueue sends, Run receives; capacity 1: one wake-up is enough for any number of entries

	seq int64 // of the last batch made; Run only
}

// publication is one entry of the Publisher's queue.
type publication struct {
	msgs     []Message
	bytes    int64
	deadline time.Time
	done     func(error)
}

// NewPublisher makes a publisher. Nothing is sent before Run.
func (b *Broker) NewPublisher(cfg PublisherConfig) *Publisher {
	return &Publisher{
		b: b, cfg: cfg.withDefaults(), key: b.keys.publisher(uuid.NewString()), wakeC: make(chan struct{}, 1),
	}
}

// Queued is the number of messages waiting or in flight, and their bytes.
func (p *Publisher) Queued() (messages int, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count, p.bytes
}

// Enqueue adds messages that are published together and in this order, behind those of earlier calls. It never blocks:
// ErrPublishQueueFull when there is no room (done is not called then), ErrClosed when Run has ended.
//
// done, if not nil, is called once with the outcome, by the goroutine of Run: it must return at once and not call Enqueue
// in a way that waits.
func (p *Publisher) Enqueue(msgs []Message, done func(error)) error {
	if done == nil {
		done = func(error) {}
	}
	e := &publication{msgs: msgs, done: done}
	for _, m := range msgs {
		e.bytes += int64(len(m.Envelope)) + entryCost
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	if p.count+len(msgs) > p.cfg.MaxQueued || p.bytes+e.bytes > p.cfg.MaxQueuedBytes {
		return ErrPublishQueueFull
	}
	e.deadline = time.Now().Add(p.cfg.Deadline)
	p.count += len(msgs)
	p.bytes += e.bytes
	p.queue = append(p.queue, e)
	select {
	case p.wakeC <- struct{}{}:
	default:
	}
	return nil
}

// Run publishes until ctx ends and then what is queued, for at most DrainTimeout (an attempt in flight may add the socket
// timeout). What is left is given up with ErrClosed, and Run returns an error that says how many messages that were.
func (p *Publisher) Run(ctx context.Context) error {
	// A batch in flight must be finished under its number: work outlives ctx by the drain timeout.
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(p.cfg.DrainTimeout, abandon) })()
	defer p.b.servers.WatchWhile(ctx)()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-p.wakeC:
			p.publishQueued(work)
		}
	}
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.publishQueued(work)
	return p.giveUp()
}

// giveUp ends what could not be published in time.
func (p *Publisher) giveUp() error {
	left := 0
	for batch := p.cut(); len(batch) > 0; batch = p.cut() {
		for _, e := range batch {
			left += len(e.msgs)
			p.finish(e, ErrClosed)
		}
	}
	if left > 0 {
		return fmt.Errorf("redisbroker: publisher: %d messages not published before the end", left)
	}
	return nil
}

// publishQueued publishes batch after batch until the queue is empty or ctx has ended.
func (p *Publisher) publishQueued(ctx context.Context) {
	for ctx.Err() == nil {
		batch := p.cut()
		if len(batch) == 0 {
			return
		}
		if rest := p.publishBatch(ctx, batch); len(rest) > 0 {
			p.mu.Lock()
			p.queue = append(rest, p.queue...)
			p.mu.Unlock()
		}
	}
}

// cut takes the next batch off the queue. Its messages stay counted until finish.
func (p *Publisher) cut() []*publication {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, messages, bytes := 0, 0, int64(0)
	for n < len(p.queue) {
		e := p.queue[n]
		if n > 0 && (messages+len(e.msgs) > p.cfg.MaxBatch || bytes+e.bytes > maxBatchBytes) {
			break
		}
		messages += len(e.msgs)
		bytes += e.bytes
		n++
	}
	batch := p.queue[:n:n]
	p.queue = p.queue[n:]
	if len(p.queue) == 0 {
		p.queue = nil // let go of the array
	}
	return batch
}

// publishBatch tries until the batch is published, its entries are past their deadlines, or ctx has ended; then it returns
// the entries that are still wanted. All attempts have the same number: a batch that was obeyed without our knowing is not
// repeated, and a given-up one that reaches Redis late is ignored once a later batch was obeyed.
func (p *Publisher) publishBatch(ctx context.Context, batch []*publication) (rest []*publication) {
	p.seq++
	var pause backoff
	for {
		if batch = p.expire(batch); len(batch) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return batch
		}
		err := p.attempt(ctx, batch)
		if err == nil {
			return nil
		}
		if !Retryable(err) && ctx.Err() == nil {
			for _, e := range batch {
				p.finish(e, opError("publish", err))
			}
			return nil
		}
		p.b.obs.publishRetried(err)
		sleep(ctx, min(pause.pause(), time.Until(batch[0].deadline)))
	}
}

// expire gives up the entries that are past their deadline. Entries are in the order of their deadlines.
func (p *Publisher) expire(batch []*publication) []*publication {
	now := time.Now()
	for len(batch) > 0 && !batch[0].deadline.After(now) {
		p.finish(batch[0], ErrPublishDeadline)
		batch = batch[1:]
	}
	if len(batch) > 0 {
		return batch
	}
	p.mu.Lock()
	var late []*publication
	for len(p.queue) > 0 && !p.queue[0].deadline.After(now) {
		late = append(late, p.queue[0])
		p.queue = p.queue[1:]
	}
	p.mu.Unlock()
	for _, e := range late {
		p.finish(e, ErrPublishDeadline)
	}
	return nil
}

// attempt is one round trip, cut off at the deadline of the oldest entry so that this one is told in time.
func (p *Publisher) attempt(ctx context.Context, batch []*publication) error {
	ctx, cancel := context.WithDeadline(ctx, batch[0].deadline)
	defer cancel()
	start := time.Now()
	keys, args := []string{p.key}, []any{p.seq, int(publisherTTL / time.Second)}
	var msgs []Message
	for _, e := range batch {
		for _, m := range e.msgs {
			keys = append(keys, p.b.keys.queue(m.Queue, m.Priority))
			args = append(args, m.Envelope)
		}
		msgs = append(msgs, e.msgs...)
	}
	if err := p.b.bind(ctx, msgs); err != nil {
		return err
	}
	failed, err := publishScript.Run(ctx, p.b.client, keys, args...).StringSlice()
	if err != nil {
		return err
	}
	p.b.obs.roundTrip("publish", len(msgs), start)
	i := 0
	for _, e := range batch {
		var errs []error
		for range e.msgs {
			if i < len(failed) && failed[i] != "" {
				errs = append(errs, opError("publish", errors.New(failed[i])))
			}
			i++
		}
		p.finish(e, errors.Join(errs...))
	}
	return nil
}

func (p *Publisher) finish(e *publication, err error) {
	p.mu.Lock()
	p.count -= len(e.msgs)
	p.bytes -= e.bytes
	p.mu.Unlock()
	if err == nil {
		p.b.countPublished(e.msgs)
	} else {
		p.b.countFailed(e.msgs, err)
	}
	e.done(err)
}
