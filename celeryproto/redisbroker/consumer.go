package redisbroker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// ConsumerConfig of a Consumer.
type ConsumerConfig struct {
	// Queues to consume, in the order of Celery's -Q; at least one.
	Queues []string
	// Prefetch is the most deliveries held at a time; at least 1. Celery: concurrency × worker_prefetch_multiplier.
	Prefetch int
	// MaxBatch is the most messages taken in one round trip; 256 when 0, at most 1,000.
	MaxBatch int
	// MaxDelayed is how many deliveries waiting for Requeue's delay do not count as held; 1,000 when 0, none when negative.
	MaxDelayed int
	// DrainTimeout is how long Run waits, after its context has ended, for deliveries to be settled before it restores
	// them; 0: not at all.
	DrainTimeout time.Duration
	// Results is where Delivery.Complete stores; nil: it stores nothing.
	Results *Results
	// SkipRestore switches the restore of other workers' overdue deliveries off.
	SkipRestore bool
}

const (
	defaultTakeBatch  = 256
	maxTakeBatch      = 1000 // what the script can hand to one command
	defaultMaxDelayed = 1000
	// stopTimeout bounds what Run does with Redis at the end.
	stopTimeout = 5 * time.Second
	// settlingPoll is how often Run then looks whether callers have settled their deliveries.
	settlingPoll = 10 * time.Millisecond
)

func (c ConsumerConfig) withDefaults() ConsumerConfig {
	setDefault(&c.MaxBatch, defaultTakeBatch)
	setDefault(&c.MaxDelayed, defaultMaxDelayed)
	c.MaxDelayed = max(c.MaxDelayed, 0)
	c.Queues = slices.Clone(c.Queues)
	return c
}

func (c ConsumerConfig) validate() error {
	var errs []error
	if len(c.Queues) == 0 {
		errs = append(errs, errors.New("redisbroker: Queues: none"))
	}
	for i, q := range c.Queues {
		if q == "" || slices.Contains(c.Queues[:i], q) {
			errs = append(errs, fmt.Errorf("redisbroker: Queues: %q is empty or there twice", q))
		}
	}
	if c.Prefetch < 1 {
		errs = append(errs, errors.New("redisbroker: Prefetch: must be at least 1"))
	}
	if c.MaxBatch < 0 || c.MaxBatch > maxTakeBatch {
		errs = append(errs, fmt.Errorf("redisbroker: MaxBatch: must be 0 to %d", maxTakeBatch))
	}
	if c.DrainTimeout < 0 {
		errs = append(errs, errors.New("redisbroker: DrainTimeout: must not be negative"))
	}
	return errors.Join(errs...)
}

// Consumer takes deliveries from queues. See the package comment for its guarantees.
type Consumer struct {
	b       *Broker
	cfg     ConsumerConfig
	id      string
	settler *settler
	delayed delayQueue
	rests   rests
	running atomic.Bool

	sharesResults bool // cfg.Results is on the same server

	tookC chan struct{} // closed by Run when taking has ended
	backC chan struct{} // closed by RestoreAll: Run waits for nothing any more
	wakeC chan struct{} // anybody sends, the take loop receives; capacity 1: the loop looks at everything when it wakes

	backOnce sync.Once

	mu       sync.Mutex
	held     heldList // taken and not ended
	arriving int      // taken and not decoded yet: not in held, but counted as held
	prefetch int
	emptyC   chan struct{} // closed by whoever ends the last held delivery while Run drains; else nil
	queues   []string      // to consume; replaced, never changed

	// Only the take loop uses these.
	cycle   []string
	take    int64    // number of the current take
	taken   int64    // deliveries so far
	unclear bool     // the reply to the current take was lost
	taking  []string // cycle of the current take
}

// NewConsumer checks the configuration and prepares a consumer.
func (b *Broker) NewConsumer(cfg ConsumerConfig) (*Consumer, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	c := &Consumer{
		b: b, cfg: cfg, id: uuid.NewString(), wakeC: make(chan struct{}, 1), tookC: make(chan struct{}), backC: make(chan struct{}),
		prefetch: cfg.Prefetch, queues: cfg.Queues,
	}
	c.settler = newSettler(b, c.finish)
	c.settler.ownDB = b.client.Options().DB
	c.settler.resultsDB = c.settler.ownDB
	if r := cfg.Results; r != nil && !r.isOpaque() && sameServer(b.client.Options(), r.client.Options()) {
		c.sharesResults, c.settler.resultsDB = true, r.client.Options().DB
	}
	c.delayed.init()
	return c, nil
}

// Held is the number of deliveries taken and not settled, those waiting for Requeue's delay included.
func (c *Consumer) Held() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held.n + c.arriving
}

// Queues are those that are consumed.
func (c *Consumer) Queues() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.queues)
}

// AddQueue makes the consumer take from a further queue, the last in its order. False: it did already.
func (c *Consumer) AddQueue(queue string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if queue == "" || slices.Contains(c.queues, queue) {
		return false
	}
	c.queues = append(slices.Clone(c.queues), queue)
	c.wake()
	return true
}

// CancelQueue makes the consumer take nothing more from a queue, but what a take that is under way brings; what it holds is not
// affected. False: it took nothing from it.
func (c *Consumer) CancelQueue(queue string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.queues, queue)
	if i < 0 {
		return false
	}
	c.queues = slices.Delete(slices.Clone(c.queues), i, i+1)
	c.wake()
	return true
}

// AddPrefetch changes how many deliveries may be held. Celery adds one for each task that waits for its ETA.
func (c *Consumer) AddPrefetch(n int) {
	c.mu.Lock()
	c.prefetch += n
	c.mu.Unlock()
	c.wake()
}

// Prefetch is how many deliveries may be held at present.
func (c *Consumer) Prefetch() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.prefetch
}

// Run takes deliveries and gives each to handle, one after the other in the order taken; handle should hand it over and
// return, since no more than one further batch is taken meanwhile. It goes on through any outage of Redis.
//
// When ctx ends, Run takes nothing more, waits up to DrainTimeout for what is held to be settled, and restores the rest to
// the head of its queues, newest first. It returns nil when nothing was left behind. A Consumer runs once.
func (c *Consumer) Run(ctx context.Context, handle func(*Delivery)) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("redisbroker: consumer: Run called twice")
	}
	var wg, settling sync.WaitGroup
	settleCtx, stopSettling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSettling()
	settling.Go(func() { c.b.servers.Watch(settleCtx) })
	settling.Go(func() { c.settler.run(settleCtx) })
	settling.Go(func() { c.runDelays(settleCtx) })
	settling.Go(func() { c.runRefresh(settleCtx) })
	if !c.cfg.SkipRestore {
		wg.Go(func() { c.runRestore(ctx) })
	}
	err := c.takeLoop(ctx, &wg, handle)
	close(c.tookC)
	wg.Wait()
	err = errors.Join(err, c.stop(ctx))
	stopSettling()
	settling.Wait()
	return err
}

// TakingEnded is closed when Run takes nothing more and what it took without giving it to handle is back in its queues. Who gives
// deliveries back after that, by Restore, keeps their order: they are older.
func (c *Consumer) TakingEnded() <-chan struct{} { return c.tookC }

// takeLoop takes batches. Each is decoded and handled while the next one is taken.
func (c *Consumer) takeLoop(ctx context.Context, wg *sync.WaitGroup, handle func(*Delivery)) error {
	batchC := make(chan []*Delivery) // closed at the end
	var handling sync.WaitGroup
	handling.Go(func() {
		var unseen []*Delivery // restored together, so that their order is kept
		for deliveries := range batchC {
			unseen = append(unseen, c.handOver(ctx, deliveries, handle)...)
		}
		c.restoreUnseen(ctx, unseen)
	})
	defer handling.Wait()
	defer close(batchC)
	var pause backoff
	outage := outageLog{logger: c.b.logger, what: "taking messages"}
	idle := c.newIdleWait(nil)
	for ctx.Err() == nil {
		if queues := c.order(); !slices.Equal(queues, idle.queues) {
			if err := idle.stop(); err != nil {
				c.b.logger.Warn("redisbroker: waiting for messages", "err", err)
			}
			c.setCycle(queues)
			idle = c.newIdleWait(queues)
			idle.start(ctx, wg)
		}
		free := c.free()
		if free <= 0 {
			select {
			case <-ctx.Done():
			case <-c.wakeC:
			}
			continue
		}
		deliveries, err := c.takeBatch(ctx, min(free, c.cfg.MaxBatch))
		switch {
		case err != nil:
			c.b.obs.disconnected("take", err)
			outage.failed(err)
			pause.wait(ctx)
			continue
		case len(deliveries) == 0:
			idle.wait(ctx, c.wakeC)
		}
		outage.worked()
		pause.reset()
		if len(deliveries) > 0 {
			batchC <- deliveries
		}
	}
	return idle.stop()
}

// handOver gives deliveries to handle. It returns those for which it was too late.
func (c *Consumer) handOver(ctx context.Context, deliveries []*Delivery, handle func(*Delivery)) (unseen []*Delivery) {
	c.arrive(ctx, deliveries)
	for i, d := range deliveries {
		if ctx.Err() != nil {
			return deliveries[i:]
		}
		handle(d)
	}
	return nil
}

// order lists the queues in the order in which they are served at first.
func (c *Consumer) order() []string {
	queues := c.Queues()
	if c.b.opts.QueueOrderStrategy == OrderSorted {
		slices.Sort(queues)
	}
	return queues
}

// setCycle changes the queues and leaves the order of those that stay.
func (c *Consumer) setCycle(queues []string) {
	if c.b.opts.QueueOrderStrategy != OrderRoundRobin {
		c.cycle = queues
		return
	}
	cycle := slices.DeleteFunc(slices.Clone(c.cycle), func(q string) bool { return !slices.Contains(queues, q) })
	for _, q := range queues {
		if !slices.Contains(cycle, q) {
			cycle = append(cycle, q)
		}
	}
	c.cycle = cycle
}

// restoreUnseen puts back what nobody was given before the consumer had to stop: nothing is to be waited for.
func (c *Consumer) restoreUnseen(ctx context.Context, deliveries []*Delivery) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := c.Restore(ctx, deliveries...); err != nil { // stop tries again
		c.b.logger.Warn("redisbroker: messages taken last not restored yet", "err", err)
	}
}

// free is the number of deliveries that may be taken now.
func (c *Consumer) free() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.freeLocked()
}

func (c *Consumer) freeLocked() int {
	return c.prefetch - c.arriving - (c.held.n - min(c.delayed.len(), c.cfg.MaxDelayed))
}

func (c *Consumer) wake() {
	select {
	case c.wakeC <- struct{}{}:
	default:
	}
}

// finish is told the outcome of each operation, by the settler (or by Delivery.settle for a delivery known to be lost).
func (c *Consumer) finish(d *Delivery, op *operation, err error) {
	// A refresh that finds nothing because the delivery was settled before it says nothing: settling has told already, or will.
	beside := op.outcome == "" && d.state.Load() != stateHeld
	if errors.Is(err, ErrLost) && !beside && !d.lost.Swap(true) {
		c.b.obs.lost(d.Queue)
		c.b.logger.Warn("redisbroker: delivery lost, its task may run twice", "queue", d.Queue, "delivery_tag", d.Tag)
	}
	if op.resting {
		op.resting = false
		after := op.rest
		if err != nil {
			after = 0
		}
		c.rests.pushed(d.Queue, after, time.Now())
		c.wake() // to wait for the end of the rest
	}
	if op.outcome == "" { // refreshed or parked: still held
		return
	}
	if !isEnd(err) {
		d.state.Store(stateHeld)
		return
	}
	d.state.Store(stateSettled)
	if err == nil {
		c.b.obs.settled(d.Queue, op.outcome)
	}
	c.mu.Lock()
	full := c.freeLocked() <= 0
	c.held.remove(d)
	if c.held.n == 0 && c.emptyC != nil {
		close(c.emptyC)
		c.emptyC = nil
	}
	c.mu.Unlock()
	if full { // only then the take loop waits for it
		c.wake()
	}
}

// stop settles everything that is held: see Run.
func (c *Consumer) stop(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	c.resolveTake(ctx)
	c.flushDelays(ctx)
	if c.cfg.DrainTimeout > 0 {
		c.awaitEmpty(ctx, c.cfg.DrainTimeout)
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	err := c.Restore(ctx, c.snapshot()...)
	for c.settling() && sleep(ctx, settlingPoll) { // what callers do not bring to an end is held again, and restored then
		err = c.Restore(ctx, c.snapshot()...)
	}
	if n := c.Held(); n > 0 {
		return errors.Join(err, fmt.Errorf("redisbroker: consumer: %d deliveries stay unacked until their visibility timeout", n))
	}
	if fault := c.b.client.Del(ctx, c.b.keys.take(c.id)).Err(); fault != nil { // it expires by itself
		c.b.logger.Debug("redisbroker: take record not deleted", "err", fault)
	}
	return err
}

// snapshot lists what is held, in the order taken.
func (c *Consumer) snapshot() []*Delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held.all()
}

// settling reports whether the outcome of any delivery is still to come.
func (c *Consumer) settling() bool {
	return slices.ContainsFunc(c.snapshot(), func(d *Delivery) bool { return d.state.Load() == stateSettling })
}

// awaitEmpty returns when nothing is held, after RestoreAll, after d, or at the end of ctx.
func (c *Consumer) awaitEmpty(ctx context.Context, d time.Duration) {
	c.mu.Lock()
	if c.held.n == 0 {
		c.mu.Unlock()
		return
	}
	emptyC := make(chan struct{})
	c.emptyC = emptyC
	c.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-emptyC:
	case <-c.backC:
	case <-timer.C:
	case <-ctx.Done():
	}
	c.mu.Lock()
	c.emptyC = nil
	c.mu.Unlock()
}

// Restore puts deliveries back to the heads of their queues, newest first, so that the oldest is consumed next. Those that
// are settled, or being settled, are left alone.
func (c *Consumer) Restore(ctx context.Context, deliveries ...*Delivery) error {
	ordered := slices.SortedFunc(slices.Values(deliveries), func(a, b *Delivery) int { return cmp.Compare(b.order, a.order) })
	resultC := make(chan error, len(ordered))
	sent := 0
	var errs []error
	for _, d := range ordered {
		if !d.state.CompareAndSwap(stateHeld, stateSettling) {
			continue
		}
		op := d.restoreOperation()
		if d.lost.Load() {
			c.finish(d, &op, ErrLost)
			continue
		}
		op.d, op.ctx, op.done = d, ctx, func(err error) { resultC <- err }
		if err := c.settler.submit(ctx, &op); err != nil {
			errs = append(errs, err)
			continue
		}
		sent++
	}
	for range sent {
		if err := c.settler.await(ctx, resultC); !errors.Is(err, ErrLost) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// RestoreAll is Restore for everything that is held, and the end of Run's wait for what is not settled yet: what somebody is still
// settling ends that way, or is restored after it.
func (c *Consumer) RestoreAll(ctx context.Context) error {
	defer c.backOnce.Do(func() { close(c.backC) })
	return c.Restore(ctx, c.snapshot()...)
}

// waitClient makes a client for n blocking commands at a time.
func (b *Broker) waitClient(n int) *redis.Client {
	o := b.dial
	o.PoolSize = n
	return redis.NewClient(&o)
}
