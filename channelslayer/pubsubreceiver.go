package channelslayer

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// PubSubReceiver is Receiver for a pub/sub layer: one subscription per group, whatever the number of listeners behind it.
type PubSubReceiver struct {
	layer       *PubSub
	log         *slog.Logger
	subscribers []*subscriber
	give        func(groups []string, m *Received) // set by Run before anything can be received

	mu      sync.Mutex
	joined  map[string][]string // {group}, by the group's name in Redis
	started bool
	closed  bool
}

// NewReceiver returns a receiver. It does not connect. Of the configuration only Name says something to it: there is nothing in
// Redis to be kept alive or cleaned up.
func (p *PubSub) NewReceiver(cfg ReceiverConfig) (*PubSubReceiver, error) {
	r := &PubSubReceiver{layer: p, log: p.cfg.Logger.With(slog.String("receiver", cfg.Name)), joined: map[string][]string{}}
	for _, s := range p.ring {
		r.subscribers = append(r.subscribers, newSubscriber(s, r.log, &p.cfg.Observer, r.deliver))
	}
	return r, nil
}

// Joined implements GroupReceiver.
func (r *PubSubReceiver) Joined() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.joined)
}

// Join implements GroupReceiver. It waits for Run to have a connection. After an error the groups are joined all the same, as
// soon as that is possible: call Leave to give up.
func (r *PubSubReceiver) Join(ctx context.Context, groups ...string) error {
	names := make(map[*subscriber][]string, len(r.subscribers))
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return ErrClosed
	}
	for _, group := range groups {
		name := r.layer.groupName(group)
		s := r.subscribers[ringIndex(name, len(r.subscribers))]
		names[s] = append(names[s], name)
		if r.joined[name] == nil {
			r.joined[name] = []string{strings.Clone(group)}
			s.subscribe(name)
		}
	}
	r.mu.Unlock()
	var errs []error
	for s, list := range names {
		errs = append(errs, s.wait(ctx, list...))
	}
	return wrap("join", errors.Join(errs...))
}

// Leave implements GroupReceiver. It does not wait for Redis: nothing of the groups is delivered from now on.
func (r *PubSubReceiver) Leave(_ context.Context, groups ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrClosed
	}
	for _, group := range groups {
		name := r.layer.groupName(group)
		if r.joined[name] != nil {
			delete(r.joined, name)
			r.subscribers[ringIndex(name, len(r.subscribers))].unsubscribe(name)
		}
	}
	return nil
}

// Run implements GroupReceiver. It returns nil.
func (r *PubSubReceiver) Run(ctx context.Context, deliver func(groups []string, m *Received)) error {
	r.mu.Lock()
	if r.started {
		r.mu.Unlock()
		return ErrRunning
	}
	if len(r.subscribers) > 1 {
		deliver = oneAtATime(deliver)
	}
	r.started, r.give = true, deliver
	r.mu.Unlock()
	r.log.InfoContext(ctx, "receiver starts", slog.Int("hosts", len(r.subscribers)))
	var running sync.WaitGroup
	for _, s := range r.subscribers {
		running.Go(func() { s.run(ctx) })
	}
	running.Wait()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.log.InfoContext(ctx, "receiver stopped")
	return nil
}

// deliver takes what was published. The subscribers call it.
func (r *PubSubReceiver) deliver(name, payload string) {
	r.layer.cfg.Observer.received(1)
	r.mu.Lock()
	groups := r.joined[name]
	r.mu.Unlock()
	if groups == nil {
		r.layer.cfg.Observer.dropped(DropUnknownChannel, 1)
		return
	}
	m, _, err := r.layer.codec.decode(payload, score(time.Now()))
	if err != nil {
		r.layer.drop(err)
		return
	}
	r.give(groups, &m)
}
