package worker

import (
	"cmp"
	"context"
	"errors"
	"time"
)

// errStopped is the cause with which the worker ends the context of handlers that outlive SoftStopTimeout.
var errStopped = errors.New("worker: stopped")

// mostSeconds is the longest limit in seconds that a Duration holds.
const mostSeconds = float64(1<<63-1) / float64(time.Second)

// limitOf is a limit in a message as a Duration, or what the handler has for it.
func limitOf(seconds *float64, own time.Duration) time.Duration {
	switch {
	case seconds == nil || *seconds <= 0:
		return own
	case *seconds >= mostSeconds:
		return 1<<63 - 1
	default:
		return time.Duration(*seconds * float64(time.Second))
	}
}

// hardLimit is the job's hard time limit, 0 for none: the message's, else the task's, else the worker's.
func (j *job) hardLimit(general time.Duration) time.Duration {
	own := time.Duration(j.policy.timeLimit.Load())
	if own == 0 && j.plain != nil {
		own = general
	}
	return min(limitOf(j.task.TimeLimit[0], own), 1<<63-1-endGrace)
}

// softLimit is the job's soft time limit, 0 for none.
func (j *job) softLimit() time.Duration {
	return limitOf(j.task.TimeLimit[1], time.Duration(j.policy.softTimeLimit.Load()))
}

// hardLimitOf is the hard time limit that a task failed by, if it did.
func hardLimitOf(err error) (*LimitError, bool) {
	limit, ok := errors.AsType[*LimitError](err)
	return limit, ok && !limit.Soft
}

// withTimeout ends ctx after the handler's own timeout, else the worker's.
func withTimeout(ctx context.Context, own, general time.Duration) (context.Context, context.CancelFunc) {
	d := cmp.Or(own, general)
	if d == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, d, &LimitError{Seconds: d.Seconds()})
}

// limited turns the error of a handler whose time is over into a *LimitError, unless it named an exception itself.
func limited(ctx context.Context, err error) error {
	cause, ok := errors.AsType[*LimitError](context.Cause(ctx))
	if !ok {
		return err
	}
	if _, panicked := errors.AsType[*PanicError](err); panicked {
		return err
	}
	if _, named := errors.AsType[*Exception](err); named {
		return err
	}
	return &LimitError{Soft: cause.Soft, Seconds: cause.Seconds, Err: err}
}

// stopped tells whether a handler returned err because the worker stops.
func stopped(ctx context.Context, err error) bool {
	return errors.Is(context.Cause(ctx), errStopped) && (errors.Is(err, context.Canceled) || errors.Is(err, errStopped))
}
