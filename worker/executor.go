package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// Report is what became of one task inside the worker, before anything is written to Redis.
type Report struct {
	// Outcome is how the handler ended: Succeeded, Failed, Retried, Rejected, Ignored or Replaced; Revoked when it was
	// terminated, Abandoned when the worker stopped in the middle.
	Outcome Outcome
	// Result is what a plain task returned.
	Result celeryproto.Raw
	// Err is why a task failed, or how its handler steered it (a *RetryError, a *RejectError): for a signal, the failures of all
	// its handlers.
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
	env      *canvas.Env
	meta     func(j *job, status string, result celeryproto.Raw) *celeryproto.ResultMeta // of a state; nil: no result backend
	settle   *settler                                                                    // for the built-in tasks; nil in Execute
	log      *slog.Logger
	observer *Observer
}

// run calls the handlers of a job, one after the other. ctx ends when the worker must stop at once, or the job.
func (e *executor) run(ctx context.Context, j *job) Report {
	if soft := j.softLimit(); soft > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, soft, &LimitError{Soft: true, Seconds: soft.Seconds()})
		defer cancel()
	}
	if j.plain != nil {
		return e.runTask(ctx, j)
	}
	return e.runSignal(ctx, j)
}

func (e *executor) runTask(ctx context.Context, j *job) Report {
	call := &TaskCall{Task: j.task, Queue: j.queue, Redelivered: j.redelivered, job: j, exec: e}
	call.log = func() *slog.Logger { return j.logger(e.log) }
	var value any
	err := protect(func() (err error) {
		value, err = j.plain.run(ctx, call)
		return err
	})
	rep := e.report(ctx, j, value, err)
	e.logEnd(ctx, j, rep)
	return rep
}

// report says how a plain task ended.
func (e *executor) report(ctx context.Context, j *job, value any, err error) Report {
	if errors.Is(context.Cause(ctx), errTerminated) { // whatever it returned, it was told that it is over
		return Report{Outcome: Revoked, Err: errTerminated}
	}
	if err == nil {
		raw, err := celeryproto.EncodeValue(value)
		if err != nil {
			return Report{Outcome: Failed, Err: encodeFailure(err)}
		}
		return Report{Outcome: Succeeded, Result: raw}
	}
	if stopped(ctx, err) {
		return Report{Outcome: Abandoned, Err: err}
	}
	if _, ok := errors.AsType[*RejectError](err); ok {
		return Report{Outcome: Rejected, Err: err}
	}
	if _, ok := errors.AsType[*replacement](err); ok {
		return Report{Outcome: Replaced, Err: err}
	}
	if errors.Is(err, ErrIgnore) {
		return Report{Outcome: Ignored, Err: err}
	}
	if retry, ok := errors.AsType[*RetryError](err); ok {
		return retryReport(j, retry)
	}
	err = limited(ctx, err)
	o := &j.policy.options
	again, fault := predicate(o.AutoRetry, err)
	switch {
	case fault != nil:
		err = fault
	case again:
		return retryReport(j, &RetryError{Err: err, After: o.backoff(j.task.Retries)})
	}
	return Report{Outcome: Failed, Err: err}
}

// predicate asks a task's option about an error; fault is its panic.
func predicate(of func(error) bool, err error) (yes bool, fault error) {
	if of == nil {
		return false, nil
	}
	fault = protect(func() error {
		yes = of(err)
		return nil
	})
	return yes, fault
}

// encodeFailure is what kombu raises for a result that has no place in a message.
func encodeFailure(err error) error {
	return &Exception{Type: "EncodeError", Module: "kombu.exceptions", Args: []any{err.Error()}}
}

// retryReport is a retry, or the failure of a task that was retried often enough (celery 5.7, app/task.py, Task.retry).
func retryReport(j *job, retry *RetryError) Report {
	options := j.policy.options
	if retry.MaxRetries != 0 {
		options.MaxRetries = retry.MaxRetries
	}
	most := options.maxRetries()
	if most < 0 || j.task.Retries < most {
		return Report{Outcome: Retried, Err: retry}
	}
	if retry.Err != nil {
		return Report{Outcome: Failed, Err: retry.Err}
	}
	text := fmt.Sprintf("Can't retry %s[%s] args:%s kwargs:%s", j.task.Name, j.task.ID, celeryproto.ReprTuple(j.task.Args), celeryproto.Repr(j.task.Kwargs))
	return Report{Outcome: Failed, Err: &Exception{Type: "MaxRetriesExceededError", Module: moduleCelery, Args: []any{text}}}
}

// logEnd logs what is more than a task that succeeded.
func (e *executor) logEnd(ctx context.Context, j *job, rep Report) {
	if rep.Outcome == Succeeded {
		return
	}
	log := j.logger(e.log)
	switch rep.Outcome {
	case Failed:
		level := slog.LevelError
		_, bad := errors.AsType[bindFailure](rep.Err)
		expected, fault := predicate(j.policy.options.Throws, rep.Err)
		switch {
		case fault != nil:
			log.ErrorContext(ctx, "option Throws failed", failureAttrs(fault)...)
		case expected:
			level = slog.LevelInfo
		case bad:
			level = slog.LevelWarn
		}
		log.Log(ctx, level, "task failed", failureAttrs(rep.Err)...)
	case Retried:
		log.InfoContext(ctx, "task retried", "retries", j.task.Retries+1, "err", rep.Err)
	case Rejected:
		log.WarnContext(ctx, "task rejected", "err", rep.Err)
	case Ignored, Replaced:
		log.DebugContext(ctx, "task ended without a result", "outcome", string(rep.Outcome))
	}
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
