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
	"github.com/dfws/dfws/compat/dispatch"
)

// registryAge is how old a Client's view of the registry may be when it triggers a signal.
const registryAge = 10 * time.Second

// Client sends tasks and signals from any Go program and waits for results. It is safe for concurrent use.
type Client struct {
	services *dispatch.Services

	mu   sync.Mutex // guards read
	read time.Time  // when the registry was read
}

// NewClient returns a client for the site of the settings. Redis need not be up: it is connected to at the first use.
func NewClient(settings *compat.Settings) (*Client, error) {
	services, err := dispatch.Connect(context.Background(), dispatch.ServicesConfig{Settings: settings})
	if err != nil {
		return nil, fmt.Errorf("worker: client: %w", err)
	}
	return &Client{services: services}, nil
}

// Close ends the connections.
func (c *Client) Close() error { return c.services.Close() }

// Send puts a task into its queue. It returns once Redis has it.
func (c *Client) Send(ctx context.Context, m TaskMessage) (*Pending, error) {
	t, err := m.build(c.services.Settings.Celery.TaskDefaultQueue, time.Now())
	if err != nil {
		return nil, err
	}
	envelope, err := t.Append(nil)
	if err != nil {
		return nil, fmt.Errorf("worker: task message: %w", err)
	}
	message := redisbroker.Message{Queue: t.Properties.DeliveryInfo.RoutingKey, Priority: m.Priority, Envelope: envelope}
	if err := c.services.Broker.Publish(ctx, message); err != nil {
		return nil, fmt.Errorf("worker: send %q: %w", m.Name, err)
	}
	return &Pending{ID: t.ID, client: c}, nil
}

// Wait waits for the result of a task by its ID, as Pending.Get does.
func (c *Client) Wait(ctx context.Context, id string, into any) error {
	if c.services.Results == nil {
		return ErrNoResultBackend
	}
	meta, err := c.services.Results.Wait(ctx, id)
	if err != nil {
		return fmt.Errorf("worker: wait for a result: %w", err)
	}
	return outcomeOf(meta, into)
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
