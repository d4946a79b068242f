//go:build integration

package integration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/integration/harness"
)

func frameCounter(outcome string) string {
	return fmt.Sprintf(`dfws_gateway_frames_received_total{outcome=%q}`, outcome)
}

// works makes sure that a window still does what windows are for: a heartbeat and a signal with an answer.
func works(t *testing.T, ctx context.Context, w *harness.Window) {
	t.Helper()
	must(t, w.Send(harness.Heartbeat))
	must1(w.Until(soon(t, ctx), func(f harness.Frame) bool { return f.Text == harness.Heartbeat }))(t)
	must(t, w.Call("demo.python_hello", map[string]any{"name": t.Name()}))
	must1(w.Until(soon(t, ctx), func(f harness.Frame) bool { return f.Signal == "demo.answer" && strings.Contains(f.Text, t.Name()) }))(t)
}

// TestBadFrames: what is wrong with a frame is counted under its reason and never closes the window; the next signal works.
func TestBadFrames(t *testing.T) {
	ctx := deadline(t)
	site := full(t)
	c := harness.NewClient(site.gateway.URL)
	must(t, c.Page(ctx))
	w := must1(c.Open(ctx))(t)
	t.Cleanup(func() { _ = w.Close() })
	signal := func(opts string) string { return `{"signal":"demo.any","opts":` + opts + `}` }
	nested := func(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }
	for _, tc := range []struct{ name, frame, outcome string }{
		{"empty", "", "not_json"},
		{"no JSON", "hello", "not_json"},
		{"cut off", `{"signal":"demo.any","opts":{}`, "not_json"},
		{"single quotes", `{'signal':'demo.any','opts':{}}`, "not_json"},
		{"a list", `[1,2]`, "not_object"},
		{"a text", `"demo.any"`, "not_object"},
		{"null", `null`, "not_object"},
		{"no signal", `{"opts":{}}`, "no_signal"},
		{"signal is null", `{"signal":null,"opts":{}}`, "bad_signal"},
		{"signal is a list", `{"signal":["demo.any"],"opts":{}}`, "bad_signal"},
		{"no opts", `{"signal":"demo.any"}`, "no_opts"},
		{"unknown signal", `{"signal":"nobody.handles.this","opts":{}}`, "unknown_signal"},
		{"signal for servers only", `{"signal":"rule.python.server_side","opts":{}}`, "not_callable_from_client"},
		{"countdown is null", `{"signal":"demo.any","opts":{},"countdown":null}`, "bad_countdown"},
		{"expires is a list", `{"signal":"demo.any","opts":{},"expires":[]}`, "bad_expires"},
		{"eta", `{"signal":"demo.any","opts":{},"eta":1800000000}`, "bad_eta"},
		{"deeply nested", signal(`{"x":` + nested(100_000) + `}`), "too_deep"},
		{"an integer that no worker reads", signal(`{"x":1` + strings.Repeat("0", 5000) + `}`), "int_too_long"},
		{"a Python object", signal(`{"x":{"__type__":"datetime","__value__":"2026-01-02T03:04:05"}}`), "typed_marker"},
		{"a hidden Python object", signal(`{"x":[{"__t\u0079pe__":"uuid","__value__":1,"__value__":{"hex":"0"}}]}`), "typed_marker"},
		{"opts are a Python object", signal(`{"__type__":"bytes","__value__":"eA=="}`), "typed_marker"},
	} {
		before := must1(site.gateway.Metric(ctx, frameCounter(tc.outcome)))(t)
		must(t, w.Send(tc.frame))
		if err := site.gateway.WaitMetric(soon(t, ctx), frameCounter(tc.outcome), before+1); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if !w.IsOpen() {
			t.Fatalf("%s: the window was closed", tc.name)
		}
	}
	before := must1(site.gateway.Metric(ctx, frameCounter("binary")))(t)
	must(t, w.SendBinary([]byte(signal("{}"))))
	must(t, site.gateway.WaitMetric(soon(t, ctx), frameCounter("binary"), before+1))
	works(t, ctx, w)
}

// TestOddFrames: what Python takes reaches the handler as Python reads it.
func TestOddFrames(t *testing.T) {
	ctx := deadline(t)
	site := full(t)
	c := harness.NewClient(site.gateway.URL)
	must(t, c.Page(ctx))
	w := must1(c.Open(ctx))(t)
	t.Cleanup(func() { _ = w.Close() })
	googol := "1" + strings.Repeat("0", 400)
	for _, tc := range []struct{ name, value, want string }{
		{"lone surrogate", `"\ud800"`, `'\ud800'`},
		{"not a number", `[NaN,Infinity,-Infinity]`, `[nan, inf, -inf]`},
		{"10^400", googol, googol},
		{"1e400", `1e400`, `inf`},
		{"half a megabyte", `"` + strings.Repeat("x", 1<<19) + `"`, `'` + strings.Repeat("x", 1<<19) + `'`},
		{"50 levels", strings.Repeat("[", 50) + strings.Repeat("]", 50), strings.Repeat("[", 50) + strings.Repeat("]", 50)},
	} {
		must(t, site.ClearJournal(ctx))
		must(t, w.Send(`{"signal":"demo.any","opts":{"mark":"`+tc.name+`","x":`+tc.value+`}}`))
		call, err := site.WaitCall(soon(t, ctx), tc.name, func(c harness.Call) bool { return c.Arguments["mark"] == "'"+tc.name+"'" })
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		} else if got := call.Arguments["x"]; got != tc.want {
			t.Errorf("%s: Python sees %.100s, want %.100s", tc.name, got, tc.want)
		}
	}
	works(t, ctx, w)
}

// TestFramesThatClose: what no websocket peer may send closes the window with the code that says why; others stay open.
func TestFramesThatClose(t *testing.T) {
	ctx := deadline(t)
	site := full(t)
	c := harness.NewClient(site.gateway.URL)
	must(t, c.Page(ctx))
	bystander := must1(c.Open(ctx))(t)
	t.Cleanup(func() { _ = bystander.Close() })
	for _, tc := range []struct {
		name, frame string
		code        int
	}{
		{"more than a mebibyte", `{"signal":"demo.any","opts":{"x":"` + strings.Repeat("x", 1<<20) + `"}}`, websocket.CloseMessageTooBig},
		{"no UTF-8", "{\"signal\":\"demo.any\",\"opts\":{\"x\":\"\xff\"}}", websocket.CloseInvalidFramePayloadData},
	} {
		w := must1(c.Open(ctx))(t)
		must(t, w.Send(tc.frame))
		if code, reason, err := w.CloseCode(soon(t, ctx)); err != nil || code != tc.code {
			t.Errorf("%s: closed with %d %q (%v), want %d", tc.name, code, reason, err, tc.code)
		}
		_ = w.Close()
	}
	works(t, ctx, bystander)
}

// identified opens a window and returns it with what the gateway counted it as.
func identified(t *testing.T, ctx context.Context, site *fullSite, c *harness.Client, outcome string) *harness.Window {
	t.Helper()
	series := fmt.Sprintf(`dfws_gateway_handshakes_identified_total{outcome=%q}`, outcome)
	before := must1(site.gateway.Metric(ctx, series))(t)
	w := must1(c.Open(ctx))(t)
	t.Cleanup(func() { _ = w.Close() })
	if after := must1(site.gateway.Metric(ctx, series))(t); after != before+1 {
		t.Errorf("%s was %g and is %g", series, before, after)
	}
	return w
}

// isUser calls a signal that notes its user, and compares.
func isUser(t *testing.T, ctx context.Context, site *fullSite, w *harness.Window, want string) {
	t.Helper()
	must(t, site.ClearJournal(ctx))
	must(t, w.Call("rule.fence", map[string]any{"mark": t.Name()}))
	call := must1(site.WaitCall(soon(t, ctx), "the user", func(c harness.Call) bool { return c.Handler == "rule.fence" }))(t)
	got := "nobody"
	if call.Username != nil {
		got = *call.Username
	}
	if got != want {
		t.Errorf("the window acts as %s, want %s", got, want)
	}
}

// byTicket is the shared site behind a gateway that asks nobody about windows whose ticket is worth nothing.
func byTicket(t *testing.T, ctx context.Context) *fullSite {
	t.Helper()
	site := *full(t)
	site.gateway = must1(site.Gateway(ctx, harness.GatewayOptions{
		Name: "ticket-gateway", Upstream: site.django.URL, Settings: site.settings,
		Args: []string{"--identify", "ticket", "--drain-linger", "0"}, // its pages need not come back to the site's other gateway
	}))(t)
	t.Cleanup(func() { must(t, site.gateway.Stop()) })
	return &site
}

// TestForeignIdentity: a window key alone makes nobody somebody else.
func TestForeignIdentity(t *testing.T) {
	ctx := deadline(t)
	site := byTicket(t, ctx)
	alice := harness.NewClient(site.gateway.URL)
	must(t, alice.Login(ctx, "alice"))
	must(t, alice.Page(ctx, objectTopic))
	key, session := alice.Cookie("dfwskey"), alice.Cookie("sessionid")
	isUser(t, ctx, site, identified(t, ctx, site, alice, "ticket"), "alice")

	t.Run("a key that nobody has", func(t *testing.T) {
		c := harness.NewClient(site.gateway.URL)
		must(t, c.Login(ctx, "bob"))
		c.SetCookie("dfwskey", strings.Repeat("z", 32))
		w := identified(t, ctx, site, c, "no_ticket")
		isUser(t, ctx, site, w, "nobody")
		hearsOnly(t, ctx, site, w)
	})
	t.Run("no key", func(t *testing.T) {
		isUser(t, ctx, site, identified(t, ctx, site, harness.NewClient(site.gateway.URL), "no_key"), "nobody")
	})
	t.Run("a key of absurd length", func(t *testing.T) {
		c := harness.NewClient(site.gateway.URL)
		c.SetCookie("dfwskey", strings.Repeat("k", 3000))
		isUser(t, ctx, site, identified(t, ctx, site, c, "no_key"), "nobody")
	})
	t.Run("the key of another session", func(t *testing.T) {
		c := harness.NewClient(site.gateway.URL)
		must(t, c.Login(ctx, "bob"))
		c.SetCookie("dfwskey", key)
		w := identified(t, ctx, site, c, "mismatch")
		isUser(t, ctx, site, w, "nobody")
		hearsOnly(t, ctx, site, w, "broadcast")
	})
	t.Run("the key without the session", func(t *testing.T) {
		c := harness.NewClient(site.gateway.URL)
		c.SetCookie("dfwskey", key)
		isUser(t, ctx, site, identified(t, ctx, site, c, "mismatch"), "nobody")
	})
	t.Run("a forged session", func(t *testing.T) {
		c := harness.NewClient(site.gateway.URL)
		c.SetCookie("dfwskey", key)
		c.SetCookie("sessionid", session[:len(session)-1]+"!")
		isUser(t, ctx, site, identified(t, ctx, site, c, "mismatch"), "nobody")
	})
	t.Run("another site's page", func(t *testing.T) {
		for _, origin := range []string{"https://evil.example", "null", "http://127.0.0.1:1", "https://" + site.gateway.URL.Host + ".evil.example"} {
			_, err := alice.Open(ctx, "Origin", origin)
			var refused *harness.HandshakeError
			if !errors.As(err, &refused) || refused.Status != http.StatusForbidden {
				t.Errorf("origin %s: %v, want 403", origin, err)
			}
		}
		w := must1(alice.Open(ctx, "Origin", site.gateway.URL.String()))(t)
		t.Cleanup(func() { _ = w.Close() })
		isUser(t, ctx, site, w, "alice")
	})
	t.Run("logged out", func(t *testing.T) { loggedOut(t, ctx, site) })
}

// hearsOnly checks which of alice's topics reach a window.
func hearsOnly(t *testing.T, ctx context.Context, site *fullSite, w *harness.Window, topics ...string) {
	t.Helper()
	alice := harness.NewClient(site.gateway.URL)
	must(t, alice.Login(ctx, "alice"))
	must(t, alice.Page(ctx, objectTopic))
	own := must1(alice.Open(ctx))(t)
	t.Cleanup(func() { _ = own.Close() })
	var want []string
	for _, topic := range []string{"user", objectTopic, "broadcast"} {
		kwargs := `{"mark":"` + t.Name() + topic + `"}`
		must1(alice.XHR(ctx, "/trigger/?signal=matrix.seen&to="+topic+"&kwargs="+kwargs))(t)
		must1(own.Until(soon(t, ctx), func(f harness.Frame) bool { return frameMark(f) == t.Name()+topic }))(t)
		for _, heard := range topics {
			if heard == topic {
				want = append(want, t.Name()+topic)
			}
		}
	}
	must(t, w.Send(harness.Heartbeat)) // behind everything that was sent before
	frames := must1(w.Until(soon(t, ctx), func(f harness.Frame) bool { return f.Text == harness.Heartbeat }))(t)
	var got []string
	for _, f := range frames[:len(frames)-1] {
		got = append(got, frameMark(f))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

// loggedOut: a logout closes the session's windows, and their key is worth nothing afterwards.
func loggedOut(t *testing.T, ctx context.Context, site *fullSite) {
	t.Helper()
	c := harness.NewClient(site.gateway.URL)
	must(t, c.Login(ctx, "staff"))
	must(t, c.Page(ctx))
	key, session := c.Cookie("dfwskey"), c.Cookie("sessionid")
	w := identified(t, ctx, site, c, "ticket")
	must1(c.Get(ctx, "/logout/"))(t)
	if code, reason, err := w.CloseCode(soon(t, ctx)); err != nil || code != 4403 {
		t.Errorf("closed with %d %q (%v), want 4403", code, reason, err)
	}
	again := harness.NewClient(site.gateway.URL)
	again.SetCookie("dfwskey", key)
	again.SetCookie("sessionid", session)
	isUser(t, ctx, site, must1(again.Open(ctx))(t), "nobody")
}

func ticketKey(windowKey string) string {
	sum := sha256.Sum256([]byte(windowKey))
	return "dfws:ticket:" + hex.EncodeToString(sum[:])
}

// TestCorruptTickets: a ticket that cannot be read is none: counted, logged, and the window is anonymous.
func TestCorruptTickets(t *testing.T) {
	ctx := deadline(t)
	site := byTicket(t, ctx)
	broker := site.Database(harness.BrokerDB)
	defer broker.Close()
	for _, ticket := range []string{
		"no ticket", "{}", "[]", `{"schema":99}`, `{"schema":1,"binding":"none","groups":"x"}`, `{"schema":1,"binding":"none","groups":[],"public_groups":[],"window_info":null}`,
		`{"schema":1,"created":1,"binding":"king","session":null,"user":null,"stamp":null,"groups":[],"public_groups":[],"window_info":{}}`,
		"\xff\xfe\x00", strings.Repeat("[", 100_000),
	} {
		c := harness.NewClient(site.gateway.URL)
		must(t, c.Page(ctx))
		key := ticketKey(c.Cookie("dfwskey"))
		if n := must1(broker.Exists(ctx, key).Result())(t); n != 1 {
			t.Fatalf("the page made no ticket %s", key)
		}
		must(t, broker.Set(ctx, key, ticket, redis.KeepTTL).Err())
		t.Run(fmt.Sprintf("%.40q", ticket), func(t *testing.T) {
			isUser(t, ctx, site, identified(t, ctx, site, c, "bad_ticket"), "nobody")
		})
	}
	// A ticket of another Redis type.
	c := harness.NewClient(site.gateway.URL)
	must(t, c.Page(ctx))
	key := ticketKey(c.Cookie("dfwskey"))
	must(t, broker.Del(ctx, key).Err())
	must(t, broker.RPush(ctx, key, "x").Err())
	defer broker.Del(ctx, key)
	identified(t, ctx, site, c, "bad_ticket")
}
