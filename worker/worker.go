package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat/dispatch"
)

// Worker runs the handlers that were registered with [HandleSignal] and [HandleTask].
type Worker struct {
	cfg      Config
	handlers *handlers
	log      *slog.Logger
	running  atomic.Bool
	ready    atomic.Bool
}

// New returns a worker without handlers. It connects to nothing; Run does.
func New(cfg Config) (*Worker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Worker{cfg: cfg, handlers: newHandlers(), log: cfg.Logger}, nil
}

// errNotReady is what Ready returns outside of consuming.
var errNotReady = errors.New("worker: not consuming")

// Ready returns nil while the worker consumes.
func (w *Worker) Ready() error {
	if w.ready.Load() {
		return nil
	}
	return errNotReady
}

// Queues returns the queues that Run consumes, sorted when they are those of the handlers.
func (w *Worker) Queues() []string {
	if len(w.cfg.Queues) > 0 {
		return w.cfg.Queues
	}
	return w.handlers.queues()
}

// Execute runs one task message as Run would, without Redis: it finds the handlers, asks their rules, decodes the
// arguments and calls them; what they send goes to sender. The error says that the message cannot be read or has no
// handler here. It ends registration. It is there for package workertest.
func (w *Worker) Execute(ctx context.Context, task *celeryproto.Task, queue string, sender Sender) (Report, error) {
	if err := w.handlers.freeze(); err != nil {
		return Report{}, err
	}
	envelope, err := task.Envelope()
	if err != nil {
		return Report{}, fmt.Errorf("worker: %w", err)
	}
	j, err := w.handlers.open(received{queue: queue, envelope: envelope}, time.Now())
	if err != nil {
		return Report{}, fmt.Errorf("worker: %w", err)
	}
	exec := &executor{timeout: w.cfg.HandlerTimeout, sender: sender, log: w.log, observer: &w.cfg.Observer}
	return exec.run(ctx, j), nil
}

// Run connects, publishes the worker's handlers, consumes until ctx ends and stops as the package comment says. It waits
// for Redis as long as it takes. The error is a mistake in the registration or the settings, a *dispatch.ConflictError,
// or ErrStuck; nil is a clean stop. Run may be called once.
func (w *Worker) Run(ctx context.Context) error {
	if !w.running.CompareAndSwap(false, true) {
		return errors.New("worker: Run was called twice")
	}
	if err := w.handlers.freeze(); err != nil {
		return err
	}
	if err := w.cfg.checkQueues(w.Queues()); err != nil {
		return err
	}
	services, err := dispatch.Connect(ctx, dispatch.ServicesConfig{Settings: w.cfg.Settings, Logger: w.log})
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	return errors.Join(w.serve(ctx, services), services.Close())
}

func (w *Worker) serve(ctx context.Context, services *dispatch.Services) error {
	queues := w.Queues()
	reg := sharedRegistry{services.Registry, services.Store}
	if err := w.announce(ctx, reg, queues); err != nil || ctx.Err() != nil {
		return err
	}
	source, err := newRedisSource(services, queues, w.cfg)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx)) // handlers trigger until the last one is done
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	group.Go(func() {
		if err := services.Run(background); err != nil {
			w.log.Error("registry no longer watched", "err", err)
		}
	})
	group.Go(func() { w.keepAnnounced(background, reg, queues) })

	e := newEngine(w.cfg, w.handlers, w.executor(services), w.settler(services))
	w.log.Info("consuming", "app", w.cfg.App, "queues", queues, "concurrency", w.cfg.Concurrency)
	w.ready.Store(true)
	unready := context.AfterFunc(ctx, func() { w.ready.Store(false) })
	defer unready()
	err = e.run(ctx, source)
	w.ready.Store(false)
	w.log.Info("stopped", "app", w.cfg.App)
	return err
}

func (w *Worker) executor(services *dispatch.Services) *executor {
	return &executor{timeout: w.cfg.HandlerTimeout, sender: redisSender{services}, log: w.log, observer: &w.cfg.Observer}
}

func (w *Worker) settler(services *dispatch.Services) *settler {
	celery := &w.cfg.Settings.Celery
	zone, err := time.LoadLocation(celery.Timezone)
	if err != nil {
		w.log.Warn("time zone not known here, results are dated in UTC", "timezone", celery.Timezone)
		zone = time.UTC
	}
	s := &settler{
		cfg: w.cfg, zone: zone, extended: celery.ResultExtended, ignore: celery.TaskIgnoreResult, node: w.cfg.nodeName(),
		log: w.log, observer: &w.cfg.Observer,
	}
	if services.Results != nil {
		s.results = services.Results
	}
	return s
}
