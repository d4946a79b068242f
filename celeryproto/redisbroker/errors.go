package redisbroker

import (
	"context"
	"errors"
	"fmt"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/internal/redisconn"
)

var (
	// ErrUnsupported is wrapped by Open, OpenResults and NewConsumer around the name of what this package does not do.
	ErrUnsupported = redisconn.ErrUnsupported
	// ErrClosed is returned by every operation after Close, by settling a delivery whose consumer has stopped, and by a ReplyQueue
	// whose Run has ended.
	ErrClosed = errors.New("redisbroker: closed")
	// ErrPublishQueueFull is returned by Publisher.Enqueue when the entry would exceed MaxQueued or MaxQueuedBytes.
	ErrPublishQueueFull = errors.New("redisbroker: publish queue full")
	// ErrPublishDeadline is given to an entry's done function when Redis did not take it in time. An entry whose last attempt
	// got no answer may have been taken nevertheless.
	ErrPublishDeadline = errors.New("redisbroker: publish deadline exceeded")
	// ErrLost is returned when a delivery is settled that is no longer ours: its visibility timeout passed and somebody
	// restored it, or Redis lost its data. The message may be running a second time; nothing was changed in Redis.
	ErrLost = errors.New("redisbroker: delivery lost")
	// ErrSettled is returned when a delivery is settled a second time.
	ErrSettled = errors.New("redisbroker: delivery already settled")
	// ErrNoResult is returned by Results.Get for a task that has no result (yet), which is Celery's state PENDING, and by
	// Results.Group for a group that was not saved. It is celeryproto.ErrNoResult.
	ErrNoResult = celeryproto.ErrNoResult
)

// URLError reports a broker or result backend URL that cannot be used. It never contains the URL, which has passwords.
type URLError struct {
	Part string // "scheme", "database", "query socket_timeout", …
	Err  error
}

func (e *URLError) Error() string { return fmt.Sprintf("redisbroker: URL: %s: %v", e.Part, e.Err) }

func (e *URLError) Unwrap() error { return e.Err }

// EntryError reports a value of the unacked hash that is not what kombu writes. It never contains the value.
type EntryError struct {
	Err error
}

func (e *EntryError) Error() string { return fmt.Sprintf("redisbroker: unacked entry: %v", e.Err) }

func (e *EntryError) Unwrap() error { return e.Err }

// Retryable reports whether the same call may succeed later without anybody changing anything: Redis was away, slow,
// loading or full. It is false for cancelled contexts, refused credentials and mistakes of the caller.
func Retryable(err error) bool {
	if errors.Is(err, ErrClosed) || errors.Is(err, context.Canceled) {
		return false
	}
	return errors.Is(err, ErrPublishQueueFull) || errors.Is(err, ErrPublishDeadline) || redisconn.Transient(err)
}
