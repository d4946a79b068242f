package djangonative_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/djangostate"
	"github.com/dfws/dfws/integration/dbtest"
)

// kinds are the visitors of testdata/site.py.
var kinds = []string{
	"stranger", "anonymous", "cart", "user", "staff", "superuser", "inactive", "changed password", "logged out elsewhere", "expired session",
	"deleted", "rotated key", "foreign backend", "own expiry", "forged session", "short session", "other language", "odd language",
	"no key", "topics gone",
}

// handshake is what a visitor's browser sends.
type handshake struct {
	Cookie         string  `json:"cookie"`
	UserAgent      string  `json:"user-agent"`
	AcceptLanguage string  `json:"accept-language"`
	User           *string `json:"user"`
}

func (h *handshake) question() djangostate.Question {
	cookies := compat.ParseCookies(h.Cookie)
	return djangostate.Question{
		WindowKey: cookies["dfwskey"], SessionCookie: cookies["sessionid"], CSRFCookie: cookies["csrftoken"], UserAgent: h.UserAgent,
		LanguageCookie: cookies["django_language"], AcceptLanguage: h.AcceptLanguage,
	}
}

func (s *site) visitor(kind string, number int) *handshake {
	s.t.Helper()
	var h handshake
	if err := json.Unmarshal(s.ask("visitor", map[string]any{"kind": kind, "number": number}), &h); err != nil {
		s.t.Fatal(err)
	}
	return &h
}

// compare identifies every kind of visitor, and asks Python afterwards, since it changes sessions.
func (s *site) compare() {
	s.t.Helper()
	users := 0
	for i, kind := range kinds {
		h := s.visitor(kind, i)
		got, err := s.reader.Identify(s.t.Context(), h.question())
		if err != nil {
			s.t.Errorf("%s: %v", kind, err)
			continue
		}
		var want struct {
			Topics     []string       `json:"topics"`
			WindowInfo map[string]any `json:"window_info"`
		}
		if err := json.Unmarshal(s.ask("expect", map[string]any{"handshake": h}), &want); err != nil {
			s.t.Fatal(err)
		}
		var info map[string]any
		if err := json.Unmarshal(got.WindowInfo.AppendJSON(nil), &info); err != nil {
			s.t.Fatal(err)
		}
		if diff := cmp.Diff(want.WindowInfo, info); diff != "" {
			s.t.Errorf("%s (-Python +Go):\n%s", kind, diff)
		}
		topics := append([]string{}, got.Topics...)
		slices.Sort(topics)
		if diff := cmp.Diff(want.Topics, topics); diff != "" {
			s.t.Errorf("%s: topics (-Python +Go):\n%s", kind, diff)
		}
		if (got.Known != nil) != (info["user_pk"] != nil) {
			s.t.Errorf("%s: known %+v", kind, got.Known)
		}
		if got.Known != nil {
			users++
			if got.Known.UserID != *h.User || !strings.HasSuffix(got.Known.Label, "."+*h.User) {
				s.t.Errorf("%s: %+v, want user %s", kind, got.Known, *h.User)
			}
		}
	}
	if users < 6 {
		s.t.Errorf("only %d users", users)
	}
}

// TestSameAsDjango compares with df_websockets' consumer: every engine of sessions, cache and database, and two user models.
func TestSameAsDjango(t *testing.T) {
	t.Parallel()
	const redisCache, djangoRedis = djangoCaches + "redis.RedisCache", "django_redis.cache.RedisCache"
	table := map[string]any{"BACKEND": djangoCaches + "db.DatabaseCache", "LOCATION": "the cache"}
	for name, tc := range map[string]struct {
		database dbtest.Kind
		cache    func(*testing.T) map[string]any
		engine   string
		change   map[string]any
	}{
		"db":             {dbtest.SQLite, func(t *testing.T) map[string]any { return redisCacheOf(t, redisCache, nil) }, "db", nil},
		"cache":          {dbtest.SQLite, func(t *testing.T) map[string]any { return redisCacheOf(t, redisCache, nil) }, "cache", nil},
		"cached_db":      {dbtest.SQLite, func(t *testing.T) map[string]any { return redisCacheOf(t, redisCache, nil) }, "cached_db", nil},
		"signed_cookies": {dbtest.SQLite, func(t *testing.T) map[string]any { return redisCacheOf(t, redisCache, nil) }, "signed_cookies", nil},
		"file":           {dbtest.SQLite, fileCacheOf, "file", map[string]any{"SESSION_FILE_PATH": t.TempDir()}},
		"django-redis": {dbtest.SQLite, func(t *testing.T) map[string]any {
			return redisCacheOf(t, djangoRedis, map[string]any{"CLIENT_CLASS": "django_redis.client.DefaultClient"})
		}, "cache", nil},
		"django-redis, msgpack, zlib": {dbtest.SQLite, func(t *testing.T) map[string]any {
			return redisCacheOf(t, djangoRedis, map[string]any{
				"SERIALIZER": "django_redis.serializers.msgpack.MSGPackSerializer", "COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor"})
		}, "cache", nil},
		"django-redis, JSON, lz4": {dbtest.SQLite, func(t *testing.T) map[string]any {
			return redisCacheOf(t, djangoRedis, map[string]any{
				"SERIALIZER": "django_redis.serializers.json.JSONSerializer", "COMPRESSOR": "django_redis.compressors.lz4.Lz4Compressor"})
		}, "cached_db", nil},
		"memcached": {dbtest.SQLite, func(t *testing.T) map[string]any {
			return map[string]any{"BACKEND": djangoCaches + "memcached.PyMemcacheCache", "LOCATION": startMemcached(t, 3), "KEY_PREFIX": "my:site", "VERSION": 7}
		}, "cache", nil},
		"table, PostgreSQL":   {dbtest.PostgreSQL, func(*testing.T) map[string]any { return table }, "db", nil},
		"table, MariaDB":      {dbtest.MariaDB, func(*testing.T) map[string]any { return table }, "cached_db", nil},
		"table, SQLite":       {dbtest.SQLite, func(*testing.T) map[string]any { return table }, "cache", nil},
		"members, SQLite":     {dbtest.SQLite, fileCacheOf, "db", map[string]any{"AUTH_USER_MODEL": "accounts.Member"}},
		"members, PostgreSQL": {dbtest.PostgreSQL, fileCacheOf, "db", map[string]any{"AUTH_USER_MODEL": "accounts.Member"}},
		"members, MariaDB":    {dbtest.MariaDB, fileCacheOf, "db", map[string]any{"AUTH_USER_MODEL": "accounts.Member"}},
		"local time, SQLite":  {dbtest.SQLite, func(*testing.T) map[string]any { return table }, "db", map[string]any{"USE_TZ": false, "TIME_ZONE": "Asia/Tokyo"}},
		"local time, MariaDB": {dbtest.MariaDB, func(*testing.T) map[string]any { return table }, "db", map[string]any{"USE_TZ": false, "TIME_ZONE": "America/Lima"}},
		"local time, PostgreSQL": {dbtest.PostgreSQL, func(*testing.T) map[string]any { return table }, "db",
			map[string]any{"USE_TZ": false, "TIME_ZONE": "Asia/Tokyo"}},
		"inactive users": {dbtest.SQLite, fileCacheOf, "db", map[string]any{
			"AUTHENTICATION_BACKENDS": []string{"django.contrib.auth.backends.ModelBackend", "django.contrib.auth.backends.AllowAllUsersModelBackend"}}},
		"no languages":  {dbtest.SQLite, fileCacheOf, "db", map[string]any{"USE_I18N": false}},
		"few languages": {dbtest.SQLite, fileCacheOf, "db", map[string]any{"LANGUAGES": [][]string{{"de", "German"}, {"es-mx", "Spanish"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := siteSettings(dbtest.New(t, tc.database).Django(), tc.cache(t), tc.engine)
			for setting, value := range tc.change {
				settings[setting] = value
			}
			s := newSite(t, settings)
			s.open()
			s.compare()
		})
	}
}
