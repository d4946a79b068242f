package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
)

// registryAge is how old a Client's view of the registry may be when it triggers a signal.
const registryAge = 10 * time.Second

// Client sends tasks and signals from any Go program, waits for results, and controls and watches workers. It is safe for concurrent
// use.
type Client struct {
	services   *dispatch.Services
	site       *siteControl
	flow       *workflow
	backend    Backend // nil: none, or backendErr
	backendErr error   // why the site's result backend cannot be used
	mailbox    *mailbox

	wg   sync.WaitGroup // of the goroutines below
	stop context.CancelFunc
	ctx  context.Context // ended by Close; for replies, which begins with the first request

	mu      sync.Mutex // guards the fields below
	read    time.Time  // when the registry was read
	replies *redisbroker.ReplyQueue
	outbox  *eventOutbox // of task-sent; nil when the site wants none
}

// NewClient returns a client for the site of the settings. Redis need not be up: it is connected to at the first use. A result backend
// that Go cannot use is an error of what needs one.
func NewClient(settings *compat.Settings) (*Client, error) {
	services, err := dispatch.Connect(context.Background(), dispatch.ServicesConfig{Settings: settings})
	if err != nil {
		return nil, fmt.Errorf("worker: client: %w", err)
	}
	accept, err := celeryproto.ParseAccept(settings.Celery.AcceptContent)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("worker: client: setting accept_content: %w", err), services.Close())
	}
	c := &Client{services: services, site: newSiteControl(&settings.Celery, celeryproto.Limits{Accept: accept})}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.mailbox = &mailbox{broker: services.Broker, namespace: c.site.namespace, options: c.site.options}
	c.backend, c.backendErr = openBackend(c.ctx, services)
	zone, err := time.LoadLocation(settings.Celery.Timezone)
	if err != nil {
		zone = time.UTC
	}
	c.flow = newWorkflow(&Config{Settings: settings}, services.Broker, c.backend, zone)
	if c.site.sendSent {
		c.outbox = newEventOutbox(newNode(origin()), c.site.eventExchange, services.Broker, services.Logger, &Observer{})
		c.outbox.options = c.site.eventOptions
		c.wg.Go(c.outbox.run)
		c.flow.sent = (&sentEvents{c.outbox}).add
	}
	return c, nil
}

// Close ends the connections.
func (c *Client) Close() error {
	c.stop()
	if c.outbox != nil {
		c.outbox.close()
	}
	c.wg.Wait()
	return errors.Join(closeBackend(c.services, c.backend), c.services.Close())
}

// Send puts a task into its queue. It returns once Redis has it.
func (c *Client) Send(ctx context.Context, m TaskMessage) (*AsyncResult, error) {
	t, err := m.build("", time.Now())
	if err != nil {
		return nil, err
	}
	p, err := c.pack(t, m)
	if err != nil {
		return nil, err
	}
	if _, err := publish(ctx, c.services.Broker, []parcel{p}, c.flow.sent); err != nil {
		return nil, fmt.Errorf("worker: send %q: %w", m.Name, err)
	}
	return c.Result(t.ID), nil
}

// pack addresses a task by its queue or its route.
func (c *Client) pack(t *celeryproto.Task, m TaskMessage) (parcel, error) {
	var options celeryproto.Members
	if m.Queue != "" {
		options.Set("queue", rawText(m.Queue))
	}
	if m.Priority != 0 {
		options.Set("priority", rawInt(int64(m.Priority)))
	}
	d, options, err := c.flow.router.route(m.Name, options)
	if err != nil {
		return parcel{}, err
	}
	t.Serializer, t.Compression, t.Properties.ReplyTo = c.flow.defaults.Serializer, c.flow.defaults.Compression, c.flow.env.ReplyTo
	for key, to := range map[string]*string{"serializer": &t.Serializer, "compression": &t.Compression} {
		if raw, given := options.Get(key); given {
			if *to, err = raw.Text(); err != nil {
				return parcel{}, fmt.Errorf("worker: send %q: option %s: %w", m.Name, key, err)
			}
		}
	}
	if raw, given := options.Get("priority"); given {
		if t.Properties.Priority, err = jsonOf[int](raw); err != nil {
			return parcel{}, fmt.Errorf("worker: send %q: option priority: %w", m.Name, err)
		}
	}
	return pack(d, t)
}

// Apply sends a signature, as apply_async in a Python process: a task, a chain, a group, a chord. args go in front of the signature's
// own. It returns what can be waited for once Redis has it; nil for an empty chain, as Python's None.
func (c *Client) Apply(ctx context.Context, sig *canvas.Signature, args ...any) (*AsyncResult, error) {
	var call canvas.Call
	for _, arg := range args {
		raw, err := celeryproto.EncodeValue(arg)
		if err != nil {
			return nil, fmt.Errorf("worker: apply: %w", err)
		}
		call.Args = append(call.Args, raw)
	}
	plan, err := sig.Apply(&c.flow.env, call)
	if err == nil {
		err = c.flow.send(ctx, plan)
	}
	if err != nil {
		return nil, fmt.Errorf("worker: apply: %w", err)
	}
	return c.ResultOf(plan.Result), nil
}

// Wait waits for the result of a task by its ID, as AsyncResult.Get does.
func (c *Client) Wait(ctx context.Context, id string, into any) error {
	return c.Result(id).Get(ctx, into)
}

// Trigger sends a signal, as a call from a server. Window nil is a blank window info; To nil is ToUser.
func (c *Client) Trigger(ctx context.Context, t Trigger) error {
	if err := c.refresh(ctx); err != nil {
		return err
	}
	t.FromClient = false
	if _, err := c.services.Dispatcher.Trigger(ctx, t); err != nil {
		return fmt.Errorf("worker: trigger %q: %w", t.Signal, err)
	}
	return nil
}

// refresh reads the registry when it was not read for a while.
func (c *Client) refresh(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) < registryAge {
		return nil
	}
	if err := c.services.Registry.Refresh(ctx); err != nil && !c.services.Registry.Ready() {
		return fmt.Errorf("worker: %w", err)
	}
	c.read = time.Now()
	return nil
}

// redisSender is the Sender of a running worker.
type redisSender struct {
	services *dispatch.Services
	flow     *workflow
}

// Apply implements Sender.
func (s redisSender) Apply(ctx context.Context, plan *canvas.Plan) error {
	if err := s.flow.send(ctx, plan); err != nil {
		return fmt.Errorf("worker: apply: %w", err)
	}
	return nil
}

// AddToChord implements Sender.
func (s redisSender) AddToChord(ctx context.Context, groupID string, r *celeryproto.ResultTree) error {
	if s.flow.backend == nil {
		return errNoBackend
	}
	if err := s.flow.backend.AddToChord(ctx, groupID, r); err != nil {
		return fmt.Errorf("worker: add to chord: %w", err)
	}
	return nil
}

// StoreState implements Sender.
func (s redisSender) StoreState(ctx context.Context, m *celeryproto.ResultMeta) error {
	if s.flow.backend == nil {
		return nil
	}
	if err := s.flow.backend.Store(ctx, m); err != nil {
		return fmt.Errorf("worker: update state: %w", err)
	}
	return nil
}

// Trigger implements Sender.
func (s redisSender) Trigger(ctx context.Context, t Trigger) error {
	if _, err := s.services.Dispatcher.Trigger(ctx, t); err != nil {
		return fmt.Errorf("worker: trigger %q: %w", t.Signal, err)
	}
	return nil
}

// Frame implements Sender.
func (s redisSender) Frame(ctx context.Context, signal string, opts celeryproto.Raw, topics []string) error {
	frame, err := frameOf(signal, opts, uuid.NewString())
	if err != nil {
		return err
	}
	message := dispatch.FrameMessage(frame)
	for _, topic := range topics {
		if err := s.services.Layer.GroupSend(ctx, compat.GroupName(topic), message); err != nil {
			return fmt.Errorf("worker: group send: %w", err)
		}
	}
	return nil
}

// frameOf writes a frame from a task's options: what kombu marked with a type becomes what a browser gets for it.
func frameOf(signal string, opts celeryproto.Raw, id string) ([]byte, error) {
	switch {
	case opts.IsNull():
		opts = celeryproto.Raw("{}")
	case celeryproto.HasTypedMarker(opts):
		v, err := celeryproto.DecodeValue(opts)
		if err != nil {
			return nil, fmt.Errorf("worker: options of a delayed signal: %w", err)
		}
		if opts, err = compat.EncodeOpts(v); err != nil {
			return nil, fmt.Errorf("worker: options of a delayed signal: %w", err)
		}
	}
	return compat.AppendServerFrame(nil, signal, opts, id), nil
}

// sharedRegistry is the registry and its store.
type sharedRegistry struct {
	*dispatch.Registry
	store *dispatch.Store
}

// PublishRegistry implements registry.
func (r sharedRegistry) PublishRegistry(ctx context.Context, e *dispatch.Entry) error {
	return r.store.PublishRegistry(ctx, e)
}
