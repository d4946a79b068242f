package redisbroker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

// busEnvelope is a message of a fanout exchange as Python writes it, numbered in its body and tag.
func busEnvelope(exchange, routingKey string, n int) []byte {
	return fmt.Appendf(nil, `{"body": "%d", "content-encoding": "utf-8", "content-type": "application/json", "headers": {}, `+
		`"properties": {"delivery_mode": 1, "delivery_info": {"exchange": "%s", "routing_key": "%s"}, "priority": 0, `+
		`"body_encoding": "utf-8", "delivery_tag": "tag-%[2]s-%[1]d"}}`, n, exchange, routingKey)
}

func mustPublishFanout(t testing.TB, b *redisbroker.Broker, exchange, routingKey string, numbers ...int) {
	t.Helper()
	var msgs []redisbroker.FanoutMessage
	for _, n := range numbers {
		msgs = append(msgs, redisbroker.FanoutMessage{Exchange: exchange, RoutingKey: routingKey, Envelope: busEnvelope(exchange, routingKey, n)})
	}
	if err := b.PublishFanout(t.Context(), msgs...); err != nil {
		t.Fatal(err)
	}
}

// subscribed is a running subscriber whose deliveries wait in C.
type subscribed struct {
	*redisbroker.Subscriber
	C    chan redisbroker.FanoutDelivery
	gapC chan redisbroker.Gap
	stop func() error
}

func mustSubscribe(t testing.TB, b *redisbroker.Broker, cfg redisbroker.SubscriberConfig) *subscribed {
	t.Helper()
	r := &subscribed{C: make(chan redisbroker.FanoutDelivery, 10_000), gapC: make(chan redisbroker.Gap, 1000)}
	cfg.Gap = func(g redisbroker.Gap) { r.gapC <- g }
	r.Subscriber, r.stop = mustRunSubscriber(t, b, cfg, func(d redisbroker.FanoutDelivery) { r.C <- d })
	return r
}

func mustRunSubscriber(t testing.TB, b *redisbroker.Broker, cfg redisbroker.SubscriberConfig, handle func(redisbroker.FanoutDelivery),
) (*redisbroker.Subscriber, func() error) {
	t.Helper()
	s, err := b.NewSubscriber(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var runErr error
	wg.Go(func() { runErr = s.Run(ctx, handle) })
	stop := sync.OnceValue(func() error {
		cancel()
		wg.Wait()
		return runErr
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("subscriber: %v", err)
		}
	})
	await(t, "subscribed", s.Ready())
	return s, stop
}

func await[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	timer := time.NewTimer(waitLimit)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
		t.Fatalf("not within %v: %s", waitLimit, what)
		panic("unreachable")
	}
}

func (s *subscribed) mustGet(t testing.TB, bodies ...string) {
	t.Helper()
	for _, want := range bodies {
		if d := await(t, "message "+want, s.C); d.Envelope.Body != want {
			t.Errorf("got %s, want %s", d.Envelope.Body, want)
		}
	}
}

func (s *subscribed) mustHaveNothing(t testing.TB) {
	t.Helper()
	select {
	case d := <-s.C:
		t.Errorf("unexpected message %s", d.Envelope.Body)
	default:
	}
}

// recorder listens to everything on a server, by itself.
func recorder(t testing.TB, c *redis.Client, prefix string) <-chan *redis.Message {
	t.Helper()
	ps := c.PSubscribe(t.Context(), prefix+"*")
	t.Cleanup(func() { _ = ps.Close() })
	if _, err := ps.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ps.Channel()
}

func TestFanout(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	all := recorder(t, c, prefix)
	s := mustSubscribe(t, b, redisbroker.SubscriberConfig{Queues: []redisbroker.FanoutQueue{
		{Exchange: "celery.pidbox"}, {Exchange: "celeryev", RoutingKey: "worker.#"}, {Exchange: "celeryev", RoutingKey: "*.online"},
	}})
	mustPublishFanout(t, b, "celery.pidbox", "", 1, 2)
	mustPublishFanout(t, b, "celeryev", "worker.online", 3) // fits two queues
	mustPublishFanout(t, b, "celeryev", "task.sent", 4)
	mustPublishFanout(t, b, "other", "", 5)
	mustPublishFanout(t, b, "celery.pidbox", "", 2, 6) // 2 as if it had been repeated
	s.mustGet(t, "1", "2")
	d := await(t, "message 3", s.C)
	if d.Exchange != "celeryev" || d.RoutingKey != "worker.online" || string(d.Raw) != string(busEnvelope("celeryev", "worker.online", 3)) {
		t.Errorf("%+v", d)
	}
	s.mustGet(t, "6")
	s.mustHaveNothing(t)
	var channels []string
	for range 7 {
		channels = append(channels, strings.TrimPrefix(await(t, "channel", all).Channel, prefix))
	}
	want := []string{
		"/0.celery.pidbox", "/0.celery.pidbox", "/0.celeryev/worker.online", "/0.celeryev/task.sent", "/0.other", "/0.celery.pidbox", "/0.celery.pidbox",
	}
	if !slices.Equal(channels, want) {
		t.Errorf("%q", channels)
	}
	if err := b.PublishFanout(t.Context()); err != nil {
		t.Errorf("nothing to publish: %v", err)
	}
}

// Without fanout_patterns the channel does not say the routing key.
func TestFanoutWithoutPatterns(t *testing.T) {
	t.Parallel()
	b, _, _ := shared(t, redisbroker.Options{TransportOptions: redisbroker.TransportOptions{NoFanoutPatterns: true}})
	s := mustSubscribe(t, b, redisbroker.SubscriberConfig{Queues: []redisbroker.FanoutQueue{
		{Exchange: "e", RoutingKey: "a.#"}, {Exchange: "e", RoutingKey: "b"}, {Exchange: "f"},
	}})
	for n, key := range []string{"a.x", "b.x", "b", "c"} {
		mustPublishFanout(t, b, "e", key, n)
	}
	mustPublishFanout(t, b, "f", "anything", 9)
	s.mustGet(t, "0", "2", "9")
	s.mustHaveNothing(t)
}

func TestFanoutBadMessages(t *testing.T) {
	t.Parallel()
	drops := make(chan string, 10)
	b, c, prefix := shared(t, redisbroker.Options{Observer: redisbroker.Observer{
		FanoutDropped: func(exchange string, reason redisbroker.FanoutDrop) { drops <- exchange + " " + string(reason) },
	}})
	s := mustSubscribe(t, b, redisbroker.SubscriberConfig{
		Queues: []redisbroker.FanoutQueue{{Exchange: "e"}}, MaxMessageBytes: 5000,
	})
	for _, payload := range []string{"no JSON", "{}", strings.Repeat("x", 5001), string(busEnvelope("e", "", 1)), string(busEnvelope("e", "", 1))} {
		if err := c.Publish(t.Context(), prefix+"/0.e", payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s.mustGet(t, "1")
	var got []string
	for range 4 {
		got = append(got, await(t, "drop", drops))
	}
	slices.Sort(got) // what is too large is told by another goroutine
	want := []string{"e duplicate", "e too_large", "e undecodable", "e undecodable"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// A handler that does not come back costs bounded memory, and is told how much it missed.
func TestSubscriberSlowHandler(t *testing.T) {
	t.Parallel()
	drops := make(chan redisbroker.FanoutDrop, 100)
	b, _, _ := shared(t, redisbroker.Options{Observer: redisbroker.Observer{
		FanoutDropped: func(_ string, reason redisbroker.FanoutDrop) { drops <- reason },
	}})
	begun, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	got, gaps := make(chan string, 100), make(chan redisbroker.Gap, 10)
	_, stop := mustRunSubscriber(t, b, redisbroker.SubscriberConfig{
		Queues: []redisbroker.FanoutQueue{{Exchange: "e"}}, MaxQueued: 5, Gap: func(g redisbroker.Gap) { gaps <- g },
	}, func(d redisbroker.FanoutDelivery) {
		once.Do(func() {
			close(begun)
			<-release
		})
		got <- d.Envelope.Body
	})
	mustPublishFanout(t, b, "e", "", 0)
	await(t, "handler", begun)
	for n := 1; n <= 20; n++ {
		mustPublishFanout(t, b, "e", "", n)
	}
	for range 15 {
		if reason := await(t, "drop", drops); reason != redisbroker.DropFull {
			t.Errorf("dropped: %s", reason)
		}
	}
	close(release)
	for n := range 6 {
		if body := await(t, "message", got); body != fmt.Sprint(n) {
			t.Errorf("got %s, want %d", body, n)
		}
	}
	if g := await(t, "gap", gaps); g.Dropped != 15 || g.Err != nil || g.From.After(g.To) {
		t.Errorf("%+v", g)
	}
	mustPublishFanout(t, b, "e", "", 21)
	if body := await(t, "message", got); body != "21" {
		t.Errorf("got %s", body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Redis is restarted, its connections are cut: subscriptions come back, and the gap is told before the next message.
func TestSubscriberOutage(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	b := mustOpen(t, s, redisbroker.Options{})
	sub := mustSubscribe(t, b, redisbroker.SubscriberConfig{Queues: []redisbroker.FanoutQueue{
		{Exchange: "e", Queue: "n.e", Expires: 10 * time.Second}, {Exchange: "ev", RoutingKey: "#"},
	}})
	n := 0
	next := func() {
		t.Helper()
		n++
		mustPublishFanout(t, b, "e", "", n)
		for body := ""; body != fmt.Sprint(n); { // others are of awaitGap
			if body = await(t, "message", sub.C).Envelope.Body; len(body) < len("1000000") && body != fmt.Sprint(n) {
				t.Errorf("got %s, want %d", body, n)
			}
		}
	}
	next()
	c := s.Client(t)
	for name, cut := range map[string]func(){
		"kill":          func() { c.ClientKillByFilter(t.Context(), "TYPE", "pubsub") },
		"restart":       s.Restart,
		"restart empty": s.RestartEmpty,
	} {
		before := time.Now()
		cut()
		g := awaitGap(t, b, sub)
		if g.Err == nil || g.From.After(before) || g.To.Before(before) || g.Dropped != 0 {
			t.Errorf("%s: %+v", name, g)
		}
		next()
		eventually(t, name+": the binding is there", func() bool {
			return c.SIsMember(t.Context(), "_kombu.binding.e", "\x06\x16\x06\x16n.e").Val()
		})
	}
	if len(sub.gapC) > 0 {
		t.Error("more gaps than losses")
	}
}

// awaitGap publishes until a gap is told.
func awaitGap(t testing.TB, b *redisbroker.Broker, sub *subscribed) (g redisbroker.Gap) {
	t.Helper()
	n := 1_000_000
	eventually(t, "a gap", func() bool {
		n++
		_ = b.PublishFanout(t.Context(), redisbroker.FanoutMessage{Exchange: "e", Envelope: busEnvelope("e", "", n)})
		select {
		case g = <-sub.gapC:
			return true
		default:
			return false
		}
	})
	return g
}

// A Redis that does not answer, though the connection stands, is noticed by the health check.
func TestSubscriberHealthCheck(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	lost := make(chan error, 100)
	b := mustOpen(t, s, redisbroker.Options{
		TransportOptions: redisbroker.TransportOptions{HealthCheckInterval: 100 * time.Millisecond, SocketTimeout: 200 * time.Millisecond},
		Observer: redisbroker.Observer{Disconnected: func(loop string, err error) {
			if loop == "subscribe" {
				lost <- err
			}
		}},
	})
	sub := mustSubscribe(t, b, redisbroker.SubscriberConfig{Queues: []redisbroker.FanoutQueue{{Exchange: "e"}}})
	c := s.Client(t)
	eventually(t, "Redis is asked in silence", func() bool {
		return strings.Contains(c.Info(t.Context(), "commandstats").Val(), "cmdstat_ping:calls=3,")
	})
	mustPublishFanout(t, b, "e", "", 1)
	sub.mustGet(t, "1")
	if len(lost) > 0 || len(sub.gapC) > 0 {
		t.Error("silence was taken for a loss")
	}
	s.Pause()
	if err := await(t, "loss", lost); !strings.Contains(err.Error(), "PING") {
		t.Errorf("lost for another reason: %v", err)
	}
	s.Resume()
	if g := awaitGap(t, b, sub); g.Err == nil {
		t.Errorf("%+v", g)
	}
}

// Bindings of fanout queues, as a Python worker writes and removes them.
func TestSubscriberBindings(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	s := mustSubscribe(t, b, redisbroker.SubscriberConfig{Queues: []redisbroker.FanoutQueue{
		{Exchange: "celery.pidbox", Queue: "w1@golden.celery.pidbox", Expires: 10 * time.Second},
		{Exchange: "bcast", Queue: "bcast_q", Durable: true},
	}})
	keys := func() []string {
		all, err := c.Keys(t.Context(), strings.ReplaceAll(prefix, "[", `\[`)+"_kombu*").Result()
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(all)
		for i := range all {
			all[i] = strings.TrimPrefix(all[i], prefix)
		}
		return all
	}
	want := []string{"_kombu.binding.bcast", "_kombu.binding.celery.pidbox", "_kombu.binding_deadlines", "_kombu.binding_permanent.bcast"}
	eventually(t, "bindings", func() bool { return slices.Equal(keys(), want) })
	member := ""
	for _, item := range mustFixture(t, "binding_sets").Redis {
		if item.Key == "_kombu.binding.celery.pidbox" {
			member = item.value()
		}
	}
	if got := c.SMembers(t.Context(), prefix+"_kombu.binding.celery.pidbox").Val(); member == "" || !slices.Equal(got, []string{member}) {
		t.Errorf("%q, want %q", got, member)
	}
	score := c.ZScore(t.Context(), prefix+"_kombu.binding_deadlines", "celery.pidbox").Val()
	if left := time.Until(time.UnixMilli(int64(score))); left < 59*time.Minute || left > 61*time.Minute {
		t.Errorf("deadline in %v", left)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	want = []string{"_kombu.binding.bcast", "_kombu.binding_deadlines", "_kombu.binding_permanent.bcast"}
	if got := keys(); !slices.Equal(got, want) {
		t.Errorf("left: %q", got)
	}
}

func TestSweepBindings(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	for _, d := range []redisbroker.Binding{
		{Exchange: "old", Queue: "q", Expires: time.Second},
		{Exchange: "mixed", Queue: "q", Expires: time.Second}, {Exchange: "mixed", Queue: "durable"},
		{Exchange: "new", Queue: "q", Expires: time.Second},
	} {
		if err := b.Bind(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	past := float64(time.Now().Add(-time.Second).UnixMilli())
	c.ZAdd(t.Context(), prefix+"_kombu.binding_deadlines", redis.Z{Score: past, Member: "old"}, redis.Z{Score: past, Member: "mixed"})
	if n, err := b.SweepBindings(t.Context()); n != 2 || err != nil {
		t.Errorf("%d swept, %v", n, err)
	}
	for exchange, want := range map[string]int64{"old": 0, "mixed": 2, "new": 1} {
		if n := c.SCard(t.Context(), prefix+"_kombu.binding."+exchange).Val(); n != want {
			t.Errorf("%s: %d members, want %d", exchange, n, want)
		}
	}
	if left := c.ZRange(t.Context(), prefix+"_kombu.binding_deadlines", 0, -1).Val(); !slices.Equal(left, []string{"new"}) {
		t.Errorf("deadlines of %q", left)
	}
	if err := b.Bind(t.Context(), redisbroker.Binding{Queue: "q"}); err == nil {
		t.Error("a binding to the anonymous exchange")
	}
}

// A pattern means to us what it means to Redis.
func TestMatchGlob(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	c := redis.NewClient(&redis.Options{Addr: s.Addr, DB: 9, Protocol: 2}) // KEYS looks at a whole database
	defer func() { _ = c.Close() }()
	names := []string{"a", "b", "ab", "a.b", "a-b", "a]b", "[a]", "^", `\`, "*", "aab", "a.b.c", "-"}
	for _, name := range names {
		c.Set(t.Context(), name, 1, 0)
	}
	random := rand.New(rand.NewPCG(1, 2))
	patterns := []string{"*", "?", "[", "[]", "[]a]", "[^]", "[^a]", "[a", "[a-", `[\]a]`, `\`, `\*`, "a*b*", "[b-a]", "[a-b-c]", "", "**", "a**"}
	for range 2000 {
		pattern := make([]byte, 1+random.IntN(7))
		for i := range pattern {
			pattern[i] = `aab.*?[]^-\`[random.IntN(11)]
		}
		patterns = append(patterns, string(pattern))
	}
	answers, err := c.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		for _, pattern := range patterns {
			pipe.Keys(t.Context(), pattern)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, pattern := range patterns {
		found := answers[i].(*redis.StringSliceCmd).Val()
		for _, name := range names {
			if got := redisbroker.MatchGlob(pattern, name); got != slices.Contains(found, name) {
				t.Errorf("%q on %q: %v", pattern, name, got)
			}
		}
	}
}

// With fanout_patterns or without, the same messages come.
func TestFanoutGlobs(t *testing.T) {
	t.Parallel()
	patterns := []string{"a.[bc]", "a.[^b]", "?.b", `a\.b`, "*", "#.b", "a.b"}
	routingKeys := []string{"a.b", "a.c", "x.b", "b", "a.d"}
	for _, pattern := range patterns {
		var got [2][]string
		for i, off := range []bool{false, true} {
			b, _, _ := shared(t, redisbroker.Options{TransportOptions: redisbroker.TransportOptions{NoFanoutPatterns: off}})
			s := mustSubscribe(t, b, redisbroker.SubscriberConfig{Queues: []redisbroker.FanoutQueue{
				{Exchange: "e", RoutingKey: pattern}, {Exchange: "end"},
			}})
			for n, key := range routingKeys {
				mustPublishFanout(t, b, "e", key, n)
			}
			mustPublishFanout(t, b, "end", "", 9)
			for d := await(t, "message", s.C); d.Exchange != "end"; d = await(t, "message", s.C) {
				got[i] = append(got[i], d.RoutingKey)
			}
		}
		if !slices.Equal(got[0], got[1]) {
			t.Errorf("%q: by Redis %q, by ourselves %q", pattern, got[0], got[1])
		}
	}
}

// A full Redis takes no bindings, but broadcasts all the same. What it refused is there when it has room again.
func TestFanoutFullRedis(t *testing.T) {
	t.Parallel()
	s := redistest.StartWith(t, redistest.Options{Args: []string{"--maxmemory-policy", "noeviction", "--maxmemory", "1"}})
	refused := make(chan error, 100)
	b := mustOpen(t, s, redisbroker.Options{Observer: redisbroker.Observer{Disconnected: func(loop string, err error) {
		if loop == "bind" {
			refused <- err
		}
	}}})
	sub := mustSubscribe(t, b, redisbroker.SubscriberConfig{Queues: []redisbroker.FanoutQueue{{Exchange: "e", Queue: "n.e", Expires: time.Second}}})
	if err := await(t, "refusal", refused); !redis.HasErrorPrefix(err, "OOM") || !redisbroker.Retryable(err) {
		t.Errorf("bind: %v", err)
	}
	mustPublishFanout(t, b, "e", "", 1)
	sub.mustGet(t, "1")
	q, _ := mustRunReplies(t, b, redisbroker.ReplyQueueConfig{})
	if _, err := q.Expect(t.Context(), "t"); !redis.HasErrorPrefix(err, "OOM") || !redisbroker.Retryable(err) {
		t.Errorf("expect: %v", err)
	}
	c := s.Client(t)
	if err := c.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the binding is there", func() bool { return c.SCard(t.Context(), "_kombu.binding.e").Val() == 1 })
	p, err := q.Expect(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	mustReply(t, b, q, "w1", "t")
	if got := mustNext(t, p); got != "w1" {
		t.Errorf("reply of %s", got)
	}
}
