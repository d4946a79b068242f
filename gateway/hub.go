package gateway

import (
	"hash/maphash"
	"sync"
)

// hubShards divide the groups so that connects and fan-outs of different groups do not wait for each other.
const hubShards = 32

// group is one channel-layer group with at least one window, or about to be left. Its shard's mutex guards it.
//
// The layer membership of the group (one for the whole process) follows its members with a delay: only the membership
// goroutine changes joined, so that a join and a leave of the same group can never overtake each other.
type group struct {
	name    string
	members []member
	joined  bool         // the process is a member in the layer
	unsure  bool         // not joined, but the last join or leave failed: the layer may still make a member of the process, or have one
	attempt *joinAttempt // a join that somebody waits for; nil if none
	leaving bool         // queued for leaving
}

// member is one window in a group; slot is the index of the group in the window's memberships.
type member struct {
	w    *window
	slot int
}

// membership is one group of a window; index is the window's place in the group's members, guarded by the group's shard.
type membership struct {
	group *group
	index int
}

// joinAttempt is one try to join a group in the layer, waited for by every window that came meanwhile.
type joinAttempt struct {
	doneC chan struct{} // closed by the membership goroutine
	err   error         // set before doneC is closed
}

type hubShard struct {
	mu     sync.Mutex
	groups map[string]*group
}

// hub is the registry of groups and their windows.
type hub struct {
	seed   maphash.Seed
	shards [hubShards]hubShard
}

func newHub() *hub {
	h := &hub{seed: maphash.MakeSeed()}
	for i := range h.shards {
		h.shards[i].groups = make(map[string]*group)
	}
	return h
}

func (h *hub) shard(name string) *hubShard {
	return &h.shards[maphash.String(h.seed, name)%hubShards]
}

// add makes w a member of the named group as membership number slot of the window. attempt is what the caller must wait
// for before it can rely on the group's messages, nil if the group is joined already; fresh means that the caller must
// hand the group to the membership goroutine.
func (h *hub) add(w *window, name string, slot int) (g *group, attempt *joinAttempt, fresh bool) {
	s := h.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	g = s.groups[name]
	if g == nil {
		g = &group{name: name}
		s.groups[name] = g
	}
	w.groups[slot] = membership{group: g, index: len(g.members)}
	g.members = append(g.members, member{w: w, slot: slot})
	if g.joined {
		return g, nil, false
	}
	if g.attempt == nil {
		g.attempt = &joinAttempt{doneC: make(chan struct{})}
		fresh = true
	}
	return g, g.attempt, fresh
}

// remove takes the window out of its membership number slot. It returns the group if the layer membership should be left.
func (h *hub) remove(w *window, slot int) (empty *group) {
	g := w.groups[slot].group
	s := h.shard(g.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	index, last := w.groups[slot].index, len(g.members)-1
	moved := g.members[last]
	g.members[index] = moved
	moved.w.groups[moved.slot].index = index
	g.members[last] = member{}
	g.members = g.members[:last]
	if last > 0 {
		return nil
	}
	g.members = nil
	return s.emptied(g)
}

// emptied decides about a group without windows: it returns the group if the layer membership should be left. The caller holds mu.
func (s *hubShard) emptied(g *group) *group {
	switch {
	case g.attempt != nil || g.leaving: // joinDone or beginLeave come to it
		return nil
	case g.joined || g.unsure:
		g.leaving = true
		return g
	default:
		delete(s.groups, g.name)
		return nil
	}
}

// joinDone records how the join of a group ended and wakes those who wait for it. It returns the group if it became
// empty meanwhile and should be left again.
func (h *hub) joinDone(g *group, err error) (empty *group) {
	s := h.shard(g.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	attempt := g.attempt
	g.attempt = nil
	attempt.err = err
	close(attempt.doneC)
	g.joined, g.unsure = err == nil, err != nil
	if len(g.members) > 0 {
		return nil // after an error, the last of those who waited empties it
	}
	return s.emptied(g)
}

// beginLeave says whether a group that was queued for leaving must still be left; if so, it counts as not joined from now on.
func (h *hub) beginLeave(g *group) bool {
	s := h.shard(g.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	g.leaving = false
	if len(g.members) > 0 || g.attempt != nil || !g.joined && !g.unsure {
		return false
	}
	g.joined, g.unsure = false, false
	return true
}

// leaveDone ends what beginLeave began. It returns the group if leaving failed and must be tried again; whoever comes first must
// join it again, since the layer has forgotten it or will.
func (h *hub) leaveDone(g *group, err error) (again *group) {
	s := h.shard(g.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(g.members) > 0 || g.attempt != nil {
		return nil // somebody came back: its join follows
	}
	if err != nil {
		g.unsure, g.leaving = true, true
		return g
	}
	delete(s.groups, g.name)
	return nil
}

// members appends the windows of the named group to dst.
func (h *hub) members(dst []*window, name string) []*window {
	s := h.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.groups[name]; g != nil {
		for _, m := range g.members {
			dst = append(dst, m.w)
		}
	}
	return dst
}

// count returns the number of groups with at least one window.
func (h *hub) count() (n int) {
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.Lock()
		for _, g := range s.groups {
			if len(g.members) > 0 {
				n++
			}
		}
		s.mu.Unlock()
	}
	return n
}
