package djangoresults

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
)

var (
	// ErrClosed is returned by every operation after Close.
	ErrClosed = errors.New("closed")
	// ErrChordHeld is returned by ChordPart for a chord that is complete and that another process is sending the body of. It is
	// worth asking again: either the chord will be gone, or the claim has ended and the caller gets it.
	ErrChordHeld = errors.New("the chord is being completed by another process")
	// ErrNoChord is returned by AddToChord when the chord is not there (any more).
	ErrNoChord = errors.New("no such chord")
)

// Error is the error of every operation but for celeryproto.ErrNoResult, which is returned as it is.
type Error struct {
	// Op is what was done: "store result".
	Op string
	// Err is what the driver or celeryproto says.
	Err error

	retryable bool
}

func (e *Error) Error() string { return fmt.Sprintf("djangoresults: %s: %v", e.Op, e.Err) }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same call may succeed later without anybody changing anything: the database was away, restarting,
// short of something, or another transaction was in the way. It is false for cancelled contexts and mistakes of the caller.
func (e *Error) Retryable() bool { return e.retryable }

// Retryable is Error.Retryable of any error that this package returned.
func Retryable(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.retryable
}

// wrap says what was done when err happened.
func (b *Backend) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Err: err, retryable: b.isRetryable(err)}
}

func (b *Backend) isRetryable(err error) bool {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, ErrClosed):
		return false
	case errors.Is(err, ErrChordHeld), errors.Is(err, context.DeadlineExceeded), errors.Is(err, driver.ErrBadConn),
		errors.Is(err, sql.ErrConnDone), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return b.opts.Transient != nil && b.opts.Transient(err)
}
