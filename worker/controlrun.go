package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
)

// bus is a worker's part in remote control, events and gossip.
type bus struct {
	w        *Worker
	node     *node
	site     *siteControl
	broker   *redisbroker.Broker
	mailbox  *mailbox
	hub      *eventHub
	sent     *eventOutbox // of task-sent; nil when the site wants none
	gossip   *gossip      // nil: off
	heart    *heart       // nil: off
	remote   *remote      // nil: off
	revoked  *revokedSet
	queues   *queueBook
	consumed func() []string // the names of the queues
}

// newBus prepares it; attach must follow when there is an engine.
func newBus(w *Worker, broker *redisbroker.Broker) *bus {
	cfg := &w.cfg
	site := newSiteControl(&cfg.Settings.Celery, w.handlers.limits)
	name, _ := cfg.nodeName() // New has checked it
	n := newNode(name)
	b := &bus{
		w: w, node: n, site: site, queues: newQueueBook(compat.NewRoutes(&cfg.Settings.Celery)), broker: broker, hub: &eventHub{},
		mailbox: &mailbox{broker: broker, namespace: site.namespace, options: site.options},
	}
	taskEvents := cfg.TaskEvents.or(site.sendEvents)
	if taskEvents || !cfg.WithoutGossip || !cfg.WithoutHeartbeat {
		b.hub.outbox = newEventOutbox(n, site.eventExchange, broker, w.log, &cfg.Observer)
		b.hub.outbox.options = site.eventOptions
		b.hub.tasks.Store(taskEvents)
	}
	if site.sendSent {
		b.sent = newEventOutbox(newNode(origin()), site.eventExchange, broker, w.log, &cfg.Observer)
		b.sent.options = site.eventOptions
	}
	if !cfg.WithoutGossip {
		b.gossip = newGossip(n, b.hub, site.limits, w.log)
	}
	return b
}

// attach gives remote control the engine to control. The tasks of won elections go through flow.
func (b *bus) attach(e *engine, flow *workflow) {
	cfg := &b.w.cfg
	b.revoked, b.consumed = e.revoked, e.source.queues
	flow.revoke = b.mailbox.revoke
	if b.sent != nil {
		flow.sent = (&sentEvents{b.sent}).add
	}
	if !cfg.WithoutHeartbeat {
		b.heart = &heart{hub: b.hub, interval: cfg.HeartbeatInterval, status: func() (active, processed int) {
			_, busy, _ := e.slots.counts()
			return busy, e.handlers.accepted()
		}}
	}
	if b.gossip != nil {
		b.gossip.send = func(ctx context.Context, raw celeryproto.Raw) error {
			sig, err := canvas.Decode(raw)
			if err != nil {
				return err
			}
			plan, err := sig.Apply(&flow.env, canvas.Call{})
			if err != nil {
				return err
			}
			return flow.send(ctx, plan)
		}
	}
	if cfg.WithoutRemoteControl || !b.site.remoteControl {
		return
	}
	b.remote = &remote{
		node: b.node, engine: e, hub: b.hub, gossip: b.gossip, mailbox: b.mailbox, site: b.site, custom: b.w.handlers.controls,
		queues: b.queues, bind: b.broker.Bind, log: b.w.log, observer: &cfg.Observer, slots: make(chan struct{}, maxCustomCommands),
	}
	b.remote.commands = b.remote.builtins()
}

// subscriber listens to remote control and to the other workers, on one connection; nil when to neither.
func (b *bus) subscriber() (*redisbroker.Subscriber, error) {
	var queues []redisbroker.FanoutQueue
	if b.remote != nil {
		queues = append(queues, redisbroker.FanoutQueue{
			Exchange: b.mailbox.exchange(), Queue: celeryproto.ControlQueue(b.node.name, b.site.namespace), Expires: b.site.queueExpires,
		})
	}
	if b.gossip != nil {
		queues = append(queues, redisbroker.FanoutQueue{
			Exchange: b.site.eventExchange, RoutingKey: groupWorker + ".#", Queue: b.site.eventPrefix + "." + uuid.NewString(),
			Expires: b.site.eventExpires,
		})
	}
	if len(queues) == 0 {
		return nil, nil
	}
	return b.broker.NewSubscriber(redisbroker.SubscriberConfig{
		Queues: queues, MaxQueued: maxControlMessages, MaxQueuedBytes: maxControlBytes,
		Gap: func(g redisbroker.Gap) {
			b.w.log.Warn("remote control was out of reach", "from", g.From, "to", g.To, "dropped", g.Dropped)
		},
	})
}

// start listens, says hello to the others, and lets them know of this worker. stop ends all of it: first the worker's presence, then its
// ears, then its events.
func (b *bus) start(ctx context.Context) (stop func(), err error) {
	sub, err := b.subscriber()
	if err != nil {
		return nil, fmt.Errorf("worker: remote control: %w", err)
	}
	lasting := context.WithoutCancel(ctx)
	listening, stopListening := context.WithCancel(lasting)
	beating, stopBeating := context.WithCancel(lasting)
	var ears, mouth, beats sync.WaitGroup
	if sub != nil {
		ears.Go(func() {
			if err := sub.Run(listening, func(d redisbroker.FanoutDelivery) { b.receive(listening, d) }); err != nil {
				b.w.log.Error("remote control has ended", "err", err)
			}
		})
	}
	for _, o := range b.outboxes() {
		mouth.Go(o.run)
	}
	if sub != nil {
		select {
		case <-sub.Ready():
		case <-time.After(subscribePatience):
			b.w.log.Warn("remote control is not there yet, going on without")
		case <-ctx.Done():
		}
	}
	b.mingle(ctx)
	beats.Go(func() { b.queues.keepBound(beating, b.consumed, b.broker.Bind) })
	if b.heart != nil {
		b.heart.beat(celeryproto.EventWorkerOnline)
		beats.Go(func() { b.heart.run(beating) })
	}
	return func() {
		stopBeating()
		beats.Wait()
		if b.heart != nil {
			b.heart.beat(celeryproto.EventWorkerOffline)
		}
		stopListening()
		ears.Wait()
		if b.remote != nil && !b.remote.wait(b.w.cfg.HardStopTimeout) {
			b.w.log.Error("commands of remote control ignore the end of their context, left behind")
		}
		for _, o := range b.outboxes() {
			o.close()
		}
		mouth.Wait()
	}, nil
}

// outboxes are those that this worker has.
func (b *bus) outboxes() []*eventOutbox {
	var all []*eventOutbox
	for _, o := range []*eventOutbox{b.hub.outbox, b.sent} {
		if o != nil {
			all = append(all, o)
		}
	}
	return all
}

// subscribePatience is how long a start waits for the subscriptions.
const subscribePatience = 5 * time.Second

func (b *bus) receive(ctx context.Context, d redisbroker.FanoutDelivery) {
	if d.Exchange == b.site.eventExchange {
		b.gossip.handle(ctx, d)
		return
	}
	b.remote.handle(ctx, d)
}

// mingle asks the other workers what they know to be revoked, and for their clocks (celery 5.7, worker/consumer/mingle.py). Celery waits
// a second for it; here nobody waits for workers that are not there.
func (b *bus) mingle(ctx context.Context) {
	if b.w.cfg.WithoutMingle || ctx.Err() != nil {
		return
	}
	replies := b.broker.NewReplyQueue(redisbroker.ReplyQueueConfig{
		Exchange: celeryproto.ReplyExchange(b.site.namespace), Expires: b.site.queueExpires,
	})
	running, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _ = replies.Run(running) }) // it never fails
	defer wg.Wait()
	defer stop()

	arguments := new(object).text("from_node", b.node.name).raw("revoked", rawTexts(b.revoked.ids()))
	neighbors := 0
	err := b.mailbox.call(ctx, replies, request{method: "hello", arguments: arguments.members}, func(node string, value celeryproto.Raw) {
		if node == b.node.name || value.Kind() != celeryproto.KindObject {
			return
		}
		neighbors++
		b.sync(node, value)
	})
	if err != nil && ctx.Err() == nil {
		b.w.log.Warn("mingle: the other workers could not be asked", "err", err)
		return
	}
	b.w.log.Info("mingle: synchronized with the other workers", "workers", neighbors)
}

// sync takes over what another worker has answered.
func (b *bus) sync(node string, value celeryproto.Raw) {
	members, err := value.Object()
	if err != nil {
		return
	}
	if raw, ok := members.Get("error"); ok && len(members) == 1 {
		b.w.log.Debug("mingle: no answer", "node", printable(node), "err", raw.String())
		return
	}
	clock, _ := members.Get("clock")
	if n, err := celeryproto.DecodeValue(clock); err == nil {
		if n, isInt := n.(int64); isInt && n > 0 {
			b.node.clock.Adjust(n)
		} else {
			b.node.clock.Forward()
		}
	}
	revoked, _ := members.Get("revoked")
	b.revoked.add(time.Now(), revokedOf(revoked)...)
}
