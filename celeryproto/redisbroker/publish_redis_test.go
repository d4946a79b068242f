package redisbroker_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

// The keys that Python makes when it publishes, from the recordings.
func TestPublishKeys(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	b := mustOpen(t, s, redisbroker.Options{})
	want := mustFixture(t, "task_v2_simple").list("celery")[0]
	if err := b.Publish(t.Context(), redisbroker.Message{Queue: "celery", Envelope: []byte(want)}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{want}, listOf(t, c, "celery")); d != "" {
		t.Error(d)
	}
	got := make(map[string][]string)
	for _, key := range []string{"_kombu.binding.celery", "_kombu.binding_permanent.celery"} {
		members, err := c.SMembers(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		got[key] = members
	}
	recorded := make(map[string][]string)
	for _, item := range mustFixture(t, "binding_sets").Redis {
		if _, ok := got[item.Key]; ok && item.Note == "" {
			recorded[item.Key] = append(recorded[item.Key], item.value())
		}
	}
	if d := cmp.Diff(recorded, got); d != "" {
		t.Errorf("bindings: %s", d)
	}
	if n := c.DBSize(t.Context()).Val(); n != 3 {
		t.Errorf("%d keys, want 3", n)
	}
}

func TestPublishGlobalPrefix(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	var key string
	for _, item := range mustFixture(t, "task_v2_global_keyprefix").Redis {
		if item.Type == "list" {
			key = item.Key
		}
	}
	b := mustOpen(t, s, redisbroker.Options{TransportOptions: redisbroker.TransportOptions{GlobalKeyPrefix: "pfx:"}})
	mustPublish(t, b, "celery", 1)
	if n := c.LLen(t.Context(), key).Val(); n != 1 {
		t.Errorf("%d elements in %q, the key that Python uses", n, key)
	}
	members := c.SMembers(t.Context(), "pfx:_kombu.binding.celery").Val()
	if d := cmp.Diff([]string{"celery\x06\x16\x06\x16celery"}, members); d != "" {
		t.Error(d)
	}
}

func TestPublishPriorities(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{SkipBindings: true})
	var msgs []redisbroker.Message
	for p := range 11 {
		msgs = append(msgs, redisbroker.Message{Queue: "q", Priority: p, Envelope: envelope("q", p, p)})
	}
	if err := b.Publish(t.Context(), msgs...); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int64{"q": 3, "q\x06\x163": 3, "q\x06\x166": 3, "q\x06\x169": 2} {
		if n := c.LLen(t.Context(), prefix+key).Val(); n != want {
			t.Errorf("%q has %d elements, want %d", key, n, want)
		}
	}
	if n := c.Exists(t.Context(), prefix+"_kombu.binding.q").Val(); n != 0 {
		t.Error("a binding in spite of SkipBindings")
	}
}

func TestPublishErrors(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	if err := c.Set(t.Context(), prefix+"q", "a string", 0).Err(); err != nil {
		t.Fatal(err)
	}
	err := b.Publish(t.Context(), redisbroker.Message{Queue: "q", Envelope: envelope("q", 1, 0)})
	if err == nil || redisbroker.Retryable(err) {
		t.Errorf("publish to a string: %v, retryable %v", err, redisbroker.Retryable(err))
	}
	away, err := redisbroker.Open(redisbroker.Options{URL: "redis://127.0.0.1:1/0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = away.Close() })
	if err := away.Publish(t.Context(), redisbroker.Message{Queue: "q"}); !redisbroker.Retryable(err) {
		t.Errorf("Redis away: %v is not retryable", err)
	}
	if err := away.Ping(t.Context()); !redisbroker.Retryable(err) {
		t.Errorf("ping: %v is not retryable", err)
	}
}
