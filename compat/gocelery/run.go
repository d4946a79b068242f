package gocelery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/worker"
)

// run is one life of the worker, from a start to its stop.
type run struct {
	worker *worker.Worker
	names  []string // of its tasks, sorted
	cancel context.CancelFunc
	group  sync.WaitGroup // its goroutine
}

// Register registers a task: a function, a [CeleryTask], or a func() CeleryTask that makes one for each call. A later one of the
// same name takes its place, also while the worker runs. It panics, since it is a mistake of the program, on an empty name, on
// anything else than these, on a function with a parameter that no message contains, and on a new name while the worker runs.
func (c *CeleryClient) Register(name string, task any) {
	r, err := newRunner(task)
	if err == nil && name == "" {
		err = errors.New("no name")
	}
	if err != nil {
		panic(fmt.Sprintf("gocelery: register %q: %v", name, err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.run != nil {
		if _, known := slices.BinarySearch(c.run.names, name); !known {
			panic(fmt.Sprintf("gocelery: register %q: the worker runs: register before StartWorker", name))
		}
	}
	c.tasks[name] = r
}

// task is what is registered under a name now.
func (c *CeleryClient) task(name string) runner {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tasks[name]
}

// StartWorker starts the worker and returns. Why it cannot start, or ends without being stopped, is logged as an error; Run
// returns it.
func (c *CeleryClient) StartWorker() { c.StartWorkerWithContext(context.Background()) }

// StartWorkerWithContext is StartWorker; the worker also stops when ctx ends.
func (c *CeleryClient) StartWorkerWithContext(ctx context.Context) {
	_, err := c.begin(ctx, func(err error) {
		if err != nil {
			c.log.Error("worker ended", "err", err)
		}
	})
	if err != nil {
		c.log.Error("worker not started", "err", err)
	}
}

// Run runs the worker until ctx ends or StopWorker is called, and returns when all its tasks are done. It may be called again
// then. The error is that of worker.Worker.Run, or says that the worker runs already or has no NumWorkers.
func (c *CeleryClient) Run(ctx context.Context) error {
	var ended error
	r, err := c.begin(ctx, func(err error) { ended = err })
	if err != nil {
		return err
	}
	r.group.Wait()
	return ended
}

// StopWorker stops the worker and waits until it has stopped: until running tasks are done, unless Config.Worker has a
// SoftStopTimeout. Tasks that have not begun go back to the queue. Without a running worker it does nothing.
func (c *CeleryClient) StopWorker() {
	if r := c.running(); r != nil {
		r.cancel()
		r.group.Wait()
	}
}

// WaitForStopWorker waits until the worker has stopped. Without a running worker it returns at once.
func (c *CeleryClient) WaitForStopWorker() {
	if r := c.running(); r != nil {
		r.group.Wait()
	}
}

func (c *CeleryClient) running() *run {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.run
}

var (
	errStarted   = errors.New("gocelery: the worker runs already")
	errNoWorkers = errors.New("gocelery: the client only sends: its number of workers is 0")
)

// begin starts a worker with the registered tasks. done is called with what its end was.
func (c *CeleryClient) begin(ctx context.Context, done func(error)) (*run, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.run != nil:
		return nil, errStarted
	case c.cfg.NumWorkers == 0:
		return nil, errNoWorkers
	}
	w, err := worker.New(c.cfg.worker(c.settings))
	if err != nil {
		return nil, fmt.Errorf("gocelery: %w", err)
	}
	r := &run{worker: w, names: slices.Sorted(maps.Keys(c.tasks))}
	c.handle(w, r.names)
	ctx, r.cancel = context.WithCancel(ctx)
	r.group.Go(func() { done(c.serve(ctx, r)) })
	c.run = r
	return r, nil
}

// handle registers the tasks with a worker.
func (c *CeleryClient) handle(w *worker.Worker, names []string) {
	for _, name := range names {
		worker.HandleTask(w, worker.Task[worker.RawArgs, any]{
			Name: name, Queue: c.queue,
			Run: func(ctx context.Context, call *worker.TaskCall, args worker.RawArgs) (any, error) {
				return c.task(name).run(ctx, call, args)
			},
		})
	}
	if c.cfg.Handlers != nil {
		c.cfg.Handlers(w)
	}
}

// serve runs the worker to its end.
func (c *CeleryClient) serve(ctx context.Context, r *run) error {
	defer r.cancel()
	err := r.worker.Run(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.run = nil
	if err != nil {
		return fmt.Errorf("gocelery: %w", err)
	}
	return nil
}

// origin names this process in what it sends.
func origin() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return celeryproto.AnonNodeName("", os.Getpid(), host)
}
