package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/integration/logbuffer"
)

const (
	testKey     = "0123456789abcdefghijklmnopqrstuv"
	testSession = "sessionkey"
	patience    = 10 * time.Second // for what should be there at once
)

// rig is a running gateway on fakes, behind a real HTTP server.
type rig struct {
	*Gateway
	t         testing.TB
	tickets   *fakeTickets
	receiver  *fakeReceiver
	publisher *fakePublisher
	health    *fakeHealth
	answers   answers // nil unless the test's configuration has a Django to ask
	parked    *fakeParked
	counts    *counts
	logs      *logbuffer.Buffer
	server    *httptest.Server
	stop      context.CancelFunc
	doneC     chan struct{} // closed when Run has returned
	runErr    error         // set before doneC is closed
}

// counts notes what the observer is told.
type counts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counts) add(name string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[name] += n
}

func (c *counts) get(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}

func (c *counts) observer() Observer {
	return Observer{
		Opened:         func() { c.add("opened", 1) },
		Closed:         func(code CloseCode, _ bool) { c.add("closed "+code.String(), 1) },
		Refused:        func(reason string) { c.add("refused "+reason, 1) },
		Identified:     func(outcome string) { c.add("identified "+outcome, 1) },
		IdentifyFailed: func(strategy, reason string) { c.add("failed "+strategy+" "+reason, 1) },
		FrameReceived:  func(outcome string) { c.add("frame "+outcome, 1) },
		Throttled:      func() { c.add("throttled", 1) },
		FramesDropped:  func(_, reason string, n int) { c.add("dropped", n); c.add("dropped "+reason, n) },
		Parked:         func(n int) { c.add("parked", n) },
		TakenOver:      func(from string, n int) { c.add("taken over "+from, 1); c.add("handed frames", n) },
		HandoverFailed: func(reason string) { c.add("handover "+reason, 1) },
		MessageDropped: func(reason string) { c.add("message "+reason, 1) },
		Revoked:        func(n int) { c.add("revoked", n) },
		Published: func(err error) {
			if err != nil {
				c.add("publish failed", 1)
				return
			}
			c.add("publish stored", 1)
		},
		ProxyFailed: func(kind string) { c.add("proxy "+kind, 1) },
		Proxied:     func(status int, _ time.Duration) { c.add("proxied "+http.StatusText(status), 1) },
	}
}

// testSettings are those of a site with the defaults.
func testSettings() *compat.Settings {
	return &compat.Settings{
		Site: compat.Site{
			SessionCookieName: "sessionid", CSRFCookieName: "csrftoken", LanguageCode: "en-us", AuthUserModel: "auth.user",
			SessionEngine: "django.contrib.sessions.backends.db",
		},
		WebSocket: compat.WebSocket{URL: "/ws/", DefaultQueue: "celery"},
		DFWS:      compat.DFWS{KeyPrefix: "dfws:", GoQueue: "go", Installed: true},
	}
}

// testRegistry knows one signal for everybody, one of two queues and one for servers only.
func testRegistry() *dispatch.Registry {
	r := dispatch.NewRegistry(dispatch.RegistryConfig{})
	r.Set(&dispatch.Entry{
		Publisher: dispatch.PublisherPython, Language: dispatch.LanguagePython, DefaultQueue: "celery",
		Signals: map[string][]dispatch.Handler{
			"site.signal": {{Handler: "site.f", Queue: "celery", Allow: "everyone"}},
			"site.two":    {{Handler: "site.g", Queue: "celery", Allow: "everyone"}, {Handler: "site.h", Queue: "slow", Allow: "everyone"}},
			"site.server": {{Handler: "site.i", Queue: "celery", Allow: dispatch.AllowServerSide}},
		},
	})
	return r
}

// newRig starts a gateway. change may adapt its configuration.
func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	return newRigBeside(t, newParkedSpace(), change)
}

// newRigBeside starts a gateway that hands over through the given space.
func newRigBeside(t testing.TB, space *parkedSpace, change func(*Config)) *rig {
	t.Helper()
	r := &rig{
		t:         t,
		tickets:   &fakeTickets{tickets: map[string]*dispatch.Ticket{}, revokeC: make(chan dispatch.Revocation)},
		receiver:  &fakeReceiver{joined: map[string]bool{}, deliverC: make(chan fakeDelivery)},
		publisher: &fakePublisher{},
		health:    &fakeHealth{},
		parked:    &fakeParked{space: space, self: newGatewayName()},
		counts:    &counts{n: map[string]int{}},
		logs:      &logbuffer.Buffer{},
		doneC:     make(chan struct{}),
	}
	cfg := Config{
		Settings: testSettings(), DrainWindow: Off, DrainLinger: 100 * time.Millisecond, Observer: r.counts.observer(),
		Logger: slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&cfg)
	}
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		t.Fatal(err)
	}
	if cfg.noCallback() == nil {
		c, err := newCallback(&cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.client.CloseIdleConnections)
		r.answers = c
	}
	planner, err := dispatch.NewDispatcher(dispatch.Config{Settings: cfg.Settings, Registry: testRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	r.Gateway, err = newGateway(cfg, ports{r.tickets, r.receiver, planner, r.publisher, r.health, r.parked, r.answers})
	if err != nil {
		t.Fatal(err)
	}
	r.start()
	return r
}

// start runs the gateway until the test ends.
func (r *rig) start() {
	r.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	var wg sync.WaitGroup
	wg.Go(func() {
		r.runErr = r.Run(ctx)
		close(r.doneC)
	})
	r.server = httptest.NewServer(r.Handler())
	r.t.Cleanup(func() {
		stop()
		wg.Wait()
		r.server.Close()
		if r.runErr != nil {
			r.t.Errorf("Run: %v", r.runErr)
		}
		if r.t.Failed() {
			r.t.Log(r.logs.String())
		}
	})
	r.eventually("running", func() bool { return r.phase.Load() != phaseNew })
}

// eventually waits for a condition.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	eventually(r.t, what, ok)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("not within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}

// groupOf is the group of a topic.
func groupOf(topic string) string { return compat.GroupName(topic) }

// windowTicket is a ticket of a user with a session, in the groups of the usual topics and of the further ones.
func windowTicket(t testing.TB, key string, topics ...string) *dispatch.Ticket {
	t.Helper()
	info, err := compat.DecodeWindowInfo([]byte(`{"window_key":"` + key + `","user_pk":1,"username":"ada","is_superuser":false,"is_staff":true,` +
		`"is_active":true,"csrf_cookie":"old","perms":null,"user_agent":"old","user_set":true,"language_code":"fr","extra":[1]}`))
	if err != nil {
		t.Fatal(err)
	}
	public := []string{groupOf(compat.WindowTopic(key)), groupOf(compat.BroadcastTopic)}
	groups := append([]string{groupOf("-auth.user.1")}, public...)
	for _, topic := range topics {
		groups = append(groups, groupOf(topic))
	}
	return &dispatch.Ticket{
		Binding: dispatch.BindSession, Session: dispatch.SessionHash(testSession), User: "auth.user.1", Stamp: "stamp1",
		Groups: groups, PublicGroups: public, WindowInfo: info,
	}
}

// cookies is a Cookie header.
func cookies(key, session string) http.Header {
	return http.Header{"Cookie": {"dfwskey=" + key + "; sessionid=" + session + "; csrftoken=tok"}, "User-Agent": {"Test/1"}}
}

// client is one browser page.
type client struct {
	*websocket.Conn
	t testing.TB
}

// dial opens a window or returns the refusal.
func (r *rig) dial(h http.Header) (*client, *http.Response, error) {
	r.t.Helper()
	d := websocket.Dialer{HandshakeTimeout: patience}
	ws, resp, err := d.Dial("ws"+strings.TrimPrefix(r.server.URL, "http")+"/ws/", h)
	if err != nil {
		return nil, resp, err
	}
	r.t.Cleanup(func() { _ = ws.Close() })
	return &client{ws, r.t}, resp, nil
}

// connect opens the window of a logged-in user with the given key and further topics.
func (r *rig) connect(key string, topics ...string) *client {
	r.t.Helper()
	r.tickets.set(key, windowTicket(r.t, key, topics...))
	c, _, err := r.dial(cookies(key, testSession))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// anonymous opens a window without cookies.
func (r *rig) anonymous() *client {
	r.t.Helper()
	c, _, err := r.dial(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// send sends a text frame.
func (c *client) send(text string) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// expect reads the next frame.
func (c *client) expect(want string) {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	kind, got, err := c.ReadMessage()
	if err != nil {
		c.t.Fatalf("want frame %q, got %v", want, err)
	}
	if kind != websocket.TextMessage || string(got) != want {
		c.t.Fatalf("got frame %d %q, want %q", kind, got, want)
	}
}

// beat sends a heartbeat and waits for its echo: everything before it was handled.
func (c *client) beat() {
	c.t.Helper()
	c.send(compat.HeartbeatFrame)
	c.expect(compat.HeartbeatFrame)
}

// expectClose reads until the close frame.
func (c *client) expectClose(want CloseCode) {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for {
		_, _, err := c.ReadMessage()
		if err == nil {
			continue
		}
		var closed *websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != int(want) {
			c.t.Fatalf("got %v, want close %d", err, want)
		}
		if closed.Text != want.Reason() {
			c.t.Fatalf("got reason %q, want %q", closed.Text, want.Reason())
		}
		return
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// contextOf is a context that ends before the test's Cleanup functions run.
func contextOf(t testing.TB) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	return ctx, stop
}

func testLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
