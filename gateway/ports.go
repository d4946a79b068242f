package gateway

import (
	"context"
	"net/http"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat/dispatch"
)

// What the gateway needs of the packages around it, in its own words. wire.go has the real ones; tests have structs of funcs.

// tickets is the shared state that identifies windows: dispatch.Store.
type tickets interface {
	// Ticket returns dispatch.ErrNoTicket or a *dispatch.TicketError when that is the matter; other errors mean that Redis did not answer.
	Ticket(ctx context.Context, windowKey string) (*dispatch.Ticket, error)
	// WatchRevocations calls report for each revocation until ctx ends. It connects again by itself.
	WatchRevocations(ctx context.Context, report func(dispatch.Revocation)) error
}

// receiver is this process in the channel layer.
type receiver interface {
	membershipLayer // Join and Leave may be called at any time
	// run receives until ctx ends, then leaves all groups. deliver is called from one goroutine, with the local groups that a
	// message is for.
	run(ctx context.Context, deliver func(groups []string, m message)) error
}

// message is one message of the channel layer.
type message interface {
	Type() string
	// Text is the frame for the browser; false if the message has none.
	Text() (string, bool)
}

// planner turns signals into tasks: dispatch.Dispatcher. It does not wait for anything.
type planner interface {
	Plan(t dispatch.Trigger) (*dispatch.Plan, error)
}

// publisher puts tasks in the broker, in order: redisbroker.Publisher.
type publisher interface {
	// Enqueue never waits: redisbroker.ErrPublishQueueFull when there is no room. done is called exactly once if Enqueue returned nil.
	Enqueue(messages []redisbroker.Message, done func(error)) error
	// Run publishes until ctx ends and then what is queued, within its drain timeout.
	Run(ctx context.Context) error
}

// health tells whether what stands behind the gateway is there.
type health interface {
	// registry is nil when the registry of signals is loaded.
	registry() error
	// layer is nil when the channel layer answers.
	layer(ctx context.Context) error
}

// answers is Django, asked about a handshake: callback.
type answers interface {
	// ask returns an *identifyError when there is no answer.
	ask(ctx context.Context, r *http.Request) (*dispatch.Answer, error)
}

// ports are all of them.
type ports struct {
	tickets   tickets
	receiver  receiver
	planner   planner
	publisher publisher
	health    health
	parked    parkedStore
	answers   answers // nil if Django cannot be asked
}
