package gocelery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/worker"
)

// CeleryClient sends tasks, and runs those that were registered. It is safe for concurrent use.
type CeleryClient struct {
	cfg      Config
	settings *compat.Settings
	queue    string
	services *dispatch.Services
	env      canvas.Env
	origin   string
	log      *slog.Logger

	mu    sync.Mutex // guards all below
	tasks map[string]runner
	run   *run // nil: not started, or stopped
}

// NewCeleryClient returns a client, as gocelery's. A nil backend means that no results are stored. Nothing connects before it
// is needed. The error is a mistake in the arguments, a URL for instance that names no Redis.
func NewCeleryClient(broker *RedisCeleryBroker, backend *RedisCeleryBackend, numWorkers int) (*CeleryClient, error) {
	return New(Config{Broker: broker, Backend: backend, NumWorkers: numWorkers})
}

// New is NewCeleryClient with everything that can be chosen. Its error joins all mistakes in cfg.
func New(cfg Config) (*CeleryClient, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	settings, queue, err := cfg.site()
	if err != nil {
		return nil, err
	}
	if _, err := worker.New(cfg.worker(settings)); err != nil { // the real one is made when it starts
		return nil, fmt.Errorf("gocelery: %w", err)
	}
	services, err := dispatch.Connect(context.Background(), dispatch.ServicesConfig{Settings: settings, Logger: cfg.Worker.Logger})
	if err != nil {
		return nil, fmt.Errorf("gocelery: %w", err)
	}
	if cfg.Backend != nil && services.Results == nil {
		scheme, _, _ := strings.Cut(cfg.Backend.URL.Reveal(), ":")
		err := &worker.BackendError{Name: scheme, Hint: "a RedisCeleryBackend is one of redis:// and the like"}
		return nil, fmt.Errorf("gocelery: %w", errors.Join(err, services.Close()))
	}
	return &CeleryClient{
		cfg: cfg, settings: settings, queue: queue, services: services, log: cfg.Worker.Logger, tasks: map[string]runner{},
		env: canvas.Env{Protocol: cfg.Protocol, ReplyTo: uuid.NewString()}, origin: origin(),
	}, nil
}

// Close stops the worker, as StopWorker does, and ends the client's connections. gocelery has nothing like it: a program that
// ends anyway need not call it.
func (c *CeleryClient) Close() error {
	c.StopWorker()
	return c.services.Close()
}

// Delay sends a task with positional arguments. Each is written as encoding/json writes it, as in gocelery; a celeryproto.Raw
// is written as it is. It returns once Redis has the message. The error is an argument that is no JSON, or Redis.
func (c *CeleryClient) Delay(task string, args ...any) (*AsyncResult, error) {
	call, err := positional(task, args...)
	if err != nil {
		return nil, err
	}
	return c.send(call)
}

// DelayKwargs sends a task with keyword arguments.
func (c *CeleryClient) DelayKwargs(task string, args map[string]any) (*AsyncResult, error) {
	call, err := named(task, args)
	if err != nil {
		return nil, err
	}
	return c.send(call)
}

// positional is a call with positional arguments.
func positional(task string, args ...any) (*canvas.Signature, error) {
	raws := make([]any, len(args))
	for i, arg := range args {
		raw, err := encode(arg)
		if err != nil {
			return nil, fmt.Errorf("gocelery: delay %q: argument %d: %w", task, i+1, err)
		}
		raws[i] = raw
	}
	return canvas.New(task, raws...), nil
}

// named is a call with keyword arguments.
func named(task string, args map[string]any) (*canvas.Signature, error) {
	raws := make(map[string]celeryproto.Raw, len(args))
	for name, arg := range args {
		raw, err := encode(arg)
		if err != nil {
			return nil, fmt.Errorf("gocelery: delay %q: argument %q: %w", task, name, err)
		}
		raws[name] = raw
	}
	return canvas.New(task).WithKwargs(raws), nil
}

// AsyncResult is the result of a task that was sent before, by this program or another, with the task's ID.
func (c *CeleryClient) AsyncResult(taskID string) *AsyncResult {
	return &AsyncResult{TaskID: taskID, results: c.services.Results}
}

// send puts a call into the queue.
func (c *CeleryClient) send(call *canvas.Signature) (*AsyncResult, error) {
	t, err := c.message(call, time.Now())
	if err != nil {
		return nil, fmt.Errorf("gocelery: delay %q: %w", call.Task(), err)
	}
	envelope, err := t.Append(nil)
	if err != nil {
		return nil, fmt.Errorf("gocelery: delay %q: %w", call.Task(), err)
	}
	message := redisbroker.Message{Queue: c.queue, Priority: t.Properties.Priority, Envelope: envelope}
	if err := c.services.Broker.Publish(context.Background(), message); err != nil { // it gives up by itself
		return nil, fmt.Errorf("gocelery: delay %q: %w", call.Task(), err)
	}
	return c.AsyncResult(t.ID), nil
}

// message is the call as Celery's apply_async sends it.
func (c *CeleryClient) message(call *canvas.Signature, now time.Time) (*celeryproto.Task, error) {
	plan, err := call.Apply(&c.env, canvas.Call{})
	if err != nil {
		return nil, err
	}
	t, err := plan.Steps[0].Send.Message(canvas.Defaults{ // a call of one task is one step
		Now: now, Protocol: c.cfg.Protocol, Origin: c.origin, ReplyTo: c.env.ReplyTo, Serializer: c.settings.Celery.TaskSerializer,
	})
	if err != nil {
		return nil, err
	}
	t.SetQueue(c.queue)
	return t, nil
}

// encode is encoding/json's form of a value, which is what gocelery puts into messages.
func encode(v any) (celeryproto.Raw, error) {
	if raw, ok := v.(celeryproto.Raw); ok {
		return raw, nil
	}
	return json.Marshal(v)
}
