package worker

import (
	"errors"
	"fmt"
	"time"

	"github.com/dfws/dfws/celeryproto/canvas"
)

// RetryError, returned by a task's handler, sends the task again, as self.retry() does in Python: the same ID and arguments, one
// retry more. When its retries are used up, the task fails with Err, or with MaxRetriesExceededError.
type RetryError struct {
	// Err is why; nil for no particular reason.
	Err error
	// After is the wait; zero: TaskOptions.RetryDelay. A negative one is none.
	After time.Duration
	// At is when, instead of After.
	At time.Time
	// MaxRetries replaces TaskOptions.MaxRetries for this retry, by the same values; zero leaves it.
	MaxRetries int
	// Args and Kwargs replace the task's arguments when they are not nil: a []any and a map with text keys.
	Args   []any
	Kwargs map[string]any
	// Expires is how long the retry may wait in its queue from now on; zero leaves the task's own expiry.
	Expires time.Duration
	// Queue is another queue; "" the one that the task came from.
	Queue string
}

// Error implements error.
func (e *RetryError) Error() string {
	if e.Err == nil {
		return "retry"
	}
	return fmt.Sprintf("retry: %v", e.Err)
}

// Unwrap returns Err.
func (e *RetryError) Unwrap() error { return e.Err }

// Retry is a RetryError with a reason and a wait; zero is the task's RetryDelay.
func Retry(err error, after time.Duration) error { return &RetryError{Err: err, After: after} }

// RejectError, returned by a task's handler, rejects the message, as celery.exceptions.Reject: with Requeue it goes to the end of
// its queue, marked as redelivered; without, the task is a FAILURE (Celery 5.7; older ones store nothing).
type RejectError struct {
	Err     error // why
	Requeue bool
}

// Error implements error.
func (e *RejectError) Error() string {
	if e.Err == nil {
		return "reject"
	}
	return fmt.Sprintf("reject: %v", e.Err)
}

// Unwrap returns Err.
func (e *RejectError) Unwrap() error { return e.Err }

// Reject is a RejectError without requeue.
func Reject(err error) error { return &RejectError{Err: err} }

// Requeue is a RejectError that gives the message back to its queue.
func Requeue(err error) error { return &RejectError{Err: err, Requeue: true} }

// ErrIgnore, returned by a task's handler, acks the message and does nothing else, as celery.exceptions.Ignore: no result, no
// callbacks.
var ErrIgnore = errors.New("worker: task ignored")

// replacement is what Replace returns.
type replacement struct{ by *canvas.Signature }

func (*replacement) Error() string { return "replaced by another task" }

// Replace, returned by a task's handler, puts a signature in the task's place, as self.replace() does in Python: it gets the task's
// ID, callbacks, chain, group and chord, and its result is the task's.
func Replace(by *canvas.Signature) error { return &replacement{by} }
