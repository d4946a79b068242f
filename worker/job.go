package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

// hopsHeader counts how often a task without handler went back to its queue. Python workers ignore it, but keep it when they
// retry a task: the count is only that of the message with the delivery tag in hopsTagHeader.
const (
	hopsHeader    = "dfws_hops"
	hopsTagHeader = "dfws_hops_tag"
)

// job is one task that this worker holds.
type job struct {
	received
	task  *celeryproto.Task
	taken time.Time
	eta   time.Time // zero: at once

	policy *policy      // how it is run and settled; set once it is decoded
	plain  *taskHandler // the handler of a plain task

	signal *compat.SignalCall // nil for a plain task
	window *compat.WindowInfo
	calls  []*signalHandler
	hops   int

	prev, next *job // in the engine's table, whose mutex guards them

	mu        sync.Mutex // guards the fields below
	phase     phase
	began     time.Time                // when its handlers were called
	acked     bool                     // before its handlers ran
	narrows   bool                     // the prefetch window is narrower by one until it has ended
	over      bool                     // ended, by its handlers' return or without them
	abandoned bool                     // ended without them, and another goroutine has their slot
	cancel    context.CancelCauseFunc  // ends the handlers' context; nil before they are called
	doomed    error                    // why they are to be ended as soon as they begin
	signum    int                      // the OS signal by which Celery would have ended them
	trail     []celeryproto.ResultTree // what they sent
}

// phase is where a job is on its way.
type phase uint8

const (
	phaseReserved  phase = iota // waits for a slot
	phaseScheduled              // waits for its ETA
	phaseLimited                // waits for the rate limit
	phaseActive                 // its handlers run
	phaseEnding                 // how it ended is being written
)

func (j *job) enter(p phase) {
	j.mu.Lock()
	j.phase = p
	j.mu.Unlock()
}

// begin notes that the handlers are called and how they are stopped. One who wanted them stopped before does it now: then it is true.
func (j *job) begin(now time.Time, cancel context.CancelCauseFunc) (doomed bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.phase, j.began, j.cancel = phaseActive, now, cancel
	if j.doomed != nil {
		cancel(j.doomed)
	}
	return j.doomed != nil
}

// terminate ends the handlers' context, now or once they are called. It reports whether the job had not ended.
func (j *job) terminate(cause error, signum int) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.over {
		return false
	}
	j.doomed, j.signum = cause, signum
	if j.cancel != nil {
		j.cancel(cause)
	}
	return true
}

// end reports whether the job ends now: true once.
func (j *job) end() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	was := j.over
	j.over, j.phase = true, phaseEnding
	return !was
}

// terminatedBy is the OS signal that terminate was called with, 0 for none.
func (j *job) terminatedBy() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.signum
}

// isAbandoned tells whether another goroutine has taken over the slot of the job.
func (j *job) isAbandoned() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.abandoned
}

// wasAcked tells whether the message was acked before the handlers ran.
func (j *job) wasAcked() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.acked
}

// state returns the phase and, for a job that has begun, when.
func (j *job) state() (p phase, began time.Time, acked bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.phase, j.began, j.acked
}

// errUnhandled says that no handler here takes the task.
var errUnhandled = errors.New("no handler")

// open decodes a message and finds its handlers. The job is usable for logging even with an error: *celeryproto.DecodeError
// and *celeryproto.UnsupportedError for what cannot be read, errUnhandled.
func (h *handlers) open(r received, now time.Time) (*job, error) {
	j := &job{received: r, taken: now}
	if r.decodeErr != nil {
		return j, r.decodeErr
	}
	j.hops = hopsOf(r.envelope)
	task, err := celeryproto.DecodeTaskLimits(r.envelope, h.limits)
	if _, unsupported := errors.AsType[*celeryproto.UnsupportedError](err); unsupported && h.tasks[r.envelope.TaskName()] == nil {
		return j, fmt.Errorf("%w: %w", errUnhandled, err) // Python may have one, and read it
	}
	if err != nil {
		return j, err
	}
	j.task = task
	if task.ETA != nil && task.ETA.After(now) {
		j.eta = *task.ETA
	}
	j.policy = &h.signalPolicy
	if task.Name == compat.TaskName {
		return j, h.openSignal(j)
	}
	if j.plain = h.tasks[task.Name]; j.plain == nil || j.plain.accepts != nil && !j.plain.accepts(task) {
		j.plain = nil
		return j, errUnhandled
	}
	j.policy = &j.plain.policy
	return j, nil
}

func (h *handlers) openSignal(j *job) error {
	call, err := compat.DecodeSignalArgs(j.task.Args)
	if err != nil {
		return fmt.Errorf("signal: %w", err)
	}
	j.signal = call
	if j.window, err = compat.DecodeWindowInfo(call.Window); err != nil {
		return fmt.Errorf("signal: window info: %w", err)
	}
	if call.ToServer { // else there is nothing but a frame, or nothing at all
		if j.calls = h.index[signalQueue{call.Signal, call.Queue}]; len(j.calls) == 0 {
			return errUnhandled
		}
	}
	return nil
}

func hopsOf(e *celeryproto.Envelope) int {
	raw, ok := e.Headers.Get(hopsHeader)
	if !ok {
		return 0
	}
	if tag, ok := e.Headers.Get(hopsTagHeader); ok {
		if counted, err := tag.Text(); err != nil || counted != e.Properties.DeliveryTag {
			return 0
		}
	}
	n, err := strconv.Atoi(raw.String())
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// again is the job's message with its hop counted, for its own queue or, when to is not "", for another. framed drops the
// topics of a delayed signal, whose frame was sent.
func (j *job) again(framed bool, to string) ([]byte, error) {
	e := j.envelope.Clone()
	if framed {
		t, call := *j.task, *j.signal
		call.Topics = nil
		t.Args = call.AppendArgs(nil)
		var err error
		if e, err = t.Envelope(); err != nil {
			return nil, err
		}
	}
	if to != "" {
		e.Properties.DeliveryInfo.Exchange, e.Properties.DeliveryInfo.RoutingKey = "", to
		e.Properties.DeliveryTag = uuid.NewString() // the old one still stands for this message in unacked
	}
	e.Headers.Set(hopsHeader, celeryproto.Raw(strconv.Itoa(j.hops+1)))
	e.Headers.Set(hopsTagHeader, celeryproto.AppendString(nil, e.Properties.DeliveryTag))
	return e.Append(nil)
}

// expired tells whether the task's time is over.
func (j *job) expired(now time.Time) bool {
	return j.task.Expires != nil && now.After(*j.task.Expires)
}

// info names the job for observers.
func (j *job) info() TaskInfo {
	t := TaskInfo{Queue: j.queue}
	if j.task != nil {
		t.Task = j.task.Name
	}
	if j.signal != nil {
		t.Signal = j.signal.Signal
	}
	return t
}

// logger names the job in log lines.
func (j *job) logger(l *slog.Logger) *slog.Logger {
	args := []any{"queue", j.queue}
	switch {
	case j.signal != nil:
		args = append(args, "signal", printable(j.signal.Signal), "task_id", printable(j.task.ID))
	case j.task != nil:
		args = append(args, "task", printable(j.task.Name), "task_id", printable(j.task.ID))
	case j.envelope != nil: // one that DecodeTask refuses
		args = append(args, "task", printable(j.envelope.TaskName()), "task_id", printable(j.envelope.TaskID()))
	}
	return l.With(args...)
}
