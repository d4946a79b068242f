package gateway

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

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

// parkedSpace is what gateways tell each other through Redis, in memory.
type parkedSpace struct {
	mu       sync.Mutex
	owners   map[string]map[string]bool
	messages map[string][]string // page and owner → messages
	channels map[string]func(dispatch.Note)
	all      map[string]func(dispatch.Note)
	err      error
	putErr   error // of Put alone
	deaf     bool  // notes are not received
}

func newParkedSpace() *parkedSpace {
	return &parkedSpace{owners: map[string]map[string]bool{}, messages: map[string][]string{},
		channels: map[string]func(dispatch.Note){}, all: map[string]func(dispatch.Note){}}
}

// fakeParked is one gateway in it.
type fakeParked struct {
	space *parkedSpace
	self  string
}

// in runs fn while nobody else changes the space.
func (f *fakeParked) in(fn func(s *parkedSpace)) error {
	f.space.mu.Lock()
	defer f.space.mu.Unlock()
	if f.space.err == nil {
		fn(f.space)
	}
	return f.space.err
}

func (f *fakeParked) own(s *parkedSpace, page string) {
	if s.owners[page] == nil {
		s.owners[page] = map[string]bool{}
	}
	s.owners[page][f.self] = true
}

func (f *fakeParked) Announce(_ context.Context, pages []string, _ time.Duration) error {
	return f.in(func(s *parkedSpace) {
		for _, page := range pages {
			f.own(s, page)
		}
	})
}

func (f *fakeParked) Withdraw(_ context.Context, pages []string) error {
	return f.in(func(s *parkedSpace) {
		for _, page := range pages {
			delete(s.owners[page], f.self)
		}
	})
}

func (f *fakeParked) Owners(_ context.Context, pages []string) (owners [][]string, err error) {
	err = f.in(func(s *parkedSpace) {
		for _, page := range pages {
			list := slices.Sorted(maps.Keys(s.owners[page]))
			owners = append(owners, slices.DeleteFunc(list, func(o string) bool { return o == f.self }))
		}
	})
	return owners, err
}

func (f *fakeParked) Put(_ context.Context, page string, messages [][]byte, _ time.Duration) error {
	f.space.mu.Lock()
	putErr := f.space.putErr
	f.space.mu.Unlock()
	if putErr != nil {
		return putErr
	}
	return f.in(func(s *parkedSpace) {
		for _, m := range messages {
			s.messages[page+f.self] = append(s.messages[page+f.self], string(m))
		}
	})
}

func (f *fakeParked) Take(_ context.Context, page, owner string, last bool) (messages []string, dropped int, err error) {
	err = f.in(func(s *parkedSpace) {
		messages = s.messages[page+owner]
		delete(s.messages, page+owner)
		if last {
			delete(s.owners[page], owner)
		}
	})
	return messages, 0, err
}

func (f *fakeParked) Send(_ context.Context, to string, n dispatch.Note) (received bool, err error) {
	n.From = f.self
	var hears []func(dispatch.Note)
	err = f.in(func(s *parkedSpace) {
		if hear := s.channels[to]; hear != nil {
			received = true
			hears = append(hears, hear)
		}
		if to == "" {
			hears = slices.Collect(maps.Values(s.all))
		}
		if s.deaf {
			hears = nil
		}
	})
	for _, hear := range hears {
		hear(n)
	}
	return received, err
}

func (f *fakeParked) Others(context.Context) (n int, err error) {
	err = f.in(func(s *parkedSpace) { n = len(s.all) })
	return n, err
}

func (f *fakeParked) Watch(ctx context.Context, report func(dispatch.Note)) error {
	return f.watch(ctx, f.space.channels, report)
}

func (f *fakeParked) WatchAll(ctx context.Context, report func(dispatch.Note)) error {
	return f.watch(ctx, f.space.all, report)
}

func (f *fakeParked) watch(ctx context.Context, channels map[string]func(dispatch.Note), report func(dispatch.Note)) error {
	f.space.mu.Lock()
	channels[f.self] = func(n dispatch.Note) {
		if n.From != f.self {
			report(n)
		}
	}
	f.space.mu.Unlock()
	<-ctx.Done()
	f.space.mu.Lock()
	delete(channels, f.self)
	f.space.mu.Unlock()
	return nil
}

// fail makes everything fail, as a Redis that is away.
func (s *parkedSpace) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// size is how many pages have owners, and how many messages are at rest.
func (s *parkedSpace) size() (pages, messages int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, owners := range s.owners {
		if len(owners) > 0 {
			pages++
		}
	}
	for _, list := range s.messages {
		messages += len(list)
	}
	return pages, messages
}
