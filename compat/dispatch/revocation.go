package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// Revocation says whose windows must be closed. Django deletes their tickets and then announces it.
type Revocation struct {
	// Session is the hash of a session that ended (Ticket.Session); empty for a user's revocation.
	Session string
	// User is a user whose password or flags changed (Ticket.User): windows with another stamp than Stamp must go.
	User  string
	Stamp string
	// Gap says that revocations may have been missed: the subscription starts, or Redis was away. The other fields are empty. Windows
	// that must be safe against it have their tickets read again.
	Gap bool
}

// Hits reports whether a window that was identified by t must be closed.
func (r *Revocation) Hits(t *Ticket) bool {
	if r.Session != "" && r.Session == t.Session {
		return true
	}
	return r.User != "" && r.User == t.User && r.Stamp != t.Stamp
}

// revocationJSON is a Revocation on the wire.
type revocationJSON struct {
	Schema  int    `json:"schema"`
	Session string `json:"session"`
	User    string `json:"user"`
	Stamp   string `json:"stamp"`
}

// DecodeRevocation reads an announcement.
func DecodeRevocation(b []byte) (Revocation, error) {
	var wire revocationJSON
	if err := json.Unmarshal(b, &wire); err != nil {
		return Revocation{}, fmt.Errorf("dispatch: revocation: %w", err)
	}
	switch {
	case wire.Schema != registrySchema:
		return Revocation{}, fmt.Errorf("dispatch: revocation: schema %d is not supported", wire.Schema)
	case wire.Session == "" && wire.User == "":
		return Revocation{}, errors.New("dispatch: revocation: neither session nor user")
	}
	return Revocation{Session: wire.Session, User: wire.User, Stamp: wire.Stamp}, nil
}

// WatchRevocations reports revocations until ctx ends, one at a time. It survives restarts of Redis and reports them as a Gap. It returns nil.
func (s *Store) WatchRevocations(ctx context.Context, report func(Revocation)) error {
	return s.watch(ctx, s.keys.revoked(), 0, func(e event) {
		if e.gap {
			report(Revocation{Gap: true})
			return
		}
		r, err := DecodeRevocation([]byte(e.payload))
		if err != nil {
			s.observer.badRevocation()
			s.logger.Error("undecodable revocation ignored", "err", err)
			return
		}
		report(r)
	})
}
