package redisbroker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

func mustResults(t testing.TB, s *redistest.Server, opts redisbroker.ResultOptions) *redisbroker.Results {
	t.Helper()
	opts.URL = s.URL
	r, err := redisbroker.OpenResults(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close results: %v", err)
		}
	})
	return r
}

func meta(id, status, result string) *celeryproto.ResultMeta {
	return &celeryproto.ResultMeta{Status: status, Result: celeryproto.Raw(result), TaskID: id}
}

// Store leaves the key, the time to live and the publication of the recorded commands of Python.
func TestStoreAsPython(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	r := mustResults(t, s, redisbroker.ResultOptions{})
	f := mustFixture(t, "result_store_commands")
	pubsub := c.PSubscribe(t.Context(), "*")
	t.Cleanup(func() { _ = pubsub.Close() })
	if _, err := pubsub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	published := f.commands(t, "PUBLISH")
	for i, set := range f.commands(t, "SETEX") {
		key, ttl, value := set[0], set[1], set[2]
		m, err := celeryproto.DecodeResult([]byte(value))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Store(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if got := c.Get(t.Context(), key).Val(); got != value {
			t.Errorf("stored %s\nwant   %s", got, value)
		}
		if got := c.TTL(t.Context(), key).Val(); fmt.Sprint(int(got.Seconds())) != ttl {
			t.Errorf("time to live %v, want %s s", got, ttl)
		}
		msg, err := pubsub.ReceiveMessage(t.Context())
		if err != nil || msg.Channel != published[i][0] || msg.Payload != published[i][1] {
			t.Errorf("published %+v, %v", msg, err)
		}
		back, err := r.Get(t.Context(), m.TaskID)
		if err != nil || back.Status != m.Status {
			t.Errorf("read back %+v, %v", back, err)
		}
	}
}

func TestSuccessIsFinal(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	kept := 0
	r := mustResults(t, s, redisbroker.ResultOptions{KeyPrefix: ownPrefix(t), Expires: -1, Observer: redisbroker.Observer{
		ResultStored: func(_ string, k bool) {
			if k {
				kept++
			}
		},
	}})
	for i, status := range []string{"STARTED", "RETRY", "FAILURE", "STARTED", "SUCCESS", "FAILURE", "SUCCESS", "REVOKED"} {
		if err := r.Store(t.Context(), meta("id", status, fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	got, err := r.Get(t.Context(), "id")
	if err != nil || got.Status != "SUCCESS" || string(got.Result) != "4" || kept != 3 {
		t.Errorf("%+v, %v, kept %d times", got, err, kept)
	}
	c := s.Client(t)
	if ttl := c.TTL(t.Context(), r.Key("id")).Val(); ttl != -1 {
		t.Errorf("time to live %v", ttl)
	}
	// A SUCCESS in a form that Celery does not write, but another producer may.
	if err := c.Set(t.Context(), r.Key("other"), `{"result":1,"status":"SUCCESS"}`, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := r.Store(t.Context(), meta("other", "FAILURE", "null")); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Get(t.Context(), "other"); err != nil || got.Status != "SUCCESS" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestResultKeys(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]string{
		"": "celery-task-meta-x", "app1": "app1_celery-task-meta-x", "pfx:": "pfx:celery-task-meta-x",
		"a_": "a_celery-task-meta-x", "a-": "a-celery-task-meta-x", "a.": "a.celery-task-meta-x",
	} {
		r, err := redisbroker.OpenResults(redisbroker.ResultOptions{KeyPrefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Key("x"); got != want {
			t.Errorf("%q: %s, want %s", prefix, got, want)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := r.Store(t.Context(), meta("x", "SUCCESS", "1")); !errors.Is(err, redisbroker.ErrClosed) {
			t.Errorf("store after close: %v", err)
		}
		if _, err := r.Wait(t.Context(), "x"); !errors.Is(err, redisbroker.ErrClosed) {
			t.Errorf("wait after close: %v", err)
		}
	}
}

func TestGetMissing(t *testing.T) {
	t.Parallel()
	r := mustResults(t, redistest.Shared(t), redisbroker.ResultOptions{KeyPrefix: ownPrefix(t)})
	if _, err := r.Get(t.Context(), "none"); !errors.Is(err, redisbroker.ErrNoResult) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Wait(ctx, "none"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if err := r.Store(t.Context(), meta("", "SUCCESS", "1")); err == nil {
		t.Error("stored without a task id")
	}
}

// Many wait, several for the same task, before and after the result is there; each learns it at once.
func TestWait(t *testing.T) {
	t.Parallel()
	s := redistest.Shared(t)
	prefix := ownPrefix(t)
	r := mustResults(t, s, redisbroker.ResultOptions{KeyPrefix: prefix})
	writer := mustResults(t, s, redisbroker.ResultOptions{KeyPrefix: prefix})
	const tasks = 200
	var wg sync.WaitGroup
	for n := range tasks {
		id := fmt.Sprint(n)
		for range 3 {
			wg.Go(func() {
				got, err := r.Wait(t.Context(), id)
				if err != nil || string(got.Result) != id {
					t.Errorf("task %s: %+v, %v", id, got, err)
				}
			})
		}
		wg.Go(func() {
			for _, status := range []string{"STARTED", "RETRY", "SUCCESS"} {
				if err := writer.Store(t.Context(), meta(id, status, id)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, err := r.Wait(t.Context(), "7"); err != nil || string(got.Result) != "7" { // long there
		t.Errorf("%+v, %v", got, err)
	}
	c := s.Client(t)
	eventually(t, "all channels are unsubscribed", func() bool {
		channels, err := c.PubSubChannels(t.Context(), prefix+"*").Result()
		return err == nil && len(channels) == 0
	})
}

// Redis is restarted, and the waiting connection killed, between the wait and the result.
func TestWaitAcrossOutage(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := s.Client(t)
	r := mustResults(t, s, redisbroker.ResultOptions{})
	writer := mustResults(t, s, redisbroker.ResultOptions{})
	subscribed := func() bool {
		counts, err := c.PubSubNumSub(t.Context(), r.Key("a"), r.Key("b")).Result()
		return err == nil && counts[r.Key("a")]+counts[r.Key("b")] == 2
	}
	var wg sync.WaitGroup
	for _, id := range []string{"a", "b"} {
		wg.Go(func() {
			got, err := r.Wait(t.Context(), id)
			if err != nil || got.Status != "SUCCESS" {
				t.Errorf("%s: %+v, %v", id, got, err)
			}
		})
	}
	eventually(t, "both subscribed", subscribed)
	s.Restart()
	eventually(t, "both subscribed again", subscribed)
	if err := writer.Store(t.Context(), meta("a", "SUCCESS", "1")); err != nil {
		t.Error(err)
	}
	// b's result is written without a publication: only reading the key after the reconnect finds it.
	value, err := meta("b", "SUCCESS", "1").Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Set(t.Context(), r.Key("b"), value, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

func TestStoreErrors(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	r := mustResults(t, s, redisbroker.ResultOptions{SocketTimeout: 100 * time.Millisecond})
	c := s.Client(t)
	if err := c.LPush(t.Context(), r.Key("list"), "x").Err(); err != nil {
		t.Fatal(err)
	}
	if err := r.Store(t.Context(), meta("list", "SUCCESS", "1")); err == nil || redisbroker.Retryable(err) {
		t.Errorf("key of another type: %v", err)
	}
	if err := c.ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := r.Store(t.Context(), meta("a", "SUCCESS", "1")); err != nil {
		t.Errorf("after SCRIPT FLUSH: %v", err)
	}
	s.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Store(ctx, meta("b", "SUCCESS", "1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("paused: %v", err)
	}
	s.Resume()
	if err := r.Store(t.Context(), meta("b", "SUCCESS", "2")); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

// Results share round trips: one that Redis refuses fails alone.
func TestStoreTogether(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	r := mustResults(t, s, redisbroker.ResultOptions{})
	c := s.Client(t)
	if err := c.LPush(t.Context(), r.Key("list"), "x").Err(); err != nil {
		t.Fatal(err)
	}
	s.Pause() // so that they gather
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			id := fmt.Sprint(i)
			if i == 150 {
				id = "list"
			}
			err := r.Store(t.Context(), meta(id, "SUCCESS", id))
			if i == 150 && (err == nil || redisbroker.Retryable(err)) {
				t.Errorf("key of another type: %v", err)
			} else if i != 150 && err != nil {
				t.Errorf("%s: %v", id, err)
			}
		})
	}
	s.Resume()
	wg.Wait()
	for _, i := range []int{0, 149, 151, 299} {
		if got, err := r.Get(t.Context(), fmt.Sprint(i)); err != nil || string(got.Result) != fmt.Sprint(i) {
			t.Errorf("%d: %+v, %v", i, got, err)
		}
	}
}

func TestResultURLRefused(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"rediss://h", "sentinel://h", "redis://h?x=1", "rpc://"} {
		if _, err := redisbroker.OpenResults(redisbroker.ResultOptions{URL: url}); err == nil {
			t.Errorf("%s: accepted", url)
		}
	}
}

func TestRetryable(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		nil: false, context.Canceled: false, context.DeadlineExceeded: true, redisbroker.ErrPublishQueueFull: true,
		redisbroker.ErrPublishDeadline: true, redisbroker.ErrClosed: false, redisbroker.ErrLost: false, redis.Nil: false,
		redis.ErrClosed: false, errors.New("x"): false,
	} {
		if got := redisbroker.Retryable(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
	if d := cmp.Diff(true, redisbroker.Retryable(fmt.Errorf("wrapped: %w", context.DeadlineExceeded))); d != "" {
		t.Error(d)
	}
}

// In every serializer and compressed: what is stored is read, waited for, and final once it is a SUCCESS.
func TestResultCodecs(t *testing.T) {
	t.Parallel()
	accept, err := celeryproto.ParseAccept([]string{"json", "msgpack", "yaml", "pickle"})
	if err != nil {
		t.Fatal(err)
	}
	s := redistest.Start(t)
	for _, codec := range []celeryproto.ResultCodec{
		{Serializer: "msgpack", Accept: accept}, {Serializer: "yaml", Accept: accept}, {Serializer: "pickle", Accept: accept},
		{Compression: "zstd"}, {Serializer: "pickle", Compression: "gzip", Accept: accept},
	} {
		name := codec.Serializer + "-" + codec.Compression
		r := mustResults(t, s, redisbroker.ResultOptions{Codec: codec, KeyPrefix: name, FailureExpires: time.Minute})
		failure := `{"exc_type": "ValueError", "exc_message": ["x"], "exc_module": "builtins"}`
		for _, m := range []*celeryproto.ResultMeta{
			meta("a", celeryproto.StatusFailure, failure), meta("b", celeryproto.StatusSuccess, `{"n": [1, 2.5, null]}`), meta("b", celeryproto.StatusFailure, failure),
		} {
			if err := r.Store(t.Context(), m); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if ttl := s.Client(t).TTL(t.Context(), r.Key("a")).Val(); ttl <= 0 || ttl > time.Minute {
			t.Errorf("%s: a failure lives %s", name, ttl)
		}
		failed, err := r.Wait(t.Context(), "a")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if e, err := failed.Exception(); err != nil || e.Error() != "ValueError: x" {
			t.Errorf("%s: %v, %v", name, e, err)
		}
		if m, err := r.Get(t.Context(), "b"); err != nil || m.Status != celeryproto.StatusSuccess || m.Result.String() != `{"n": [1, 2.5, null]}` {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}
