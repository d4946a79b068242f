package redisbroker_test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto/redisbroker"
)

// mustHold puts entries into the unacked set as a worker that died an age ago left them.
func mustHold(t testing.TB, c *redis.Client, prefix, hash string, age time.Duration, entries ...[2]string) {
	t.Helper()
	for i, e := range entries {
		at := float64(time.Now().Add(-age).UnixMicro())/1e6 + float64(i)/1000
		score := strconv.FormatFloat(at, 'f', 7, 64) // Python's repr has more digits than microseconds need
		if err := c.Do(t.Context(), "ZADD", prefix+hash+"_index", score, e[0]).Err(); err != nil {
			t.Fatal(err)
		}
		if err := c.HSet(t.Context(), prefix+hash, e[0], e[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// The recorded crash of a Python worker, restored by us to the same bytes in the same lists.
func TestRestoreAsPython(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	f := mustFixture(t, "unacked_restore_after_crash")
	for tag, value := range f.entries() {
		mustHold(t, c, prefix, "unacked", 2*time.Hour, [2]string{tag, value})
	}
	if err := b.RestoreOverdue(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"celery", "celery\x06\x166"} {
		if d := cmp.Diff(f.list(key), listOf(t, c, prefix+key)); d != "" {
			t.Errorf("%q: %s", key, d)
		}
	}
	if left := unackedOf(t, c, prefix); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if n := c.Exists(t.Context(), prefix+"unacked_mutex").Val(); n != 0 {
		t.Error("the lock stays")
	}
}

func TestRestoreOverdueOnly(t *testing.T) {
	t.Parallel()
	results := make(map[redisbroker.RestoreResult]int)
	b, c, prefix := shared(t, redisbroker.Options{Observer: redisbroker.Observer{
		Restored: func(r redisbroker.RestoreResult) { results[r]++ },
	}})
	entry := func(n int) [2]string {
		return [2]string{fmt.Sprintf("tag-q-%d", n), "[" + string(envelope("q", n, 0)) + `, "", "q"]`}
	}
	mustHold(t, c, prefix, "unacked", 59*time.Minute, entry(9))
	mustHold(t, c, prefix, "unacked", 2*time.Hour, entry(1), entry(2), entry(3))
	mustHold(t, c, prefix, "unacked", 2*time.Hour, [2]string{"junk", "no JSON"}, [2]string{"pair", `["", ""]`},
		[2]string{"unbound", `[{"headers": {}}, "topic", "a.b"]`})
	if err := c.ZAdd(t.Context(), prefix+"unacked_index", redis.Z{Score: 1, Member: "stale"}).Err(); err != nil {
		t.Fatal(err)
	}
	keep := func(tag string) bool { return tag == "tag-q-2" }
	for range 2 { // the second time nothing is left to do
		if err := b.RestoreOverdue(t.Context(), keep); err != nil {
			t.Fatal(err)
		}
	}
	got := listOf(t, c, prefix+"q")
	if len(got) != 2 { // newest first to the head: 1 is consumed before 3
		t.Fatalf("restored %q", got)
	}
	left := unackedOf(t, c, prefix)
	for _, tag := range []string{"tag-q-9", "tag-q-2", "unbound"} {
		if left[tag] == "" {
			t.Errorf("%s is gone", tag)
		}
	}
	want := map[redisbroker.RestoreResult]int{
		redisbroker.RestoreDone: 2, redisbroker.RestoreStale: 1, redisbroker.RestoreUnreadable: 2, redisbroker.RestoreNoBinding: 2,
	}
	if d := cmp.Diff(want, results); d != "" {
		t.Error(d)
	}
	letters := deadLetters(t, c, prefix+"dfws:dead:unreadable")
	if len(letters) != 2 || string(letters[0].Envelope) != "no JSON" && string(letters[1].Envelope) != "no JSON" {
		t.Errorf("dead letters %+v", letters)
	}
}

// Messages of named exchanges follow the binding sets; Python drops them when the type is unknown to it.
func TestRestoreNamedExchange(t *testing.T) {
	t.Parallel()
	const sep = "\x06\x16"
	for name, c := range map[string]struct {
		members []string
		key     string
		want    []string
	}{
		"direct":   {[]string{"rk" + sep + sep + "one", "other" + sep + sep + "two"}, "rk", []string{"one"}},
		"several":  {[]string{"rk" + sep + sep + "one", "rk" + sep + sep + "two"}, "rk", []string{"one", "two"}},
		"topic":    {[]string{"feed.#" + sep + `^feed\..*?$` + sep + "one", "x" + sep + `^x$` + sep + "two"}, "feed.a.b", []string{"one"}},
		"fallback": {nil, "rk", []string{"unroutable"}},
		"junk":     {[]string{"x", "rk" + sep + "[" + sep + "one"}, "rk", []string{"unroutable"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, client, prefix := shared(t, redisbroker.Options{TransportOptions: redisbroker.TransportOptions{DeadletterQueue: "unroutable"}})
			for _, m := range c.members {
				if err := client.SAdd(t.Context(), prefix+"_kombu.binding.ex", m).Err(); err != nil {
					t.Fatal(err)
				}
			}
			mustHold(t, client, prefix, "unacked", 2*time.Hour, [2]string{"t", fmt.Sprintf(`[{"headers": {}}, "ex", %q]`, c.key)})
			if err := b.RestoreOverdue(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			for _, queue := range c.want {
				if d := cmp.Diff([]string{`{"headers": {"redelivered": true}}`}, listOf(t, client, prefix+queue)); d != "" {
					t.Errorf("%s: %s", queue, d)
				}
			}
			if left := unackedOf(t, client, prefix); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// gocelery writes the exchange and routing key "celery" whatever its queue is, and binds nothing (message.go,
// celeryMessagePool): what a dead worker held of it comes back to the queue it was taken from.
func TestRestoreForeignAddress(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	raw := `{"body":"e30=","content-type":"application/json","properties":{"body_encoding":"base64","correlation_id":"c","reply_to":"r",` +
		`"delivery_info":{"priority":0,"routing_key":"celery","exchange":"celery"},"delivery_mode":2,"delivery_tag":"tag"},"content-encoding":"utf-8"}`
	if err := c.LPush(t.Context(), prefix+"other", raw).Err(); err != nil {
		t.Fatal(err)
	}
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"other"}, Prefetch: 10})
	taken := consumer.next(t)
	entry := unackedOf(t, c, prefix)["tag"]
	mustAck(t, taken)
	consumer.mustStop(t)

	mustHold(t, c, prefix, "unacked", 2*time.Hour, [2]string{"tag", entry})
	if err := b.RestoreOverdue(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if got := listOf(t, c, prefix+"other"); len(got) != 1 {
		t.Errorf("restored %q; unacked has %q", got, unackedOf(t, c, prefix))
	}
}

func TestRestoreHonoursMutex(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	mustHold(t, c, prefix, "unacked", 2*time.Hour, [2]string{"t", `[{"headers": {}}, "", "q"]`})
	if err := c.Set(t.Context(), prefix+"unacked_mutex", "somebody", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := b.RestoreOverdue(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := len(unackedOf(t, c, prefix)); n != 1 {
		t.Error("restored in spite of the lock")
	}
	if c.Get(t.Context(), prefix+"unacked_mutex").Val() != "somebody" {
		t.Error("the lock of somebody else was removed")
	}
}

// A process that was killed while it held the lock stops nobody for as long as kombu's lock lasts.
func TestRestoreInSpiteOfDeadLock(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{})
	mustHold(t, c, prefix, "unacked", 2*time.Hour, [2]string{"t", `[{"headers": {}}, "", "q"]`})
	lock := func(token string) {
		t.Helper()
		if err := c.Set(t.Context(), prefix+"unacked_mutex", token, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	restored := func() bool {
		t.Helper()
		if err := b.RestoreOverdue(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		return len(unackedOf(t, c, prefix)) == 0
	}
	lock("one")
	if restored() {
		t.Error("at the first sight of the lock")
	}
	b.AgeRestoreLock(10 * time.Second)
	if restored() {
		t.Error("before the patience is over")
	}
	lock("another")
	b.AgeRestoreLock(10 * time.Second)
	if restored() {
		t.Error("with a new holder")
	}
	b.AgeRestoreLock(20 * time.Second)
	if !restored() {
		t.Error("not with the same holder since long ago")
	}
	if c.Get(t.Context(), prefix+"unacked_mutex").Val() != "another" {
		t.Error("the lock of somebody else was removed")
	}
}

func TestRestoreLimitTakesNewest(t *testing.T) {
	t.Parallel()
	b, c, prefix := shared(t, redisbroker.Options{TransportOptions: redisbroker.TransportOptions{UnackedRestoreLimit: 2}})
	var entries [][2]string
	for n := range 5 {
		entries = append(entries, [2]string{fmt.Sprint("t", n), fmt.Sprintf(`[{"body": "%d"}, "", "q"]`, n)})
	}
	mustHold(t, c, prefix, "unacked", 2*time.Hour, entries...)
	if err := b.RestoreOverdue(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{`{"body": "4"}`, `{"body": "3"}`}, listOf(t, c, prefix+"q")); d != "" {
		t.Error(d)
	}
}

// A consumer dies with deliveries; another one gets them after the visibility timeout, undecodable ones included.
func TestCrashedConsumer(t *testing.T) {
	t.Parallel()
	opts := redisbroker.Options{TransportOptions: redisbroker.TransportOptions{
		VisibilityTimeout: time.Second, UnackedRestoreInterval: 100 * time.Millisecond, UnackedRestoreThrottle: 1,
	}}
	b, c, prefix := shared(t, opts)
	mustPublish(t, b, "q", 1, 2)
	if err := b.Publish(t.Context(), redisbroker.Message{Queue: "q", Envelope: []byte("junk")}); err != nil {
		t.Fatal(err)
	}
	// Another process' consumer is one whose refreshes stop: its broker goes away under it.
	opts.GlobalKeyPrefix = prefix
	opts.URL = sharedURL(t)
	dead, err := redisbroker.Open(opts)
	if err != nil {
		t.Fatal(err)
	}
	crashed := mustConsume(t, dead, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 3, SkipRestore: true})
	held := []*redisbroker.Delivery{crashed.next(t), crashed.next(t), crashed.next(t)}
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}

	alive := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 10})
	var got []string
	for range held {
		d := alive.next(t)
		if d.DecodeErr != nil {
			mustAck(t, d) // it is restored from another set, at its own time
			continue
		}
		got = append(got, body(d))
		if !d.Redelivered || d.Tag != held[0].Tag && d.Tag != held[1].Tag {
			t.Errorf("redelivered %v, tag %s", d.Redelivered, d.Tag)
		}
		mustAck(t, d)
	}
	if d := cmp.Diff([]string{"1", "2"}, got); d != "" {
		t.Error(d)
	}
	if left := unackedOf(t, c, prefix); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := held[0].Ack(t.Context()); err == nil {
		t.Error("ack of a dead consumer succeeded")
	}
}

// What is held stays ours much longer than the visibility timeout, in spite of an eager restorer.
func TestRefreshKeepsDeliveries(t *testing.T) {
	t.Parallel()
	opts := redisbroker.TransportOptions{VisibilityTimeout: 600 * time.Millisecond}
	refreshedC := make(chan int, 1000)
	b, c, prefix := shared(t, redisbroker.Options{TransportOptions: opts, Observer: redisbroker.Observer{
		Refreshed: func(n int) { refreshedC <- n },
	}})
	mustPublish(t, b, "q", 1)
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 1, SkipRestore: true})
	d := consumer.next(t)
	for range 6 {
		<-refreshedC
		if err := b.RestoreOverdue(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(unackedOf(t, c, prefix)); n != 1 {
		t.Fatal("restored while it is held")
	}
	mustAck(t, d)
	if left := unackedOf(t, c, prefix); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// What is acked while it is being refreshed is not lost.
func TestRefreshBesideAck(t *testing.T) {
	t.Parallel()
	const total, window = 1000, 100
	b, _, _ := shared(t, redisbroker.Options{
		TransportOptions: redisbroker.TransportOptions{VisibilityTimeout: 3 * time.Millisecond}, // refreshed each millisecond
		Observer:         redisbroker.Observer{Lost: func(string) { t.Error("a delivery was lost that nobody took") }},
	})
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: window, SkipRestore: true})
	mustPublish(t, b, "q", numbers(0, total)...)
	var group sync.WaitGroup
	defer group.Wait()
	for range total {
		d := consumer.next(t)
		group.Go(func() { mustAck(t, d) })
	}
}

// Somebody restored our delivery and a worker took it again: our ack must not remove that worker's record.
func TestLateAckLeavesNewHolder(t *testing.T) {
	t.Parallel()
	lostC := make(chan string, 10)
	b, c, prefix := shared(t, redisbroker.Options{Observer: redisbroker.Observer{Lost: func(q string) { lostC <- q }}})
	mustPublish(t, b, "q", 1, 2, 3)
	// No restore loop: it would take the new holder's record, which looks old, and this consumer its message.
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 3, SkipRestore: true})
	for _, settle := range []func(*redisbroker.Delivery) error{
		func(d *redisbroker.Delivery) error { return d.Ack(t.Context()) },
		func(d *redisbroker.Delivery) error { return d.Reject(t.Context(), true) },
		func(d *redisbroker.Delivery) error { return d.DeadLetter(t.Context(), "x") },
	} {
		d := consumer.next(t)
		// A Python worker's record of the same tag.
		if err := c.ZAdd(t.Context(), prefix+"unacked_index", redis.Z{Score: 1.5, Member: d.Tag}).Err(); err != nil {
			t.Fatal(err)
		}
		if err := settle(d); err == nil || err.Error() != redisbroker.ErrLost.Error() {
			t.Errorf("%v, want ErrLost", err)
		}
		if c.HGet(t.Context(), prefix+"unacked", d.Tag).Val() == "" {
			t.Error("the record of the new holder was removed")
		}
		if q := <-lostC; q != "q" {
			t.Errorf("lost counted for %q", q)
		}
	}
	if n := len(listOf(t, c, prefix+"q")) + len(listOf(t, c, prefix+"dfws:dead:q")); n != 0 {
		t.Errorf("%d copies made", n)
	}
	if consumer.Held() != 0 {
		t.Errorf("%d held", consumer.Held())
	}
}
