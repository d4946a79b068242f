package djangostate

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const secret = "fixture-secret-key-0123456789-never-use-this-one"

// mustGolden reads the file of each Django series.
func mustGolden[T any](tb testing.TB, pattern string) map[string]T {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "django-*", pattern))
	if err != nil || len(files) == 0 {
		tb.Fatalf("%s: %v, %d files", pattern, err, len(files))
	}
	golden := make(map[string]T, len(files))
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		var g T
		if err := json.Unmarshal(b, &g); err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
		golden[file] = g
	}
	return golden
}

type goldenSigning struct {
	CapturedAt float64 `json:"captured_at"`
	Objects    []struct {
		Salt   string `json:"salt"`
		Object any    `json:"object"`
		Secret string `json:"secret"`
		Signed string `json:"signed"`
	} `json:"objects"`
	Base62 []struct {
		N   int64  `json:"n"`
		B62 string `json:"b62"`
	} `json:"base62"`
}

func TestSigningGolden(t *testing.T) {
	t.Parallel()
	for file, golden := range mustGolden[goldenSigning](t, "signing.json") {
		for _, g := range golden.Objects {
			value, at, err := UnsignAt(g.Signed, DeriveKey("x", "another secret"), DeriveKey(g.Salt, g.Secret))
			if err != nil {
				t.Errorf("%s: %s: %v", file, g.Signed[:20], err)
				continue
			}
			if age := golden.CapturedAt - float64(at.Unix()); age < 0 || age > 10 {
				t.Errorf("%s: signed at %s, %v s before the capture", file, at, age)
			}
			payload, err := Payload(value, 1<<20)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			var object any
			if err := json.Unmarshal(payload, &object); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(g.Object, object); diff != "" {
				t.Errorf("%s (-Python +Go):\n%s", file, diff)
			}
			for _, wrong := range []string{g.Signed + "x", "x" + g.Signed, strings.Replace(g.Signed, ":", "", 1), g.Signed[:len(g.Signed)-1]} {
				if _, _, err := UnsignAt(wrong, DeriveKey(g.Salt, g.Secret)); !errors.Is(err, ErrBadSignature) {
					t.Errorf("%s: changed text: %v", file, err)
				}
			}
			if _, err := Unsign(g.Signed, DeriveKey(g.Salt+"x", g.Secret)); !errors.Is(err, ErrBadSignature) {
				t.Errorf("%s: another salt: %v", file, err)
			}
		}
		for _, g := range golden.Base62 {
			if n, err := parseBase62(g.B62); err != nil || n != g.N {
				t.Errorf("%s: parseBase62(%s) = %d, %v, want %d", file, g.B62, n, err, g.N)
			}
		}
	}
}

type goldenSession struct {
	CapturedAt float64 `json:"captured_at"`
	Config     struct {
		Secret    string   `json:"SECRET_KEY"`
		Fallbacks []string `json:"SECRET_KEY_FALLBACKS"`
	} `json:"config"`
	Cookie struct {
		Value string `json:"value"`
	} `json:"cookie"`
	Expect struct {
		Session map[string]any `json:"session"`
		OldHash string         `json:"old_hash"`
	} `json:"expect"`
}

func TestSignedCookiesGolden(t *testing.T) {
	t.Parallel()
	for file, g := range mustGolden[goldenSession](t, "session_signed_cookies_*.json") {
		reader := SessionReader{MaxAge: 1209600 * time.Second}
		for _, secret := range append([]string{g.Config.Secret}, g.Config.Fallbacks...) {
			reader.Keys = append(reader.Keys, DeriveKey(SignedCookiesSalt, secret))
		}
		captured := time.Unix(int64(g.CapturedAt), 0)
		s, err := reader.Read(g.Cookie.Value, captured.Add(time.Hour))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if g.Expect.OldHash != "" { // signed with a fallback secret; the file has no session
			if s.AuthHash != g.Expect.OldHash || s.UserID != "1" {
				t.Errorf("%s: %+v", file, s)
			}
		} else {
			want := Session{SignedAt: s.SignedAt, Data: s.Data}
			want.UserID, _ = g.Expect.Session[keyUserID].(string)
			want.Backend, _ = g.Expect.Session[keyBackend].(string)
			want.AuthHash, _ = g.Expect.Session[keyAuthHash].(string)
			if diff := cmp.Diff(want, *s); diff != "" {
				t.Errorf("%s (-Python +Go):\n%s", file, diff)
			}
			var data map[string]any
			if err := json.Unmarshal(s.Data, &data); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(g.Expect.Session, data); diff != "" {
				t.Errorf("%s (-Python +Go):\n%s", file, diff)
			}
		}
		if _, err := reader.Read(g.Cookie.Value, captured.Add(1209601*time.Second)); !errors.Is(err, ErrExpired) {
			t.Errorf("%s: two weeks later: %v", file, err)
		}
		if _, err := (&SessionReader{MaxAge: time.Hour}).Read(g.Cookie.Value, captured); !errors.Is(err, ErrBadSignature) {
			t.Errorf("%s: without keys: %v", file, err)
		}
	}
}

// mustSign signs a payload as Django does.
func mustSign(tb testing.TB, payload string) string {
	tb.Helper()
	key := DeriveKey(SignedCookiesSalt, secret)
	return payload + ":" + signature(key, payload)
}

func compressed(tb testing.TB, data string) string {
	tb.Helper()
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	if _, err := w.Write([]byte(data)); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return "." + base64.RawURLEncoding.EncodeToString(b.Bytes())
}

// TestSignedButWrong: a right signature proves who wrote it, not that it can be read.
func TestSignedButWrong(t *testing.T) {
	t.Parallel()
	encode := base64.RawURLEncoding.EncodeToString
	const at = ":1xVQaB"
	reader := SessionReader{Keys: []Key{DeriveKey(SignedCookiesSalt, secret)}, MaxAge: time.Hour, MaxBytes: 1000}
	now := time.Unix(1795427011, 0)
	for name, test := range map[string]struct {
		payload string
		want    error
	}{
		"no timestamp":      {encode([]byte(`{}`)), ErrMalformed},
		"empty timestamp":   {encode([]byte(`{}`)) + ":", ErrMalformed},
		"bad timestamp":     {encode([]byte(`{}`)) + ":1x_", ErrMalformed},
		"long timestamp":    {encode([]byte(`{}`)) + ":zzzzzzzzzzz", ErrMalformed},
		"old":               {encode([]byte(`{}`)) + ":-1", ErrExpired},
		"base64":            {"e30*" + at, ErrMalformed},
		"no zlib":           {"." + encode([]byte(`{}`)) + at, ErrMalformed},
		"cut zlib":          {compressed(t, `{}`)[:8] + at, ErrMalformed},
		"bomb":              {compressed(t, `{"a":"`+strings.Repeat("x", 100_000)+`"}`) + at, ErrTooLarge},
		"large":             {encode(bytes.Repeat([]byte(" "), 1001)) + at, ErrTooLarge},
		"no JSON":           {encode([]byte(`{`)) + at, ErrMalformed},
		"no object":         {encode([]byte(`[]`)) + at, ErrMalformed},
		"user is no text":   {encode([]byte(`{"_auth_user_id": 1}`)) + at, ErrMalformed},
		"hash is no text":   {encode([]byte(`{"_auth_user_hash": null}`)) + at, ErrMalformed},
		"nothing":           {"", ErrMalformed},
		"future, NaN, fine": {encode([]byte(`{"a": NaN}`)) + ":2xVQaB", nil},
	} {
		s, err := reader.Read(mustSign(t, test.payload), now)
		if !errors.Is(err, test.want) || (err == nil) != (s != nil) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	for _, text := range []string{"", ":", "::", "a", "a:b:c"} {
		if _, err := reader.Read(text, now); !errors.Is(err, ErrBadSignature) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	key := DeriveKey("salt", secret)
	const hexDigits = "0123456789abcdef"
	text := ""
	for _, b := range key {
		text += string(hexDigits[b>>4]) + string(hexDigits[b&15])
	}
	if got, err := ParseKey(text); err != nil || got != key {
		t.Errorf("%v, %v", got, err)
	}
	for _, wrong := range []string{"", text[2:], text + "00", strings.Repeat("x", 64)} {
		if _, err := ParseKey(wrong); err == nil || strings.Contains(err.Error(), "xx") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}

func FuzzSession(f *testing.F) {
	for _, g := range mustGolden[goldenSession](f, "session_signed_cookies_*.json") {
		f.Add(g.Cookie.Value[:strings.LastIndexByte(g.Cookie.Value, ':')])
	}
	reader := SessionReader{Keys: []Key{DeriveKey(SignedCookiesSalt, secret)}, MaxAge: time.Hour}
	f.Fuzz(func(t *testing.T, payload string) {
		s, err := reader.Read(mustSign(t, payload), time.Unix(1795427011, 0))
		if err == nil && len(s.Data) > DefaultMaxSession {
			t.Error("too large")
		}
		if errors.Is(err, ErrBadSignature) {
			t.Error("signed, but refused")
		}
		if _, err := reader.Read(payload, time.Unix(1795427011, 0)); err == nil {
			t.Error("unsigned, but accepted")
		}
	})
}
