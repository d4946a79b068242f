package redisbroker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/internal/redisconn"
)

func mustOpenInternal(t *testing.T, o Options) *Broker {
	t.Helper()
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// The channels of kombu's Channel._get_publish_topics and _get_subscribe_topics.
func TestFanoutChannels(t *testing.T) {
	t.Parallel()
	sentinel := TransportOptions{MasterName: "m", SentinelFanoutCompat: true}
	for _, c := range []struct {
		url                  string
		opts                 TransportOptions
		exchange, key        string
		channels, subscribed string
	}{
		{"redis://h", TransportOptions{}, "celery.pidbox", "", "/0.celery.pidbox", "/0.celery.pidbox"},
		{"redis://h/3", TransportOptions{}, "celeryev", "worker.#", "/3.celeryev/worker.#", "/3.celeryev/worker.*"},
		{"redis://h", TransportOptions{GlobalKeyPrefix: "p*:"}, "e", "a.*", "p*:/0.e/a.*", `p\*:/0.e/a.*`},
		{"redis://h", TransportOptions{FanoutPrefix: "/x."}, "e", "", "/x.e", "/x.e"},
		{"redis://h", TransportOptions{FanoutPrefix: "/{db}-{db}."}, "e", "", "/0-0.e", "/0-0.e"},
		{"redis://h", TransportOptions{NoFanoutPrefix: true, GlobalKeyPrefix: "p:"}, "e", "k", "p:e/k", "p:e/k"},
		{"redis://h", TransportOptions{NoFanoutPatterns: true}, "e", "k.#", "/0.e", "/0.e"},
		{"redis://h", TransportOptions{SentinelFanoutCompat: true}, "e", "", "/0.e", "/0.e"}, // only with Sentinel
		{"sentinel://h/2", sentinel, "e", "k", "/2.e/k /{db}.e/k", "/2.e/k /{db}.e/k"},
		{"sentinel://h/2", TransportOptions{MasterName: "m"}, "e", "k", "/2.e/k", "/2.e/k"},
		{"sentinel://h/2", TransportOptions{MasterName: "m", SentinelFanoutCompat: true, FanoutPrefix: "/x."}, "e", "k", "/x.e/k", "/x.e/k"},
	} {
		b := mustOpenInternal(t, Options{URL: c.url, TransportOptions: c.opts})
		var channels, subscribed []string
		for _, prefix := range b.fanoutPrefixes(b.servers.DB()) {
			channels = append(channels, b.fanoutChannel(prefix, c.exchange, c.key))
			subscribed = append(subscribed, b.fanoutPattern(prefix, &FanoutQueue{Exchange: c.exchange, RoutingKey: c.key}))
		}
		if strings.Join(channels, " ") != c.channels || strings.Join(subscribed, " ") != c.subscribed {
			t.Errorf("%s %+v: %q, %q", c.url, c.opts, channels, subscribed)
		}
	}
}

func TestSeenTags(t *testing.T) {
	t.Parallel()
	var s seenTags
	name := func(n int) string { return strings.Repeat("x", n) }
	for n := range fanoutRemembered {
		if s.again(name(n)) {
			t.Fatalf("%d is known", n)
		}
	}
	if !s.again(name(0)) || s.again(name(fanoutRemembered)) || s.again(name(0)) || !s.again(name(5)) || len(s.tags) != fanoutRemembered {
		t.Errorf("%d tags", len(s.tags))
	}
}

// Gaps follow each other while the handler is stuck: the memory stays bounded, and nothing is forgotten.
func TestFanoutQueueGaps(t *testing.T) {
	t.Parallel()
	q := newFanoutQueue(2, 100)
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	for range 3 {
		q.add(fanoutItem{payload: "x"})
	}
	for n := range 1000 {
		q.addGap(Gap{From: at(n), To: at(n + 1), Err: redisconn.ErrWire})
		q.add(fanoutItem{payload: "y"})
	}
	if len(q.items) > 3 {
		t.Errorf("%d items", len(q.items))
	}
	var kinds []string
	dropped := 0
	for item, ok := q.pop(); ok; item, ok = q.pop() {
		if item.gap == nil {
			kinds = append(kinds, item.payload)
			continue
		}
		kinds = append(kinds, "gap")
		dropped += item.gap.Dropped
		if len(kinds) == 3 && (item.gap.Err == nil || !item.gap.To.Equal(at(1000))) {
			t.Errorf("%+v", item.gap)
		}
	}
	if !slices.Equal(kinds, []string{"x", "x", "gap", "gap"}) || dropped != 1001 || q.bytes != 0 {
		t.Errorf("%v, %d dropped, %d bytes", kinds, dropped, q.bytes)
	}
	if big := strings.Repeat("z", 200); !q.add(fanoutItem{payload: big}) || q.add(fanoutItem{payload: "x"}) {
		t.Error("a message larger than the bound must come alone")
	}
}

func TestTopicPattern(t *testing.T) {
	t.Parallel()
	// Measured with kombu 5.7, TopicExchange.key_to_pattern.
	for key, want := range map[string]string{
		"feed.#": `^feed\..*?$`, "*.a_b-c": `^[^\.]+\.a\_b\-c$`, "a*.b": `^a*\.b$`, "": "^$", "é.1": `^é\.1$`, "#.*": `^.*?\.[^\.]+$`, "a b": `^a\ b$`,
	} {
		if got := topicPattern(key); got != want {
			t.Errorf("%q: %s, want %s", key, got, want)
		}
		if key != "" && !strings.ContainsAny(key, "*#") && !matches(key, topicPattern(key), key) {
			t.Errorf("%q does not match itself", key)
		}
	}
	if !matches("feed.#", topicPattern("feed.#"), "feed.x.y") || matches("feed.#", topicPattern("feed.#"), "food.x") {
		t.Error("feed.#")
	}
}
