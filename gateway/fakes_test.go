package gateway

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat/dispatch"
)

// errAway is what the fakes return for a Redis that is away.
var errAway = errors.New("redis is away")

// fakeTickets is the shared state in memory.
type fakeTickets struct {
	mu      sync.Mutex
	tickets map[string]*dispatch.Ticket
	err     error
	waitC   chan struct{} // if not nil, Ticket waits for it

	revokeC chan dispatch.Revocation
}

func (f *fakeTickets) Ticket(ctx context.Context, key string) (*dispatch.Ticket, error) {
	f.mu.Lock()
	t, err, waitC := f.tickets[key], f.err, f.waitC
	f.mu.Unlock()
	if waitC != nil {
		select {
		case <-waitC:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, dispatch.ErrNoTicket
	}
	return t, nil
}

func (f *fakeTickets) set(key string, t *dispatch.Ticket) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tickets[key] = t
}

func (f *fakeTickets) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeTickets) WatchRevocations(ctx context.Context, report func(dispatch.Revocation)) error {
	report(dispatch.Revocation{Gap: true})
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-f.revokeC:
			report(r)
		}
	}
}

// fakeMessage is one message of the layer.
type fakeMessage struct{ kind, text string }

func (m fakeMessage) Type() string         { return m.kind }
func (m fakeMessage) Text() (string, bool) { return m.text, m.text != "" }

type fakeDelivery struct {
	groups  []string
	message message
}

// fakeReceiver is the channel layer in memory. As with a channelslayer.Receiver, what was asked for holds even if Redis does not know it yet.
type fakeReceiver struct {
	mu     sync.Mutex
	joined map[string]bool
	joins  int // calls
	leaves int
	err    error

	deliverC chan fakeDelivery
	stopped  bool
}

func (f *fakeReceiver) Join(_ context.Context, groups ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.joins++
	for _, g := range groups {
		f.joined[g] = true
	}
	return f.err
}

func (f *fakeReceiver) Leave(_ context.Context, groups ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.leaves++
	for _, g := range groups {
		delete(f.joined, g)
	}
	return f.err
}

func (f *fakeReceiver) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *fakeReceiver) groups() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.joined))
}

func (f *fakeReceiver) run(ctx context.Context, deliver func([]string, message)) error {
	for {
		select {
		case <-ctx.Done():
			f.mu.Lock()
			defer f.mu.Unlock()
			clear(f.joined)
			f.stopped = true
			return nil
		case d := <-f.deliverC:
			deliver(d.groups, d.message)
		}
	}
}

// send delivers a frame to the windows of a group, as a group_send of df_websockets does.
func (f *fakeReceiver) send(group, text string) {
	f.deliverC <- fakeDelivery{[]string{group}, fakeMessage{messageType, text}}
}

// fakePublisher is the broker's queue in memory.
type fakePublisher struct {
	mu       sync.Mutex
	messages []redisbroker.Message
	err      error // of Enqueue
	outcome  error // for done
	hold     bool  // done is not called
	held     []func(error)
	flushed  bool
}

func (f *fakePublisher) Enqueue(messages []redisbroker.Message, done func(error)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	f.messages = append(f.messages, messages...)
	if f.hold {
		f.held = append(f.held, done)
		return nil
	}
	defer done(f.outcome)
	return nil
}

func (f *fakePublisher) Run(ctx context.Context) error {
	<-ctx.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flushed = true
	return nil
}

func (f *fakePublisher) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

// queued returns the tasks so far.
func (f *fakePublisher) queued() []redisbroker.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.messages)
}

// fakeHealth says what it is told.
type fakeHealth struct {
	mu                    sync.Mutex
	registryErr, layerErr error
}

func (f *fakeHealth) registry() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.registryErr
}

func (f *fakeHealth) layer(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.layerErr
}
