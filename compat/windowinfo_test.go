package compat

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
)

// goldenState is one WindowInfo that Python made; its JSON is indented but in Python's order.
type goldenState struct {
	State      string          `json:"state"`
	WindowInfo json.RawMessage `json:"window_info"`
	Keys       []string        `json:"keys_in_order"`
}

func goldenStates(tb testing.TB) []goldenState {
	tb.Helper()
	var golden struct {
		States []goldenState `json:"states"`
	}
	mustGolden(tb, "window_info.json", &golden)
	return golden.States
}

func mustWindowInfo(tb testing.TB, text string) *WindowInfo {
	tb.Helper()
	mustCheck(tb, []byte(text))
	w, err := DecodeWindowInfo(celeryproto.Raw(text))
	if err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	return w
}

func TestWindowInfoGolden(t *testing.T) {
	t.Parallel()
	for _, g := range goldenStates(t) {
		w := mustWindowInfo(t, string(g.WindowInfo))
		var want, got any
		encoded := w.AppendJSON(nil)
		if err := errors.Join(json.Unmarshal(g.WindowInfo, &want), json.Unmarshal(encoded, &got)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-Python +Go):\n%s", g.State, diff)
		}
		members, err := celeryproto.Raw(encoded).Object()
		if err != nil {
			t.Fatal(err)
		}
		for i, key := range g.Keys {
			if members[i].Key != key {
				t.Errorf("%s: key %d is %q, want %q", g.State, i, members[i].Key, key)
			}
		}
	}
}

func TestBlankWindowInfo(t *testing.T) {
	t.Parallel()
	blank := goldenStates(t)[0]
	var compact bytes.Buffer
	if err := json.Compact(&compact, blank.WindowInfo); err != nil {
		t.Fatal(err)
	}
	var w *WindowInfo
	for name, got := range map[string][]byte{"nil": w.AppendJSON(nil), "zero": new(WindowInfo).AppendJSON(nil)} {
		if want := string(appendNormal(nil, compact.Bytes())); want != string(got) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	if w.IsAuthenticated() || !w.IsAnonymous() || w.IsStaff() || w.Username() != "" || w.UserPK() != nil || w.UserPKText() != "None" {
		t.Error("the blank window info is not a visitor's")
	}
	if granted, known := w.HasPerm("a.b"); granted || !known {
		t.Errorf("HasPerm of a visitor = %v, %v", granted, known)
	}
}

func TestAnonymousWindowInfo(t *testing.T) {
	t.Parallel()
	var want goldenState
	for _, g := range goldenStates(t) {
		if g.State == "anonymous, csrf cookie" {
			want = g
		}
	}
	w := AnonymousWindowInfo(Handshake{
		WindowKey: "abcdefghijklmnopqrstuvwxyz012345", CSRFCookie: "XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
		UserAgent: "demo-agent/1.0", LanguageCode: "fr",
	})
	if got, want := string(w.AppendJSON(nil)), string(appendNormal(nil, celeryproto.Raw(want.WindowInfo))); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	decoded := mustWindowInfo(t, string(w.AppendJSON(nil)))
	if diff := cmp.Diff(decoded, w, cmp.AllowUnexported(WindowInfo{}, text{})); diff != "" {
		t.Errorf("made and decoded differ (-decoded +made):\n%s", diff)
	}
}

func TestWindowInfoAccess(t *testing.T) {
	t.Parallel()
	const user = `{"user_pk": 2, "username": "bob", "is_staff": true, "is_superuser": false, "is_active": true, "user_set": true, `
	for _, test := range []struct {
		name, json         string
		auth, staff, super bool
		username           string
		granted, known     bool
	}{
		{name: "staff", json: user + `"perms": null}`, auth: true, staff: true, username: "bob"},
		{name: "granted", json: user + `"perms": ["a.b"]}`, auth: true, staff: true, username: "bob", granted: true, known: true},
		{name: "not granted", json: user + `"perms": ["a.c", 5]}`, auth: true, staff: true, username: "bob", known: true},
		{name: "superuser", json: `{"user_pk": "x", "is_superuser": true, "user_set": true}`, auth: true, super: true, granted: true, known: true},
		{name: "superuser with a list", json: `{"user_pk": "x", "is_superuser": true, "user_set": true, "perms": []}`, auth: true, super: true, known: true},
		{name: "flags that Python reads from the database", json: `{"user_pk": 1, "is_superuser": true, "is_staff": true, "username": "a"}`, auth: true},
		{name: "pk 0", json: `{"user_pk": 0, "is_staff": true}`, staff: true, known: true},
		{name: "pk empty", json: `{"user_pk": ""}`, known: true},
		{name: "pk false", json: `{"user_pk": false}`, known: true},
		{name: "uuid", json: `{"user_pk": {"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000005"}}}`, auth: true},
		{name: "visitor", json: `{"perms": ["a.b"]}`, known: true},
		{name: "wrong types", json: `{"user_pk": 1, "user_set": 1, "username": 5, "is_staff": "no", "is_superuser": [], "perms": {}}`, auth: true, staff: true},
		{name: "duplicates", json: `{"user_pk": 1, "user_set": true, "is_staff": true, "is_staff": false}`, auth: true},
	} {
		w := mustWindowInfo(t, test.json)
		if w.IsAuthenticated() != test.auth || w.IsAnonymous() == test.auth || w.IsStaff() != test.staff || w.IsSuperuser() != test.super ||
			w.Username() != test.username {
			t.Errorf("%s: authenticated %v, staff %v, superuser %v, username %q", test.name, w.IsAuthenticated(), w.IsStaff(), w.IsSuperuser(), w.Username())
		}
		if granted, known := w.HasPerm("a.b"); granted != test.granted || known != test.known {
			t.Errorf("%s: HasPerm = %v, %v, want %v, %v", test.name, granted, known, test.granted, test.known)
		}
	}
}

func TestWindowInfoKeepsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	const in = `{"x": {"a":1.0,"b":[NaN, 1e5]}, "user_pk": 12345678901234567890, "\u00e9": "\ud800", "user_agent": "old", "csrf_cookie": "old", "z": null}`
	w := mustWindowInfo(t, in)
	if got := string(w.AppendJSON(nil)); got != in {
		t.Errorf("\n got %s\nwant %s", got, in)
	}
	changed, err := w.WithHandshake("csrf", "Mozilla/5.0 (\u00e9)")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"x": {"a":1.0,"b":[NaN, 1e5]}, "user_pk": 12345678901234567890, "\u00e9": "\ud800", "user_agent": "Mozilla/5.0 (\u00e9)", "csrf_cookie": "csrf", "z": null}`
	if got := string(changed.AppendJSON(nil)); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if changed.CSRFCookie() != "csrf" || changed.UserAgent() != "Mozilla/5.0 (\u00e9)" || w.CSRFCookie() != "old" {
		t.Error("the copy or the original has the wrong values")
	}
	if x, ok := changed.Member("x"); !ok || x.String() != `{"a":1.0,"b":[NaN, 1e5]}` {
		t.Errorf("Member(x) = %s, %v", x, ok)
	}
	if got, err := new(WindowInfo).With("tenant", celeryproto.Raw("5")); err != nil || len(got.AppendJSON(nil)) != len(blankWindowInfo)+len(`, "tenant": 5`) {
		t.Errorf("With on the blank one: %s, %v", got.AppendJSON(nil), err)
	}
}

func TestDecodeWindowInfoRefuses(t *testing.T) {
	t.Parallel()
	if _, err := DecodeWindowInfo(celeryproto.Raw("null")); !errors.Is(err, ErrNoWindowInfo) {
		t.Errorf("null: %v", err)
	}
	for _, text := range []string{`[]`, `"x"`, `5`, ``, `{"a"`} {
		if _, err := DecodeWindowInfo(celeryproto.Raw(text)); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func FuzzDecodeWindowInfo(f *testing.F) {
	for _, g := range goldenStates(f) {
		f.Add([]byte(g.WindowInfo))
	}
	f.Add([]byte(`{"a": 1, "a": {"__type__": "uuid", "__value__": 5}, "user_pk": {"__type__": "x", "__value__": 5}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if celeryproto.CheckJSON(b, celeryproto.JSONLimits{}) != nil {
			return
		}
		w, err := DecodeWindowInfo(b)
		if err != nil {
			return
		}
		encoded := w.AppendJSON(nil)
		mustCheck(t, encoded)
		again, err := DecodeWindowInfo(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(encoded, again.AppendJSON(nil)) {
			t.Errorf("not stable: %s then %s", encoded, again.AppendJSON(nil))
		}
		if w.UserTopic("auth.user") != again.UserTopic("auth.user") || w.IsStaff() != again.IsStaff() {
			t.Error("another identity after a round trip")
		}
	})
}
