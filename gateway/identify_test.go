package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
)

func TestIdentify(t *testing.T) {
	t.Parallel()
	noSession := windowTicket(t, testKey)
	noSession.Binding, noSession.Session, noSession.User = dispatch.BindNone, "", ""
	for name, tc := range map[string]struct {
		ticket    *dispatch.Ticket
		err       error
		header    http.Header
		outcome   string
		groups    int
		username  any
		windowKey string
	}{
		"ticket":                {ticket: windowTicket(t, testKey), header: cookies(testKey, testSession), outcome: IdentifiedTicket, groups: 3, username: "ada", windowKey: testKey},
		"no cookies":            {outcome: IdentifiedNoKey},
		"no ticket":             {header: cookies(testKey, testSession), outcome: IdentifiedNoTicket, windowKey: testKey},
		"key too long":          {ticket: windowTicket(t, testKey), header: cookies(strings.Repeat("k", 129), testSession), outcome: IdentifiedNoKey},
		"other session":         {ticket: windowTicket(t, testKey), header: cookies(testKey, "other"), outcome: IdentifiedOther, groups: 2, windowKey: testKey},
		"session gone":          {ticket: windowTicket(t, testKey), header: cookies(testKey, ""), outcome: IdentifiedOther, groups: 2, windowKey: testKey},
		"none binding":          {ticket: noSession, header: cookies(testKey, ""), outcome: IdentifiedTicket, groups: 3, username: "ada", windowKey: testKey},
		"none binding, session": {ticket: noSession, header: cookies(testKey, testSession), outcome: IdentifiedOther, groups: 2, windowKey: testKey},
		"corrupt":               {err: &dispatch.TicketError{Field: "groups", Err: errAway}, header: cookies(testKey, testSession), outcome: IdentifiedBadTicket, windowKey: testKey},
		"last cookie wins": {
			ticket: windowTicket(t, testKey), outcome: IdentifiedTicket, groups: 3, username: "ada", windowKey: testKey,
			header: http.Header{"Cookie": {"dfwskey=x; sessionid=y; dfwskey=" + testKey + "; sessionid=" + testSession}},
		},
		"first header counts": {
			ticket: windowTicket(t, testKey), outcome: IdentifiedNoKey,
			header: http.Header{"Cookie": {"a=b", "dfwskey=" + testKey + "; sessionid=" + testSession}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			if tc.ticket != nil {
				r.tickets.set(testKey, tc.ticket)
			}
			r.tickets.fail(tc.err)
			c, _, err := r.dial(tc.header)
			if err != nil {
				t.Fatal(err)
			}
			c.send(goodFrame)
			c.beat()
			if r.counts.get("identified "+tc.outcome) != 1 {
				t.Errorf("outcome %v, want %s", r.counts.n, tc.outcome)
			}
			if got := len(r.receiver.groups()); got != tc.groups {
				t.Errorf("%d groups, want %d", got, tc.groups)
			}
			var info map[string]any
			if err := json.Unmarshal(taskArgs(t, r.publisher.queued()[0])[1], &info); err != nil {
				t.Fatal(err)
			}
			if info["username"] != tc.username || info["window_key"] != tc.windowKey || (info["user_pk"] != nil) != (tc.username != nil) {
				t.Errorf("window info %v, want user %v, key %q", info, tc.username, tc.windowKey)
			}
		})
	}
}

func TestTicketCannotBeRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.tickets.fail(errAway)
	_, resp, err := r.dial(cookies(testKey, testSession))
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Fatalf("got %v, %v", resp, err)
	}
	r.tickets.fail(nil)
	r.connect(testKey).beat()
}

func TestMaxWindows(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.MaxWindows = 2 })
	first := r.anonymous()
	r.anonymous()
	if _, resp, err := r.dial(nil); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("got %v, %v", resp, err)
	}
	_ = first.Close()
	r.eventually("gone", func() bool { return r.Stats().Windows == 1 })
	r.anonymous().beat()
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		revocation dispatch.Revocation
		hit        bool
	}{
		"session":       {dispatch.Revocation{Session: dispatch.SessionHash(testSession)}, true},
		"other session": {dispatch.Revocation{Session: dispatch.SessionHash("other")}, false},
		"user":          {dispatch.Revocation{User: "auth.user.1", Stamp: "stamp2"}, true},
		"same stamp":    {dispatch.Revocation{User: "auth.user.1", Stamp: "stamp1"}, false},
		"other user":    {dispatch.Revocation{User: "auth.user.2", Stamp: "stamp2"}, false},
		"gap":           {dispatch.Revocation{Gap: true}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			c, visitor := r.connect(testKey), r.anonymous()
			r.tickets.revokeC <- tc.revocation
			if !tc.hit {
				c.beat()
				return
			}
			start := time.Now()
			c.expectClose(CloseRevoked)
			if d := time.Since(start); d > time.Second {
				t.Errorf("closed after %v", d)
			}
			visitor.beat()
			// A ticket that was written, or read, late.
			again := r.connect(testKey)
			again.beat()
			if r.counts.get("identified "+IdentifiedRevoked) != 1 {
				t.Errorf("the late ticket was used: %v", r.counts.n)
			}
		})
	}
}

func TestRevocationDuringHandshake(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	waitC := make(chan struct{})
	r.tickets.mu.Lock()
	r.tickets.waitC = waitC
	r.tickets.mu.Unlock()
	r.tickets.set(testKey, windowTicket(t, testKey))
	clientC := make(chan *client)
	ctx, stop := contextOf(t)
	defer stop()
	go func() {
		c, _, _ := r.dial(cookies(testKey, testSession))
		select {
		case clientC <- c:
		case <-ctx.Done():
		}
	}()
	r.eventually("asking for the ticket", func() bool { return r.Stats().Windows == 1 })
	r.tickets.revokeC <- dispatch.Revocation{Session: dispatch.SessionHash(testSession)}
	r.tickets.revokeC <- dispatch.Revocation{Session: "x"} // the first one is handled now
	close(waitC)
	c := <-clientC
	c.beat()
	if r.counts.get("identified "+IdentifiedRevoked) != 1 {
		t.Errorf("the identity was used: %v", r.counts.n)
	}
}

func TestRevocationsForget(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	r := newRevocations(func() time.Time { return now })
	r.remember(dispatch.Revocation{Session: "s"})
	r.remember(dispatch.Revocation{User: "u", Stamp: "1"})
	now = now.Add(30 * time.Second)
	r.remember(dispatch.Revocation{User: "u", Stamp: "2"})
	for _, tc := range []struct {
		session, user, stamp string
		want                 bool
	}{{"s", "", "", true}, {"t", "", "", false}, {"", "u", "1", true}, {"", "u", "2", false}, {"", "v", "1", false}, {"", "", "", false}} {
		if got := r.covers(&identity{session: tc.session, user: tc.user, stamp: tc.stamp}); got != tc.want {
			t.Errorf("covers(%q, %q, %q) = %v", tc.session, tc.user, tc.stamp, got)
		}
	}
	for made, want := range map[int64]bool{999: true, 1001: false} { // a session in its cookie, before and after its end
		if got := r.covers(&identity{session: "s", made: time.Unix(made, 0).UnixNano()}); got != want {
			t.Errorf("made at %d: covered %v", made, got)
		}
	}
	now = now.Add(45 * time.Second)
	if r.covers(&identity{session: "s", user: "", stamp: ""}) {
		t.Error("the session is remembered after 75 s")
	}
	if !r.covers(&identity{session: "", user: "u", stamp: "1"}) {
		t.Error("the user is forgotten after 45 s")
	}
	now = now.Add(45 * time.Second)
	if r.covers(&identity{session: "", user: "u", stamp: "1"}) {
		t.Error("the user is remembered after 90 s")
	}
	for i := range maxRevocations + 10 {
		r.remember(dispatch.Revocation{Session: fmt.Sprint(i)})
	}
	if len(r.recent) != maxRevocations || len(r.sessions) != maxRevocations || r.covers(&identity{session: "0", user: "", stamp: ""}) {
		t.Errorf("%d remembered, want %d", len(r.recent), maxRevocations)
	}
}

// FuzzHandshake: whatever headers arrive, the window info is an object and the key is bounded.
func FuzzHandshake(f *testing.F) {
	f.Add("dfwskey=abc; sessionid=x", "Mozilla/5.0")
	f.Add(`dfwskey="a\073b"; csrftoken="\377"`, "\xff\x00")
	settings := testSettings()
	settings.Native = &compat.Native{Language: compat.NativeLanguage{Cookie: "django_language"}, Topics: compat.NativeTopics{Redis: "redis://h"}}
	f.Fuzz(func(t *testing.T, cookie, agent string) {
		h := readHandshake(&http.Request{URL: &url.URL{RawQuery: agent}, Header: http.Header{"Cookie": {cookie}, "User-Agent": {agent}}}, settings)
		if len(h.windowKey) > maxWindowKey {
			t.Errorf("window key of %d bytes", len(h.windowKey))
		}
		if _, err := compat.DecodeWindowInfo(anonymousIdentity(&settings.Site, h).raw); err != nil {
			t.Errorf("window info: %v", err)
		}
	})
}
