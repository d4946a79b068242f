package djangonative

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/djangostate"
)

const (
	// minSessionKey is what SessionBase._validate_session_key wants.
	minSessionKey = 8
	// maxSessionCookie bounds what is looked up; browsers keep cookies of 4 KB.
	maxSessionCookie = 8192
	// sessionKeyChars are those of a key that Django made (VALID_KEY_CHARS).
	sessionKeyChars = "abcdefghijklmnopqrstuvwxyz0123456789"
)

// sessionStore is one of the engines.
type sessionStore interface {
	// load returns errNone for a session that Django would not accept.
	load(ctx context.Context, cookie string) (*djangostate.Session, error)
}

func (r *Reader) openSessions(s *compat.NativeSession) (sessionStore, error) {
	keys, err := parseKeys(s.Keys)
	if err != nil {
		return nil, fmt.Errorf("djangonative: native.session.keys: %w", err)
	}
	reader := &djangostate.SessionReader{Keys: keys, MaxAge: r.site.SessionCookieAge.Duration()}
	table := &tableSessions{r.databases[s.Database], s.Table, reader, r.now}
	switch s.Engine {
	case "signed_cookies":
		return &cookieSessions{reader, r.now}, nil
	case "db":
		return table, nil
	case "cache":
		return &cacheSessions{r.caches[s.Cache], s.CacheKeyPrefix}, nil
	case "cached_db":
		return &cachedTableSessions{&cacheSessions{r.caches[s.Cache], s.CacheKeyPrefix}, table}, nil
	case "file":
		return &fileSessions{s.Path, reader, r.now}, nil
	default:
		return nil, fmt.Errorf("djangonative: session engine %q is not supported", s.Engine)
	}
}

// none turns what Django takes for an empty session into errNone.
func none(s *djangostate.Session, err error) (*djangostate.Session, error) {
	if err != nil {
		return nil, errNone
	}
	return s, nil
}

// cookieSessions are those of the engine signed_cookies.
type cookieSessions struct {
	reader *djangostate.SessionReader
	now    func() time.Time
}

func (s *cookieSessions) load(_ context.Context, cookie string) (*djangostate.Session, error) {
	return none(s.reader.Read(cookie, s.now()))
}

// tableSessions are those of the engine db.
type tableSessions struct {
	database *database
	table    string
	reader   *djangostate.SessionReader
	now      func() time.Time
}

func (s *tableSessions) load(ctx context.Context, cookie string) (*djangostate.Session, error) {
	if len(cookie) < minSessionKey {
		return nil, errNone
	}
	query := s.database.selectLiving("session_data", s.table, "session_key", "expire_date", ">")
	text, err := s.database.text(ctx, query, cookie, s.database.moment(s.now()))
	if err != nil {
		return nil, err
	}
	return none(s.reader.ReadStored(text))
}

// cacheSessions are those of the engine cache.
type cacheSessions struct {
	cache  cache
	prefix string
}

func (s *cacheSessions) load(ctx context.Context, cookie string) (*djangostate.Session, error) {
	if len(cookie) < minSessionKey {
		return nil, errNone
	}
	entry, err := s.cache.get(ctx, s.prefix+cookie)
	if err != nil {
		return nil, err
	}
	// Not none: a session that holds more than plain data is one that Django reads, and here is nobody who can.
	return djangostate.SessionOfEntry(entry)
}

// cachedTableSessions are those of the engine cached_db: the table counts where the cache has none, or fails.
type cachedTableSessions struct {
	cache *cacheSessions
	table *tableSessions
}

func (s *cachedTableSessions) load(ctx context.Context, cookie string) (*djangostate.Session, error) {
	if session, err := s.cache.load(ctx, cookie); err == nil {
		return session, nil
	}
	return s.table.load(ctx, cookie)
}

// isSessionKey reports whether a text can be part of a file's name.
func isSessionKey(text string) bool {
	return len(text) >= minSessionKey && len(text) <= 255 && strings.Trim(text, sessionKeyChars) == ""
}
