package compat

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/dfws/dfws/celeryproto"
)

// Routes decides where tasks go, as a Celery application does with its task_queues and task_routes: Router.route of celery.app.routes,
// followed by what AMQP.send_task_message of celery.app.amqp makes of its result (celery 5.7). It is never changed, so that any number of
// goroutines may use it.
type Routes struct {
	named, aliases    map[string]*Queue
	declared          []*Queue
	defaultQueue      string
	defaultExchange   string
	defaultRoutingKey string
	deliveryMode      int
	createMissing     bool
	missingType       string
	routers           []router
	unsupported       []string
}

// Destination is where a task is published.
type Destination struct {
	// Queue is the declaration of the queue that the task goes to; nil when the options name only an exchange. Python declares it with its
	// bindings before it publishes to a named exchange, unless it is a Broadcast.
	Queue *Queue
	// Exchange is the message's exchange; "" is AMQP's default exchange, and RoutingKey then names a queue.
	Exchange string
	// RoutingKey is the message's routing key.
	RoutingKey string
	// ExchangeType is the type of Exchange: "direct", "topic", "fanout", ….
	ExchangeType string
	// DeliveryMode is 1, transient, or 2, persistent.
	DeliveryMode int
	// Options are the other options of the call, completed with those of the route; none is null.
	Options celeryproto.Members
}

// The options that Route takes; the others are passed on.
const (
	optionQueue        = "queue"
	optionExchange     = "exchange"
	optionExchangeType = "exchange_type"
	optionRoutingKey   = "routing_key"
	optionDeliveryMode = "delivery_mode"
)

// NewRoutes reads the queues and the routes of an application. What only Python can compute is no error here, but one of Route for the
// tasks concerned; Unsupported lists it.
func NewRoutes(c *Celery) *Routes {
	r := &Routes{
		named:             map[string]*Queue{},
		aliases:           map[string]*Queue{},
		defaultQueue:      c.TaskDefaultQueue,
		defaultExchange:   cmp.Or(c.TaskDefaultExchange, c.TaskDefaultQueue),
		defaultRoutingKey: cmp.Or(c.TaskDefaultRoutingKey, c.TaskDefaultQueue),
		deliveryMode:      cmp.Or(c.TaskDefaultDeliveryMode, persistent),
		createMissing:     c.TaskCreateMissingQueues,
		missingType:       cmp.Or(c.TaskCreateMissingQueueExchangeType, exchangeDirect),
	}
	byDefault := Exchange{Name: r.defaultExchange, Type: cmp.Or(c.TaskDefaultExchangeType, exchangeDirect), Durable: true}
	declared := c.TaskQueues
	if len(declared) == 0 {
		declared = []Queue{{Name: c.TaskDefaultQueue, Durable: true}}
	}
	for i := range declared {
		r.declare(declared[i], byDefault)
	}
	for i := range c.TaskRoutes {
		r.addRouter(&c.TaskRoutes[i])
	}
	return r
}

// declare adds a queue, completed as celery.app.amqp.Queues does. A later one replaces its namesake.
func (r *Routes) declare(q Queue, byDefault Exchange) {
	if q.Exchange.Name == "" {
		q.Exchange = byDefault
	}
	q.RoutingKey = cmp.Or(q.RoutingKey, r.defaultRoutingKey)
	if old, ok := r.named[q.Name]; ok {
		r.declared[slices.Index(r.declared, old)] = &q
	} else {
		r.declared = append(r.declared, &q)
	}
	r.named[q.Name] = &q
	if q.Alias != "" {
		r.aliases[q.Alias] = &q
	}
}

// Declared returns the queues of task_queues, or the default queue: what a worker consumes that is not told otherwise. They must not be
// changed.
func (r *Routes) Declared() []*Queue { return slices.Clone(r.declared) }

// Queue returns the declaration of a queue by its name or alias. One that is not declared is made up as Celery does, with a direct exchange
// and a routing key of the same name, unless task_create_missing_queues is off: then the error is a *QueueNotFoundError.
func (r *Routes) Queue(name string) (*Queue, error) {
	if q, ok := r.aliases[name]; ok {
		return q, nil
	}
	if q, ok := r.named[name]; ok {
		return q, nil
	}
	if !r.createMissing {
		return nil, &QueueNotFoundError{Queue: name}
	}
	return &Queue{
		Name: name, Exchange: Exchange{Name: name, Type: r.missingType, Durable: true}, RoutingKey: name, Durable: true,
	}, nil
}

// Unsupported lists what of task_routes only Python can compute, for a line in the log at start.
func (r *Routes) Unsupported() []string { return slices.Clone(r.unsupported) }

// Route returns where a task goes. options are those of apply_async, which win over those of a route: queue (a name), exchange,
// exchange_type, routing_key, delivery_mode, priority and whatever else; a null counts as not given. For a task that has options of its
// own (such as task_default_priority), the caller puts them into options first, as Task.apply_async does.
//
// The error is a *QueueNotFoundError, a *RouteError for a task whose route only Python can compute, or one that names a malformed option.
func (r *Routes) Route(task string, options celeryproto.Members) (*Destination, error) {
	route, err := r.options(task, options)
	if err == nil {
		var d *Destination
		if d, err = r.destination(route); err == nil {
			return d, nil
		}
	}
	if _, named := errors.AsType[*RouteError](err); named {
		return nil, err
	}
	return nil, fmt.Errorf("compat: route of task %s: %w", task, err)
}

// options is Router.route: the options of the call, completed with those of the task's route, or with the default queue.
func (r *Routes) options(task string, call celeryproto.Members) (*sendOptions, error) {
	given, err := r.expand(call)
	if err != nil {
		return nil, err
	}
	route, err := r.lookup(task)
	if err != nil {
		return nil, err
	}
	if len(route) > 0 {
		expanded, err := r.expand(route)
		if err != nil {
			return nil, fmt.Errorf("task_routes: %w", err)
		}
		return expanded.merge(given), nil
	}
	if given.queue == nil {
		given.queue, err = r.Queue(r.defaultQueue)
	}
	return given, err
}

// destination is what send_task_message makes of the options.
func (r *Routes) destination(o *sendOptions) (*Destination, error) {
	queue := o.queue
	if queue == nil && o.exchange == nil {
		var err error
		if queue, err = r.Queue(r.defaultQueue); err != nil {
			return nil, err
		}
	}
	d := &Destination{Queue: queue, ExchangeType: exchangeDirect, DeliveryMode: r.deliveryMode, Options: o.others}
	if queue != nil {
		d.ExchangeType = queue.Exchange.kind()
		if queue.Exchange.DeliveryMode != 0 {
			d.DeliveryMode = queue.Exchange.DeliveryMode
		}
	}
	if o.exchangeType != nil {
		d.ExchangeType = *o.exchangeType
	}
	if o.deliveryMode != 0 {
		d.DeliveryMode = o.deliveryMode
	}
	exchange, key := orNothing(o.exchange), orNothing(o.routingKey)
	switch {
	case (exchange == "" || key == "") && d.ExchangeType == exchangeDirect:
		if queue == nil {
			return nil, fmt.Errorf("exchange %q without a routing key and without a queue", exchange)
		}
		d.RoutingKey = queue.Name
	case o.exchange == nil:
		d.Exchange = cmp.Or(queue.Exchange.Name, r.defaultExchange)
		d.RoutingKey = cmp.Or(key, cmp.Or(queue.RoutingKey, r.defaultRoutingKey))
	default:
		d.Exchange, d.RoutingKey = exchange, key
	}
	return d, nil
}

// kind is the exchange's type.
func (e *Exchange) kind() string { return cmp.Or(e.Type, exchangeDirect) }

// sendOptions are options of apply_async, with the queue looked up (Router.expand_destination).
type sendOptions struct {
	queue                              *Queue
	exchange, exchangeType, routingKey *string
	deliveryMode                       int
	others                             celeryproto.Members
}

// merge completes the options of a route with those of the call, which win (celery.utils.functional.lpmerge).
func (o *sendOptions) merge(call *sendOptions) *sendOptions {
	merged := *o
	if call.queue != nil {
		merged.queue = call.queue
	}
	if call.exchange != nil {
		merged.exchange = call.exchange
	}
	if call.exchangeType != nil {
		merged.exchangeType = call.exchangeType
	}
	if call.routingKey != nil {
		merged.routingKey = call.routingKey
	}
	if call.deliveryMode != 0 {
		merged.deliveryMode = call.deliveryMode
	}
	for _, m := range call.others {
		merged.others.Set(m.Key, m.Value)
	}
	return &merged
}

// expand reads options.
func (r *Routes) expand(options celeryproto.Members) (*sendOptions, error) {
	o := &sendOptions{}
	for _, m := range options {
		if err := o.read(r, m); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func (o *sendOptions) read(r *Routes, m celeryproto.Member) (err error) {
	null := m.Value.IsNull() || len(m.Value) == 0
	switch m.Key {
	case optionQueue:
		o.queue = nil
		if !null {
			o.queue, err = r.queueOption(m.Value)
		}
	case optionExchange:
		o.exchange, err = textOption(m, null)
	case optionExchangeType:
		o.exchangeType, err = textOption(m, null)
	case optionRoutingKey:
		o.routingKey, err = textOption(m, null)
	case optionDeliveryMode:
		o.deliveryMode, err = deliveryModeOption(m.Value, null)
	default:
		if what, is := unsupportedValue(m.Value); is {
			return fmt.Errorf("option %s is a %s, which only Python knows", m.Key, what)
		}
		if null {
			o.others.Delete(m.Key)
		} else {
			o.others.Set(m.Key, m.Value)
		}
	}
	return err
}

// queueOption reads a queue: a name, or a declaration in a route. An empty name counts as none.
func (r *Routes) queueOption(value celeryproto.Raw) (*Queue, error) {
	if value.Kind() == celeryproto.KindObject {
		q := new(Queue)
		if err := json.Unmarshal(value, q); err != nil {
			return nil, fmt.Errorf("option queue: no declaration of a queue: %w", err)
		}
		return q, nil
	}
	name, err := value.Text()
	if err != nil {
		return nil, fmt.Errorf("option queue is a %s", value.Kind())
	}
	if name == "" {
		return nil, nil
	}
	return r.Queue(name)
}

func textOption(m celeryproto.Member, null bool) (*string, error) {
	if null {
		return nil, nil
	}
	text, err := m.Value.Text()
	if err != nil {
		return nil, fmt.Errorf("option %s is a %s instead of a text", m.Key, m.Value.Kind())
	}
	return &text, nil
}

// deliveryModeOption reads a number or a name of kombu's (kombu.entity.DELIVERY_MODES).
func deliveryModeOption(value celeryproto.Raw, null bool) (int, error) {
	switch value.String() {
	case "1", `"transient"`:
		return 1, nil
	case "2", `"persistent"`:
		return persistent, nil
	}
	if null {
		return 0, nil
	}
	return 0, fmt.Errorf("option %s is neither transient (1) nor persistent (2)", optionDeliveryMode)
}

func orNothing(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}
