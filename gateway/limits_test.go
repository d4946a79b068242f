package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// from adds the address that a trusted proxy names.
func from(h http.Header, address string) http.Header {
	if h == nil {
		h = http.Header{}
	}
	h = h.Clone()
	h.Set("X-Forwarded-For", address)
	return h
}

// refused dials and returns the refusal.
func (r *rig) refused(h http.Header) *http.Response {
	r.t.Helper()
	_, resp, err := r.dial(h)
	if err == nil || resp == nil {
		r.t.Fatalf("got %v and %v, want a refusal", resp, err)
	}
	return resp
}

func TestWindowsPerUser(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.WindowsPerUser = 2 })
	first := r.connect("a")
	r.connect("b").beat()
	r.tickets.set("c", windowTicket(t, "c"))
	resp := r.refused(cookies("c", testSession))
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != retryAfter || r.counts.get("refused "+RefusedUser) != 1 {
		t.Errorf("%s, %v", resp.Status, r.counts.n)
	}
	// Another session than the ticket's: a visitor, who is nobody's window.
	visitor, _, err := r.dial(cookies("c", "another"))
	if err != nil {
		t.Fatal(err)
	}
	visitor.beat()
	_ = first.Close()
	r.eventually("the place is free", func() bool {
		c, _, err := r.dial(cookies("c", testSession))
		return err == nil && c.Close() == nil
	})
	r.eventually("one window of one user is counted", func() bool { // that of b
		r.users.mu.Lock()
		defer r.users.mu.Unlock()
		return len(r.users.all) == 1 && r.users.all["auth.user.1"].windows == 1
	})
}

func TestWindowsPerAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.WindowsPerAddress, c.TrustForwarded = 1, true })
	open := func(address string) *client {
		t.Helper()
		c, _, err := r.dial(from(nil, address))
		if err != nil {
			t.Fatalf("%s: %v", address, err)
		}
		c.beat()
		return c
	}
	for _, address := range []string{"203.0.113.1", "203.0.113.2", "2001:db8:1:2::1", "2001:db8:1:3::1", "10.1.1.1", "10.1.1.1", "127.0.0.1", "127.0.0.1"} {
		open(address)
	}
	for _, address := range []string{"203.0.113.1", "::ffff:203.0.113.2", "2001:db8:1:2:ffff::9", "spoofed, 203.0.113.1"} {
		if resp := r.refused(from(nil, address)); resp.StatusCode != http.StatusTooManyRequests {
			t.Errorf("%s: %s", address, resp.Status)
		}
	}
	if n := r.counts.get("refused " + RefusedAddress); n != 4 {
		t.Errorf("%d refusals counted, want 4", n)
	}
	// A handshake that is refused later, or breaks, leaves nothing.
	r.tickets.fail(errAway)
	for range 3 {
		h := cookies("x", "y")
		if resp := r.refused(from(h, "203.0.113.77")); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s while Redis is away", resp.Status)
		}
	}
	r.tickets.fail(nil)
	open("203.0.113.77")
}

func TestClientAddress(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("198.51.100.7/32")}
	for name, tc := range map[string]struct {
		remote    string
		forwarded []string
		all       bool
		want      string
	}{
		"direct":               {remote: "203.0.113.9:1", want: "203.0.113.9"},
		"header not believed":  {remote: "203.0.113.9:1", forwarded: []string{"192.0.2.1"}, want: "203.0.113.9"},
		"one proxy":            {remote: "10.0.0.1:1", forwarded: []string{"192.0.2.1"}, want: "192.0.2.1"},
		"two proxies":          {remote: "10.0.0.1:1", forwarded: []string{"192.0.2.1, 198.51.100.7"}, want: "192.0.2.1"},
		"client's own element": {remote: "10.0.0.1:1", forwarded: []string{"1.1.1.1, 192.0.2.1"}, want: "192.0.2.1"},
		"two headers":          {remote: "10.0.0.1:1", forwarded: []string{"1.1.1.1", "192.0.2.1"}, want: "192.0.2.1"},
		"nonsense":             {remote: "10.0.0.1:1", forwarded: []string{"192.0.2.1, unknown"}, want: ""},
		"no header":            {remote: "10.0.0.1:1", want: ""},
		"all trusted":          {remote: "203.0.113.9:1", all: true, forwarded: []string{"1.1.1.1, 192.0.2.1"}, want: "192.0.2.1"},
		"IPv6":                 {remote: "[2001:db8:1:2:3::4]:1", want: "2001:db8:1:2::/64"},
		"IPv6 by a proxy":      {remote: "10.0.0.1:1", forwarded: []string{"[2001:db8:1:2:3::4]"}, want: "2001:db8:1:2::/64"},
		"IPv4 in IPv6":         {remote: "[::ffff:203.0.113.9]:1", want: "203.0.113.9"},
		"loopback":             {remote: "[::1]:1", want: ""},
		"link-local":           {remote: "[fe80::1%eth0]:1", want: ""},
		"unix socket":          {remote: "@", want: ""},
	} {
		rules := headerRules{trusted: proxies, trustAll: tc.all}
		r := &http.Request{RemoteAddr: tc.remote, Header: http.Header{"X-Forwarded-For": tc.forwarded}}
		if got := rules.addressKey(r); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

func TestTopicsPerWindow(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	topics := make([]string, DefaultTopicsPerWindow-3) // window, broadcast and user are there already
	for i := range topics {
		topics[i] = fmt.Sprintf("-str.%d", i)
	}
	c := r.connect("a", topics...)
	for _, i := range []int{0, len(topics) / 2, len(topics) - 1} {
		r.receiver.send(groupOf(topics[i]), "hello")
		c.expect("hello")
	}
	r.tickets.set("b", windowTicket(t, "b", append(slices.Clone(topics), "one more")...))
	if resp := r.refused(cookies("b", testSession)); resp.StatusCode != http.StatusForbidden || r.counts.get("refused "+RefusedTopics) != 1 {
		t.Errorf("%s, %v", resp.Status, r.counts.n)
	}
	if !strings.Contains(r.logs.String(), "too many topics") {
		t.Error("nothing in the log for the operator")
	}
}

func TestUserFramesPerSecond(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.UserFramesPerSecond, c.TrustForwarded = 100, true })
	a, b := r.connect("a"), r.connect("b")
	start := time.Now()
	for range 100 { // twice the rate over a second, and a burst of one second
		a.send(goodFrame)
		b.send(goodFrame)
	}
	a.beat()
	b.beat()
	if d := time.Since(start); d < 700*time.Millisecond {
		t.Errorf("200 frames of one user took %v", d)
	}
	if n := len(r.publisher.queued()); n != 200 || r.counts.get("throttled") == 0 {
		t.Errorf("%d tasks, want all 200; %v", n, r.counts.n)
	}
	visitor, _, err := r.dial(from(nil, "203.0.113.5"))
	if err != nil {
		t.Fatal(err)
	}
	start = time.Now()
	for range 180 {
		visitor.send(goodFrame)
	}
	visitor.beat()
	if d := time.Since(start); d < 500*time.Millisecond {
		t.Errorf("181 frames of one address took %v", d)
	}
}

func TestMaxDelay(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.MaxDelay = time.Minute })
	c := r.connect(testKey)
	for _, fields := range []string{`"countdown":61`, `"expires":"61"`, `"countdown":1e9`, `"countdown":1,"expires":100`} {
		c.send(`{"signal":"site.signal","opts":{},` + fields + `}`)
	}
	c.beat()
	if n := r.counts.get("frame " + FrameDelay); n != 4 || len(r.publisher.queued()) != 0 {
		t.Errorf("%d frames counted, want 4; %d tasks, want none; %v", n, len(r.publisher.queued()), r.counts.n)
	}
	for _, fields := range []string{`"countdown":60`, `"expires":60`, `"countdown":-5`} {
		c.send(`{"signal":"site.signal","opts":{},` + fields + `}`)
	}
	c.beat()
	if n := len(r.publisher.queued()); n != 3 {
		t.Errorf("%d tasks, want 3", n)
	}
}

// TestDrippingFrame: who lets a frame drip, and answers pings between its fragments, does not keep its buffer.
func TestDrippingFrame(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.FrameTimeout = 100 * time.Millisecond })
	p, other := r.connectRaw("a"), r.connect("b")
	p.write(rawFrame(opText, strings.Repeat(" ", 8<<10)))
	end := p.drain(patience)
	if end.code != int(ClosePolicy) || end.text != ClosePolicy.Reason() {
		t.Errorf("ended with %+v", end)
	}
	r.eventually("counted", func() bool {
		return r.counts.get("closed 1008") == 1 && r.counts.get("frame "+FrameTooSlow) == 1
	})
	other.beat()
}
