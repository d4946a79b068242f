package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// ErrStuck is returned by Run when handlers ignored the end of their context for HardStopTimeout. Their tasks went back
// to their queues; their goroutines go on until the process ends.
var ErrStuck = errors.New("worker: handlers still run after the stop timeouts")

// consumer takes messages. handle is called for each, from one goroutine at a time.
type consumer interface {
	// run takes messages until fetch ends, then waits until all were settled or given back. nil is a clean end.
	run(fetch context.Context, handle func(received)) error
	// takingEnded is closed when handle is called no more and what was taken without it is back.
	takingEnded() <-chan struct{}
	// giveBack puts jobs back to the head of their queues, the oldest to be consumed first.
	giveBack(ctx context.Context, jobs []*job) error
	// giveBackAll does so with everything that is not settled.
	giveBackAll(ctx context.Context) error
}

// engine moves jobs from the consumer through the slots to the settler.
type engine struct {
	cfg      Config
	handlers *handlers
	exec     *executor
	settle   *settler
	schedule *schedule
	log      *slog.Logger
	observer *Observer

	// readyC carries jobs whose time has come. Sent by receive and by the schedule's goroutine, received by the slots,
	// never closed; its capacity is the prefetch window, so that receive does not wait for a slot.
	readyC chan *job

	slots sync.WaitGroup // goroutines that run handlers

	// settleC carries work to idle settling goroutines. Sent by background, closed by drain; unbuffered, so that what no
	// idle one takes gets a goroutine of its own.
	settleC chan func()

	mu       sync.Mutex     // guards closed and sends to settleC against its close
	settling sync.WaitGroup // goroutines that write to Redis how a job ended; at most the prefetch window and the parked jobs
	closed   bool           // what comes now is not settled: it stays unacked and is given back
}

// newEngine builds an engine; cfg has its defaults, h is frozen.
func newEngine(cfg Config, h *handlers, exec *executor, settle *settler) *engine {
	e := &engine{
		cfg: cfg, handlers: h, exec: exec, settle: settle, log: cfg.Logger, observer: &cfg.Observer,
		readyC: make(chan *job, cfg.prefetch()), settleC: make(chan func()),
	}
	e.schedule = newSchedule(e.observer.waiting)
	return e
}

// takingTimeout bounds the wait for a take that is under way when the worker stops; after it only the order may suffer.
const takingTimeout = time.Second

// phases are the contexts that end one after the other when the worker stops.
type phases struct {
	fetch  context.Context // take and begin tasks
	work   context.Context // run handlers; its cause is errStopped
	settle context.Context // write to Redis how tasks ended

	stopFetch, stopWork, stopSettle context.CancelCauseFunc
}

func newPhases(ctx context.Context) *phases {
	var p phases
	lasting := context.WithoutCancel(ctx)
	p.fetch, p.stopFetch = context.WithCancelCause(ctx)
	p.work, p.stopWork = context.WithCancelCause(lasting)
	p.settle, p.stopSettle = context.WithCancelCause(lasting)
	return &p
}

// run consumes until ctx ends, then stops in order: fetching, giving back what has not begun, waiting for what has,
// cancelling it, giving back the rest.
func (e *engine) run(ctx context.Context, c consumer) error {
	p := newPhases(ctx)
	defer p.stopSettle(nil)
	defer p.stopWork(nil)
	defer p.stopFetch(nil)
	for range e.cfg.Concurrency {
		e.slots.Go(func() { e.slot(p) })
	}
	var background sync.WaitGroup
	defer background.Wait()
	background.Go(func() { e.schedule.run(p.fetch, func(j *job) { e.enqueue(p, j) }) })
	consumedC := make(chan error, 1) // one value, sent when the consumer has ended
	background.Go(func() {
		consumedC <- c.run(p.fetch, func(r received) { e.receive(p, r) })
	})

	var failure error
	select {
	case <-ctx.Done():
	case failure = <-consumedC:
		consumedC <- nil
		p.stopFetch(failure)
	}
	within(takingTimeout, c.takingEnded()) // what was taken last goes back first, so that the oldest is consumed next
	if err := c.giveBack(p.settle, e.unbegun()); err != nil {
		e.log.Warn("tasks not given back yet", "err", err)
	}
	stuck := e.drain(p)
	back, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	return errors.Join(failure, c.giveBackAll(back), <-consumedC, stuck)
}

// unbegun takes the jobs that wait for a slot or for their ETA.
func (e *engine) unbegun() []*job {
	jobs := e.schedule.clear()
	for {
		select {
		case j := <-e.readyC:
			jobs = append(jobs, j)
		default:
			return jobs
		}
	}
}

// drain waits for what runs and for what is being written, within the two stop timeouts.
func (e *engine) drain(p *phases) error {
	idleC := make(chan struct{})
	var waiter sync.WaitGroup // left behind together with the handlers when they are stuck
	waiter.Go(func() {
		e.slots.Wait()
		e.mu.Lock()
		e.closed = true
		close(e.settleC)
		e.mu.Unlock()
		e.settling.Wait()
		close(idleC)
	})
	if within(e.cfg.SoftStopTimeout, idleC) {
		return nil
	}
	e.log.Warn("tasks still run, the contexts of their handlers end now", "after", e.cfg.SoftStopTimeout)
	p.stopWork(errStopped)
	if within(e.cfg.HardStopTimeout, idleC) {
		return nil
	}
	p.stopSettle(errStopped)
	if within(e.cfg.HardStopTimeout, idleC) {
		e.log.Warn("Redis did not take in time how tasks ended: they will run again")
		return nil
	}
	e.log.Error("handlers ignore the end of their context, left behind", "after", e.cfg.HardStopTimeout)
	return ErrStuck
}

// within waits for c to be closed.
func within(d time.Duration, c <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}

// background settles a job beside the slots, in a goroutine that is kept for the next ones: each would have to grow its
// stack anew.
func (e *engine) background(settle func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	select {
	case e.settleC <- settle:
	default:
		e.settling.Go(func() {
			settle()
			for next := range e.settleC {
				next()
			}
		})
	}
}

// receive finds what a message is and where it goes. It runs in the consumer's goroutine and waits only when the slots are
// behind with tasks whose ETA has come.
func (e *engine) receive(p *phases, r received) {
	now := time.Now()
	j, err := e.handlers.open(r, now)
	canvas, isCanvas := errors.AsType[errCanvas](err)
	switch {
	case err == nil && j.expired(now):
		e.background(func() { e.settle.expire(p.settle, j) })
	case err == nil && !j.eta.IsZero():
		if e.schedule.len() < e.cfg.MaxWaiting {
			j.park()
		}
		e.schedule.add(j)
	case err == nil:
		e.enqueue(p, j)
	case errors.Is(err, errUnhandled):
		e.background(func() { e.unhandled(p, j, err) })
	case isCanvas && e.cfg.UnknownQueue != "":
		j.logger(e.log).Warn("moved to Config.UnknownQueue", "err", canvas)
		e.background(func() { e.settle.unhandled(p.settle, j, false, canvas) })
	case isCanvas:
		e.background(func() { e.settle.dead(p.settle, j, DeadCanvas, canvas) })
	default:
		e.background(func() { e.settle.dead(p.settle, j, DeadUndecodable, err) })
	}
}

// unhandled sends on what another worker has to run. The frame of a delayed signal is sent here all the same: any Go
// worker can, and no Python worker does.
func (e *engine) unhandled(p *phases, j *job, cause error) {
	framed := j.signal != nil && len(j.signal.Topics) > 0 && j.eta.IsZero()
	if framed {
		e.exec.sendFrame(p.settle, j)
	}
	e.settle.unhandled(p.settle, j, framed, cause)
}

// enqueue hands a job to the slots. When the worker stops first, the job stays unacked and is given back.
func (e *engine) enqueue(p *phases, j *job) {
	select {
	case e.readyC <- j:
	case <-p.fetch.Done():
	}
}

// slot runs jobs until fetch ends. A handler that ends its goroutine (runtime.Goexit) ends the slot: another takes its place.
func (e *engine) slot(p *phases) {
	ended := false
	defer func() {
		if !ended {
			e.slots.Go(func() { e.slot(p) })
		}
	}()
	for p.fetch.Err() == nil {
		select {
		case <-p.fetch.Done():
		case j := <-e.readyC:
			e.work(p, j)
		}
	}
	ended = true
}

// work runs one job and hands it to the settler, so that the slot does not wait for Redis.
func (e *engine) work(p *phases, j *job) {
	began := time.Now()
	if j.expired(began) {
		e.background(func() { e.settle.expire(p.settle, j) })
		return
	}
	if e.cfg.AckEarly {
		if !e.settle.insist(p.settle, j, "ack", j.ack) {
			return
		}
		j.acked = true
	}
	due := j.taken
	if j.eta.After(due) {
		due = j.eta
	}
	e.observer.started(j.info(), began.Sub(due))
	rep := Report{Outcome: Failed, Err: ErrGoexit}
	defer func() {
		e.background(func() { e.settle.finish(p.settle, j, rep, began) })
	}()
	rep = e.exec.run(p.work, j)
}
