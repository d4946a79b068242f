package channelslayer

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

type fernetVector struct {
	Key   Secret `json:"key"`
	IV    string `json:"fixed_iv_hex"`
	Time  int64  `json:"fixed_time"`
	Plain string `json:"plain_b64"`
	Token string `json:"token"`
}

func fernetVectors(t testing.TB) []fernetVector {
	return mustGolden[struct {
		Keys []fernetVector `json:"keys"`
	}](t, "fernet").Keys
}

func mustFernet(t testing.TB, ttl time.Duration, secrets ...Secret) *fernet {
	t.Helper()
	f, err := newFernet(secrets, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestGoldenFernet(t *testing.T) {
	t.Parallel()
	vectors := fernetVectors(t)
	if len(vectors) < 4 {
		t.Fatalf("%d vectors", len(vectors))
	}
	for _, v := range vectors {
		f := mustFernet(t, 0, "another one", v.Key)
		var iv [fernetIV]byte
		if n, err := hex.Decode(iv[:], []byte(v.IV)); err != nil || n != fernetIV {
			t.Fatal(v.IV, err)
		}
		plain := unbase64(t, v.Plain)
		if got := string(f.keys[1].seal([]byte(plain), time.Unix(v.Time, 0), iv)); got != v.Token {
			t.Errorf("%s: token %s, want %s", v.Plain, got, v.Token)
		}
		if got, err := f.decrypt(v.Token); err != nil || string(got) != plain {
			t.Errorf("decrypt: %q, %v", got, err)
		}
	}
}

// How old a token may be, at the second.
func TestFernetAge(t *testing.T) {
	t.Parallel()
	v := fernetVectors(t)[0]
	for _, c := range []struct {
		ttl   time.Duration
		after int64
		fresh bool
	}{
		{70 * time.Second, 0, true}, {70 * time.Second, 70, true}, {70 * time.Second, 71, false},
		{70 * time.Second, -60, true}, {70 * time.Second, -61, false}, {0, 1 << 30, true}, {0, -1 << 30, true},
	} {
		f := mustFernet(t, c.ttl, v.Key)
		f.now = func() time.Time { return time.Unix(v.Time+c.after, 0) }
		_, err := f.decrypt(v.Token)
		var bad *DecodeError
		if c.fresh != (err == nil) || !c.fresh && (!errors.As(err, &bad) || bad.Reason != DropTokenAge) {
			t.Errorf("ttl %v, %d s later: %v, want fresh %t", c.ttl, c.after, err, c.fresh)
		}
	}
}

func TestFernetRefuses(t *testing.T) {
	t.Parallel()
	v := fernetVectors(t)[0]
	raw, err := base64.URLEncoding.DecodeString(v.Token)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(i int) string {
		b := []byte(string(raw))
		b[i] ^= 1
		return base64.URLEncoding.EncodeToString(b)
	}
	f := mustFernet(t, 0, v.Key)
	tokens := []string{"", "x", v.Token[:len(v.Token)-1], v.Token + "A", strings.Repeat("A", 100), base64.URLEncoding.EncodeToString(raw[:fernetShort-1])}
	for i := range raw {
		tokens = append(tokens, changed(i))
	}
	for _, token := range tokens {
		_, err := f.decrypt(token)
		if bad, ok := errors.AsType[*DecodeError](err); !ok || bad.Reason != DropUndecryptable {
			t.Errorf("%q: %v", token, err)
		}
	}
	if _, err := mustFernet(t, 0, "another").decrypt(v.Token); err == nil {
		t.Error("another key opens the token")
	}
}

func TestFernetRoundTrip(t *testing.T) {
	t.Parallel()
	f := mustFernet(t, time.Minute, "new", "old")
	old := mustFernet(t, time.Minute, "old")
	for n := range 40 {
		plain := strings.Repeat("x", n)
		for _, sender := range []*fernet{f, old} {
			token, err := sender.encrypt([]byte(plain))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := f.decrypt(string(token)); err != nil || string(got) != plain {
				t.Errorf("%d bytes: %q, %v", n, got, err)
			}
		}
	}
	token, err := f.encrypt([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.decrypt(string(token)); err == nil {
		t.Error("the first key is not the one that encrypts")
	}
}

func FuzzFernet(f *testing.F) {
	v := fernetVectors(f)[0]
	f.Add(v.Token)
	f.Add("")
	keys := mustFernet(f, 0, v.Key, "other")
	f.Fuzz(func(t *testing.T, token string) {
		// base64 may be written in more than one way, as with ends of lines in it; what it says may not.
		if plain, err := keys.decrypt(token); err == nil && string(plain) != unbase64(t, v.Plain) {
			t.Fatalf("a forged token: %q", plain)
		}
		sealed, err := keys.encrypt([]byte(token))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := keys.decrypt(string(sealed)); err != nil || string(again) != token {
			t.Fatalf("%q became %q, %v", token, again, err)
		}
	})
}
