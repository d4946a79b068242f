package djangostate

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
)

type goldenCache struct {
	Case   string `json:"case"`
	Config struct {
		Cache struct {
			Options struct {
				Serializer string `json:"SERIALIZER"`
				Compressor string `json:"COMPRESSOR"`
			} `json:"OPTIONS"`
		} `json:"cache"`
	} `json:"config"`
	CapturedAt float64 `json:"captured_at"`
	Input      struct {
		Value   any     `json:"value"`
		Timeout float64 `json:"timeout"`
	} `json:"input"`
	Redis []struct {
		Value []byte `json:"value_b64"`
	} `json:"redis"`
	Row struct {
		Value string `json:"value"`
	} `json:"db_row"`
	File struct {
		Content []byte `json:"content_b64"`
	} `json:"file"`
	Memcached []struct {
		Flags uint32 `json:"flags"`
		Value []byte `json:"value_b64"`
	} `json:"memcached"`
}

// lastModule is the module of a class of django-redis: django_redis.compressors.zlib.ZlibCompressor is zlib.
func lastModule(path, otherwise string) string {
	parts := strings.Split(path, ".")
	if len(parts) < 2 {
		return otherwise
	}
	return strings.TrimSuffix(parts[len(parts)-2], "identity")
}

// decode reads the entry from whatever cache it was captured in.
func (g *goldenCache) decode(tb testing.TB) (celeryproto.Raw, error) {
	tb.Helper()
	switch {
	case len(g.Redis) > 0:
		o := g.Config.Cache.Options
		return CacheCodec{Serializer: lastModule(o.Serializer, "pickle"), Compressor: lastModule(o.Compressor, "")}.Decode(g.Redis[0].Value)
	case g.Row.Value != "":
		data, err := base64.StdEncoding.DecodeString(g.Row.Value)
		if err != nil {
			tb.Fatal(err)
		}
		return DecodePickle(data)
	case len(g.File.Content) > 0:
		expires, size, err := FileExpiry(g.File.Content)
		if err != nil {
			return nil, err
		}
		if late := float64(expires.UnixNano())/1e9 - g.CapturedAt - g.Input.Timeout; math.Abs(late) > 5 {
			tb.Errorf("%s: expires %v s late", g.Case, late)
		}
		return CacheCodec{Serializer: "pickle", Compressor: "zlib"}.Decode(g.File.Content[size:])
	default:
		return DecodeMemcached(g.Memcached[0].Flags, g.Memcached[0].Value)
	}
}

func TestCacheGolden(t *testing.T) {
	t.Parallel()
	n := 0
	for file, g := range mustGolden[goldenCache](t, "cache_*.json") {
		raw, err := g.decode(t)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		var got any
		if err := json.Unmarshal(raw, &got); err != nil {
			t.Errorf("%s: %s: %v", file, raw, err)
		}
		if diff := cmp.Diff(g.Input.Value, got); diff != "" && g.Input.Value != "see python_repr" {
			t.Errorf("%s (-Python +Go):\n%s", file, diff)
		}
		if strings.HasSuffix(g.Case, "_usual") || strings.HasSuffix(g.Case, "_medium") {
			topics, err := Topics(raw)
			if err != nil || len(topics) == 0 {
				t.Errorf("%s: topics %q, %v", file, topics, err)
			}
		}
		n++
	}
	if n < 100 {
		t.Errorf("only %d cases", n)
	}
}

func TestCacheValuesRefused(t *testing.T) {
	t.Parallel()
	pickle := CacheCodec{Serializer: "pickle"}
	for name, tc := range map[string]struct {
		codec CacheCodec
		data  string
		want  error
	}{
		"empty":          {pickle, "", ErrMalformed},
		"a call":         {pickle, "cos\nsystem\n(S'true'\ntR.", ErrMalformed},
		"a class":        {pickle, "\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x08decimal_\x8c\x07Decimal\x93)\x81.", ErrMalformed},
		"cut":            {pickle, "\x80\x04\x95", ErrMalformed},
		"zlib bomb":      {CacheCodec{Serializer: "json", Compressor: "zlib", MaxBytes: 1000}, bomb(t), ErrTooLarge},
		"large":          {CacheCodec{Serializer: "json", MaxBytes: 10}, `"0123456789"`, ErrTooLarge},
		"serializer":     {CacheCodec{Serializer: "yaml"}, "x", ErrMalformed},
		"no JSON":        {CacheCodec{Serializer: "json"}, "x", ErrMalformed},
		"not compressed": {CacheCodec{Serializer: "json", Compressor: "lz4"}, `"short"`, nil},
		"an integer":     {pickle, "-42", nil},
	} {
		if _, err := tc.codec.Decode([]byte(tc.data)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	for _, text := range []string{`5`, `null`, `"x"`, `"{}"`, `"[5]"`, `"[\"a\", null]"`, `["-broadcast"]`} {
		if _, err := Topics(celeryproto.Raw(text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("topics %s: %v", text, err)
		}
	}
	many, _ := json.Marshal("[" + strings.Repeat(`"a",`, maxTopics) + `"a"]`)
	if _, err := Topics(many); !errors.Is(err, ErrTooLarge) {
		t.Errorf("many topics: %v", err)
	}
	for _, data := range []string{"", "\x80\x05N", "\x80\x05G\x7f\xf8\x00\x00\x00\x00\x00\x00.", "\x80\x05G\xff\xf0\x00\x00\x00\x00\x00\x00.", "x"} {
		if _, _, err := FileExpiry([]byte(data)); !errors.Is(err, ErrMalformed) {
			t.Errorf("expiry %q: %v", data, err)
		}
	}
	if expires, size, err := FileExpiry([]byte("\x80\x05N.x")); err != nil || size != 4 || !expires.IsZero() {
		t.Errorf("never: %v %d %v", expires, size, err)
	}
	for _, flags := range []uint32{memcachedBytes, memcachedInt, memcachedPickle, 8, 255} {
		if _, err := DecodeMemcached(flags, []byte("x")); !errors.Is(err, ErrMalformed) {
			t.Errorf("flags %d: %v", flags, err)
		}
	}
}

// bomb is a zlib stream of a large JSON text.
func bomb(tb testing.TB) string {
	tb.Helper()
	data, err := base64.RawURLEncoding.DecodeString(compressed(tb, `"`+strings.Repeat("x", 100_000)+`"`)[1:])
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}

type goldenStored struct {
	CapturedAt float64 `json:"captured_at"`
	Config     struct {
		Secret    string   `json:"SECRET_KEY"`
		Fallbacks []string `json:"SECRET_KEY_FALLBACKS"`
	} `json:"config"`
	Cookie struct {
		Value string `json:"value"`
	} `json:"cookie"`
	Row struct {
		Data string `json:"session_data"`
	} `json:"db_row"`
	File struct {
		Content string `json:"content"`
	} `json:"file"`
	Redis []struct {
		Value []byte `json:"value_b64"`
	} `json:"redis"`
	User struct {
		Password string `json:"password"`
		Active   bool   `json:"is_active"`
	} `json:"user_row"`
	Expect struct {
		Authenticated bool           `json:"authenticated"`
		Session       map[string]any `json:"session"`
		OldHash       string         `json:"old_hash"`
	} `json:"expect"`
}

// TestStoredSessionsGolden reads the sessions of each engine and series, and checks them against the user's row.
func TestStoredSessionsGolden(t *testing.T) {
	t.Parallel()
	for file, g := range mustGolden[goldenStored](t, "session_*.json") {
		var reader SessionReader
		var authKeys []Key
		for _, secret := range append([]string{g.Config.Secret}, g.Config.Fallbacks...) {
			reader.Keys = append(reader.Keys, DeriveKey(StoredSalt, secret))
			authKeys = append(authKeys, SaltedHMACKey(AuthHashSalt, secret))
		}
		for _, s := range g.sessions(t, file, &reader) {
			var data map[string]any
			if err := json.Unmarshal(s.Data, &data); err != nil {
				t.Fatal(err)
			}
			if g.Expect.Session != nil {
				if diff := cmp.Diff(g.Expect.Session, data); diff != "" {
					t.Errorf("%s (-Python +Go):\n%s", file, diff)
				}
			}
			if s.UserID == "" {
				continue
			}
			if got := VerifyAuthHash(s.AuthHash, g.User.Password, authKeys...) && g.User.Active; got != g.Expect.Authenticated {
				t.Errorf("%s: authenticated %v", file, got)
			}
			if VerifyAuthHash(s.AuthHash, g.User.Password+"x", authKeys...) || VerifyAuthHash("", g.User.Password, authKeys...) || VerifyAuthHash(s.AuthHash, g.User.Password) {
				t.Errorf("%s: another password, no hash or no key", file)
			}
			if g.Expect.OldHash != "" && (s.AuthHash != g.Expect.OldHash || VerifyAuthHash(s.AuthHash, g.User.Password, authKeys[0])) {
				t.Errorf("%s: the fallback key is not needed", file)
			}
		}
	}
}

// sessions are those that the file holds, in its table, file or cache.
func (g *goldenStored) sessions(t *testing.T, file string, reader *SessionReader) []*Session {
	t.Helper()
	var found []*Session
	add := func(s *Session, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return
		}
		found = append(found, s)
	}
	if g.Row.Data != "" {
		add(reader.ReadStored(g.Row.Data))
	}
	if g.File.Content != "" {
		s, err := reader.ReadStored(g.File.Content)
		add(s, err)
		captured := time.Unix(int64(g.CapturedAt), 0)
		if err == nil && (!s.Living(captured, time.Hour, captured.Add(time.Minute))) {
			t.Errorf("%s: it has expired", file)
		}
	}
	if len(g.Redis) > 0 {
		raw, err := CacheCodec{Serializer: "pickle"}.Decode(g.Redis[0].Value)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			return found
		}
		add(SessionOfEntry(raw))
	}
	if len(found) == 0 && g.Cookie.Value == "" {
		t.Errorf("%s holds no session", file)
	}
	return found
}

func TestLiving(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for data, want := range map[string]bool{
		`{}`: false, `{"_session_expiry": null}`: false, `{"_session_expiry": 0}`: false, `{"_session_expiry": 5}`: true,
		`{"_session_expiry": "2026-05-01T13:00:00+00:00"}`: true, `{"_session_expiry": "2026-05-01T13:00:00.5"}`: true,
		`{"_session_expiry": "2026-05-01T11:00:00+00:00"}`: false, `{"_session_expiry": "soon"}`: false,
	} {
		s := &Session{Data: celeryproto.Raw(data)}
		if got := s.Living(at.Add(-time.Hour), time.Minute, at); got != want {
			t.Errorf("%s: %v", data, got)
		}
		if !s.Living(at, time.Minute, at) && strings.Contains(data, "null") {
			t.Errorf("%s: a fresh file", data)
		}
	}
}

type goldenLanguage struct {
	Config struct {
		Code      string   `json:"LANGUAGE_CODE"`
		Languages []string `json:"LANGUAGES"`
	} `json:"config"`
	Choices []struct {
		Cookie   *string `json:"cookie"`
		Accept   *string `json:"accept_language"`
		Language string  `json:"language"`
	} `json:"choices"`
}

// zhFallbacks are those of django.conf.locale.LANG_INFO.
var zhFallbacks = map[string][]string{
	"zh-cn": {"zh-hans"}, "zh-hk": {"zh-hant"}, "zh-mo": {"zh-hant"}, "zh-my": {"zh-hans"}, "zh-sg": {"zh-hans"}, "zh-tw": {"zh-hant"},
}

func languagesOf(code string, supported []string) *Languages {
	l := &Languages{Code: code, Fallbacks: zhFallbacks}
	for _, s := range supported {
		l.Supported = append(l.Supported, Language{Code: strings.ToLower(s), Catalog: true})
	}
	return l
}

func TestLanguageGolden(t *testing.T) {
	t.Parallel()
	for file, g := range mustGolden[goldenLanguage](t, "language.json") {
		l := languagesOf(g.Config.Code, g.Config.Languages)
		for _, c := range g.Choices {
			cookie, accept := "", ""
			if c.Cookie != nil {
				cookie = *c.Cookie
			}
			if c.Accept != nil {
				accept = *c.Accept
			}
			if got := l.Choose(cookie, accept); got != c.Language {
				t.Errorf("%s: cookie %.40q, header %.60q: %q, want %q", file, cookie, accept, got, c.Language)
			}
		}
	}
}

func FuzzCacheValue(f *testing.F) {
	for _, g := range mustGolden[goldenCache](f, "cache_*.json") {
		if len(g.Redis) > 0 {
			f.Add(g.Redis[0].Value)
		}
		if len(g.File.Content) > 0 {
			f.Add(g.File.Content)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, serializer := range []string{"pickle", "json", "msgpack"} {
			for _, compressor := range []string{"", "zlib", "gzip", "lz4", "zstd", "lzma"} {
				raw, err := CacheCodec{Serializer: serializer, Compressor: compressor, MaxBytes: 1 << 16}.Decode(data)
				if err != nil {
					continue
				}
				if err := celeryproto.CheckJSON(raw, celeryproto.JSONLimits{}); err != nil {
					t.Errorf("%s: %v", serializer, err)
				}
				_, _ = Topics(raw)
				_, _ = SessionOfEntry(raw)
			}
		}
		if _, size, err := FileExpiry(data); err == nil && size > len(data) {
			t.Error("size")
		}
	})
}

func FuzzLanguage(f *testing.F) {
	for _, g := range mustGolden[goldenLanguage](f, "language.json") {
		for _, c := range g.Choices {
			if c.Accept != nil {
				f.Add("", *c.Accept)
			}
			if c.Cookie != nil {
				f.Add(*c.Cookie, "")
			}
		}
	}
	l := languagesOf("fr", []string{"en", "en-gb", "fr", "de", "pt-br", "zh-hans", "zh-hant", "es-mx"})
	f.Fuzz(func(t *testing.T, cookie, accept string) {
		got := l.Choose(cookie, accept)
		if _, ok := l.variant(got); !ok {
			t.Errorf("%q is no language of the site", got)
		}
	})
}

func FuzzStoredSession(f *testing.F) {
	for _, g := range mustGolden[goldenStored](f, "session_db_*.json") {
		f.Add(g.Row.Data[:strings.LastIndexByte(g.Row.Data, ':')])
	}
	key := DeriveKey(StoredSalt, secret)
	reader := SessionReader{Keys: []Key{key}}
	f.Fuzz(func(t *testing.T, payload string) {
		s, err := reader.ReadStored(payload + ":" + signature(key, payload))
		if err == nil {
			s.Living(time.Unix(0, 0), time.Hour, time.Unix(1e9, 0))
		}
		if errors.Is(err, ErrBadSignature) {
			t.Error("signed, but refused")
		}
	})
}
