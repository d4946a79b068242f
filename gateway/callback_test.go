package gateway

import (
	"crypto/hmac"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/integration/logbuffer"
)

const testCallbackKey = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

// fakeDjango answers questions as the Django app does.
type fakeDjango struct {
	t      testing.TB
	server *httptest.Server

	mu       sync.Mutex
	asked    []scope
	requests []*http.Request
	answer   func(w http.ResponseWriter, body string) bool // writes something else and returns true, or false
	topics   []string
	cookies  []string
}

func newFakeDjango(t testing.TB) *fakeDjango {
	d := &fakeDjango{t: t, topics: []string{"-broadcast", "-window." + testKey, "-auth.user.1", "-str.x"}}
	d.server = httptest.NewServer(http.HandlerFunc(d.serve))
	t.Cleanup(d.server.Close)
	return d
}

func (d *fakeDjango) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.requests)
}

func (d *fakeDjango) serve(w http.ResponseWriter, r *http.Request) {
	key, _ := hex.DecodeString(testCallbackKey)
	body, _ := io.ReadAll(r.Body)
	proof := strings.Fields(r.Header.Get("X-DFWS-Identify"))
	if len(proof) != 4 || proof[0] != "v1" || !hmac.Equal([]byte(proof[3]), []byte(sign(key, questionPurpose+"\n"+proof[1], proof[2], body))) {
		d.t.Errorf("a question without our signature: %v", proof)
		return
	}
	var s scope
	if err := json.Unmarshal(body, &s); err != nil {
		d.t.Error(err)
	}
	d.mu.Lock()
	d.asked, d.requests = append(d.asked, s), append(d.requests, r)
	answer, topics, cookies := d.answer, d.topics, d.cookies
	d.mu.Unlock()
	content, err := json.Marshal(map[string]any{
		"schema": 1, "created": 1764000000.25, "binding": "session", "session": dispatch.SessionHash(testSession), "user": "auth.user.1",
		"stamp": "stamp1", "topics": append([]string{}, topics...), "cookies": append([]string{}, cookies...),
		"window_info": map[string]any{"window_key": testKey, "user_pk": 1, "username": "ada", "user_set": true, "is_staff": true},
	})
	if err != nil {
		d.t.Error(err)
	}
	if answer != nil && answer(w, string(content)) {
		return
	}
	w.Header().Set(callbackSignature, sign(key, answerPurpose, proof[2], content))
	_, _ = w.Write(content)
}

// asking is the configuration of a gateway that asks this Django.
func (d *fakeDjango) asking(strategies ...string) func(*Config) {
	return func(c *Config) {
		u, err := url.Parse(d.server.URL)
		if err != nil {
			d.t.Fatal(err)
		}
		c.Identify, c.CallbackURL = strategies, u
		c.Settings.DFWS.CallbackKeys = []compat.Secret{testCallbackKey}
	}
}

// userOf is the user in the window info of the first task.
func (r *rig) userOf(c *client) any {
	r.t.Helper()
	c.send(goodFrame)
	c.beat()
	queued := r.publisher.queued()
	var info map[string]any
	if err := json.Unmarshal(taskArgs(r.t, queued[len(queued)-1])[1], &info); err != nil {
		r.t.Fatal(err)
	}
	return info["username"]
}

func TestCallback(t *testing.T) {
	t.Parallel()
	django := newFakeDjango(t)
	django.cookies = []string{"sessionid=new; Path=/; HttpOnly"}
	r := newRig(t, django.asking(StrategyCallback))
	header := cookies(testKey, testSession)
	header.Set("X-Forwarded-Proto", "https") // a client may not say so
	header.Set("X-Dfws-Identify", "v1 0 0 0")
	header["Accept-Language"] = []string{"de", "fr\xff"}
	c, resp, err := r.dial(header)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header["Set-Cookie"]; !slices.Equal(got, django.cookies) {
		t.Errorf("cookies %q", got)
	}
	if user := r.userOf(c); user != "ada" || r.counts.get("identified callback") != 1 {
		t.Errorf("user %v, %v", user, r.counts.n)
	}
	if got, want := r.receiver.groups(), uniqueGroups([]string{groupOf("-broadcast"), groupOf("-window." + testKey), groupOf("-auth.user.1"), groupOf("-str.x")}); !slices.Equal(got, want) {
		t.Errorf("groups %q, want %q", got, want)
	}
	asked, request := django.asked[0], django.requests[0]
	if asked.Path != "/ws/" || asked.Schema != 1 || len(asked.Client) != 2 || len(asked.Server) != 2 {
		t.Errorf("asked %+v", asked)
	}
	for _, want := range [][2]string{{"cookie", header.Get("Cookie")}, {"accept-language", "de"}, {"accept-language", "frÿ"}, {"x-forwarded-proto", "http"}, {"upgrade", "websocket"}} {
		if !slices.Contains(asked.Headers, want) {
			t.Errorf("%q is not in %q", want, asked.Headers)
		}
	}
	if slices.ContainsFunc(asked.Headers, func(h [2]string) bool { return strings.HasPrefix(h[0], "x-dfws-") }) {
		t.Error("a header of ours came from a client")
	}
	if request.Method != http.MethodPost || request.URL.Path != "/ws/" || request.Header.Get("Cookie") != "" || request.Host != strings.TrimPrefix(r.server.URL, "http://") ||
		request.Header.Get("X-Forwarded-Proto") != "http" {
		t.Errorf("request %+v", request)
	}
	r.tickets.revokeC <- dispatch.Revocation{User: "auth.user.1", Stamp: "stamp2"}
	c.expectClose(CloseRevoked)
}

// TestCallbackAfterTicket: who has a ticket does not ask; a ticket of somebody else decides nothing.
func TestCallbackAfterTicket(t *testing.T) {
	t.Parallel()
	django := newFakeDjango(t)
	r := newRig(t, django.asking(StrategyAuto))
	if !strings.Contains(r.logs.String(), `by="ticket, callback"`) {
		t.Errorf("the log does not say how windows are identified: %s", r.logs)
	}
	r.connect(testKey).beat()
	if n := django.count(); n != 0 {
		t.Errorf("%d questions", n)
	}
	other := windowTicket(t, testKey)
	other.Session = dispatch.SessionHash("other")
	r.tickets.set(testKey, other)
	c, _, err := r.dial(cookies(testKey, testSession))
	if err != nil {
		t.Fatal(err)
	}
	if user := r.userOf(c); user != "ada" || django.count() != 1 {
		t.Errorf("user %v, %d questions", user, django.count())
	}
	r.tickets.fail(errAway) // Redis is away, and Django knows
	if _, _, err := r.dial(cookies(testKey, testSession)); err != nil || r.counts.get("failed ticket away") != 1 {
		t.Errorf("%v, %v", err, r.counts.n)
	}
}

func TestCallbackTopicsOfOthers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		topics []string
		change func(*Config)
		groups int
	}{
		"own":      {[]string{"-broadcast", "-window." + testKey, "-auth.user.1", "-auth.user.2", "-str.x"}, nil, 5},
		"visitor":  {[]string{"-broadcast", "-window." + testKey, "-auth.user.None", "-str.x", "-str.x"}, nil, 4},
		"other":    {[]string{"-broadcast", "-window." + testKey, "-auth.user.2", "-str.x"}, nil, 2},
		"loosened": {[]string{"-broadcast", "-window." + testKey, "-auth.user.2", "-str.x"}, func(c *Config) { c.TopicsOfOthers = true }, 4},
		"own way":  {[]string{"-broadcast", "-window." + testKey, "-auth.user.2"}, func(c *Config) { c.Settings.WebSocket.CustomTopics = true }, 3},
		"none":     {nil, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			django := newFakeDjango(t)
			django.topics = append([]string{}, tc.topics...)
			r := newRig(t, func(c *Config) {
				django.asking(StrategyCallback)(c)
				if tc.change != nil {
					tc.change(c)
				}
			})
			if _, _, err := r.dial(cookies(testKey, testSession)); err != nil {
				t.Fatal(err)
			}
			if got := len(r.receiver.groups()); got != tc.groups {
				t.Errorf("%d groups, want %d", got, tc.groups)
			}
		})
	}
}

// TestCallbackFails: a handshake that nobody can answer gets 503, and the log and a counter say why.
func TestCallbackFails(t *testing.T) {
	t.Parallel()
	key, _ := hex.DecodeString(testCallbackKey)
	signed := func(status int, body string) func(http.ResponseWriter, string) bool {
		return func(w http.ResponseWriter, _ string) bool {
			// The nonce of another question.
			w.Header().Set(callbackSignature, sign(key, answerPurpose, "00", []byte(body)))
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
			return true
		}
	}
	for name, tc := range map[string]struct {
		answer func(http.ResponseWriter, string) bool
		reason string
		asked  int
	}{
		"refused": {func(w http.ResponseWriter, _ string) bool {
			http.Error(w, "wrong signature", http.StatusForbidden)
			return true
		}, IdentifyRefused, 1},
		"redirect": {func(w http.ResponseWriter, _ string) bool {
			w.Header().Set("Location", "/x")
			w.WriteHeader(301)
			return true
		}, IdentifyRefused, 1},
		"unsigned":  {func(w http.ResponseWriter, body string) bool { _, _ = io.WriteString(w, body); return true }, IdentifyRefused, 1},
		"replayed":  {signed(200, `{}`), IdentifyRefused, 1},
		"gateway":   {func(w http.ResponseWriter, _ string) bool { w.WriteHeader(502); return true }, IdentifyAway, 2},
		"broken":    {func(http.ResponseWriter, string) bool { panic(http.ErrAbortHandler) }, IdentifyAway, 2},
		"not found": {func(w http.ResponseWriter, _ string) bool { w.WriteHeader(404); return true }, IdentifyRefused, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			django := newFakeDjango(t)
			django.answer = tc.answer
			r := newRig(t, django.asking(StrategyTicket, StrategyCallback))
			_, resp, err := r.dial(cookies(testKey, testSession))
			if err == nil || resp.StatusCode != http.StatusServiceUnavailable {
				t.Fatalf("got %v, %v", resp, err)
			}
			if r.counts.get("failed callback "+tc.reason) != 1 || django.count() != tc.asked || !strings.Contains(r.logs.String(), "reason="+tc.reason) {
				t.Errorf("%v, asked %d times; log:\n%s", r.counts.n, django.count(), r.logs)
			}
		})
	}
}

func TestCallbackBadAnswers(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body, reason string
		status       int
	}{
		"no JSON":   {"x", IdentifyAnswer, 200},
		"no topics": {`{"schema":1,"created":1,"binding":"none","window_info":{}}`, IdentifyAnswer, 200},
		"too long":  {strings.Repeat("[", maxCallbackAnswer), IdentifyAnswer, 200},
		"exception": {"ValueError", IdentifySite, 500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, _ := hex.DecodeString(testCallbackKey)
			asked := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked++
				w.Header().Set(callbackSignature, sign(key, answerPurpose, strings.Fields(r.Header.Get(callbackHeader))[2], []byte(tc.body)))
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			}))
			t.Cleanup(server.Close)
			django := &fakeDjango{t: t, server: server}
			r := newRig(t, django.asking(StrategyCallback))
			for range breakerFailures + 1 {
				if _, resp, err := r.dial(cookies(testKey, testSession)); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
					t.Fatalf("got %v, %v", resp, err)
				}
			}
			opened := r.counts.get("failed callback "+IdentifyOpen) > 0
			if r.counts.get("failed callback "+tc.reason) < breakerFailures || opened != (tc.reason == IdentifyAnswer) {
				t.Errorf("%v", r.counts.n)
			}
		})
	}
}

func TestCallbackConcurrency(t *testing.T) {
	t.Parallel()
	django := newFakeDjango(t)
	waitC := make(chan struct{})
	django.answer = func(http.ResponseWriter, string) bool { <-waitC; return false }
	r := newRig(t, func(c *Config) {
		django.asking(StrategyCallback)(c)
		c.CallbackConcurrency, c.ConnectTimeout, c.CallbackTimeout = 2, patience, patience
	})
	const handshakes = 6
	var wg sync.WaitGroup
	for range handshakes {
		wg.Go(func() {
			if _, _, err := r.dial(cookies(testKey, testSession)); err != nil {
				t.Error(err)
			}
		})
	}
	r.eventually("all are there", func() bool { return r.Stats().Windows == handshakes })
	r.eventually("two questions", func() bool { return django.count() == 2 })
	close(waitC)
	wg.Wait()
	if n := django.count(); n != handshakes {
		t.Errorf("%d questions", n)
	}
}

func TestCallbackTimeout(t *testing.T) {
	t.Parallel()
	django := newFakeDjango(t)
	waitC := make(chan struct{})
	t.Cleanup(func() { close(waitC) })
	django.answer = func(http.ResponseWriter, string) bool { <-waitC; return false }
	r := newRig(t, func(c *Config) {
		django.asking(StrategyCallback)(c)
		c.CallbackConcurrency, c.CallbackTimeout, c.ConnectTimeout = 1, 20*time.Millisecond, patience
	})
	if _, resp, err := r.dial(nil); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("got %v, %v", resp, err)
	}
	if r.counts.get("failed callback timeout") != 1 || django.count() != 1 {
		t.Errorf("%v, asked %d times", r.counts.n, django.count())
	}
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	logs := &logbuffer.Buffer{}
	b := &breaker{log: testLogger(logs), subject: "it", now: func() time.Time { return now }}
	fault := errors.New("no route")
	fail := func() {
		t.Helper()
		if err := b.allow(); err != nil {
			t.Fatal(err)
		}
		b.done(fault)
	}
	for range breakerFailures {
		fail()
	}
	if err := b.allow(); !errors.Is(err, errBreakerOpen) || !errors.Is(err, fault) {
		t.Fatalf("open: %v", err)
	}
	b.done(fault) // asked before it opened
	for pause := breakerFirstPause; pause < 2*breakerLastPause; pause *= 2 {
		now = now.Add(min(pause, breakerLastPause) - 1)
		if b.allow() == nil {
			t.Fatalf("asked after %v", pause)
		}
		now = now.Add(1)
		if err := b.allow(); err != nil {
			t.Fatal(err)
		}
		if b.allow() == nil {
			t.Fatal("two at a time")
		}
		b.done(fault)
	}
	now = now.Add(breakerLastPause)
	if err := b.allow(); err != nil {
		t.Fatal(err)
	}
	b.skip() // it was busy
	if err := b.allow(); err != nil {
		t.Fatal(err)
	}
	b.done(nil)
	for range breakerFailures - 1 {
		fail()
	}
	if err := b.allow(); err != nil {
		t.Errorf("closed: %v", err)
	}
	for _, line := range []string{"it fails and is not asked for a while", "no route", "it is asked again"} {
		if !strings.Contains(logs.String(), line) {
			t.Errorf("%q is not in the log:\n%s", line, logs)
		}
	}
}

func TestStrategiesOfSite(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string // in the log, or in the error after "!"
	}{
		"no callback":    {func(*Config) {}, "by=ticket"},
		"why not":        {func(*Config) {}, "callback: the settings have no dfws.callback_keys"},
		"no address":     {func(c *Config) { c.Settings.DFWS.CallbackKeys = []compat.Secret{testCallbackKey} }, "callback: neither a callback's address nor an upstream"},
		"explicit":       {func(c *Config) { c.Identify = []string{StrategyCallback} }, "!Identify: callback: the settings have no dfws.callback_keys"},
		"no app":         {func(c *Config) { c.Settings.DFWS.Installed = false }, "!no strategy works: ticket: the app"},
		"anonymous":      {func(c *Config) { c.Identify = []string{StrategyAnonymous} }, "by=anonymous"},
		"in this order":  {func(c *Config) { c.Identify = []string{StrategyTicket, StrategyAnonymous} }, `by="ticket, anonymous"`},
		"unknown":        {func(c *Config) { c.Identify = []string{"guess"} }, `!Identify: "guess" is none of auto, ticket`},
		"callback's URL": {func(c *Config) { c.CallbackURL = &url.URL{Scheme: "ftp", Host: "h"} }, `!CallbackURL: scheme "ftp"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			logs := &logbuffer.Buffer{}
			cfg := Config{Settings: testSettings(), Logger: testLogger(logs)}
			tc.change(&cfg)
			cfg = cfg.withDefaults()
			err := cfg.validate()
			if err == nil {
				var p ports
				if cfg.noCallback() == nil {
					p.answers = &callback{}
				}
				_, err = newGateway(cfg, p)
			}
			want, wrong := strings.CutPrefix(tc.want, "!")
			if wrong != (err != nil) || !strings.Contains(logs.String()+errorText(err), want) {
				t.Errorf("error %v, log %s; want %q", err, logs, want)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestAnonymousStrategy(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Identify = []string{StrategyAnonymous} })
	c := r.connect(testKey, "-str.x")
	if user := r.userOf(c); user != nil || len(r.receiver.groups()) != 2 {
		t.Errorf("user %v, groups %q", user, r.receiver.groups())
	}
	const other = "abcdefghijabcdefghijabcdefghijab"
	visitors := windowTicket(t, other, "-str.x")
	visitors.User, visitors.Stamp = "", ""
	r.tickets.set(other, visitors)
	if _, _, err := r.dial(cookies(other, "any")); err != nil || len(r.receiver.groups()) != 5 || r.counts.get("identified anonymous") != 2 {
		t.Errorf("%v, groups %q, %v", err, r.receiver.groups(), r.counts.n)
	}
}
