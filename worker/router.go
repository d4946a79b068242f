package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/celeryproto/redisbroker"
)

// publisher puts messages into their queues: *redisbroker.Broker.
type publisher interface {
	Publish(ctx context.Context, msgs ...redisbroker.Message) error
	PublishExchange(ctx context.Context, m redisbroker.ExchangeMessage) (queues int, err error)
	PublishFanout(ctx context.Context, msgs ...redisbroker.FanoutMessage) error
}

// Types of exchanges on Redis (kombu 5.7, transport/virtual/exchange.py).
const (
	exchangeDirect = "direct"
	exchangeTopic  = "topic"
	exchangeFanout = "fanout"
)

// router finds the address of a message.
type router struct {
	defaultQueue string
}

// destination is where a message goes.
type destination struct {
	queue                string // the queue's name, for the event task-sent; "" when only an exchange is known
	exchange, routingKey string // "" is the anonymous exchange, whose routing key is a queue
	kind                 string // of the exchange
}

// route decides by the options of apply_async: queue, exchange, exchange_type and routing_key.
func (r *router) route(task string, options celeryproto.Members) (destination, error) {
	var d destination
	kind := exchangeDirect
	for key, to := range map[string]*string{
		"queue": &d.queue, "exchange": &d.exchange, "routing_key": &d.routingKey, "exchange_type": &kind,
	} {
		value, given := options.Get(key)
		if !given || value.IsNull() {
			continue
		}
		var err error
		if *to, err = value.Text(); err != nil {
			return d, fmt.Errorf("worker: send %q: option %s: %w", task, key, err)
		}
	}
	d.kind = kind
	switch kind {
	case exchangeDirect, exchangeTopic, exchangeFanout:
	default:
		return d, fmt.Errorf("worker: send %q: exchanges of the type %s are not supported", task, printable(kind))
	}
	if d.exchange == "" || kind == exchangeDirect && d.routingKey == "" {
		if d.queue == "" {
			d.queue = d.routingKey
		}
		if d.queue == "" {
			d.queue = r.defaultQueue
		}
		d.exchange, d.routingKey, d.kind = "", d.queue, exchangeDirect
	}
	return d, nil
}

// parcel is a message with its address.
type parcel struct {
	destination
	task     *celeryproto.Task
	envelope []byte
}

// address completes a message of a canvas.
func (r *router) address(send *canvas.Send, t *celeryproto.Task) (parcel, error) {
	d, err := r.route(t.Name, send.Options)
	if err != nil {
		return parcel{}, err
	}
	return d.pack(t)
}

// pack writes the address into a message, and the message.
func (d destination) pack(t *celeryproto.Task) (parcel, error) {
	t.Properties.DeliveryInfo.Exchange, t.Properties.DeliveryInfo.RoutingKey = d.exchange, d.routingKey
	envelope, err := t.Append(nil)
	if err != nil {
		return parcel{}, fmt.Errorf("worker: send %q: %w", t.Name, err)
	}
	return parcel{destination: d, task: t, envelope: envelope}, nil
}

// ErrUnrouted is returned for a message to an exchange that no queue is bound to with its routing key. In Python it is lost.
var ErrUnrouted = errors.New("no queue is bound to the exchange with this routing key")

// publish sends parcels in order and calls sent for those that Redis has; after an error the others can be sent later.
func publish(ctx context.Context, to publisher, parcels []parcel, sent func(*parcel)) (rest []parcel, err error) {
	for len(parcels) > 0 {
		n := 1
		switch p := &parcels[0]; {
		case p.exchange == "":
			for n < len(parcels) && parcels[n].exchange == "" {
				n++
			}
			messages := make([]redisbroker.Message, n)
			for i := range messages {
				p := &parcels[i]
				messages[i] = redisbroker.Message{Queue: p.routingKey, Priority: p.task.Properties.Priority, Envelope: p.envelope}
			}
			err = to.Publish(ctx, messages...)
		case p.kind == exchangeFanout:
			err = to.PublishFanout(ctx, redisbroker.FanoutMessage{Exchange: p.exchange, RoutingKey: p.routingKey, Envelope: p.envelope})
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

func publishBound(ctx context.Context, to publisher, p *parcel) error {
	queues, err := to.PublishExchange(ctx, redisbroker.ExchangeMessage{
		Exchange: p.exchange, RoutingKey: p.routingKey, Priority: p.task.Properties.Priority, Envelope: p.envelope,
	})
	if err == nil && queues == 0 {
		err = fmt.Errorf("worker: send %q: %w", p.task.Name, ErrUnrouted)
	}
	return err
}

// sentEvents publishes the event task-sent for what this process sends (setting task_send_sent_event; celery 5.7, app/amqp.py).
type sentEvents struct{ outbox *eventOutbox }

// groupClient are events of clients, which Celery publishes one by one.
const groupClient = "client"

func (s *sentEvents) add(p *parcel) {
	fields, err := celeryproto.TaskSentFields(p.task, p.queue)
	if err != nil {
		s.outbox.drop(EventUnencodable, 1, err)
		return
	}
	s.outbox.add(groupClient, celeryproto.EventTaskSent, fields)
}
