package redisbroker_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/redistest"
)

// completed waits for the outcome of a Complete.
func completed(t *testing.T, d *redisbroker.Delivery, m *celeryproto.ResultMeta) error {
	t.Helper()
	doneC := make(chan error, 1)
	if err := d.Complete(t.Context(), m, func(err error) { doneC <- err }); err != nil {
		return err
	}
	select {
	case err := <-doneC:
		return err
	case <-t.Context().Done():
		return t.Context().Err()
	}
}

// Complete stores and acks, whether results and messages share a database or not.
func TestComplete(t *testing.T) {
	t.Parallel()
	for name, db := range map[string]int{"one database": 0, "two databases": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			b := mustOpen(t, s, redisbroker.Options{})
			r, err := redisbroker.OpenResults(redisbroker.ResultOptions{URL: s.URLFor(db)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.Close() })
			mustPublish(t, b, "q", 1, 2, 3)
			consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 3, Results: r})
			first, second, third := consumer.next(t), consumer.next(t), consumer.next(t)
			if err := completed(t, first, meta("id-1", celeryproto.StatusSuccess, "5")); err != nil {
				t.Error(err)
			}
			if m, err := r.Get(t.Context(), "id-1"); err != nil || m.Result.String() != "5" {
				t.Errorf("stored %v, %v", m, err)
			}
			if err := r.Store(t.Context(), meta("id-2", celeryproto.StatusSuccess, "6")); err != nil {
				t.Fatal(err)
			}
			if err := completed(t, second, meta("id-2", celeryproto.StatusFailure, `{"exc_type": "E", "exc_message": [], "exc_module": null}`)); err != nil {
				t.Error(err)
			}
			if m, err := r.Get(t.Context(), "id-2"); err != nil || m.Status != celeryproto.StatusSuccess {
				t.Errorf("a SUCCESS is final, stored %v, %v", m, err)
			}
			if err := completed(t, third, nil); err != nil {
				t.Error(err)
			}
			if left := unackedOf(t, s.Client(t), ""); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if err := completed(t, first, nil); !errors.Is(err, redisbroker.ErrSettled) {
				t.Errorf("a second time: %v", err)
			}
		})
	}
}

// A delivery that somebody restored has its result stored, and its message is not acked.
func TestCompleteLost(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	b, r := mustOpen(t, s, redisbroker.Options{}), mustResults(t, s, redisbroker.ResultOptions{})
	mustPublish(t, b, "q", 1)
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 1, Results: r})
	d := consumer.next(t)
	c := s.Client(t)
	c.ZAdd(t.Context(), "unacked_index", redis.Z{Score: 1, Member: d.Tag})
	if err := completed(t, d, meta("id-1", celeryproto.StatusSuccess, "5")); !errors.Is(err, redisbroker.ErrLost) {
		t.Errorf("completed with %v", err)
	}
	if _, err := r.Get(t.Context(), "id-1"); err != nil {
		t.Errorf("result: %v", err)
	}
	if left := unackedOf(t, c, ""); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// A full Redis (maxmemory, noeviction) loses no message: none is taken, what needs no memory goes on, results wait.
func TestFullRedis(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	b, r := mustOpen(t, s, redisbroker.Options{}), mustResults(t, s, redisbroker.ResultOptions{})
	c := s.Client(t)
	mustPublish(t, b, "q", 1, 2, 3, 4)
	consumer := mustConsume(t, b, redisbroker.ConsumerConfig{Queues: []string{"q"}, Prefetch: 3, Results: r})
	first, second, third := consumer.next(t), consumer.next(t), consumer.next(t)
	full := func(limit string) {
		if err := c.ConfigSet(t.Context(), "maxmemory", limit).Err(); err != nil {
			t.Fatal(err)
		}
	}
	full("1")
	waiting := make(chan error, 2)
	done := func(err error) { waiting <- err }
	if err := first.Complete(t.Context(), meta("id-1", celeryproto.StatusSuccess, "5"), done); err != nil {
		t.Fatal(err)
	}
	if err := second.Ack(t.Context()); err != nil { // does not wait for the result that Redis refuses
		t.Error(err)
	}
	eventually(t, "taking was tried", func() bool {
		return strings.Contains(c.Info(t.Context(), "errorstats").Val(), "errorstat_OOM") && c.LLen(t.Context(), "q").Val() == 1
	})
	if err := third.Ack(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-waiting:
		t.Errorf("the result was settled with %v", err)
	default:
	}
	full("0")
	if err := <-waiting; err != nil {
		t.Error(err)
	}
	mustAck(t, consumer.next(t))
	if _, err := r.Get(context.WithoutCancel(t.Context()), "id-1"); err != nil {
		t.Error(err)
	}
}
