package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// ErrStuck is returned by Run when handlers ignored the end of their context for HardStopTimeout, or went on after their hard time
// limit. Tasks that were not over went back to their queues; the goroutines go on until the process ends.
var ErrStuck = errors.New("worker: handlers still run after the stop timeouts")

// errNotRunning is returned by Stop of a worker that does not consume.
var errNotRunning = errors.New("worker: not running")

// errTerminated is the cause with which a task's context ends that remote control terminates.
var errTerminated = errors.New("worker: task terminated")

// endGrace is what a handler gets, after its context has ended by its hard time limit or a terminate, before its task is ended
// without it.
const endGrace = 250 * time.Millisecond

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
	// addPrefetch changes how many messages may be held, prefetch tells.
	addPrefetch(n int)
	prefetch() int
	// queues are those that messages are taken from, addQueue and cancelQueue change them.
	queues() []string
	addQueue(queue string)
	cancelQueue(queue string)
}

// engine moves jobs from the consumer through the slots to the settler.
type engine struct {
	cfg      Config
	handlers *handlers
	exec     *executor
	settle   *settler
	schedule *schedule
	slots    *slots
	table    table
	revoked  *revokedSet
	events   *eventHub
	log      *slog.Logger
	observer *Observer

	scaler *autoscaler // nil: the number of slots changes only by remote control
	phases *phases
	source consumer

	// settleC carries work to idle settling goroutines. Sent by background, closed by drain; unbuffered, so that what no
	// idle one takes gets a goroutine of its own.
	settleC chan func()
	stops   stops

	mu       sync.Mutex     // guards closed and sends to settleC against its close
	settling sync.WaitGroup // jobs and goroutines that write to Redis how a job ended; at most the prefetch window and the parked jobs
	closed   bool           // what comes now is not settled: it stays unacked and is given back
}

// newEngine builds an engine; cfg has its defaults, h is frozen.
func newEngine(cfg Config, h *handlers, exec *executor, settle *settler) *engine {
	e := &engine{
		cfg: cfg, handlers: h, exec: exec, settle: settle, log: cfg.Logger, observer: &cfg.Observer,
		revoked: newRevokedSet(), events: settle.events, settleC: make(chan func()),
	}
	e.stops.init()
	e.schedule = newSchedule(e.observer.waiting)
	e.slots = newSlots(e.work, e.observer.slots)
	settle.ended = e.ended
	if cfg.AutoscaleMax > 0 {
		e.scaler = newAutoscaler(cfg.Concurrency, cfg.AutoscaleMax, e)
	}
	for _, t := range h.tasks {
		if rate := t.rate(); rate > 0 && !h.site.noRateLimits {
			t.limiter.Store(newLimiter(rate, e.enqueue))
		}
	}
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

// begin prepares for run. It is called by run unless somebody has to stop the engine from outside.
func (e *engine) begin(ctx context.Context, c consumer) *phases {
	if e.phases == nil {
		e.phases, e.source = newPhases(ctx), c
	}
	return e.phases
}

// run consumes until ctx ends, then stops in order: fetching, giving back what has not begun, waiting for what has,
// cancelling it, giving back the rest.
func (e *engine) run(ctx context.Context, c consumer) error {
	p := e.begin(ctx, c)
	defer p.stopSettle(nil)
	defer p.stopWork(nil)
	defer p.stopFetch(nil)
	if size, _, _ := e.slots.counts(); size == 0 { // else remote control was faster
		e.slots.resize(e.cfg.Concurrency)
	}
	var background sync.WaitGroup
	defer background.Wait()
	background.Go(func() { e.schedule.run(p.fetch, e.admit) })
	if e.scaler != nil {
		background.Go(func() { e.scaler.run(p.fetch) })
	}
	consumedC := make(chan error, 1) // one value, sent when the consumer has ended
	background.Go(func() { consumedC <- c.run(p.fetch, e.receive) })

	var failure error
	select {
	case <-p.fetch.Done():
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

// unbegun takes the jobs that wait for their ETA, for the rate limit or for a slot.
func (e *engine) unbegun() []*job {
	jobs := e.schedule.clear()
	for _, t := range e.handlers.tasks {
		if l := t.limiter.Load(); l != nil {
			jobs = append(jobs, l.close()...)
		}
	}
	jobs = append(jobs, e.slots.close()...)
	for _, j := range jobs {
		e.table.remove(j)
	}
	return jobs
}

// resize changes how many tasks run at once, and with it how many are held.
func (e *engine) resize(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	size, _, _ := e.slots.counts()
	e.slots.resize(n)
	if e.cfg.AutoscaleMax == 0 {
		e.source.addPrefetch(e.cfg.prefetchOf(n - size))
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

// beginSettling counts a job whose end is written without a goroutine of its own; false when it is too late for it.
// e.settling.Done must follow.
func (e *engine) beginSettling() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.settling.Add(1)
	return true
}

// receive finds what a message is and where it goes. It runs in the consumer's goroutine and waits for nothing.
func (e *engine) receive(r received) {
	p, now := e.phases, time.Now()
	j, err := e.handlers.open(r, now)
	switch {
	case errors.Is(err, errUnhandled):
		e.background(func() { e.unhandled(p, j, err) })
		return
	case err != nil:
		e.background(func() { e.settle.dead(p.settle, j, DeadUndecodable, err) })
		return
	}
	e.table.add(j)
	if e.discard(j, now) {
		return
	}
	e.events.received(j)
	if j.eta.IsZero() {
		e.admit(j)
		return
	}
	j.enter(phaseScheduled)
	if e.schedule.len() < e.cfg.MaxWaiting {
		j.park()
	}
	e.schedule.add(j)
}

// discard ends a job that was revoked or whose time is over.
func (e *engine) discard(j *job, now time.Time) bool {
	switch {
	case j.expired(now):
		e.revoked.add(now, j.task.ID)
		e.background(func() { e.settle.revoke(e.phases.settle, j, Expired) })
	case e.revoked.has(j.task):
		e.background(func() { e.settle.revoke(e.phases.settle, j, Revoked) })
	default:
		return false
	}
	j.end()
	return true
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

// admit passes a job on whose time has come.
func (e *engine) admit(j *job) {
	if j.plain != nil {
		if l := j.plain.limiter.Load(); l != nil {
			j.enter(phaseLimited)
			l.add(j)
			return
		}
	}
	e.enqueue(j)
}

// enqueue hands a job to the slots. When the worker stops first, the job stays unacked and is given back.
func (e *engine) enqueue(j *job) {
	j.enter(phaseReserved)
	e.slots.push(j)
}

// work runs one job and hands it to the settler, so that the slot does not wait for Redis.
func (e *engine) work(j *job) {
	p, now := e.phases, time.Now()
	if p.fetch.Err() != nil || e.discard(j, now) {
		return
	}
	if m := e.settle.success(p.settle, j); m != nil {
		if j.end() {
			e.background(func() { e.settle.succeededBefore(p.settle, j, m) })
		}
		return
	}
	if !j.policy.acksLate && !e.ackEarly(p, j) {
		return
	}
	ctx, cancel := context.WithCancelCause(p.work)
	defer cancel(nil)
	if j.begin(now, cancel) {
		e.endSoon(j)
	}
	due := j.taken
	if j.eta.After(due) {
		due = j.eta
	}
	j.policy.accepted.Add(1)
	e.observer.started(j.info(), now.Sub(due))
	e.events.started(j)
	e.settle.started(p.settle, j)

	rep := Report{Outcome: Failed, Err: ErrGoexit}
	ctx, stop := e.limit(ctx, j)
	defer func() {
		stop()
		if j.end() {
			e.finish(j, rep)
		}
	}()
	rep = e.exec.run(ctx, j)
}

// ackEarly acks before the handlers run; false when that was not possible. It makes room for another message, unless the site wants none
// taken before a slot is free: then the window is narrower while the job runs.
func (e *engine) ackEarly(p *phases, j *job) bool {
	narrow := e.cfg.Settings.Celery.WorkerDisablePrefetch
	if narrow {
		e.source.addPrefetch(-1)
	}
	if !e.settle.insist(p.settle, j, "ack", j.ack) {
		if narrow {
			e.source.addPrefetch(1)
		}
		return false
	}
	j.mu.Lock()
	j.acked, j.narrows = true, narrow
	j.mu.Unlock()
	return true
}

// ended notes that a job has left the worker.
func (e *engine) ended(j *job) {
	j.mu.Lock()
	narrows := j.narrows
	j.narrows = false
	j.mu.Unlock()
	if narrows {
		e.source.addPrefetch(1)
	}
	e.table.remove(j)
}

// limit ends the context at the job's hard time limit, and shortly afterwards the job, whatever its handlers do; stop must be
// called when they have returned.
func (e *engine) limit(ctx context.Context, j *job) (_ context.Context, stop func()) {
	hard := j.hardLimit(e.cfg.HandlerTimeout)
	if hard <= 0 {
		return ctx, func() {}
	}
	cause := &LimitError{Seconds: hard.Seconds()}
	ctx, cancel := context.WithTimeoutCause(ctx, hard, cause)
	timer := time.AfterFunc(hard+endGrace, func() { e.abandon(j, Report{Outcome: Failed, Err: cause}) })
	return ctx, func() { timer.Stop(); cancel() }
}

// abandon ends a job without waiting for its handlers, and frees its slot.
func (e *engine) abandon(j *job, rep Report) {
	j.mu.Lock()
	if j.over || j.phase != phaseActive {
		j.mu.Unlock()
		return
	}
	j.over, j.phase = true, phaseEnding
	j.abandoned = e.slots.abandon()
	j.mu.Unlock()
	j.logger(e.log).Error("handler goes on after its end, left to itself", "err", rep.Err)
	e.finish(j, rep)
}

// terminate ends the handlers of a task by remote control, and its job without them when they do not return. signum is the OS signal
// that Celery would use.
func (e *engine) terminate(j *job, signum int) bool {
	if !j.terminate(errTerminated, signum) {
		return false
	}
	if phase, _, _ := j.state(); phase == phaseActive {
		e.endSoon(j)
	}
	return true
}

// endSoon ends a terminated job when its handlers do not return by themselves.
func (e *engine) endSoon(j *job) {
	time.AfterFunc(endGrace, func() { e.abandon(j, Report{Outcome: Revoked, Err: errTerminated}) })
}

// finish writes how a job ended: with the ends of many others when nothing else is to be done, or in a goroutine.
func (e *engine) finish(j *job, rep Report) {
	p := e.phases
	if e.settle.isPlain(j, rep) && e.beginSettling() {
		e.complete(p, j, rep)
		return
	}
	e.background(func() { e.settle.finish(p.settle, j, rep) })
}

// complete stores the result and acks, beside everything else.
func (e *engine) complete(p *phases, j *job, rep Report) {
	err := j.complete(p.settle, e.settle.successMeta(j, rep), func(err error) {
		defer e.settling.Done()
		if err != nil {
			e.background(func() { e.settle.finishAfter(p.settle, j, rep, err) })
			return
		}
		e.settle.succeeded(j, rep)
	})
	if err != nil {
		e.settling.Done()
		e.background(func() { e.settle.finishAfter(p.settle, j, rep, err) })
	}
}
