package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/compat/djangostate"
)

// fakeNative is Django's state in memory.
type fakeNative struct {
	mu    sync.Mutex
	user  string // who the test's session is; "" for nobody
	err   error
	stale bool
	fault error // of Recheck
	asked djangostate.Question
}

func (f *fakeNative) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

func (f *fakeNative) Identify(_ context.Context, q djangostate.Question) (*djangostate.Answer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = q
	if f.err != nil {
		return nil, f.err
	}
	a := &djangostate.Answer{
		Topics:     []string{"-broadcast", "-window." + q.WindowKey, "-auth.user.7"},
		WindowInfo: compat.AnonymousWindowInfo(compat.Handshake{WindowKey: q.WindowKey}),
	}
	if f.user == "" || q.SessionCookie != testSession {
		return a, nil
	}
	a.Known = &djangostate.Known{Session: q.SessionCookie, UserID: f.user, Label: "auth.user." + f.user, Stamp: "stamp1"}
	var err error
	a.WindowInfo, err = compat.UserWindowInfo(compat.Handshake{WindowKey: q.WindowKey}, compat.WindowUser{PK: []byte(f.user), Username: "ada"})
	return a, err
}

func (f *fakeNative) Recheck(_ context.Context, known []djangostate.Known) ([]bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stale := make([]bool, len(known))
	for i := range stale {
		stale[i] = f.stale
	}
	return stale, f.fault
}

func (f *fakeNative) only(c *Config) {
	c.Identify, c.Native, c.RecheckInterval = []string{StrategyNative}, f, 5*time.Millisecond
	c.Settings.Native = &compat.Native{Notices: []string{"mind this"}, Language: compat.NativeLanguage{Cookie: "lang"}}
}

func TestNative(t *testing.T) {
	t.Parallel()
	native := &fakeNative{user: "7"}
	r := newRig(t, native.only)
	header := cookies(testKey, testSession)
	header.Set("Cookie", header.Get("Cookie")+"; lang=de")
	header.Set("Accept-Language", "fr, en")
	c, _, err := r.dial(header)
	if err != nil {
		t.Fatal(err)
	}
	if user := r.userOf(c); user != "ada" || len(r.receiver.groups()) != 3 || r.counts.get("identified native") != 1 {
		t.Errorf("user %v, groups %q", user, r.receiver.groups())
	}
	want := djangostate.Question{WindowKey: testKey, SessionCookie: testSession, CSRFCookie: "tok", UserAgent: "Test/1", LanguageCookie: "de", AcceptLanguage: "fr, en"}
	if native.asked != want || !strings.Contains(r.logs.String(), "mind this") {
		t.Errorf("asked %+v", native.asked)
	}
	visitor, _, err := r.dial(cookies(testKey, "other"))
	if err != nil {
		t.Fatal(err)
	}
	if user := r.userOf(visitor); user != nil || r.counts.get("identified native") != 2 {
		t.Errorf("user %v", user)
	}
	r.tickets.revokeC <- dispatch.Revocation{User: "auth.user.7", Stamp: "stamp2"} // where the app is installed, too
	c.expectClose(CloseRevoked)
	visitor.beat()
}

func TestRecheckCloses(t *testing.T) {
	t.Parallel()
	native := &fakeNative{user: "7", fault: errAway, stale: true}
	r := newRig(t, native.only)
	c, _, err := r.dial(cookies(testKey, testSession))
	if err != nil {
		t.Fatal(err)
	}
	visitor, _, err := r.dial(cookies(testKey, ""))
	if err != nil {
		t.Fatal(err)
	}
	r.eventually("a failed check", func() bool { return r.counts.get("failed native away") > 1 })
	c.beat() // not knowing is no reason to close
	native.change(func() { native.fault = nil })
	c.expectClose(CloseRevoked)
	visitor.beat()
	r.eventually("counted", func() bool { return r.counts.get("revoked") == 1 })
}

func TestNativeFails(t *testing.T) {
	t.Parallel()
	native := &fakeNative{}
	r := newRig(t, native.only)
	for err, reason := range map[error]string{
		fmt.Errorf("x: %w", djangostate.ErrMalformed): IdentifyAnswer, errAway: IdentifyAway, context.DeadlineExceeded: IdentifyTimeout,
	} {
		native.change(func() { native.err = err })
		if _, resp, err := r.dial(cookies(testKey, testSession)); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("%s: %v", reason, err)
		}
		if r.counts.get("failed native "+reason) != 1 {
			t.Errorf("%s: %v", reason, r.counts.n)
		}
	}
	native.change(func() { native.err = errAway })
	for range breakerFailures + 1 {
		_, _, _ = r.dial(cookies(testKey, testSession))
	}
	if r.counts.get("failed native open") == 0 {
		t.Errorf("asked again and again: %v", r.counts.n)
	}
}

// TestAutoSaysWhyNotNative: the reason is in the log, and an error when it was asked for.
func TestAutoSaysWhyNotNative(t *testing.T) {
	t.Parallel()
	why := errors.New("only Python can do this: SESSION_ENGINE: mine")
	r := newRig(t, func(c *Config) { c.NoNative = why })
	if !strings.Contains(r.logs.String(), why.Error()) {
		t.Errorf("log: %s", r.logs)
	}
	cfg := Config{Settings: testSettings(), NoNative: why, Identify: []string{StrategyNative}}.withDefaults()
	if _, err := newGateway(cfg, ports{}); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

// TestOlderTopics: the window key is in the URL, and group names are made of texts with the prefix.
func TestOlderTopics(t *testing.T) {
	t.Parallel()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/ws/?dfwskey="+testKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Cookie", "dfwskey=other")
	settings := testSettings()
	settings.Native = &compat.Native{Topics: compat.NativeTopics{Redis: "redis://h"}}
	if h := readHandshake(r, settings); h.windowKey != testKey {
		t.Errorf("key %q", h.windowKey)
	}
	if h := readHandshake(r, testSettings()); h.windowKey != "other" {
		t.Errorf("key %q", h.windowKey)
	}
	rules := topicRules{userModel: "auth.user", prefix: settings.Native.Topics.ItemPrefix()}
	topics := []string{"ws-broadcast", "ws-window." + testKey, "ws-auth.user.1", "ws-str.5"}
	if got := rules.groups(topics, testKey, "1"); len(got) != 4 {
		t.Errorf("%q", got)
	}
	if got := rules.groups(topics, testKey, ""); len(got) != 2 || !strings.Contains(fmt.Sprint(got), groupOf("ws-broadcast")) {
		t.Errorf("%q", got)
	}
}
