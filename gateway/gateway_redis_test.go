package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/integration/logbuffer"
	"github.com/dfws/dfws/integration/redistest"
)

// redisRig is a gateway on real Redis: one server for the broker, one for everything else.
type redisRig struct {
	rig
	broker, shared *redistest.Server
	client         *redis.Client // of shared
	services       *dispatch.Services
}

func newRedisRig(t *testing.T, change func(*Config)) *redisRig {
	t.Helper()
	r := &redisRig{broker: redistest.Start(t), shared: redistest.Start(t)}
	r.t, r.counts, r.logs, r.doneC = t, &counts{n: map[string]int{}}, &logbuffer.Buffer{}, make(chan struct{})
	r.client = r.shared.Client(t)
	settings, err := compat.ParseSettings(fmt.Appendf(nil, `{"schema":1,"celery":{"broker_url":%q},
		"channel_layer":{"backend":"channels_redis.core.RedisChannelLayer","hosts":[{"url":%q}]},"dfws":{"redis_url":%q}}`,
		r.broker.URL, r.shared.URLFor(1), r.shared.URL))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	r.services, err = dispatch.Connect(t.Context(), dispatch.ServicesConfig{Settings: settings, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Settings: settings, Services: r.services, DrainWindow: Off, Logger: log, Observer: r.counts.observer()}
	if change != nil {
		change(&cfg)
	}
	if r.Gateway, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	r.publishRegistry()
	r.run()
	return r
}

// publishRegistry writes the handlers of a Python site.
func (r *redisRig) publishRegistry() {
	r.t.Helper()
	err := r.services.Store.PublishRegistry(r.t.Context(), &dispatch.Entry{
		Publisher: dispatch.PublisherPython, Language: dispatch.LanguagePython, DefaultQueue: "celery",
		Signals: map[string][]dispatch.Handler{"site.signal": {{Handler: "site.f", Queue: "celery", Allow: "everyone"}}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// run serves until the test ends, in the order that cmd keeps: gateway, HTTP server, services.
func (r *redisRig) run() {
	ctx, stop := context.WithCancel(context.Background())
	servicesCtx, stopServices := context.WithCancel(context.Background())
	r.stop = stop
	var wg, services sync.WaitGroup
	services.Go(func() { _ = r.services.Run(servicesCtx) })
	wg.Go(func() {
		r.runErr = r.Run(ctx)
		close(r.doneC)
	})
	r.server = httptest.NewServer(r.Handler())
	r.t.Cleanup(func() {
		stop()
		wg.Wait()
		r.server.Close()
		stopServices()
		services.Wait()
		if err := r.services.Close(); err != nil {
			r.t.Errorf("close: %v", err)
		}
		if r.t.Failed() {
			r.t.Log(r.logs.String())
		}
	})
	r.eventually("ready", func() bool { return r.Ready() == nil })
}

// writeTicket writes what the Django app writes when it renders a page.
func (r *redisRig) writeTicket(key string) {
	r.t.Helper()
	if err := r.writeTicketTo(r.client, key).Err(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *redisRig) writeTicketTo(client redis.Cmdable, key string) *redis.StatusCmd {
	window, broadcast := groupOf(compat.WindowTopic(key)), groupOf(compat.BroadcastTopic)
	text := fmt.Sprintf(`{"schema":1,"created":1764000000.0,"binding":"session","session":%q,"user":"auth.user.1","stamp":"stamp1",
		"groups":[%q,%q,%q],"public_groups":[%q,%q],"window_info":{"window_key":%q,"user_pk":1,"username":"ada","is_superuser":false,
		"is_staff":false,"is_active":true,"csrf_cookie":"","perms":null,"user_agent":"","user_set":true,"language_code":"en"}}`,
		dispatch.SessionHash(testSession), window, broadcast, groupOf("-auth.user.1"), window, broadcast, key)
	return client.Set(r.t.Context(), r.ticketKey(key), text, time.Hour)
}

func (r *redisRig) ticketKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "dfws:ticket:" + hex.EncodeToString(sum[:])
}

func (r *redisRig) open(key string) *client {
	r.t.Helper()
	r.writeTicket(key)
	c, _, err := r.dial(cookies(key, testSession))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// groupSend is what a Python or Go worker does.
func (r *redisRig) groupSend(topic, text string) {
	r.t.Helper()
	if err := r.services.Layer.GroupSend(r.t.Context(), groupOf(topic), dispatch.FrameMessage([]byte(text))); err != nil {
		r.t.Fatal(err)
	}
}

func TestWholeLoopOverRedis(t *testing.T) {
	t.Parallel()
	r := newRedisRig(t, nil)
	a, b := r.open("a"), r.open("b")
	r.groupSend(compat.WindowTopic("a"), "for a")
	r.groupSend(compat.BroadcastTopic, "for all")
	r.groupSend("-auth.user.1", "for the user")
	a.expect("for a")
	for _, c := range []*client{a, b} {
		c.expect("for all")
		c.expect("for the user")
	}
	for range 100 {
		a.send(goodFrame)
	}
	broker := r.broker.Client(t)
	r.eventually("all tasks are in the queue", func() bool { return broker.LLen(t.Context(), "celery").Val() == 100 })

	revocation := fmt.Sprintf(`{"schema":1,"session":%q}`, dispatch.SessionHash(testSession))
	if err := r.client.Publish(t.Context(), "dfws:revoked", revocation).Err(); err != nil {
		t.Fatal(err)
	}
	a.expectClose(CloseRevoked)
	b.expectClose(CloseRevoked)
	r.stop()
	<-r.doneC
	if r.runErr != nil {
		t.Errorf("Run: %v", r.runErr)
	}
	// Nothing of this gateway is left in the layer's database.
	layer := redis.NewClient(&redis.Options{Addr: r.shared.Addr, DB: 1, Protocol: 2})
	defer func() { _ = layer.Close() }()
	keys, err := layer.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if strings.HasPrefix(key, "asgi") {
			t.Errorf("left behind: %s", key)
		}
	}
}

// TestHungBroker: a broker that accepts and never answers freezes nobody. It freezes daphne, every socket of it, for 39 s.
func TestHungBroker(t *testing.T) {
	t.Parallel()
	r := newRedisRig(t, func(c *Config) { c.PublishDeadline = 2 * time.Second })
	a, b := r.open("a"), r.open("b")
	a.send(goodFrame) // the connection to the broker is there
	a.beat()
	broker := r.broker.Client(t)
	r.eventually("published", func() bool { return broker.LLen(t.Context(), "celery").Val() == 1 })

	r.broker.Pause()
	start := time.Now()
	for range 100 {
		a.send(goodFrame)
	}
	a.beat() // of the same window
	b.beat()
	r.groupSend(compat.BroadcastTopic, "meanwhile")
	b.expect("meanwhile")
	if d := time.Since(start); d > time.Second {
		t.Errorf("heartbeats took %v with a hung broker", d)
	}
	a.expectClose(CloseTryAgain)
	b.beat()
	r.broker.Resume()
	c := r.open("a")
	c.send(goodFrame)
	c.beat()
	r.eventually("published again", func() bool { return broker.LLen(t.Context(), "celery").Val() >= 2 })
	if r.counts.get("publish failed") == 0 {
		t.Error("no failure counted")
	}
}

// TestRedisAway: connects get 503 while Redis is away, at once or at the latest after the timeout, and work after it is back. Open
// windows survive it.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	r := newRedisRig(t, nil)
	a := r.open("a")
	r.shared.Save()
	r.shared.Stop()
	_, resp, err := r.dial(cookies("a", testSession))
	if err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "3" {
		t.Fatalf("got %v, %v", resp, err)
	}
	if r.Ready() == nil {
		t.Error("ready without Redis")
	}
	a.beat()
	r.shared.StartAgain()
	r.eventually("connects again", func() bool {
		_, _, err := r.dial(cookies("a", testSession))
		return err == nil
	})
	r.eventually("ready again", func() bool { return r.Ready() == nil })
	r.groupSend(compat.BroadcastTopic, "back")
	a.expect("back")
}

// TestRedisEmptied: a restart that loses the memberships is noticed, and open windows get messages again.
func TestRedisEmptied(t *testing.T) {
	t.Parallel()
	r := newRedisRig(t, nil)
	a := r.open("a")
	r.shared.RestartEmpty()
	got := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(got)
		a.expect("back")
	})
	r.eventually("messages arrive again", func() bool {
		if err := r.services.Layer.GroupSend(t.Context(), groupOf(compat.BroadcastTopic), dispatch.FrameMessage([]byte("back"))); err != nil {
			return false
		}
		select {
		case <-got:
			return true
		default:
			return false
		}
	})
	wg.Wait()
}

// TestCorruptTicket: an unreadable ticket is no ticket, whatever is in it.
func TestCorruptTicket(t *testing.T) {
	t.Parallel()
	r := newRedisRig(t, nil)
	for i, text := range []string{"null", "{", `{"schema":2}`, `{"schema":1,"binding":"session"}`, "\xff", strings.Repeat("[", 10000), "[1]"} {
		if err := r.client.Set(t.Context(), r.ticketKey("a"), text, time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		c, _, err := r.dial(cookies("a", testSession))
		if err != nil {
			t.Fatalf("ticket %q: %v", text, err)
		}
		c.beat()
		if got := r.counts.get("identified " + IdentifiedBadTicket); got != i+1 {
			t.Errorf("ticket %.20q: %d bad tickets counted, want %d", text, got, i+1)
		}
	}
	r.open("a").beat()
}

// TestLayerJunk: what is no message of df_websockets is dropped, and the next one arrives.
func TestLayerJunk(t *testing.T) {
	t.Parallel()
	r := newRedisRig(t, nil)
	c := r.open("a")
	for _, m := range []map[string]any{
		{"type": "disconnect"}, {"type": "ws_message"}, {"message": "x"}, {"type": "ws_message", "message": []any{1}}, {"type": 5, "message": "x"},
	} {
		if err := r.services.Layer.GroupSend(t.Context(), groupOf(compat.BroadcastTopic), m); err != nil {
			t.Fatal(err)
		}
	}
	key, err := r.layerKey(t)
	if err != nil {
		t.Fatal(err)
	}
	layer := redis.NewClient(&redis.Options{Addr: r.shared.Addr, DB: 1, Protocol: 2})
	defer func() { _ = layer.Close() }()
	if err := layer.ZAdd(t.Context(), key, redis.Z{Score: float64(time.Now().Unix()), Member: "junk\xff\x00"}).Err(); err != nil {
		t.Fatal(err)
	}
	r.groupSend(compat.BroadcastTopic, "good")
	c.expect("good")
}

// layerKey is the Redis key that the gateway receives on.
func (r *redisRig) layerKey(t *testing.T) (string, error) {
	layer := redis.NewClient(&redis.Options{Addr: r.shared.Addr, DB: 1, Protocol: 2})
	defer func() { _ = layer.Close() }()
	members, err := layer.ZRange(t.Context(), "asgi:group:"+groupOf(compat.BroadcastTopic), 0, -1).Result()
	if err != nil {
		return "", err
	}
	if len(members) != 1 {
		return "", errors.New("the group has not exactly one member")
	}
	name, _, _ := strings.Cut(members[0], "!")
	return "asgi" + name + "!", nil
}
