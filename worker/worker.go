package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
)

// Worker runs the handlers that were registered with [HandleSignal] and [HandleTask].
type Worker struct {
	cfg      Config
	handlers *handlers
	log      *slog.Logger
	running  atomic.Bool
	ready    atomic.Bool
	engine   atomic.Pointer[engine] // nil unless it consumes
}

// New returns a worker without handlers. It connects to nothing; Run does.
func New(cfg Config) (*Worker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	accept, err := celeryproto.ParseAccept(cfg.Settings.Celery.AcceptContent)
	if err != nil {
		return nil, fmt.Errorf("worker: accept_content: %w", err)
	}
	return &Worker{cfg: cfg, handlers: newHandlers(&cfg, celeryproto.Limits{Accept: accept}), log: cfg.Logger}, nil
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

// StopMode is how a worker stops.
type StopMode int

// The ways to stop (celery 5.7, docs/userguide/workers.rst).
const (
	// Warm waits for running tasks, up to Config.SoftStopTimeout, as Celery on SIGTERM.
	Warm StopMode = iota
	// Cold ends the contexts of running tasks, after Config.SoftShutdownTimeout if that is set, as Celery on SIGQUIT or a second
	// SIGINT. What was not acked goes back to its queue.
	Cold
	// Hard waits for no handler any more: what was not acked goes back to its queue now, and Run returns ErrStuck when handlers
	// still run.
	Hard
)

// Stop makes Run return as the end of its context does. A Cold one after a Warm one ends the wait of that, a further Cold one that of
// Config.SoftShutdownTimeout, and a Hard one any wait.
func (w *Worker) Stop(mode StopMode) error {
	e := w.engine.Load()
	if e == nil {
		return errNotRunning
	}
	e.stop(mode)
	return nil
}

// ClearRevokedStamps forgets which stamps were revoked, as celery.worker.state.revoked_stamps.clear() does in a Python worker: without it
// every later task with such a stamp is discarded, as long as the worker runs.
func (w *Worker) ClearRevokedStamps() error {
	e := w.engine.Load()
	if e == nil {
		return errNotRunning
	}
	e.revoked.clearStamps()
	return nil
}

// Queues returns the queues that Run consumes, sorted when they are those of the handlers.
func (w *Worker) Queues() []string {
	queues := w.cfg.Queues
	if len(queues) == 0 {
		queues = w.handlers.queues()
	}
	return slices.DeleteFunc(slices.Clone(queues), func(q string) bool { return slices.Contains(w.cfg.ExcludeQueues, q) })
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
	exec := &executor{
		timeout: w.cfg.HandlerTimeout, sender: sender, env: &canvas.Env{}, meta: stateMeta, log: w.log, observer: &w.cfg.Observer,
	}
	ctx, cancel := withTimeout(ctx, j.hardLimit(w.cfg.HandlerTimeout), 0)
	defer cancel()
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
	backend, err := openBackend(ctx, services)
	if err != nil {
		return errors.Join(err, services.Close())
	}
	return errors.Join(w.serve(ctx, services, backend), closeBackend(services, backend), services.Close())
}

func (w *Worker) serve(ctx context.Context, services *dispatch.Services, backend Backend) error {
	queues := w.Queues()
	reg := sharedRegistry{services.Registry, services.Store}
	if err := w.announce(ctx, reg, queues); err != nil || ctx.Err() != nil {
		return err
	}
	b := newBus(w, services.Broker)
	consumed := queues
	if w.cfg.Settings.Celery.WorkerDirect {
		direct := directQueue(b.node.name)
		b.queues.add(direct)
		consumed = append(slices.Clone(queues), direct.Name)
	}
	if err := b.queues.check(consumed); err != nil {
		return err
	}
	source, err := w.source(services, consumed)
	if err != nil {
		return err
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

	settle := w.settler(services, backend, b)
	e := newEngine(w.cfg, w.handlers, w.executor(services, settle), settle)
	e.begin(ctx, source)
	b.attach(e, settle.flow)
	stopBus, err := b.start(ctx)
	if err != nil {
		return err
	}
	defer stopBus()
	w.log.Info("consuming", "app", w.cfg.App, "node", b.node.name, "queues", queues, "concurrency", w.cfg.Concurrency)
	w.engine.Store(e)
	defer w.engine.Store(nil)
	w.ready.Store(true)
	unready := context.AfterFunc(e.phases.fetch, func() { w.ready.Store(false) })
	defer unready()
	err = e.run(ctx, source)
	w.ready.Store(false)
	w.log.Info("stopped", "app", w.cfg.App)
	return err
}

// source is where the worker's messages come from.
func (w *Worker) source(services *dispatch.Services, queues []string) (consumer, error) {
	tasks, err := newRedisSource(services, queues, w.cfg)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	if w.cfg.Settings.WebSocket.Workers == compat.WorkersChannels {
		return newLayerSource(tasks, services.Layer, w.cfg), nil
	}
	return tasks, nil
}

// stateMeta is a state as Execute gives it to its sender.
func stateMeta(j *job, status string, result celeryproto.Raw) *celeryproto.ResultMeta {
	return &celeryproto.ResultMeta{TaskID: j.task.ID, Status: status, Result: result}
}

func (w *Worker) executor(services *dispatch.Services, s *settler) *executor {
	e := &executor{
		timeout: w.cfg.HandlerTimeout, sender: redisSender{services, s.flow}, env: &s.flow.env, settle: s,
		log: w.log, observer: &w.cfg.Observer,
	}
	if s.results != nil {
		e.meta = func(j *job, status string, result celeryproto.Raw) *celeryproto.ResultMeta {
			return s.meta(j, status, result, "")
		}
	}
	return e
}

func (w *Worker) settler(services *dispatch.Services, backend Backend, b *bus) *settler {
	celery := &w.cfg.Settings.Celery
	zone, err := time.LoadLocation(celery.Timezone)
	if err != nil {
		w.log.Warn("time zone not known here, results are dated in UTC", "timezone", celery.Timezone)
		zone = time.UTC
	}
	_, quick := backend.(*redisbroker.Results)
	flow := newWorkflow(&w.cfg, services.Broker, backend, zone)
	flow.python = services.Registry.Errbacks
	flow.knows = func(task string) bool { return w.handlers.tasks[task] != nil }
	return &settler{
		cfg: w.cfg, results: backend, quick: quick, zone: zone, extended: celery.ResultExtended, ignore: celery.TaskIgnoreResult,
		node: b.node.name, flow: flow, events: b.hub,
		log: w.log, observer: &w.cfg.Observer,
	}
}

func newWorkflow(cfg *Config, broker publisher, backend Backend, zone *time.Location) *workflow {
	celery := &cfg.Settings.Celery
	return &workflow{
		env: canvas.Env{
			ReplyTo: uuid.NewString(), Protocol: celery.TaskProtocol, InheritParentPriority: celery.TaskInheritParentPriority,
			AllowErrorCallbackOnChordHeader: celery.TaskAllowErrorCBOnChordHeader,
		},
		defaults: canvas.Defaults{
			Location: zone, Protocol: celery.TaskProtocol, LocalTime: !celery.EnableUTC, Origin: origin(),
			Serializer: celery.TaskSerializer, Compression: celery.TaskCompression, DeliveryMode: celery.TaskDefaultDeliveryMode,
		},
		router: &router{routes: compat.NewRoutes(celery)}, publisher: broker, backend: backend, now: time.Now,
	}
}

// origin names this process in what it sends (celery 5.7, utils/nodenames.py, anon_nodename).
func origin() string {
	return celeryproto.AnonNodeName("", os.Getpid(), hostName())
}
