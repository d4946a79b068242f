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
	sessions map[string]endedSession
	stamps   map[string]userStamp
}

// endedSession is when a session last ended and how many entries of recent mention it.
type endedSession struct {
	at      time.Time
	entries int
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
	return &revocations{now: now, sessions: make(map[string]endedSession), stamps: make(map[string]userStamp)}
}

// remember adds one.
func (r *revocations) remember(rev dispatch.Revocation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recent = append(r.recent, pastRevocation{rev, r.now()})
	if rev.Session != "" {
		r.sessions[rev.Session] = endedSession{r.now(), r.sessions[rev.Session].entries + 1}
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
			if e := r.sessions[old.Session]; e.entries == 1 {
				delete(r.sessions, old.Session)
			} else {
				e.entries--
				r.sessions[old.Session] = e
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
//
// A session that lives in its cookie has the same name after the next login of its user; what Django made of it after it
// ended (identity.made, by Django's clock) is a new one.
func (r *revocations) covers(id *identity) bool {
	if id.session == "" && id.user == "" {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	if ended, ok := r.sessions[id.session]; ok && id.session != "" && (id.made == 0 || ended.at.UnixNano() >= id.made) {
		return true
	}
	s, ok := r.stamps[id.user]
	return id.user != "" && ok && s.stamp != id.stamp
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
	for _, w := range g.parking.all() {
		if revokes(rev, &w.identity) && g.unpark(w) {
			g.letGo(w, DroppedRevoked)
		}
	}
	g.observer.revoked(closed)
	g.log.Info("identity revoked", "windows", closed, "user_changed", rev.User != "")
}
