//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/integration/pages"
)

// returningSite is a site whose windows have tickets, and the channel layer to reach them.
type returningSite struct {
	*harness.Site
	settings string
	cookies  []string
	layer    *channelslayer.Core

	mu  sync.Mutex
	ids []string // of the messages that were sent
}

func newReturningSite(t *testing.T, ctx context.Context, windows int) *returningSite {
	t.Helper()
	s := &returningSite{Site: must1(lab(t).NewSite(ctx, harness.SiteOptions{LogLevel: "ERROR"}))(t)}
	s.settings = must1(s.ExportSettings(ctx))(t)
	text := must1(s.Manage(ctx, "bench_windows", fmt.Sprint(windows)))(t)
	s.cookies = strings.Split(strings.TrimSpace(text), "\n")
	s.layer = must1(channelslayer.Open(channelslayer.Config{
		Hosts: []channelslayer.Host{{URL: fmt.Sprintf("redis://%s/%d", s.Redis.Addr, harness.LayerDB)}}}))(t)
	t.Cleanup(func() { must(t, s.layer.Close()) })
	return s
}

func (s *returningSite) start(t *testing.T, ctx context.Context, name string, args ...string) *harness.Gateway {
	t.Helper()
	args = append([]string{"--drain", "2s", "--windows-per-user", "-1"}, args...) // all are of one user
	return must1(s.Gateway(ctx, harness.GatewayOptions{Name: name, Settings: s.settings, Args: args}))(t)
}

// broadcast sends one message to all windows, as a Python process would.
func (s *returningSite) broadcast(ctx context.Context) error {
	s.mu.Lock()
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", len(s.ids))
	s.ids = append(s.ids, id)
	s.mu.Unlock()
	frame := compat.AppendServerFrame(nil, "bench.broadcast", celeryproto.Raw(`{"n": 1}`), id)
	return s.layer.GroupSend(ctx, compat.GroupName(compat.BroadcastTopic), channelslayer.Message{"type": "ws_message", "message": string(frame)})
}

// flow broadcasts until stop is called.
func (s *returningSite) flow(t *testing.T, ctx context.Context, every time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			if err := s.broadcast(context.WithoutCancel(ctx)); err != nil {
				t.Errorf("broadcast: %v", err)
			}
			pause(ctx, every)
		}
	})
	return func() { cancel(); wg.Wait() }
}

// allArrive waits until every page has every message.
func (s *returningSite) allArrive(t *testing.T, ctx context.Context, set *pages.Set) {
	t.Helper()
	err := harness.WaitFor(soon(t, ctx), "every message at every page", func(context.Context) error {
		if total, least := set.Received(s.ids); least < len(s.ids) {
			return fmt.Errorf("%d of %d arrived; one page has %d of %d", total, len(s.ids)*len(s.cookies), least, len(s.ids))
		}
		return nil
	})
	t.Logf("%d messages to %d pages, %d handshakes, %d refused, %d repeats", len(s.ids), len(s.cookies), set.Opened(), set.Refused(), set.Repeats())
	must(t, err)
}

// connected waits until all pages have a socket.
func connected(t *testing.T, ctx context.Context, set *pages.Set, want int) {
	t.Helper()
	must(t, harness.WaitFor(soon(t, ctx), "the pages are connected", func(context.Context) error {
		if n := set.Connected(); n != want {
			return fmt.Errorf("%d of %d", n, want)
		}
		return nil
	}))
}

// TestRollingRestart restarts both gateways, one after the other, while messages flow to pages behind a balancer: none is lost.
func TestRollingRestart(t *testing.T) {
	ctx := deadline(t)
	const windows = 200
	site := newReturningSite(t, ctx, windows)
	names := []string{"gateway-a", "gateway-b"}
	gateways := []*harness.Gateway{site.start(t, ctx, names[0]), site.start(t, ctx, names[1])}
	balancer := must1(pages.NewBalancer(gateways[0].URL.Host, gateways[1].URL.Host))(t)
	t.Cleanup(func() { must(t, balancer.Close()) })
	set := pages.Open(ctx, pages.Options{URL: "ws://" + balancer.Addr + "/ws/", Cookies: site.cookies, Concurrency: 32})
	t.Cleanup(set.Close)
	connected(t, ctx, set, windows)
	stop := site.flow(t, ctx, 20*time.Millisecond)
	for i := range gateways {
		other := gateways[1-i]
		balancer.SetTargets(other.URL.Host) // a balancer sees that the gateway is not ready any more
		start := time.Now()
		must(t, gateways[i].Stop())
		t.Logf("%s took %v to stop", names[i], time.Since(start).Round(time.Millisecond))
		gateways[i] = site.start(t, ctx, names[i]+"-again")
		balancer.SetTargets(gateways[i].URL.Host, other.URL.Host)
	}
	connected(t, ctx, set, windows)
	stop()
	site.allArrive(t, ctx, set)
	left := must1(site.Database(harness.BrokerDB).Keys(ctx, "dfws:parked:*").Result())(t)
	if len(left) > 0 {
		t.Errorf("left in Redis: %q", left)
	}
}

// TestCutWindows cuts each window every few seconds, wherever it comes back: none loses a message.
func TestCutWindows(t *testing.T) {
	ctx := deadline(t)
	const windows = 100
	site := newReturningSite(t, ctx, windows)
	a, b := site.start(t, ctx, "gateway-a"), site.start(t, ctx, "gateway-b")
	balancer := must1(pages.NewBalancer(a.URL.Host, b.URL.Host))(t)
	t.Cleanup(func() { must(t, balancer.Close()) })
	set := pages.Open(ctx, pages.Options{URL: "ws://" + balancer.Addr + "/ws/", Cookies: site.cookies, CutEvery: 5 * time.Second, Concurrency: 32})
	t.Cleanup(set.Close)
	connected(t, ctx, set, windows)
	stop := site.flow(t, ctx, 20*time.Millisecond)
	pause(ctx, 25*time.Second)
	stop()
	site.allArrive(t, ctx, set)
}

// TestStorm: ten thousand windows are cut together and come back together; each gets what it missed, and the gateway takes them at its own pace.
func TestStorm(t *testing.T) {
	ctx := deadline(t)
	const windows = 10_000
	site := newReturningSite(t, ctx, windows)
	gateway := site.start(t, ctx, "gateway", "--log-level", "warn", "--admit-rate", "1500", "--admit-burst", "500", "--park", "60s")
	set := pages.Open(ctx, pages.Options{URL: "ws://" + gateway.URL.Host + "/ws/", Cookies: site.cookies})
	t.Cleanup(set.Close)
	patient, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("the windows did not come back in time"))
	defer cancel()
	all := func(what string) {
		t.Helper()
		start := time.Now()
		must(t, harness.WaitFor(patient, what, func(context.Context) error {
			if n := set.Connected(); n != windows {
				return fmt.Errorf("%d windows are open, %d handshakes were refused", n, set.Refused())
			}
			return nil
		}))
		t.Logf("%s: %v, %d handshakes refused so far", what, time.Since(start).Round(time.Millisecond), set.Refused())
	}
	all("all are open")
	refused := set.Refused()
	set.CutAll()
	must(t, gateway.WaitMetric(soon(t, ctx), "dfws_gateway_windows_parked", windows))
	must(t, site.broadcast(ctx))
	all("all are back")
	site.allArrive(t, ctx, set)
	if n := must1(gateway.Metric(ctx, `dfws_gateway_handshakes_refused_total{reason="rate"}`))(t); n == 0 || set.Refused() == refused {
		t.Error("nobody had to wait: this was no storm")
	}
	set.Close() // the gateway's windows are gone before it stops
}

// TestBrowserBehindACutLine cuts a real browser's connections while Python sends: the page sees every message, each once.
func TestBrowserBehindACutLine(t *testing.T) {
	ctx := deadline(t)
	site := demoSite(t)
	line := must1(pages.NewBalancer(site.gateway.URL.Host))(t)
	t.Cleanup(func() { must(t, line.Close()) })
	b := browser(t, ctx)
	_, port, err := net.SplitHostPort(line.Addr)
	must(t, err)
	tab := must1(b.Tab("http://" + net.JoinHostPort(site.gateway.URL.Hostname(), port) + "/readme/topics/"))(t)
	open := `window.DFSignals.connection && window.DFSignals.connection.readyState === WebSocket.OPEN`
	must(t, tab.Wait(soon(t, ctx), open))
	const messages = 6
	send := `import time, df_websockets.tasks as t
for n in range(%d, %d): t.trigger(None, "myproject.first_signal", to=[t.BROADCAST], content="message %%d of the cut line" %% n); time.sleep(0.2)`
	must1(site.Manage(ctx, "shell", "-c", fmt.Sprintf(send, 0, 2)))(t)
	line.Cut()
	must1(site.Manage(ctx, "shell", "-c", fmt.Sprintf(send, 2, 4)))(t) // the script waits for three seconds
	must(t, tab.Wait(soon(t, ctx), open))
	line.Cut()
	must1(site.Manage(ctx, "shell", "-c", fmt.Sprintf(send, 4, messages)))(t)
	for n := range messages {
		shown := fmt.Sprintf(`[...document.querySelectorAll("#signals li")].filter(l => l.textContent.includes("message %d of the cut line")).length === 1`, n)
		must(t, tab.Wait(soon(t, ctx), shown))
	}
}
