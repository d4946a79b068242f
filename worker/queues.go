package worker

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
)

// queueBook knows how the queues that a worker consumes are declared.
type queueBook struct {
	routes *compat.Routes

	mu    sync.Mutex // guards added
	added map[string]*compat.Queue
}

func newQueueBook(routes *compat.Routes) *queueBook {
	return &queueBook{routes: routes, added: map[string]*compat.Queue{}}
}

// add notes a declaration that the site's settings do not have.
func (b *queueBook) add(q *compat.Queue) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.added[q.Name] = q
}

// remove forgets what add noted.
func (b *queueBook) remove(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.added, name)
}

// find is the declaration of a queue; one that nobody has declared is as kombu makes it up.
func (b *queueBook) find(name string) *compat.Queue {
	b.mu.Lock()
	q := b.added[name]
	b.mu.Unlock()
	if q != nil {
		return q
	}
	if q, err := b.routes.Queue(name); err == nil {
		return q
	}
	return plainQueue(name)
}

func plainQueue(name string) *compat.Queue {
	return &compat.Queue{Name: name, Durable: true, Exchange: compat.Exchange{Name: name, Type: exchangeDirect, Durable: true}, RoutingKey: name}
}

// directQueue is the queue that only one worker consumes (setting worker_direct; celery 5.7, utils/nodenames.py).
func directQueue(node string) *compat.Queue {
	return &compat.Queue{
		Name: celeryproto.WorkerDirectQueue(node), Durable: true, RoutingKey: node,
		Exchange: compat.Exchange{Name: celeryproto.WorkerDirectExchange, Type: exchangeDirect, Durable: true},
	}
}

// check refuses queues that a Go worker cannot consume.
func (b *queueBook) check(queues []string) error {
	for _, name := range queues {
		if q := b.find(name); q.Broadcast || q.Exchange.Type == exchangeFanout {
			return fmt.Errorf("worker: queue %q is bound to a fanout exchange (kombu's Broadcast): Go workers do not consume those", name)
		}
	}
	return nil
}

// bindEvery is how often the bindings of the consumed queues are written again: a Redis that lost its data has lost them too.
const bindEvery = 10 * time.Second

// keepBound binds the consumed queues to their exchanges, as Python workers do by declaring them, until ctx ends. The bindings stay:
// others may consume the queues.
func (b *queueBook) keepBound(ctx context.Context, queues func() []string, bind func(context.Context, ...redisbroker.Binding) error) {
	ticker := time.NewTicker(bindEvery)
	defer ticker.Stop()
	for {
		var bindings []redisbroker.Binding
		for _, name := range queues() {
			bindings = append(bindings, bindingsOf(b.find(name))...)
		}
		_ = bind(ctx, bindings...) // tried again soon; whoever publishes binds as well
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// queueInfo is Queue.as_dict of kombu 5.7, entity.py. Flower's page of a worker needs all keys.
func queueInfo(q *compat.Queue) celeryproto.Raw {
	arguments := celeryproto.Raw(q.Arguments)
	if len(arguments) == 0 {
		arguments = rawNull
	}
	bindings := make([]celeryproto.Raw, len(q.Bindings))
	for i := range q.Bindings {
		bindings[i] = new(object).raw("exchange", exchangeInfo(&q.Bindings[i].Exchange)).text("routing_key", q.Bindings[i].RoutingKey).
			raw("arguments", rawNull).raw("unbind_arguments", rawNull).json()
	}
	noDeclare := rawNull
	if q.NoDeclare {
		noDeclare = rawBool(true)
	}
	return new(object).text("name", q.Name).raw("exchange", exchangeInfo(&q.Exchange)).text("routing_key", q.RoutingKey).
		raw("queue_arguments", arguments).raw("binding_arguments", rawNull).raw("consumer_arguments", rawNull).
		raw("durable", rawBool(q.Durable)).raw("exclusive", rawBool(q.Exclusive)).raw("auto_delete", rawBool(q.AutoDelete)).
		raw("no_ack", rawBool(q.NoAck)).raw("alias", rawTextOrNull(q.Alias)).raw("bindings", rawList(bindings...)).raw("no_declare", noDeclare).
		raw("expires", secondsOrNull(q.Expires)).raw("message_ttl", secondsOrNull(q.MessageTTL)).raw("max_length", intOrNull(q.MaxLength)).
		raw("max_length_bytes", intOrNull(q.MaxLengthBytes)).raw("max_priority", intOrNull(q.MaxPriority)).json()
}

func exchangeInfo(e *compat.Exchange) celeryproto.Raw {
	mode := rawNull
	if e.DeliveryMode != 0 {
		mode = rawInt(int64(e.DeliveryMode))
	}
	return new(object).text("name", e.Name).text("type", e.Type).raw("arguments", rawNull).raw("durable", rawBool(e.Durable)).
		raw("passive", rawBool(false)).raw("auto_delete", rawBool(e.AutoDelete)).raw("delivery_mode", mode).
		raw("no_declare", rawBool(e.NoDeclare)).json()
}

func secondsOrNull(s *compat.Seconds) celeryproto.Raw {
	if s == nil {
		return rawNull
	}
	return rawFloat(float64(*s))
}

func intOrNull(n *int) celeryproto.Raw {
	if n == nil {
		return rawNull
	}
	return rawInt(int64(*n))
}
