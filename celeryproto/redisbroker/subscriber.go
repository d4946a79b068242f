package redisbroker

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/internal/redisconn"
)

// FanoutQueue is a queue bound to a fanout exchange. On Redis it is no list, only a subscription.
type FanoutQueue struct {
	// Exchange of the type fanout.
	Exchange string
	// RoutingKey of the binding: messages published with the same one come, or with "#" (or "*") in it all that fit. "" is only for
	// messages without routing key.
	RoutingKey string
	// Queue is the name in the exchange's binding set, which kombu writes for fanout queues too; "" writes none.
	Queue string
	// Expires is the queue's x-expires, as in Binding.
	Expires time.Duration
	// Durable leaves the binding when the subscriber stops.
	Durable bool
}

// SubscriberConfig of a Subscriber.
type SubscriberConfig struct {
	// Queues to receive from; at least one. A message that several of them match comes once.
	Queues []FanoutQueue
	// MaxQueued and MaxQueuedBytes bound what waits for a slow handler; 10,000 and 64 MiB when 0. What has no room is dropped,
	// counted, and reported as a Gap.
	MaxQueued      int
	MaxQueuedBytes int64
	// MaxMessageBytes is the longest envelope; 16 MiB when 0. Longer ones are dropped without being held in memory.
	MaxMessageBytes int
	// Gap is told that messages may have been missed. It is called by Run, before the handler gets the next message. Optional.
	Gap func(Gap)
}

// Limits of a Subscriber.
const (
	defaultMaxFanoutQueued = 10_000
	defaultMaxFanoutBytes  = 64 << 20
	defaultMaxFanoutSize   = 16 << 20
	// fanoutRemembered is how many delivery tags are remembered (SentinelChannel._fanout_compat_dedup_size).
	fanoutRemembered = 1000
	// keepInterval is how often bindings are looked at (Transport.register_with_event_loop).
	keepInterval = time.Second
)

// Gap is a time from which messages may be missing.
type Gap struct {
	// From is the last sign of life before the connection was lost, or when the first message found no room; To is when messages
	// came again.
	From, To time.Time
	// Dropped is how many messages came and found no room.
	Dropped int
	// Err is why the connection was lost, nil when it was not. How many messages are missing is not known then.
	Err error
}

// FanoutDelivery is a message that a Subscriber received. There is nothing to be acked.
type FanoutDelivery struct {
	// Exchange and RoutingKey it was published with.
	Exchange, RoutingKey string
	// Envelope is the message.
	Envelope *celeryproto.Envelope
	// Raw is the envelope, byte for byte.
	Raw []byte
}

// FanoutDrop is why a Subscriber did not hand a message over.
type FanoutDrop string

// Reasons of a drop.
const (
	DropFull        FanoutDrop = "full"        // MaxQueued or MaxQueuedBytes
	DropTooLarge    FanoutDrop = "too_large"   // MaxMessageBytes
	DropUndecodable FanoutDrop = "undecodable" // no envelope; Python logs and skips it
	DropDuplicate   FanoutDrop = "duplicate"   // its delivery tag came before
)

func (c SubscriberConfig) withDefaults() SubscriberConfig {
	setDefault(&c.MaxQueued, defaultMaxFanoutQueued)
	setDefault(&c.MaxQueuedBytes, defaultMaxFanoutBytes)
	setDefault(&c.MaxMessageBytes, defaultMaxFanoutSize)
	c.Queues = slices.Clone(c.Queues)
	return c
}

func (c SubscriberConfig) validate() error {
	var errs []error
	if len(c.Queues) == 0 {
		errs = append(errs, errors.New("redisbroker: subscriber: Queues: none"))
	}
	for _, q := range c.Queues {
		if q.Exchange == "" {
			errs = append(errs, errors.New("redisbroker: subscriber: Queues: one has no exchange"))
		}
	}
	if c.MaxQueued < 0 || c.MaxQueuedBytes < 0 || c.MaxMessageBytes < 0 {
		errs = append(errs, errors.New("redisbroker: subscriber: a limit is negative"))
	}
	return errors.Join(errs...)
}

// Subscriber receives what is published to fanout exchanges. It subscribes again by itself after any loss of connection. See the
// package comment for its guarantees.
type Subscriber struct {
	b       *Broker
	cfg     SubscriberConfig
	running atomic.Bool
	readyC  chan struct{} // closed by the receiving goroutine when Redis has confirmed the subscriptions for the first time
	boundC  chan struct{} // the receiving goroutine sends, keepBound receives; capacity 1: bindings must be written again
	queue   *fanoutQueue

	// Only Run's caller uses this one.
	seen seenTags
	// Only the receiving goroutine uses this one: when something came last.
	heard time.Time
}

// NewSubscriber checks the configuration and prepares a subscriber.
func (b *Broker) NewSubscriber(cfg SubscriberConfig) (*Subscriber, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	return &Subscriber{
		b: b, cfg: cfg, readyC: make(chan struct{}), boundC: make(chan struct{}, 1),
		queue: newFanoutQueue(cfg.MaxQueued, cfg.MaxQueuedBytes),
	}, nil
}

// Ready is closed when Redis has confirmed the subscriptions for the first time: what is published from then on arrives.
func (s *Subscriber) Ready() <-chan struct{} { return s.readyC }

// Run subscribes, writes the bindings, and gives each message to handle, one after the other, until ctx ends. Then it removes the
// bindings and returns nil. What waits for the handler at that time is dropped, as what is published later. A Subscriber runs
// once.
func (s *Subscriber) Run(ctx context.Context, handle func(FanoutDelivery)) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("redisbroker: subscriber: Run called twice")
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.receive(ctx) })
	wg.Go(func() { s.keepBound(ctx) })
	wg.Go(func() { s.b.servers.Watch(ctx) })
	for {
		item, ok := s.queue.take(ctx)
		if !ok {
			break
		}
		if item.gap != nil {
			if s.cfg.Gap != nil {
				s.cfg.Gap(*item.gap)
			}
			continue
		}
		if d, ok := s.decode(item); ok {
			handle(d)
		}
	}
	wg.Wait()
	return nil
}

// decode makes a delivery of what arrived, unless it is to be dropped.
func (s *Subscriber) decode(item fanoutItem) (FanoutDelivery, bool) {
	q := &s.cfg.Queues[item.queue]
	raw := []byte(item.payload)
	e, err := celeryproto.DecodeEnvelope(raw)
	if err != nil {
		s.b.obs.fanoutDropped(q.Exchange, DropUndecodable)
		s.b.logger.Warn("redisbroker: undecodable message on a fanout exchange", "exchange", q.Exchange, "bytes", len(raw), "err", err)
		return FanoutDelivery{}, false
	}
	d := FanoutDelivery{Exchange: q.Exchange, RoutingKey: e.Properties.DeliveryInfo.RoutingKey, Envelope: e, Raw: raw}
	if s.b.opts.NoFanoutPatterns && !s.wanted(&d) {
		return d, false
	}
	if s.seen.again(q.Exchange + "\x00" + e.Properties.DeliveryTag) {
		s.b.obs.fanoutDropped(q.Exchange, DropDuplicate)
		return d, false
	}
	return d, true
}

// wanted looks at the routing key where the channel does not say it. A queue without one gets everything then, as in kombu.
func (s *Subscriber) wanted(d *FanoutDelivery) bool {
	return slices.ContainsFunc(s.cfg.Queues, func(q FanoutQueue) bool {
		return q.Exchange == d.Exchange && (q.RoutingKey == "" || matchGlob(q.glob(), d.RoutingKey))
	})
}

// receive subscribes again and again, until ctx ends.
func (s *Subscriber) receive(ctx context.Context) {
	var pause backoff
	var failure error // since the last subscription, its first one
	for ctx.Err() == nil {
		err := s.session(ctx, func() {
			pause.reset()
			if failure != nil && s.isReady() {
				s.queue.addGap(Gap{From: s.heard, To: time.Now(), Err: failure})
				s.b.logger.Info("redisbroker: subscribed again", "since", s.heard)
			}
			failure, s.heard = nil, time.Now()
			s.subscribed()
		})
		if ctx.Err() != nil {
			return
		}
		s.b.obs.disconnected("subscribe", err)
		if failure == nil {
			failure = err
			s.b.logger.Warn("redisbroker: a subscription fails, trying again", "err", err)
		}
		pause.wait(ctx)
	}
}

func (s *Subscriber) isReady() bool {
	select {
	case <-s.readyC:
		return true
	default:
		return false
	}
}

// subscribed notes that the subscriptions hold. Redis may be another one, or have lost its data: bindings are written again.
func (s *Subscriber) subscribed() {
	if !s.isReady() {
		close(s.readyC)
	}
	select {
	case s.boundC <- struct{}{}:
	default:
	}
}

// session is one connection, from its subscription to its end. confirmed is called when messages are sure to come.
func (s *Subscriber) session(ctx context.Context, confirmed func()) error {
	conn, e, err := s.b.servers.Dial(ctx, true)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the read
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	w := redisconn.NewWire(conn, s.cfg.MaxMessageBytes)
	patterns := s.patterns(e.DB)
	command := []string{"PSUBSCRIBE"}
	for _, p := range patterns {
		command = append(command, p.text)
	}
	if err := conn.SetDeadline(time.Now().Add(s.b.opts.SocketTimeout)); err != nil {
		return err
	}
	if err := w.Send(command); err != nil {
		return err
	}
	for range patterns { // Redis obeys the command as a whole: no message comes in between
		if kind, _, err := receiveBus(w); err != nil || kind != "psubscribe" {
			return cmp.Or(err, redisconn.ErrWire)
		}
	}
	confirmed()
	for {
		if err := w.Await(s.b.opts.HealthCheckInterval, s.b.opts.SocketTimeout); err != nil {
			return err
		}
		if err := s.next(w, patterns); err != nil {
			return err
		}
	}
}

// receiveBus reads one answer of a subscribed connection: its kind, and what it brings.
func receiveBus(w *wire) (kind string, items []any, err error) {
	reply, err := w.Receive()
	if err != nil {
		return "", nil, err
	}
	items, _ = reply.([]any)
	if len(items) < 2 {
		return "", nil, redisconn.ErrWire
	}
	kind, _ = items[0].(string)
	return kind, items[1:], nil
}

// fanoutPattern is what is subscribed to, and the queue that it is for.
type fanoutPattern struct {
	text  string
	queue int
}

func (s *Subscriber) patterns(db int) []fanoutPattern {
	var patterns []fanoutPattern
	for i := range s.cfg.Queues {
		for _, prefix := range s.b.fanoutPrefixes(db) {
			text := s.b.fanoutPattern(prefix, &s.cfg.Queues[i])
			if !slices.ContainsFunc(patterns, func(p fanoutPattern) bool { return p.text == text }) {
				patterns = append(patterns, fanoutPattern{text, i})
			}
		}
	}
	return patterns
}

// next reads one answer of a subscribed connection and puts a message into the queue.
func (s *Subscriber) next(w *wire, patterns []fanoutPattern) error {
	kind, items, err := receiveBus(w)
	if err != nil {
		return err
	}
	s.heard = time.Now()
	if kind != "pmessage" { // the answer to PING
		return nil
	}
	if len(items) != 3 {
		return redisconn.ErrWire
	}
	i := slices.IndexFunc(patterns, func(p fanoutPattern) bool { return p.text == items[0] })
	if i < 0 {
		return redisconn.ErrWire
	}
	exchange := s.cfg.Queues[patterns[i].queue].Exchange
	switch payload := items[2].(type) {
	case string:
		if !s.queue.add(fanoutItem{queue: patterns[i].queue, payload: payload}) {
			s.b.obs.fanoutDropped(exchange, DropFull)
		}
	case redisconn.Oversized:
		s.b.obs.fanoutDropped(exchange, DropTooLarge)
		s.b.logger.Warn("redisbroker: message on a fanout exchange is too large", "exchange", exchange, "bytes", int64(payload))
	default:
		return redisconn.ErrWire
	}
	return nil
}

// keepBound writes, renews and finally removes the bindings.
func (s *Subscriber) keepBound(ctx context.Context) {
	keeper := boundKeeper{b: s.b}
	temporary := boundKeeper{b: s.b}
	for _, q := range s.cfg.Queues {
		if q.Queue == "" {
			continue
		}
		d := Binding{Exchange: q.Exchange, RoutingKey: q.RoutingKey, Queue: q.Queue, Expires: q.Expires}
		keeper.bindings = append(keeper.bindings, d)
		if !q.Durable {
			temporary.bindings = append(temporary.bindings, d)
		}
	}
	ticker := time.NewTicker(keepInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		if err := keeper.tick(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.b.obs.disconnected("bind", err)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		case <-s.boundC:
			keeper.renewed = time.Time{}
		}
	}
	if err := temporary.remove(ctx); err != nil {
		s.b.logger.Warn("redisbroker: bindings of fanout queues not removed", "err", err)
	}
}
