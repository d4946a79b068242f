package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// Report is what became of one task inside the worker, before anything is written to Redis.
type Report struct {
	// Outcome is Succeeded or Failed; Abandoned when the worker stopped in the middle.
	Outcome Outcome
	// Result is what a plain task returned.
	Result celeryproto.Raw
	// Err is why a task failed: for a signal, the failures of all its handlers.
	Err error
	// Handlers are the handlers of a signal, in the order of their calls.
	Handlers []HandlerReport
}

// HandlerReport is what became of one handler of a signal.
type HandlerReport struct {
	// Handler is the Go function's name.
	Handler string
	// Refused is why it was not called, one of the Refused constants; "" when it was.
	Refused string
	// Err is the handler's error, or what its arguments lack.
	Err error
}

// executor calls handlers. It knows nothing of Redis.
type executor struct {
	timeout  time.Duration // Config.HandlerTimeout
	sender   Sender
	log      *slog.Logger
	observer *Observer
}

// run calls the handlers of a job, one after the other. ctx ends when the worker must stop at once.
func (e *executor) run(ctx context.Context, j *job) Report {
	ctx, cancel := withLimits(ctx, j.task.TimeLimit)
	defer cancel()
	if j.plain != nil {
		return e.runTask(ctx, j)
	}
	return e.runSignal(ctx, j)
}

func (e *executor) runTask(ctx context.Context, j *job) Report {
	h := j.plain
	ctx, cancel := withTimeout(ctx, h.timeout, e.timeout)
	defer cancel()
	call := &TaskCall{
		Task: j.task, Queue: j.queue, Redelivered: j.redelivered, sender: e.sender,
		log: func() *slog.Logger { return j.logger(e.log) },
	}
	var value any
	err := protect(func() (err error) {
		value, err = h.run(ctx, call)
		return err
	})
	if err != nil {
		return e.failed(ctx, j, limited(ctx, err))
	}
	raw, err := celeryproto.EncodeValue(value)
	if err != nil {
		return Report{Outcome: Failed, Err: &Exception{Type: "EncodeError", Module: "kombu.exceptions", Args: []any{err.Error()}}}
	}
	return Report{Outcome: Succeeded, Result: raw}
}

// failed is the report of a plain task's failure; a task that was interrupted by the worker's stop has not failed.
func (e *executor) failed(ctx context.Context, j *job, err error) Report {
	if stopped(ctx, err) {
		return Report{Outcome: Abandoned, Err: err}
	}
	level := slog.LevelError
	if _, bad := errors.AsType[bindFailure](err); bad {
		level = slog.LevelWarn
	}
	j.logger(e.log).Log(ctx, level, "task failed", failureAttrs(err)...)
	return Report{Outcome: Failed, Err: err}
}

// runSignal sends the frame of a delayed signal and calls its handlers. One that fails or refuses does not keep the next
// from running, and what it did to its arguments does not reach it: in df_websockets both happen.
func (e *executor) runSignal(ctx context.Context, j *job) Report {
	if len(j.signal.Topics) > 0 {
		e.sendFrame(ctx, j)
	}
	rep := Report{Outcome: Succeeded}
	var failures faultList
	for _, h := range j.calls {
		hr := e.callHandler(ctx, j, h)
		rep.Handlers = append(rep.Handlers, hr)
		if hr.Err != nil && hr.Refused == "" {
			failures.add(hr.Err)
			if stopped(ctx, hr.Err) {
				rep.Outcome, rep.Err = Abandoned, hr.Err
				return rep
			}
		}
	}
	if len(failures) > 0 {
		rep.Outcome, rep.Err = Failed, failures.join()
	}
	return rep
}

func (e *executor) callHandler(ctx context.Context, j *job, h *signalHandler) HandlerReport {
	log := func() *slog.Logger { return j.logger(e.log).With("handler", h.name) }
	call := &Call{
		Window: j.window, Signal: j.signal.Signal, Opts: j.signal.Opts, FromClient: j.signal.FromClient, Queue: j.signal.Queue,
		TaskID: j.task.ID, Redelivered: j.redelivered, sender: e.sender, log: log,
	}
	if reason, err := e.mayCall(h, call); reason != "" {
		return e.refuse(ctx, log(), h, HandlerReport{Handler: h.name, Refused: reason, Err: err})
	}
	ctx, cancel := withTimeout(ctx, h.timeout, e.timeout)
	defer cancel()
	err := protect(func() error { return h.run(ctx, call) })
	if bad, ok := errors.AsType[bindFailure](err); ok {
		return e.refuse(ctx, log(), h, HandlerReport{Handler: h.name, Refused: RefusedBadArguments, Err: bad.error})
	}
	if err != nil {
		err = limited(ctx, err)
		_, panicked := errors.AsType[*PanicError](err)
		log().ErrorContext(ctx, "signal handler failed", failureAttrs(err)...)
		e.observer.handlerFailed(h.signal, h.name, panicked)
	}
	return HandlerReport{Handler: h.name, Err: err}
}

// mayCall asks the handler's rule; reason is "" for yes.
func (e *executor) mayCall(h *signalHandler, call *Call) (reason string, err error) {
	var ok bool
	err = protect(func() (err error) {
		ok, err = h.allow.check(call)
		return err
	})
	switch {
	case errors.Is(err, errNoPermissions):
		return RefusedNoPermissions, err
	case err != nil:
		return RefusedRuleFailed, err
	case !ok:
		return RefusedNotAllowed, nil
	}
	return "", nil
}

func (e *executor) refuse(ctx context.Context, log *slog.Logger, h *signalHandler, r HandlerReport) HandlerReport {
	attrs := []any{"reason", r.Refused, "allow", h.allow.String()}
	if r.Err != nil {
		attrs = append(attrs, "err", r.Err)
	}
	level := slog.LevelWarn
	if r.Refused == RefusedRuleFailed {
		level = slog.LevelError
	}
	log.Log(ctx, level, "signal refused", attrs...)
	e.observer.refused(h.signal, h.name, r.Refused)
	return r
}

func (e *executor) sendFrame(ctx context.Context, j *job) {
	err := e.sender.Frame(ctx, j.signal.Signal, j.signal.Opts, j.signal.Topics)
	if err != nil {
		j.logger(e.log).WarnContext(ctx, "frame of a delayed signal lost", "err", err)
		e.observer.frameLost(j.signal.Signal)
	}
}

// failureAttrs are the attributes of a failure's log line.
func failureAttrs(err error) []any {
	attrs := []any{"err", err}
	if p, ok := errors.AsType[*PanicError](err); ok {
		attrs = append(attrs, "stack", p.Stack)
	}
	return attrs
}
