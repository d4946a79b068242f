package djangonative

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/djangostate"
)

// Config configures a Reader.
type Config struct {
	// Settings of the site; required.
	Settings *compat.Settings
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Reader answers questions about windows. It is safe for concurrent use, and connects when it is asked.
type Reader struct {
	native    *compat.Native
	site      *compat.Site
	prefix    string // of the topics' keys
	now       func() time.Time
	caches    map[string]cache
	databases map[string]*database
	topics    topicStore
	sessions  sessionStore // nil without sessions
	users     *users       // nil without users
	languages djangostate.Languages
}

// Open prepares what the settings name. Nothing need be up. The error says what only Python can do, or what is wrong with the settings.
func Open(cfg Config) (*Reader, error) {
	n := cfg.Settings.Native
	if err := n.Check(cfg.Settings.Databases); err != nil {
		return nil, err
	}
	r := &Reader{
		native: n, site: &cfg.Settings.Site, prefix: cfg.Settings.WebSocket.CachePrefix, now: cfg.Now,
		caches: map[string]cache{}, databases: map[string]*database{},
		languages: djangostate.Languages{Code: n.Language.Code, Fallbacks: n.Language.Fallbacks},
	}
	if r.now == nil {
		r.now = time.Now
	}
	for _, l := range n.Language.Supported {
		r.languages.Supported = append(r.languages.Supported, djangostate.Language{Code: l.Code, Catalog: l.Catalog})
	}
	if err := r.open(cfg.Settings); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Reader) open(s *compat.Settings) error {
	var errs []error
	for alias := range databasesOf(r.native) {
		d, err := openDatabase(s.Databases[alias])
		if err != nil {
			errs = append(errs, fmt.Errorf("djangonative: databases.%s: %w", alias, err))
			continue
		}
		r.databases[alias] = d
	}
	for alias, c := range r.native.Caches {
		opened, err := r.openCache(c)
		if err != nil {
			errs = append(errs, fmt.Errorf("djangonative: native.caches.%s: %w", alias, err))
			continue
		}
		r.caches[alias] = opened
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var err error
	if r.topics, err = r.openTopics(); err != nil {
		return err
	}
	if r.native.Session != nil {
		if r.sessions, err = r.openSessions(r.native.Session); err != nil {
			return err
		}
	}
	if r.native.Auth != nil {
		r.users, err = newUsers(r.native.Auth, r.databases[r.native.Auth.User.Database])
	}
	return err
}

// databasesOf are the aliases that the section names.
func databasesOf(n *compat.Native) map[string]bool {
	aliases := map[string]bool{}
	for _, c := range n.Caches {
		if c.Backend == "database" {
			aliases[c.Database] = true
		}
	}
	if n.Session != nil && (n.Session.Engine == "db" || n.Session.Engine == "cached_db") {
		aliases[n.Session.Database] = true
	}
	if n.Auth != nil {
		aliases[n.Auth.User.Database] = true
	}
	return aliases
}

// Close ends all connections.
func (r *Reader) Close() error {
	var errs []error
	for _, c := range r.caches {
		errs = append(errs, c.close())
	}
	if r.topics != nil {
		errs = append(errs, r.topics.close())
	}
	for _, d := range r.databases {
		errs = append(errs, d.db.Close())
	}
	return errors.Join(errs...)
}

// Identify answers a question as df_websockets' consumer does. An error means that something did not answer, or holds what cannot be read;
// a session that Django would not accept is none.
func (r *Reader) Identify(ctx context.Context, q djangostate.Question) (*djangostate.Answer, error) {
	a := &djangostate.Answer{}
	var err error
	if a.Topics, err = r.topics.topics(ctx, q.WindowKey); err != nil {
		return nil, fmt.Errorf("djangonative: topics: %w", err)
	}
	var session *djangostate.Session
	if r.sessions != nil && q.SessionCookie != "" && len(q.SessionCookie) <= maxSessionCookie {
		session, err = r.sessions.load(ctx, q.SessionCookie)
		if err != nil && !errors.Is(err, errNone) {
			return nil, fmt.Errorf("djangonative: session: %w", err)
		}
	}
	var u *user
	if session != nil && r.users != nil {
		if u, err = r.users.of(ctx, session); err != nil {
			return nil, fmt.Errorf("djangonative: user: %w", err)
		}
	}
	h := compat.Handshake{
		WindowKey: q.WindowKey, CSRFCookie: q.CSRFCookie, UserAgent: q.UserAgent, LanguageCode: r.language(q, session != nil),
	}
	if u == nil {
		a.WindowInfo = compat.AnonymousWindowInfo(h)
		return a, nil
	}
	a.Known = &djangostate.Known{
		Session: q.SessionCookie, UserID: u.id, Label: r.native.Auth.User.Label + "." + u.id, Stamp: u.stamp(), AuthHash: session.AuthHash,
	}
	a.WindowInfo, err = compat.UserWindowInfo(h, compat.WindowUser{
		PK: u.pk, Username: u.username, IsSuperuser: u.superuser, IsStaff: u.staff, IsActive: u.active,
	})
	return a, err
}

// language is what Djangoi18nMiddleware of df_websockets says.
func (r *Reader) language(q djangostate.Question, hasSession bool) string {
	l := &r.native.Language
	if !l.I18N || r.sessions == nil || !hasSession && !l.EmptySessionCounts {
		return l.Code
	}
	return r.languages.Choose(q.LanguageCookie, q.AcceptLanguage)
}

// topicStore is where topics are.
type topicStore interface {
	// topics returns none for a key that is not there.
	topics(ctx context.Context, windowKey string) ([]string, error)
	close() error
}

func (r *Reader) openTopics() (topicStore, error) {
	t := r.native.Topics
	if t.Redis == "" {
		return cachedTopics{r.caches[t.Cache], r.prefix}, nil
	}
	client, err := redisClient(t.Redis)
	if err != nil {
		return nil, fmt.Errorf("djangonative: native.topics.redis: %w", err)
	}
	return &listedTopics{client, t.ListPrefix()}, nil
}

// cachedTopics are those of df_websockets 1.0 and newer.
type cachedTopics struct {
	cache  cache
	prefix string
}

func (t cachedTopics) topics(ctx context.Context, windowKey string) ([]string, error) {
	entry, err := t.cache.get(ctx, t.prefix+windowKey)
	if errors.Is(err, errNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return djangostate.Topics(entry)
}

func (cachedTopics) close() error { return nil } // the cache's owner does

// cache is one of the site's caches, for reading.
type cache interface {
	// get returns errNone for a key that is not there or has expired.
	get(ctx context.Context, key string) (celeryproto.Raw, error)
	close() error
}

// errNone says that there is nothing under a key.
var errNone = errors.New("not there")

// fullKey is default_key_func of django/core/cache/backends/base.py.
func fullKey(c *compat.Cache, key string) string {
	version := c.Version
	if version == "" {
		version = "1"
	}
	return c.KeyPrefix + ":" + version + ":" + key
}

func (r *Reader) openCache(c compat.Cache) (cache, error) {
	switch c.Backend {
	case "redis":
		return openRedisCache(c)
	case "database":
		return &tableCache{r.databases[c.Database], c, r.now}, nil
	case "file":
		return &fileCache{c, r.now}, nil
	case "memcached":
		return openMemcached(c)
	default:
		return nil, fmt.Errorf("backend %q is not supported", c.Backend)
	}
}
