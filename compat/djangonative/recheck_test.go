package djangonative_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/djangonative"
	"github.com/dfws/dfws/compat/djangostate"
	"github.com/dfws/dfws/integration/dbtest"
	"github.com/dfws/dfws/integration/redistest"
)

// TestRecheck ends identities in every way, announced by nobody.
func TestRecheck(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		database dbtest.Kind
		engine   string
		model    string
	}{
		"SQLite, db": {dbtest.SQLite, "db", "auth.User"}, "PostgreSQL, db, UUIDs": {dbtest.PostgreSQL, "db", "accounts.Member"},
		"MariaDB, db, UUIDs": {dbtest.MariaDB, "db", "accounts.Member"}, "SQLite, cache": {dbtest.SQLite, "cache", "auth.User"},
		"SQLite, cached_db": {dbtest.SQLite, "cached_db", "auth.User"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := siteSettings(dbtest.New(t, tc.database).Django(), redisCacheOf(t, djangoCaches+"redis.RedisCache", nil), tc.engine)
			settings["AUTH_USER_MODEL"] = tc.model
			s := newSite(t, settings)
			s.open()
			actions := []string{"", "login", "logout", "save", "update", "flags", "delete"}
			if tc.engine == "db" {
				actions = append(actions, "clearsessions")
			}
			var known []djangostate.Known
			var browsers []*handshake
			for i := range actions {
				browsers = append(browsers, s.visitor("user", i))
				answer, err := s.reader.Identify(t.Context(), browsers[i].question())
				if err != nil || answer.Known == nil {
					t.Fatalf("%+v, %v", answer, err)
				}
				known = append(known, *answer.Known, *answer.Known) // two windows each
			}
			for i, action := range actions {
				if action != "" {
					s.ask("act", map[string]any{"name": action, "user": browsers[i].User, "handshake": browsers[i]})
				}
			}
			stale, err := s.reader.Recheck(t.Context(), known)
			if err != nil {
				t.Fatal(err)
			}
			for i, got := range stale {
				if action := actions[i/2]; got != (action != "" && action != "login") {
					t.Errorf("after %q: stale %v", action, got)
				}
			}
		})
	}
}

// TestUnreadable: what is there but cannot be read is an error, never a visitor.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cache := map[string]any{"BACKEND": djangoCaches + "redis.RedisCache", "LOCATION": server.URLFor(1)}
	s := newSite(t, siteSettings(dbtest.New(t, dbtest.SQLite).Django(), cache, "cache"))
	s.open()
	h := s.visitor("user", 1)
	client := redis.NewClient(&redis.Options{Addr: server.Addr, DB: 1})
	defer client.Close()
	q := h.question()
	session := ":1:django.contrib.sessions.cache" + q.SessionCookie
	for name, value := range map[string]string{
		"a class": "\x80\x04\x8c\x07decimal\x8c\x07Decimal\x93)R.", "junk": "junk", "a list": "\x80\x04].", "a number as user": "\x80\x04}\x8c\x0d_auth_user_idK\x01s.",
	} {
		if err := client.Set(t.Context(), session, value, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if a, err := s.reader.Identify(t.Context(), q); !errors.Is(err, djangostate.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	if err := client.Del(t.Context(), session).Err(); err != nil {
		t.Fatal(err)
	}
	if a, err := s.reader.Identify(t.Context(), q); err != nil || a.Known != nil {
		t.Errorf("no session: %+v, %v", a, err)
	}
	topics := ":1:df_ws" + q.WindowKey
	if err := client.Del(t.Context(), topics).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.RPush(t.Context(), topics, "x").Err(); err != nil {
		t.Fatal(err)
	}
	if a, err := s.reader.Identify(t.Context(), q); !errors.Is(err, djangostate.ErrMalformed) {
		t.Errorf("a list: %+v, %v", a, err)
	}
	server.Stop()
	if a, err := s.reader.Identify(t.Context(), q); err == nil || errors.Is(err, djangostate.ErrMalformed) {
		t.Errorf("Redis away: %+v, %v", a, err)
	}
}

// TestOlderTopics reads the lists of df_websockets 0.9 and 0.10.
func TestOlderTopics(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	reader, err := djangonative.Open(djangonative.Config{Settings: &compat.Settings{Native: &compat.Native{
		Topics: compat.NativeTopics{Redis: compat.Secret(server.URLFor(1))}, Language: compat.NativeLanguage{Code: "fr"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	client := redis.NewClient(&redis.Options{Addr: server.Addr, DB: 1})
	defer client.Close()
	want := []any{"ws-broadcast", "ws-window.key", "ws-auth.user.1"}
	if err := client.RPush(t.Context(), "wskey", want...).Err(); err != nil {
		t.Fatal(err)
	}
	a, err := reader.Identify(t.Context(), djangostate.Question{WindowKey: "key", SessionCookie: "a session"})
	if err != nil || len(a.Topics) != len(want) || a.Topics[0] != want[0] || a.Known != nil || a.WindowInfo.LanguageCode() != "fr" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err = reader.Identify(t.Context(), djangostate.Question{WindowKey: "other"}); err != nil || len(a.Topics) != 0 {
		t.Errorf("no list: %+v, %v", a, err)
	}
	if err := client.Set(t.Context(), "wstext", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err = reader.Identify(t.Context(), djangostate.Question{WindowKey: "text"}); !errors.Is(err, djangostate.ErrMalformed) {
		t.Errorf("a text: %v", err)
	}
}

// TestSessionFiles: a cookie names no file elsewhere.
func TestSessionFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret00"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := djangonative.Open(djangonative.Config{Settings: &compat.Settings{Native: &compat.Native{
		Topics: compat.NativeTopics{Cache: "c"}, Caches: map[string]compat.Cache{"c": {Backend: "file", Path: dir}},
		Session: &compat.NativeSession{Engine: "file", Path: filepath.Join(dir, "sub", "sessionid"), Keys: []compat.Secret{
			"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, cookie := range []string{"/../../secret00", "..", "\x00aaaaaaaa", "AAAAAAAA", ""} {
		if a, err := reader.Identify(t.Context(), djangostate.Question{SessionCookie: cookie}); err != nil || a.Known != nil {
			t.Errorf("%q: %+v, %v", cookie, a, err)
		}
	}
}
