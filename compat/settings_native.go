package compat

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Native is what identifies a window without Python: where the site keeps topics, sessions and users, and what its languages are.
type Native struct {
	// Obstacles name what of the site only Python can do; windows cannot be identified natively then.
	Obstacles []string `json:"obstacles"`
	// Notices name what an operator should know, for one line each in the log at start.
	Notices []string `json:"notices"`
	// Topics is where df_websockets keeps the topics of windows.
	Topics NativeTopics `json:"topics"`
	// Caches are those of CACHES that are needed, by alias.
	Caches map[string]Cache `json:"caches"`
	// Session is nil when the site has no SessionMiddleware.
	Session *NativeSession `json:"session"`
	// Auth is nil when the site has no AuthenticationMiddleware.
	Auth *NativeAuth `json:"auth"`
	// Language is what get_language_from_request knows.
	Language NativeLanguage `json:"language"`
}

// NativeTopics is either of the two places where df_websockets has kept topics.
type NativeTopics struct {
	// Cache is an alias in Native.Caches: a JSON text under WEBSOCKET_CACHE_PREFIX and the window key (df_websockets 1.0 and newer).
	Cache string `json:"cache"`
	// Redis is the URL of WEBSOCKET_REDIS_CONNECTION: a list under Prefix and the window key, whose items start with Prefix, too
	// (df_websockets 0.9 and 0.10). The window key is in the URL of the websocket.
	Redis Secret `json:"redis"`
	// Prefix is WEBSOCKET_REDIS_PREFIX; default "ws". It belongs to Redis.
	Prefix string `json:"prefix"`
}

// ListPrefix is Prefix or its default.
func (t *NativeTopics) ListPrefix() string { return cmp.Or(t.Prefix, "ws") }

// ItemPrefix is what each topic starts with.
func (t *NativeTopics) ItemPrefix() string {
	if t.Redis == "" {
		return ""
	}
	return t.ListPrefix()
}

// Cache is one entry of CACHES.
type Cache struct {
	// Backend is "redis", "memcached", "database" or "file".
	Backend string `json:"backend"`
	// KeyPrefix and Version are KEY_PREFIX and VERSION; an empty version is "1".
	KeyPrefix string `json:"key_prefix"`
	Version   string `json:"version"`
	// Servers are URLs as redis-py has them, the first of which is written to, or host:port and paths of memcached's servers.
	Servers []Secret `json:"servers"`
	// Serializer is how Redis keeps values: "pickle", "json" or "msgpack".
	Serializer string `json:"serializer"`
	// Compressor is how they are compressed: "", "zlib", "gzip", "lz4", "zstd" or "lzma".
	Compressor string `json:"compressor"`
	// Database is the alias of the database, and Table the table of the backend "database".
	Database string `json:"database"`
	Table    string `json:"table"`
	// Path is the folder of the backend "file".
	Path string `json:"path"`
}

// NativeSession is how the site keeps sessions.
type NativeSession struct {
	// Engine is the last part of SESSION_ENGINE: "db", "cache", "cached_db", "file" or "signed_cookies".
	Engine string `json:"engine"`
	// Cache is SESSION_CACHE_ALIAS, of the engines cache and cached_db; CacheKeyPrefix starts the keys there.
	Cache          string `json:"cache"`
	CacheKeyPrefix string `json:"cache_key_prefix"`
	// Database is the alias of the database, and Table the table of the engines db and cached_db.
	Database string `json:"database"`
	Table    string `json:"table"`
	// Path starts the names of the files of the engine file: SESSION_FILE_PATH and SESSION_COOKIE_NAME.
	Path string `json:"path"`
	// Keys are the derived keys, in hex, that verify sessions; the engine cache needs none.
	Keys []Secret `json:"keys"`
}

// NativeAuth is how the site knows its users.
type NativeAuth struct {
	// Backends are those of AUTHENTICATION_BACKENDS that find a user by the primary key alone.
	Backends []NativeBackend `json:"backends"`
	// HashKeys are the derived keys, in hex, of session auth hashes.
	HashKeys []Secret `json:"hash_keys"`
	// User is the table of users.
	User NativeUser `json:"user"`
}

// NativeBackend is one authentication backend.
type NativeBackend struct {
	// Path is its Python path, as sessions have it.
	Path string `json:"path"`
	// Inactive says that it also accepts users who are not active.
	Inactive bool `json:"inactive"`
}

// NativeUser is the table of AUTH_USER_MODEL.
type NativeUser struct {
	// Database is the alias of the database.
	Database string `json:"database"`
	Table    string `json:"table"`
	// Label is the model's label in lower case.
	Label string `json:"label"`
	// PK is the primary key.
	PK NativePK `json:"pk"`
	// Username and Password are columns.
	Username string `json:"username"`
	Password string `json:"password"`
	// The flags of the user.
	IsActive    NativeFlag `json:"is_active"`
	IsStaff     NativeFlag `json:"is_staff"`
	IsSuperuser NativeFlag `json:"is_superuser"`
}

// NativePK is a primary key: "int", "uuid" or "text" in Kind.
type NativePK struct {
	Column string `json:"column"`
	Kind   string `json:"kind"`
}

// NativeFlag is a column, or a value where Column is empty.
type NativeFlag struct {
	Column string `json:"column"`
	Value  bool   `json:"value"`
}

// NativeLanguage is what get_language_from_request knows.
type NativeLanguage struct {
	// Code is LANGUAGE_CODE.
	Code string `json:"code"`
	// I18N is USE_I18N; without it every window has Code.
	I18N bool `json:"i18n"`
	// Cookie is LANGUAGE_COOKIE_NAME.
	Cookie string `json:"cookie"`
	// Supported is LANGUAGES, in its order.
	Supported []SupportedLanguage `json:"supported"`
	// Fallbacks are further codes to be tried for a code (django.conf.locale.LANG_INFO).
	Fallbacks map[string][]string `json:"fallbacks"`
	// EmptySessionCounts says that a visitor without session has a language of its own; not since Django 6.1.
	EmptySessionCounts bool `json:"empty_session_counts"`
}

// SupportedLanguage is a language of the site, and whether Django finds messages for it.
type SupportedLanguage struct {
	Code    string `json:"code"`
	Catalog bool   `json:"catalog"`
}

// Check says why windows cannot be identified natively, nil if they can be: what the settings name as obstacles and what is wrong with
// the section itself.
func (n *Native) Check(databases map[string]Database) error {
	if n == nil {
		return errors.New("the settings have no section native: export them again")
	}
	if len(n.Obstacles) > 0 {
		return fmt.Errorf("only Python can do this: %s", strings.Join(n.Obstacles, "; "))
	}
	var f faults
	n.check(&f, databases)
	return errors.Join(f...)
}

func (n *Native) check(f *faults, databases map[string]Database) {
	database := func(setting, alias string) {
		if _, ok := databases[alias]; !ok {
			f.addf(setting, "%q is not in databases", alias)
		}
	}
	cache := func(setting, alias string) {
		if _, ok := n.Caches[alias]; !ok {
			f.addf(setting, "%q is not in native.caches", alias)
		}
	}
	if n.Topics.Redis == "" {
		cache("native.topics.cache", n.Topics.Cache)
	}
	for _, alias := range slices.Sorted(maps.Keys(n.Caches)) {
		c := n.Caches[alias]
		c.check(f, "native.caches."+alias, database)
	}
	if s := n.Session; s != nil {
		s.check(f, cache, database)
	}
	if a := n.Auth; a != nil {
		database("native.auth.user.database", a.User.Database)
		checkKeys(f, "native.auth.hash_keys", a.HashKeys)
		oneOf(f, "native.auth.user.pk.kind", a.User.PK.Kind, "int", "uuid", "text")
		for _, column := range [][2]string{{"table", a.User.Table}, {"label", a.User.Label}, {"pk.column", a.User.PK.Column},
			{"username", a.User.Username}, {"password", a.User.Password}} {
			required(f, "native.auth.user."+column[0], column[1])
		}
	}
}

func (c *Cache) check(f *faults, setting string, database func(setting, alias string)) {
	oneOf(f, setting+".backend", c.Backend, "redis", "memcached", "database", "file")
	switch c.Backend {
	case "redis":
		oneOf(f, setting+".serializer", c.Serializer, "pickle", "json", "msgpack")
		oneOf(f, setting+".compressor", c.Compressor, "", "zlib", "gzip", "lz4", "zstd", "lzma")
		fallthrough
	case "memcached":
		if len(c.Servers) == 0 {
			f.addf(setting+".servers", "missing")
		}
	case "database":
		database(setting+".database", c.Database)
		required(f, setting+".table", c.Table)
	case "file":
		required(f, setting+".path", c.Path)
	}
}

func (s *NativeSession) check(f *faults, cache, database func(setting, alias string)) {
	oneOf(f, "native.session.engine", s.Engine, "db", "cache", "cached_db", "file", "signed_cookies")
	if s.Engine == "cache" || s.Engine == "cached_db" {
		cache("native.session.cache", s.Cache)
	}
	if s.Engine == "db" || s.Engine == "cached_db" {
		database("native.session.database", s.Database)
		required(f, "native.session.table", s.Table)
	}
	if s.Engine == "file" {
		required(f, "native.session.path", s.Path)
	}
	if s.Engine != "cache" && len(s.Keys) == 0 {
		f.addf("native.session.keys", "missing")
	}
	checkKeys(f, "native.session.keys", s.Keys)
}

// oneOf notes a value that is none of the known ones.
func oneOf(f *faults, setting, value string, known ...string) {
	if !slices.Contains(known, value) {
		f.addf(setting, "%q is not supported", value)
	}
}
