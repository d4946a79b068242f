package djangostate

import (
	"cmp"
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
	data, err := Payload(value, cmp.Or(r.MaxBytes, DefaultMaxSession))
	if err != nil {
		return nil, err
	}
	session := &Session{SignedAt: signedAt, Data: data}
	if err := session.readAuth(); err != nil {
		return nil, err
	}
	return session, nil
}

// StoredSalt is the salt of sessions in a table or a file (SessionBase.key_salt).
const StoredSalt = "django.contrib.sessions.SessionStore"

// ReadStored verifies the text of a session in a table or a file. Its age is for the store to judge. The errors are those of Read without
// ErrExpired; Django takes a session with any of them for an empty one.
func (r *SessionReader) ReadStored(text string) (*Session, error) {
	value, signedAt, err := UnsignAt(text, r.Keys...)
	if err != nil {
		return nil, err
	}
	data, err := Payload(value, cmp.Or(r.MaxBytes, DefaultMaxSession))
	if err != nil {
		return nil, err
	}
	session := &Session{SignedAt: signedAt, Data: data}
	return session, session.readAuth()
}

// SessionOfEntry reads the session in a cache entry. It is not signed: whoever writes to that cache is any user, if the user's hash is right.
// The error wraps ErrMalformed.
func SessionOfEntry(entry celeryproto.Raw) (*Session, error) {
	session := &Session{Data: entry}
	return session, session.readAuth()
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

// keySessionExpiry is where set_expiry keeps its value: seconds, a time, or 0 for the life of the browser.
const keySessionExpiry = "_session_expiry"

// Living reports whether a session in a file that was modified then is still accepted (SessionStore.load of the engine file): a time in it counts, else
// it lives as long as the cookie. A number of seconds never expires there.
func (s *Session) Living(modified time.Time, maxAge time.Duration, now time.Time) bool {
	expires := modified.Add(maxAge)
	if members, err := s.Data.Object(); err == nil {
		if value, ok := members.Get(keySessionExpiry); ok {
			switch text, err := value.Text(); {
			case err == nil:
				if expires, err = parseISOTime(text); err != nil {
					return false
				}
			case value.IsNull():
			default:
				if n, err := value.Number(); err == nil && n != int64(0) {
					return true
				}
			}
		}
	}
	return expires.After(now)
}

// parseISOTime reads datetime.isoformat; a time without zone is taken for UTC.
func parseISOTime(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05.999999", text)
	}
	return t, err
}
