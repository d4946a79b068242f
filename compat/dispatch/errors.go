package dispatch

import (
	"errors"
	"fmt"
)

var (
	// ErrSyncUnsupported is returned by Plan and Trigger for the target Sync: a handler in another process cannot run inside the call.
	ErrSyncUnsupported = errors.New("dispatch: target SYNC is not supported: use SERVER")
	// ErrSessionUnsupported is returned by Plan and Trigger for the target Session: df_websockets itself makes a different topic of it in
	// each process, so it reaches nobody.
	ErrSessionUnsupported = errors.New("dispatch: target SESSION is not supported: use WINDOW or USER")
	// ErrNoDelayedDelivery is returned by Plan and Trigger for a delayed signal to windows while no Go worker is registered.
	ErrNoDelayedDelivery = errors.New("dispatch: a delayed signal to browser windows needs a registered Go worker, Python workers never deliver it")
	// ErrNeedsCelery is returned by Plan and Trigger for what a channel layer cannot do (WEBSOCKET_WORKERS = "channels"): countdown, eta and
	// expires, as in Python, and dynamic queues that do not say which ones they may be.
	ErrNeedsCelery = errors.New(`dispatch: not with WEBSOCKET_WORKERS = "channels"`)
	// ErrNoTicket is returned by Store.Ticket when there is none for the window key, or it expired or was revoked.
	ErrNoTicket = errors.New("dispatch: no ticket")
)

// TicketError is returned by Store.Ticket and DecodeTicket for a ticket that is not what Django writes. It never contains the ticket.
type TicketError struct {
	Field string // "groups", "window_info", …; "" for the ticket as a whole
	Err   error
}

// Error implements error.
func (e *TicketError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("dispatch: ticket: %v", e.Err)
	}
	return fmt.Sprintf("dispatch: ticket: %s: %v", e.Field, e.Err)
}

// Unwrap returns the cause.
func (e *TicketError) Unwrap() error { return e.Err }

// EntryError is returned by DecodeEntry, PublishRegistry and LoadRegistry for an entry that cannot be read or written.
type EntryError struct {
	Publisher string
	Err       error
}

// Error implements error.
func (e *EntryError) Error() string {
	return fmt.Sprintf("dispatch: registry: entry %q: %v", e.Publisher, e.Err)
}

// Unwrap returns the cause.
func (e *EntryError) Unwrap() error { return e.Err }

// ConflictError says that a signal has handlers of two languages on one queue. A queue belongs to one language: each would take the
// other's tasks away and drop or return them.
type ConflictError struct {
	Signal string
	Queue  string
	// Handlers are the two handlers, Python's first, each as "handler (publisher)".
	Handlers [2]string
}

// Error implements error.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("dispatch: registry: signal %q on queue %q has handlers in two languages: %s and %s: give one of them another queue",
		e.Signal, e.Queue, e.Handlers[0], e.Handlers[1])
}
