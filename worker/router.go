package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
)

// publisher puts messages into their queues: *redisbroker.Broker.
type publisher interface {
	Publish(ctx context.Context, msgs ...redisbroker.Message) error
	PublishExchange(ctx context.Context, m redisbroker.ExchangeMessage) (queues int, err error)
	PublishFanout(ctx context.Context, msgs ...redisbroker.FanoutMessage) error
	Bind(ctx context.Context, bindings ...redisbroker.Binding) error
}

// Types of exchanges on Redis (kombu 5.7, transport/virtual/exchange.py).
const (
	exchangeDirect = "direct"
	exchangeTopic  = "topic"
	exchangeFanout = "fanout"
)

// router finds the address of a message, as the site's task_queues and task_routes say.
type router struct {
	routes *compat.Routes
}

// namedOptions are options of apply_async that a route cannot give: send_task has them as parameters of its own (celery 5.7,
// app/base.py).
var namedOptions = []string{
	"task_id", "countdown", "eta", "expires", "connection", "router", "result_cls", "publisher", "link", "link_error", "add_to_parent",
	"group_id", "group_index", "retries", "chord", "reply_to", "time_limit", "soft_time_limit", "root_id", "parent_id", "route_name",
	"shadow", "chain", "task_type", "replaced_task_nesting", "ignore_result",
}

// route decides where a call of a task goes, and completes its options with those of the route.
func (r *router) route(task string, options celeryproto.Members) (*compat.Destination, celeryproto.Members, error) {
	name := task
	if raw, given := options.Get("route_name"); given && !raw.IsNull() {
		if text, err := raw.Text(); err == nil && text != "" {
			name = text
		}
	}
	d, err := r.routes.Route(name, options)
	if err != nil {
		return nil, nil, fmt.Errorf("worker: send %q: %w", task, err)
	}
	switch d.ExchangeType {
	case exchangeDirect, exchangeTopic, exchangeFanout:
	default:
		return nil, nil, fmt.Errorf("worker: send %q: exchanges of the type %s are not supported", task, printable(d.ExchangeType))
	}
	for _, m := range d.Options {
		if _, given := options.Get(m.Key); !given && !slices.Contains(namedOptions, m.Key) {
			options.Set(m.Key, m.Value)
		}
	}
	return d, options, nil
}

// parcel is a message with its address.
type parcel struct {
	*compat.Destination
	task     *celeryproto.Task
	envelope []byte
}

// pack writes the address into a message, and the message.
func pack(d *compat.Destination, t *celeryproto.Task) (parcel, error) {
	address := &t.Properties.DeliveryInfo
	address.Exchange, address.RoutingKey = d.Exchange, d.RoutingKey
	t.Properties.DeliveryMode = d.DeliveryMode
	envelope, err := t.Append(nil)
	if err != nil {
		return parcel{}, fmt.Errorf("worker: send %q: %w", t.Name, err)
	}
	return parcel{Destination: d, task: t, envelope: envelope}, nil
}

// queue is the name of the queue that the message goes to, as far as it is known.
func (p *parcel) queue() string {
	if p.Queue != nil {
		return p.Queue.Name
	}
	return p.RoutingKey
}

// ErrUnrouted is returned for a message to an exchange that no queue is bound to with its routing key. In Python it is lost.
var ErrUnrouted = errors.New("no queue is bound to the exchange with this routing key")

// publish sends parcels in order and calls sent for those that Redis has; after an error the others can be sent later.
func publish(ctx context.Context, to publisher, parcels []parcel, sent func(*parcel)) (rest []parcel, err error) {
	for len(parcels) > 0 {
		n := 1
		switch p := &parcels[0]; {
		case p.Exchange == "":
			for n < len(parcels) && parcels[n].Exchange == "" {
				n++
			}
			messages := make([]redisbroker.Message, n)
			for i := range messages {
				p := &parcels[i]
				messages[i] = redisbroker.Message{Queue: p.RoutingKey, Priority: p.task.Properties.Priority, Envelope: p.envelope}
			}
			err = to.Publish(ctx, messages...)
		case p.ExchangeType == exchangeFanout:
			err = to.PublishFanout(ctx, redisbroker.FanoutMessage{Exchange: p.Exchange, RoutingKey: p.RoutingKey, Envelope: p.envelope})
		default:
			err = publishBound(ctx, to, p)
		}
		if err != nil {
			return parcels, err
		}
		if sent != nil {
			for i := range n {
				sent(&parcels[i])
			}
		}
		parcels = parcels[n:]
	}
	return nil, nil
}

// publishBound sends to the queues that are bound to an exchange. The queue of the message is bound before, as in Python.
func publishBound(ctx context.Context, to publisher, p *parcel) error {
	if p.Queue != nil {
		if err := to.Bind(ctx, bindingsOf(p.Queue)...); err != nil {
			return err
		}
	}
	queues, err := to.PublishExchange(ctx, redisbroker.ExchangeMessage{
		Exchange: p.Exchange, RoutingKey: p.RoutingKey, Priority: p.task.Properties.Priority, Envelope: p.envelope,
	})
	if err == nil && queues == 0 {
		err = fmt.Errorf("worker: send %q: %w", p.task.Name, ErrUnrouted)
	}
	return err
}

// bindingsOf are the bindings that declaring a queue writes.
func bindingsOf(q *compat.Queue) []redisbroker.Binding {
	var bindings []redisbroker.Binding
	add := func(e *compat.Exchange, key string) {
		if e.Name != "" && e.Type != exchangeFanout {
			bindings = append(bindings, redisbroker.Binding{
				Exchange: e.Name, RoutingKey: key, Queue: q.Name, Topic: e.Type == exchangeTopic, Expires: q.TTL(),
			})
		}
	}
	if len(q.Bindings) == 0 { // kombu 5.7, entity.py, Queue.queue_bind: one or the other
		add(&q.Exchange, q.RoutingKey)
	}
	for i := range q.Bindings {
		add(&q.Bindings[i].Exchange, q.Bindings[i].RoutingKey)
	}
	return bindings
}

// sentEvents publishes the event task-sent for what this process sends (setting task_send_sent_event; celery 5.7, app/amqp.py).
type sentEvents struct{ outbox *eventOutbox }

// groupClient are events of clients, which Celery publishes one by one.
const groupClient = "client"

func (s *sentEvents) add(p *parcel) {
	fields, err := celeryproto.TaskSentFields(p.task, p.queue())
	if err != nil {
		s.outbox.drop(EventUnencodable, 1, err)
		return
	}
	s.outbox.add(groupClient, celeryproto.EventTaskSent, fields)
}
