package djangostate

import (
	"fmt"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

const (
	// SignedCookiesSalt is the salt of the session engine signed_cookies (SessionStore.load); its keys derive from it.
	SignedCookiesSalt = "django.contrib.sessions.backends.signed_cookies"
	// SignedCookiesEngine is the value of SESSION_ENGINE for that engine.
	SignedCookiesEngine = "django.contrib.sessions.backends.signed_cookies"

	// DefaultMaxSession bounds a decompressed session. Browsers keep cookies of 4 KB; zlib shrinks a thousandfold at most.
	DefaultMaxSession = 1 << 20

	// Keys of django.contrib.auth in a session (SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY).
	keyUserID   = "_auth_user_id"
	keyBackend  = "_auth_user_backend"
	keyAuthHash = "_auth_user_hash"
)

// SessionReader reads sessions that live in their cookie. The zero value refuses everything: it has no keys.
type SessionReader struct {
	// Keys are the derived keys of SECRET_KEY and its fallbacks, in this order.
	Keys []Key
	// MaxAge is SESSION_COOKIE_AGE.
	MaxAge time.Duration
	// MaxBytes bounds the decompressed session; 0 means DefaultMaxSession.
	MaxBytes int
}

// Session is what the gateway needs of a session. It tells who says to be logged in; whether that user still exists, is active and has
// the same password is for the reader of the user table to check (AuthHash).
type Session struct {
	// UserID is the primary key of the user as text; empty when nobody is logged in.
	UserID string
	// Backend is the dotted path of the authentication backend.
	Backend string
	// AuthHash is the user's session auth hash.
	AuthHash string
	// SignedAt is when the cookie was written.
	SignedAt time.Time
	// Data is the whole session.
	Data celeryproto.Raw
}

// Read verifies the text of a session cookie and returns its session. now is the reader's clock. The errors are ErrBadSignature,
// ErrExpired, ErrTooLarge and ErrMalformed; Django takes a cookie with any of them for an empty session.
func (r *SessionReader) Read(cookie string, now time.Time) (*Session, error) {
	value, signedAt, err := UnsignAt(cookie, r.Keys...)
	if err != nil {
		return nil, err
	}
	if now.Sub(signedAt) > r.MaxAge {
		return nil, ErrExpired
	}
	limit := r.MaxBytes
	if limit <= 0 {
		limit = DefaultMaxSession
	}
	data, err := Payload(value, limit)
	if err != nil {
		return nil, err
	}
	session := &Session{SignedAt: signedAt, Data: data}
	if err := session.readAuth(); err != nil {
		return nil, err
	}
	return session, nil
}

// readAuth takes the three keys of django.contrib.auth out of the session.
func (s *Session) readAuth() error {
	if err := celeryproto.CheckJSON(s.Data, celeryproto.JSONLimits{}); err != nil {
		return fmt.Errorf("%w: session: %w", ErrMalformed, err)
	}
	members, err := s.Data.Object()
	if err != nil {
		return fmt.Errorf("%w: session: not an object", ErrMalformed)
	}
	for _, member := range members {
		var field *string
		switch member.Key {
		case keyUserID:
			field = &s.UserID
		case keyBackend:
			field = &s.Backend
		case keyAuthHash:
			field = &s.AuthHash
		default:
			continue
		}
		if *field, err = member.Value.Text(); err != nil {
			return fmt.Errorf("%w: session: %s: not a text", ErrMalformed, member.Key)
		}
	}
	return nil
}
