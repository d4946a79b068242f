package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// membershipBatch is how many groups one round trip to the layer joins or leaves at most.
	membershipBatch = 512
	// leaveDelay is how long an empty group stays joined: a page that is reloaded finds its groups as it left them.
	leaveDelay = time.Second
)

// membershipLayer is what the membership goroutine needs of a layer's receiver.
type membershipLayer interface {
	// Join makes the process a member of the groups, in one round trip. It is idempotent. After an error the layer goes on trying:
	// Leave gives up.
	Join(ctx context.Context, groups ...string) error
	// Leave ends the memberships, in one round trip. After an error no more messages of the groups are delivered, and the layer goes
	// on trying to leave.
	Leave(ctx context.Context, groups ...string) error
}

// memberships lets one goroutine carry out all joins and leaves of the hub, so that their order is never in doubt and
// those that arrive together share a round trip.
type memberships struct {
	hub     *hub
	layer   membershipLayer
	timeout time.Duration // of one round trip
	delay   time.Duration // leaveDelay
	log     *slog.Logger

	wakeC chan struct{} // capacity 1: a hint that joins is not empty; sent by connects, received by run

	mu     sync.Mutex
	joins  []*group // asked for, not tried yet
	leaves []*group // empty, waiting for their delay
}

func newMemberships(h *hub, layer membershipLayer, timeout time.Duration, log *slog.Logger) *memberships {
	return &memberships{hub: h, layer: layer, timeout: timeout, delay: leaveDelay, log: log, wakeC: make(chan struct{}, 1)}
}

// join makes the window a member of the groups and returns when the layer knows all of them. After an error the window
// is in none of them.
func (m *memberships) join(ctx context.Context, w *window, names []string) error {
	if len(names) == 0 {
		return nil
	}
	w.groups = make([]membership, len(names))
	var attempts []*joinAttempt
	for slot, name := range names {
		g, attempt, fresh := m.hub.add(w, name, slot)
		if fresh {
			m.queueJoin(g)
		}
		if attempt != nil {
			attempts = append(attempts, attempt)
		}
	}
	for _, attempt := range attempts {
		select {
		case <-attempt.doneC:
			if attempt.err != nil {
				m.leave(w)
				return fmt.Errorf("group join: %w", attempt.err)
			}
		case <-ctx.Done():
			m.leave(w)
			return fmt.Errorf("group join: %w", context.Cause(ctx))
		}
	}
	return nil
}

// leave takes the window out of all its groups. It does not wait for the layer.
func (m *memberships) leave(w *window) {
	for slot := range w.groups {
		if g := m.hub.remove(w, slot); g != nil {
			m.queueLeave(g)
		}
	}
	w.groups = nil
}

func (m *memberships) queueJoin(g *group) {
	m.mu.Lock()
	m.joins = append(m.joins, g)
	m.mu.Unlock()
	select {
	case m.wakeC <- struct{}{}:
	default:
	}
}

func (m *memberships) queueLeave(g *group) {
	m.mu.Lock()
	m.leaves = append(m.leaves, g)
	m.mu.Unlock()
}

// run carries out joins at once and leaves once per delay, until ctx ends. It leaves nothing at the end: the
// receiver does that for all groups together.
func (m *memberships) run(ctx context.Context) error {
	tick := time.NewTicker(m.delay)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			m.failPending(context.Cause(ctx))
			return nil
		case <-m.wakeC:
			m.joinPending(ctx)
		case <-tick.C:
			m.leavePending(ctx)
		}
	}
}

// take removes at most membershipBatch groups from a list.
func (m *memberships) take(list *[]*group) []*group {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := min(len(*list), membershipBatch)
	batch := (*list)[:n:n]
	if *list = (*list)[n:]; len(*list) == 0 {
		*list = nil
	}
	return batch
}

func (m *memberships) joinPending(ctx context.Context) {
	for {
		batch := m.take(&m.joins)
		if len(batch) == 0 {
			return
		}
		err := m.call(ctx, m.layer.Join, batch)
		if err != nil {
			m.log.Warn("channel layer: groups could not be joined, connections are refused", "groups", len(batch), "err", err)
		}
		for _, g := range batch {
			if empty := m.hub.joinDone(g, err); empty != nil {
				m.queueLeave(empty)
			}
		}
	}
}

// leavePending leaves the groups that are empty now; between two batches, those who wait for a join go first.
func (m *memberships) leavePending(ctx context.Context) {
	m.mu.Lock()
	todo := len(m.leaves) // what comes meanwhile, or fails, has its turn at the next tick
	m.mu.Unlock()
	for todo > 0 {
		batch := m.take(&m.leaves)
		todo -= len(batch)
		empty := batch[:0]
		for _, g := range batch {
			if m.hub.beginLeave(g) {
				empty = append(empty, g)
			}
		}
		if len(empty) > 0 {
			err := m.call(ctx, m.layer.Leave, empty)
			if err != nil {
				m.log.Warn("channel layer: empty groups could not be left, trying again", "groups", len(empty), "err", err)
			}
			for _, g := range empty {
				if again := m.hub.leaveDone(g, err); again != nil {
					m.queueLeave(again)
				}
			}
			if err != nil {
				return // try the others at the next tick, too
			}
		}
		m.joinPending(ctx)
	}
}

func (m *memberships) call(ctx context.Context, fn func(context.Context, ...string) error, groups []*group) error {
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.name
	}
	return fn(ctx, names...)
}

// failPending wakes those who still wait for a join when there is nobody left to do it.
func (m *memberships) failPending(cause error) {
	for {
		batch := m.take(&m.joins)
		if len(batch) == 0 {
			return
		}
		for _, g := range batch {
			m.hub.joinDone(g, cause)
		}
	}
}
