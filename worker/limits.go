package worker

import (
	"context"
	"errors"
	"time"
)

// errStopped is the cause with which the worker ends the context of handlers that outlive SoftStopTimeout.
var errStopped = errors.New("worker: stopped")

// withLimits ends ctx at the message's soft limit, else at its hard one. In Celery the soft limit raises an exception in
// the task and the hard one kills its process; a goroutine cannot be killed, so the context is all there is.
func withLimits(ctx context.Context, limits [2]*float64) (context.Context, context.CancelFunc) {
	hard, soft := limits[0], limits[1]
	switch {
	case soft != nil && *soft > 0 && (hard == nil || *hard <= 0 || *soft <= *hard):
		return limit(ctx, true, *soft)
	case hard != nil && *hard > 0:
		return limit(ctx, false, *hard)
	}
	return ctx, func() {}
}

// withTimeout ends ctx after the handler's own timeout, else the worker's.
func withTimeout(ctx context.Context, own, general time.Duration) (context.Context, context.CancelFunc) {
	d := orDefault(own, general)
	if d == 0 {
		return ctx, func() {}
	}
	return limit(ctx, false, d.Seconds())
}

func limit(ctx context.Context, soft bool, seconds float64) (context.Context, context.CancelFunc) {
	const most = float64(1<<63-1) / float64(time.Second)
	d := time.Duration(1<<63 - 1)
	if seconds < most {
		d = time.Duration(seconds * float64(time.Second))
	}
	return context.WithTimeoutCause(ctx, d, &LimitError{Soft: soft, Seconds: seconds})
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
