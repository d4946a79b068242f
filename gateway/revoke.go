package gateway

import (
	"sync"
	"time"

	"github.com/dfws/dfws/compat/dispatch"
)

const (
	// revocationMemory is how long a revocation also hits tickets that were written or read late.
	revocationMemory = time.Minute
	// maxRevocations bounds that memory; beyond it the oldest are forgotten first.
	maxRevocations = 100_000
)

// revocations remembers what was revoked a moment ago.
type revocations struct {
	now func() time.Time

	mu       sync.Mutex
	recent   []pastRevocation // oldest first
	sessions map[string]int   // hash → entries in recent
	stamps   map[string]userStamp
}

type pastRevocation struct {
	dispatch.Revocation
	at time.Time
}

// userStamp is the newest stamp of a user and how many entries of recent mention the user.
type userStamp struct {
	stamp   string
	entries int
}

func newRevocations(now func() time.Time) *revocations {
	return &revocations{now: now, sessions: make(map[string]int), stamps: make(map[string]userStamp)}
}

// remember adds one.
func (r *revocations) remember(rev dispatch.Revocation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recent = append(r.recent, pastRevocation{rev, r.now()})
	if rev.Session != "" {
		r.sessions[rev.Session]++
	}
	if rev.User != "" {
		r.stamps[rev.User] = userStamp{rev.Stamp, r.stamps[rev.User].entries + 1}
	}
	r.forget()
}

// forget drops what is too old or too much. The caller holds mu.
func (r *revocations) forget() {
	limit := r.now().Add(-revocationMemory)
	for len(r.recent) > 0 && (len(r.recent) > maxRevocations || r.recent[0].at.Before(limit)) {
		old := r.recent[0]
		r.recent = r.recent[1:]
		if old.Session != "" {
			if r.sessions[old.Session]--; r.sessions[old.Session] == 0 {
				delete(r.sessions, old.Session)
			}
		}
		if s, ok := r.stamps[old.User]; ok && old.User != "" {
			if s.entries--; s.entries == 0 {
				delete(r.stamps, old.User)
			} else {
				r.stamps[old.User] = s
			}
		}
	}
	if len(r.recent) == 0 {
		r.recent = nil
	}
}

// covers says whether an identity was revoked a moment ago.
func (r *revocations) covers(session, user, stamp string) bool {
	if session == "" && user == "" {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	if session != "" && r.sessions[session] > 0 {
		return true
	}
	s, ok := r.stamps[user]
	return user != "" && ok && s.stamp != stamp
}

// revokes says whether the revocation ends this identity.
func revokes(rev dispatch.Revocation, id *identity) bool {
	return rev.Hits(&dispatch.Ticket{Session: id.session, User: id.user, Stamp: id.stamp})
}

// revoke closes the windows whose identity ends, and remembers it for those that are on their way.
func (g *Gateway) revoke(rev dispatch.Revocation) {
	if rev.Gap {
		// A deleted ticket cannot be told from an expired or lost one, so no window is judged by it: see doc.go.
		if g.gaps.Add(1) > 1 {
			g.log.Warn("revocations may have been missed while Redis was away; open windows keep their identity")
		}
		return
	}
	g.revoked.remember(rev) // first: a handshake that misses this reads the memory after it is registered, see open
	closed := 0
	for _, w := range g.windows.all() {
		if revokes(rev, &w.identity) && !w.closing() {
			w.close(CloseRevoked)
			closed++
		}
	}
	g.observer.revoked(closed)
	g.log.Info("identity revoked", "windows", closed, "user_changed", rev.User != "")
}
