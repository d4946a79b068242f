package worker

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// Classes of exceptions that Python rebuilds from a stored failure.
const (
	moduleBuiltins = "builtins"
	moduleCelery   = "celery.exceptions"
	moduleBilliard = "billiard.exceptions"
)

// exceptionOf names the Python exception for a Go error, and the text of its traceback.
func exceptionOf(err error) (*celeryproto.Exception, string) {
	if bad, ok := errors.AsType[bindFailure](err); ok { // what Python raises for f(1, 2, 3) of a function with two parameters
		return exception("TypeError", moduleBuiltins, bad.Error()), ""
	}
	if named, ok := errors.AsType[*Exception](err); ok {
		module := named.Module
		if module == "" {
			module = moduleBuiltins
		}
		return exception(named.Type, module, named.Args...), named.Traceback
	}
	if reject, ok := errors.AsType[*RejectError](err); ok { // celery.exceptions.Reject(reason, requeue)
		var reason any
		if reject.Err != nil {
			reason = reject.Err.Error()
		}
		return exception("Reject", moduleCelery, reason, reject.Requeue), ""
	}
	if errors.Is(err, canvas.ErrInChord) {
		return exception("ImproperlyConfigured", moduleCelery, "A signature replacing a task must not be part of a chord"), ""
	}
	if errors.Is(err, canvas.ErrNoChord) {
		return exception("ValueError", moduleBuiltins, "Current task is not member of any chord"), ""
	}
	if errors.Is(err, ErrGoexit) {
		return exception("WorkerLostError", moduleBilliard, err.Error()), ""
	}
	if limit, ok := errors.AsType[*LimitError](err); ok {
		if limit.Err == nil {
			limit = &LimitError{Soft: limit.Soft, Seconds: limit.Seconds, Err: errNotReturned}
		}
		if limit.Soft {
			return exception("SoftTimeLimitExceeded", moduleBilliard), errorChain(limit.Err)
		}
		return exception("TimeLimitExceeded", moduleBilliard, secondsValue(limit.Seconds)), errorChain(limit.Err)
	}
	if p, ok := errors.AsType[*PanicError](err); ok {
		return exception("RuntimeError", moduleBuiltins, p.Error()), "Go stack (most recent call first):\n" + p.Stack
	}
	return exception("RuntimeError", moduleBuiltins, err.Error()), errorChain(err)
}

// errNotReturned stands in the traceback of a task that was ended without its handler.
var errNotReturned = errors.New("the handler had not returned")

// exception builds an exception; an argument that JSON does not take becomes its text, as Celery uses its repr.
func exception(class, module string, args ...any) *celeryproto.Exception {
	e := &celeryproto.Exception{Type: class, Module: module, Message: []celeryproto.Raw{}}
	for _, a := range args {
		raw, err := celeryproto.EncodeValue(a)
		if err != nil {
			raw = celeryproto.AppendString(nil, valueText(a))
		}
		e.Message = append(e.Message, raw)
	}
	return e
}

// secondsValue is a limit as the message had it: whole seconds are an integer.
func secondsValue(s float64) any {
	if s == math.Trunc(s) && math.Abs(s) < 1<<53 {
		return int64(s)
	}
	return s
}

// errorChain is the traceback of an error that is no panic: Go keeps no stack for it, but the errors that it wraps.
func errorChain(err error) string {
	var b strings.Builder
	b.WriteString("Go error (outermost first):")
	for depth := 0; err != nil && depth < mostFrames; depth++ {
		fmt.Fprintf(&b, "\n%T: %v", err, err)
		err = errors.Unwrap(err) // nil for joined errors, whose texts stand in the line above
	}
	return b.String()
}

// meta is the result of a job as the result backend stores it.
func (s *settler) meta(j *job, status string, result celeryproto.Raw, traceback string) *celeryproto.ResultMeta {
	m := &celeryproto.ResultMeta{
		Status: status, Result: result, Traceback: traceback, DateDone: time.Now().In(s.zone),
		TaskID: j.task.ID, GroupID: j.task.GroupID, ParentID: j.task.ParentID, Children: j.children(),
	}
	if !celeryproto.IsReady(status) {
		m.DateDone = time.Time{}
	}
	if !s.quick { // only a database has a place for it
		m.Request = j.task.ResultRequest()
	}
	if s.extended {
		m.Extended = &celeryproto.ResultExtended{
			Name: j.task.Name, Args: j.task.Args, Kwargs: j.task.Kwargs, Worker: s.node, Retries: &j.task.Retries, Queue: j.queue,
		}
	}
	return m
}

// retryMeta is the result of a job that is sent again.
func (s *settler) retryMeta(j *job, retry *RetryError) *celeryproto.ResultMeta {
	if retry.Err == nil {
		return s.meta(j, celeryproto.StatusRetry, nil, errorChain(retry))
	}
	e, traceback := exceptionOf(retry.Err)
	if traceback == "" {
		traceback = errorChain(retry)
	}
	return s.raised(j, celeryproto.StatusRetry, e, traceback)
}

// children are the result tuples of what the task sent, nil for none.
func (j *job) children() celeryproto.Raw {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.trail) == 0 {
		return nil
	}
	raw := []byte{'['}
	for i := range j.trail {
		if i > 0 {
			raw = append(raw, ", "...)
		}
		raw = j.trail[i].Append(raw)
	}
	return append(raw, ']')
}

func (s *settler) failure(j *job, err error) *celeryproto.ResultMeta {
	e, traceback := exceptionOf(err)
	return s.raised(j, celeryproto.StatusFailure, e, traceback)
}

func (s *settler) revoked(j *job, why string) *celeryproto.ResultMeta {
	return s.raised(j, celeryproto.StatusRevoked, exception("TaskRevokedError", moduleCelery, why), "")
}

func (s *settler) notRegistered(j *job) *celeryproto.ResultMeta {
	return s.raised(j, celeryproto.StatusFailure, exception("NotRegistered", moduleCelery, j.task.Name), "")
}

// raised is the result of a task that ended with an exception.
func (s *settler) raised(j *job, status string, e *celeryproto.Exception, traceback string) *celeryproto.ResultMeta {
	raw, err := e.Raw()
	if err != nil { // a class name that Python could not import either
		e = exception("RuntimeError", moduleBuiltins, e.Type+": "+err.Error())
		raw, _ = e.Raw() // its parts are ours: it cannot fail
	}
	return s.meta(j, status, raw, traceback)
}
