package redisbroker

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/integration/redistest"
)

// plainMessage is a message as Python writes it.
func plainMessage(exchange, routingKey, tag string) string {
	return fmt.Sprintf(`{"body": "W10=", "content-encoding": "utf-8", "content-type": "application/json", "headers": {"n": "%s"}, `+
		`"properties": {"correlation_id": "c", "delivery_mode": 2, "delivery_info": {"exchange": "%s", "routing_key": "%s"}, `+
		`"priority": 0, "body_encoding": "base64", "delivery_tag": "%s"}}`, tag, exchange, routingKey, tag)
}

func uuidNumber(n int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", n) }

// Each message is recorded as kombu would, whatever came before it, and a take that is asked for again gives the same reply.
func TestTakeScript(t *testing.T) {
	t.Parallel()
	c := redistest.Start(t).Client(t)
	ctx := t.Context()
	other := `{"headers": {}, "properties": {"delivery_tag": "odd", "delivery_info": {"exchange": "x", "routing_key": "/y"}}, "body": ""}`
	messages := []struct{ raw, tag, exchange, routingKey string }{ // "" and "q": what a message without them gets
		{plainMessage("", "q", uuidNumber(1)), uuidNumber(1), "", "q"},
		{plainMessage("", "q", uuidNumber(2)), uuidNumber(2), "", "q"},
		{plainMessage("", "r", uuidNumber(3)), uuidNumber(3), "", "r"},
		{plainMessage("e", "q", uuidNumber(4)), uuidNumber(4), "e", "q"},
		{plainMessage("", "q", "short"), "short", "", "q"},
		{plainMessage("", "q", uuidNumber(5)), uuidNumber(5), "", "q"},
		{plainMessage("", "q", uuidNumber(5)), "", "", "q"}, // the tag is taken by the one before
		{plainMessage("", "q", uuidNumber(6)) + " ", uuidNumber(6), "", "q"},
		{other, "odd", "x", "/y"},
		{`{}`, "", "", "q"},
		{`no JSON`, "", "held", ""},
		{``, "", "held", ""},
		{plainMessage("", "q", uuidNumber(7)), uuidNumber(7), "", "q"},
	}
	for _, m := range messages {
		if err := c.LPush(ctx, "q", m.raw).Err(); err != nil {
			t.Fatal(err)
		}
	}
	take := func(number int) []any {
		t.Helper()
		keys := []string{"unacked", "unacked_index", "held", "held_index", "record", "q"}
		reply, err := takeScript.Run(ctx, c, keys, 100, number, 60, 0, "made-", `"q"`).Slice()
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	reply := take(1)
	if len(reply) != takenFields*len(messages) {
		t.Fatalf("%d values for %d messages", len(reply), len(messages))
	}
	last := ""
	for i, m := range messages {
		values := reply[takenFields*i:]
		key, tag, score, raw := values[0], values[1].(string), values[2].(string), values[3]
		hash, entry := "unacked", fmt.Sprintf(`[%s, "%s", "%s"]`, m.raw, m.exchange, m.routingKey)
		wantKey := int64(0)
		if m.exchange == "held" {
			hash, entry, wantKey = "held", "\"q\"\n"+m.raw, -1
		}
		if raw != m.raw || key != wantKey {
			t.Errorf("message %d: %v %q, want %q", i, key, raw, m.raw)
		}
		if wantTag := m.tag; tag != wantTag && !(wantTag == "" && strings.HasPrefix(tag, "made-")) {
			t.Errorf("message %d: tag %q, want %q", i, tag, wantTag)
		}
		if got := c.HGet(ctx, hash, tag).Val(); got != entry {
			t.Errorf("message %d: recorded\n%s, want\n%s", i, got, entry)
		}
		if got := c.ZScore(ctx, hash+"_index", tag).Val(); fmt.Sprintf("%.6f", got) != score {
			t.Errorf("message %d: score %v, reply %s", i, got, score)
		}
		if score <= last {
			t.Errorf("message %d: score %s after %s", i, score, last)
		}
		last = score
	}
	if again := take(1); !slices.Equal(again, reply) {
		t.Errorf("asked again:\n%q, first\n%q", again, reply)
	}
	c.HDel(ctx, "unacked", uuidNumber(2))
	if again := take(1); len(again) != len(reply)-takenFields {
		t.Errorf("asked again after an ack: %d values", len(again))
	}
	if next := take(2); len(next) != 0 {
		t.Errorf("the next take: %q", next)
	}
}

// A batch of all kinds of operations is done in one call, with the results in a database of their own.
func TestSettleScript(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c, ctx := server.Client(t), t.Context()
	results := redis.NewClient(&redis.Options{Addr: server.Addr, DB: 3, Protocol: 2})
	t.Cleanup(func() { _ = results.Close() })
	b, err := Open(Options{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	s := newSettler(b, nil)
	s.resultsDB = 3
	var batch []*operation
	want := map[string]int64{}
	add := func(tag string, reply int64, stored float64, change func(*operation)) {
		op := &operation{kind: opAck, d: &Delivery{Tag: tag, score: "10.5"}, ttl: 100}
		change(op)
		index, hash := "unacked_index", "unacked"
		if op.d.held {
			index, hash = b.keys.heldIndex(), b.keys.held()
		}
		if stored > 0 {
			c.ZAdd(ctx, index, redis.Z{Score: stored, Member: tag})
			c.HSet(ctx, hash, tag, "entry")
		}
		batch, want[tag] = append(batch, op), reply
	}
	complete := func(status string) func(*operation) {
		return func(op *operation) {
			op.kind, op.value = opComplete, fmt.Appendf(nil, `{"status": "%s", "of": "%s"}`, status, op.d.Tag)
			op.keys = []string{"meta-" + op.d.Tag}
		}
	}
	results.Set(ctx, "meta-final", `{"status": "SUCCESS"}`, 0)
	results.Set(ctx, "meta-retried", `{"status": "RETRY"}`, 0)
	add("restored", 1, 10.5, func(op *operation) { op.kind, op.keys, op.value = opRight, []string{"q"}, []byte("back") })
	add("acked", 1, 10.5, func(*operation) {})
	add("plain", 1, 10.5, complete("SUCCESS"))
	add("final", 3, 10.5, complete("FAILURE"))
	add("retried", 1, 10.5, complete("SUCCESS"))
	add("lost", 0, 11, complete("SUCCESS"))
	add("gone", 0, 0, func(*operation) {})
	add("refreshed", 1, 12, func(op *operation) { complete("SUCCESS")(op); op.d.alt = "12.0" })
	add("short-lived", 1, 10.5, func(op *operation) { complete("FAILURE")(op); op.ttl = 50 })
	add("in-held", 1, 10.5, func(op *operation) { op.d.held = true })
	add("refresh", 1, 10.5, func(op *operation) { op.kind, op.value = opRefresh, []byte("20.25") })
	replies, err := s.attempt(ctx, batch)
	if err != nil {
		t.Fatal(err)
	}
	for i, op := range batch {
		if replies[i] != want[op.d.Tag] {
			t.Errorf("%s %s: %v, want %d", op.kind, op.d.Tag, replies[i], want[op.d.Tag])
		}
	}
	if got := c.ZRange(ctx, "unacked_index", 0, -1).Val(); !slices.Equal(got, []string{"lost", "refresh"}) {
		t.Errorf("unacked: %q", got)
	}
	if got := c.HKeys(ctx, "unacked").Val(); len(got) != 2 {
		t.Errorf("unacked hash: %q", got)
	}
	if got := c.LRange(ctx, "q", 0, -1).Val(); !slices.Equal(got, []string{"back"}) {
		t.Errorf("queue: %q", got)
	}
	if n := c.Exists(ctx, "meta-plain", b.keys.heldIndex()).Val(); n != 0 {
		t.Errorf("%d keys that should not be here", n)
	}
	for tag, ttl := range map[string]float64{"plain": 100, "retried": 100, "lost": 100, "refreshed": 100, "short-lived": 50} {
		value := results.Get(ctx, "meta-"+tag).Val()
		if got := results.TTL(ctx, "meta-"+tag).Val().Seconds(); !strings.Contains(value, tag) || got > ttl || got < ttl-20 {
			t.Errorf("result of %s: %q for %v s", tag, value, got)
		}
	}
	if value := results.Get(ctx, "meta-final").Val(); strings.Contains(value, "FAILURE") {
		t.Errorf("a final result was replaced by %q", value)
	}
}
