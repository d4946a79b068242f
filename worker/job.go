package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
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

	plain *taskHandler // the handler of a plain task

	signal *compat.SignalCall // nil for a plain task
	window *compat.WindowInfo
	calls  []*signalHandler
	hops   int
	acked  bool // acked before its handlers ran
}

// errCanvas refuses what this release does not execute, before anything is run.
type errCanvas struct{ part string }

func (e errCanvas) Error() string {
	return "the task carries a " + e.part + ", and Go workers of this release do not run workflows (canvas): let a Python worker run it"
}

// errUnhandled says that no handler here takes the task.
var errUnhandled = errors.New("no handler")

// open decodes a message and finds its handlers. The job is usable for logging even with an error: *celeryproto.DecodeError
// and *celeryproto.UnsupportedError for what cannot be read, errCanvas, errUnhandled.
func (h *handlers) open(r received, now time.Time) (*job, error) {
	j := &job{received: r, taken: now}
	if r.decodeErr != nil {
		return j, r.decodeErr
	}
	j.hops = hopsOf(r.envelope)
	task, err := celeryproto.DecodeTask(r.envelope)
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
	if task.Name == compat.TaskName {
		return j, h.openSignal(j)
	}
	if j.plain = h.tasks[task.Name]; j.plain == nil {
		return j, errUnhandled
	}
	return j, canvasOf(task)
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
	return canvasOf(j.task)
}

// canvasOf refuses tasks that something else is to follow.
func canvasOf(t *celeryproto.Task) error {
	for _, part := range []struct {
		name string
		raw  celeryproto.Raw
	}{
		{"callback (link)", t.Embed.Callbacks}, {"errback (link_error)", t.Embed.Errbacks},
		{"chain", t.Embed.Chain}, {"chord", t.Embed.Chord},
	} {
		if part.raw.IsNull() {
			continue
		}
		if list, err := part.raw.Array(); err == nil && len(list) == 0 { // the last step of a chain has "chain": []
			continue
		}
		return errCanvas{part.name}
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
