package redisbroker_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

func TestPublishExchange(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	if err := b.Bind(t.Context(),
		redisbroker.Binding{Exchange: "direct", RoutingKey: "k", Queue: "q1"}, redisbroker.Binding{Exchange: "direct", RoutingKey: "k", Queue: "q2"},
		redisbroker.Binding{Exchange: "direct", RoutingKey: "other", Queue: "q3"},
		redisbroker.Binding{Exchange: "topic", RoutingKey: "feed.#", Queue: "q4", Topic: true},
	); err != nil {
		t.Fatal(err)
	}
	for _, m := range []struct {
		exchange, key string
		priority      int
		want          []string
	}{
		{"direct", "k", 0, []string{"q1", "q2"}}, {"direct", "k", 9, []string{"q1\x06\x169", "q2\x06\x169"}}, {"topic", "feed.a.b", 0, []string{"q4"}},
		{"topic", "food", 0, nil}, {"nowhere", "k", 0, nil}, {"", "q5", 0, []string{"q5"}},
	} {
		text := strings.Join([]string{m.exchange, m.key}, " ")
		n, err := b.PublishExchange(t.Context(), redisbroker.ExchangeMessage{
			Exchange: m.exchange, RoutingKey: m.key, Priority: m.priority, Envelope: []byte(text),
		})
		if n != len(m.want) || err != nil {
			t.Errorf("%s: %d, %v", text, n, err)
		}
		for _, queue := range m.want {
			if got := listOf(t, c, prefix+queue); len(got) != 1 || got[0] != text {
				t.Errorf("%s: %s has %q", text, queue, got)
			}
			if ttl := c.TTL(t.Context(), prefix+queue).Val(); ttl >= 0 {
				t.Errorf("%s: %s expires", text, queue)
			}
		}
	}
	if err := c.Set(t.Context(), prefix+"_kombu.binding.broken", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.PublishExchange(t.Context(), redisbroker.ExchangeMessage{Exchange: "broken"}); err == nil {
		t.Error("a binding set that is none")
	}
}

func TestPublishExchangeDeadletter(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{TransportOptions: redisbroker.TransportOptions{DeadletterQueue: "lost"}})
	n, err := b.PublishExchange(t.Context(), redisbroker.ExchangeMessage{Exchange: "nowhere", RoutingKey: "k", Envelope: []byte("x")})
	if n != 1 || err != nil || !slices.Equal(listOf(t, c, prefix+"lost"), []string{"x"}) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := b.Reply(t.Context(), "reply.celery.pidbox", "gone", []byte("x")); n != 0 || err != nil {
		t.Errorf("a reply to nobody: %d, %v", n, err)
	}
}

// runningReplies is a running reply queue.
func mustRunReplies(t testing.TB, b *redisbroker.Broker, cfg redisbroker.ReplyQueueConfig) (*redisbroker.ReplyQueue, func()) {
	t.Helper()
	q := b.NewReplyQueue(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := q.Run(ctx); err != nil {
			t.Errorf("reply queue: %v", err)
		}
	})
	stop := sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return q, stop
}

func mustReply(t testing.TB, b *redisbroker.Broker, q *redisbroker.ReplyQueue, node, ticket string) {
	t.Helper()
	reply := celeryproto.NewControlReply(node, celeryproto.ReplyOK(celeryproto.Raw(`"pong"`)))
	reply.Ticket = ticket
	to := celeryproto.ReplyAddress{Exchange: q.Exchange(), RoutingKey: q.RoutingKey()}
	e, err := reply.Envelope(to, celeryproto.BusOptions{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := b.Reply(t.Context(), to.Exchange, to.RoutingKey, raw); n != 1 || err != nil {
		t.Errorf("reply: %d queues, %v", n, err)
	}
}

func mustNext(t testing.TB, p *redisbroker.Pending) (node string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	e, err := p.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r, err := celeryproto.DecodeControlReply(e, celeryproto.Limits{})
	if err != nil || len(r.Replies) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	return r.Replies[0].Key
}

func TestReplyQueue(t *testing.T) {
	t.Parallel()
	drops := make(chan redisbroker.ReplyDrop, 10)
	b, c, prefix := shared(t, redisbroker.Options{Observer: redisbroker.Observer{
		ReplyDropped: func(reason redisbroker.ReplyDrop) { drops <- reason },
	}})
	q, stop := mustRunReplies(t, b, redisbroker.ReplyQueueConfig{MaxReplies: 2})
	expect := func(ticket string) *redisbroker.Pending {
		t.Helper()
		p, err := q.Expect(t.Context(), ticket)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first, second := expect("t1"), expect("t2")
	if _, err := q.Expect(t.Context(), "t1"); err == nil {
		t.Error("a ticket twice")
	}
	list := prefix + q.RoutingKey() + ".reply.celery.pidbox"
	member := q.RoutingKey() + "\x06\x16\x06\x16" + q.RoutingKey() + ".reply.celery.pidbox"
	if got := c.SMembers(t.Context(), prefix+"_kombu.binding.reply.celery.pidbox").Val(); !slices.Equal(got, []string{member}) {
		t.Errorf("binding %q", got)
	}
	mustReply(t, b, q, "w1", "t2")
	mustReply(t, b, q, "w1", "t1")
	mustReply(t, b, q, "w2", "t1")
	if got := mustNext(t, first) + mustNext(t, first) + mustNext(t, second); got != "w1w2w1" {
		t.Errorf("replies of %s", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := first.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("no reply: %v", err)
	}
	for range 3 {
		mustReply(t, b, q, "w1", "t1")
	}
	if reason := await(t, "drop", drops); reason != redisbroker.ReplyFull {
		t.Errorf("dropped: %s", reason)
	}
	first.Close()
	mustReply(t, b, q, "w1", "t1")
	if reason := await(t, "drop", drops); reason != redisbroker.ReplyUnclaimed {
		t.Errorf("dropped: %s", reason)
	}
	c.LPush(t.Context(), list, "junk")
	if reason := await(t, "drop", drops); reason != redisbroker.ReplyUndecodable {
		t.Errorf("dropped: %s", reason)
	}
	second.Close()
	third := expect("t3")
	mustReply(t, b, q, "w3", "t3")
	if got := mustNext(t, third); got != "w3" {
		t.Errorf("reply of %s", got)
	}
	stop()
	if _, err := third.Next(t.Context()); !errors.Is(err, redisbroker.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := q.Expect(t.Context(), "t4"); !errors.Is(err, redisbroker.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	if n := c.Exists(t.Context(), prefix+"_kombu.binding.reply.celery.pidbox", list).Val(); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

// Replies for somebody who does not pop yet stay in Redis, for a while.
func TestReplyListExpires(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	q := b.NewReplyQueue(redisbroker.ReplyQueueConfig{})
	p, err := q.Expect(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	mustReply(t, b, q, "w1", "t")
	list := prefix + q.RoutingKey() + ".reply.celery.pidbox"
	if ttl := c.TTL(t.Context(), list).Val(); ttl <= 9*time.Minute || ttl > 10*time.Minute {
		t.Errorf("time to live %v", ttl)
	}
}

func TestReplyQueueOutage(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	b := mustOpen(t, s, redisbroker.Options{})
	q, _ := mustRunReplies(t, b, redisbroker.ReplyQueueConfig{})
	p, err := q.Expect(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s.RestartEmpty()
	c := s.Client(t)
	eventually(t, "the queue is bound again", func() bool {
		return c.SCard(t.Context(), "_kombu.binding.reply.celery.pidbox").Val() == 1
	})
	mustReply(t, b, q, "w1", "t")
	if got := mustNext(t, p); got != "w1" {
		t.Errorf("reply of %s", got)
	}
}
