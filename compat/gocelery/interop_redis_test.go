package gocelery

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	peer "github.com/gocelery/gocelery"
	"github.com/gomodule/redigo/redis"

	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/worker"
)

// mustPeer is a client of the real gocelery, made as its README says.
func mustPeer(t testing.TB, s *site, queue string) *peer.CeleryClient {
	t.Helper()
	broker := peer.NewRedisBroker(pool(t, s.URLFor(0)))
	broker.QueueName = queue
	c, err := peer.NewCeleryClient(broker, &peer.RedisCeleryBackend{Pool: pool(t, s.URLFor(1))}, 2)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func pool(t testing.TB, url string) *redis.Pool {
	p := &redis.Pool{MaxIdle: 3, Dial: func() (redis.Conn, error) { return redis.DialURL(url) }}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close pool: %v", err)
		}
	})
	return p
}

// A gocelery client sends messages of protocol 1 to our worker and reads its results.
func TestClientOfGocelery(t *testing.T) {
	t.Parallel()
	for _, queue := range []string{DefaultQueue, "other"} {
		t.Run(queue, func(t *testing.T) {
			t.Parallel()
			s := startSite(t)
			broker := NewRedisCeleryBroker(s.URLFor(0))
			broker.QueueName = queue
			c := s.client(t, Config{Broker: broker, NumWorkers: 2})
			c.Register("worker.add", func(a, b int) int { return a + b })
			c.Register("worker.kwargs", &kwargsTask{})
			c.Register("worker.wrap", func(v any) []any { return []any{v} })
			c.StartWorker()

			client := mustPeer(t, s, queue)
			get := func(r *peer.AsyncResult, err error) any {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				v, err := r.Get(waitLimit)
				if err != nil {
					t.Fatal(err)
				}
				if ready, err := r.Ready(); !ready || err != nil {
					t.Errorf("ready: %v, %v", ready, err)
				}
				return v
			}
			if got := get(client.Delay("worker.add", 5456, 2878)); got != 8334.0 {
				t.Errorf("add: %v", got)
			}
			nested := map[string]any{"a": []any{nil, 1.5, "ü"}}
			if got := get(client.Delay("worker.wrap", nested)); !reflect.DeepEqual(got, []any{nested}) {
				t.Errorf("wrap: %v", got)
			}
			if got := get(client.DelayKwargs("worker.kwargs", nested)); !reflect.DeepEqual(got, nested) {
				t.Errorf("kwargs: %v", got)
			}
			s.mustBeIdle(t, queue)
		})
	}
}

// Our client sends to a gocelery worker, which stores results and tells nobody.
func TestWorkerOfGocelery(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	w := mustPeer(t, s, DefaultQueue)
	w.Register("worker.add", func(a, b int) int { return a + b })
	w.Register("worker.kwargs", &kwargsTask{})
	w.StartWorker()
	t.Cleanup(w.StopWorker)

	c := s.client(t, Config{Protocol: 1})
	for i := range 5 {
		r, err := c.Delay("worker.add", i, 2878)
		if got := mustGet(t, r, err); got != float64(i+2878) {
			t.Errorf("add %d: %v", i, got)
		}
		if ready, err := r.Ready(); !ready || err != nil {
			t.Errorf("ready: %v, %v", ready, err)
		}
	}
	r, err := c.DelayKwargs("worker.kwargs", map[string]any{"a": "ü", "b": nil})
	if got := mustGet(t, r, err); !reflect.DeepEqual(got, map[string]any{"a": "ü", "b": nil}) {
		t.Errorf("kwargs: %v", got)
	}
}

// On a shared queue a gocelery worker gets what our worker has no handler for, whole.
func TestUnknownGoesToGocelery(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	backC := make(chan struct{}, 100)
	c := s.client(t, Config{NumWorkers: 1, Worker: worker.Config{
		MaxHops: 1000, Observer: worker.Observer{Requeued: func(string, int) { backC <- struct{}{} }},
	}})
	c.Register("ours", func() {})
	c.StartWorker()
	peerClient := mustPeer(t, s, DefaultQueue)
	theirs, err := peerClient.Delay("theirs", 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	mustEnd(t, "our worker gives it back", backC)
	peerClient.Register("theirs", func(a, b int) int { return a + b })
	peerClient.StartWorker()
	t.Cleanup(peerClient.StopWorker)
	if got, err := theirs.Get(waitLimit); got != 3.0 || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	s.mustBeIdle(t, DefaultQueue)
}

// A result that is stored without being published is found by those who wait already.
func TestWaitForUnpublished(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	c := s.client(t, Config{})
	backend := peer.NewRedisBackend(pool(t, s.URLFor(1)))
	for _, message := range []peer.ResultMessage{{Status: "SUCCESS", Result: 5}, {Status: "FAILURE", Result: map[string]any{
		"exc_type": "KeyError", "exc_message": []any{"k"}, "exc_module": "builtins",
	}}} {
		r := c.AsyncResult("id-" + message.Status)
		var got any
		var err error
		doneC := inBackground(t, func() { got, err = r.Get(waitLimit) })
		channel := "celery-task-meta-" + r.TaskID
		eventually(t, "subscribed", func() bool { return s.broker.PubSubNumSub(t.Context(), channel).Val()[channel] == 1 })
		if err := backend.SetResult(r.TaskID, &message); err != nil {
			t.Fatal(err)
		}
		mustEnd(t, "the result is found", doneC)
		if failed := message.Status == "FAILURE"; failed != errors.Is(err, &worker.Exception{Type: "KeyError"}) || !failed && got != 5.0 {
			t.Errorf("%s: %v, %v", message.Status, got, err)
		}
	}
}

// What gocelery's worker makes of our messages. It drops protocol 2, and so does not get any.
func TestMessages(t *testing.T) {
	t.Parallel()
	for protocol := range 3 {
		c := mustNew(t, Config{Protocol: protocol})
		task, err := c.message(canvas.New("worker.add", 1, "ü").WithKwargs(map[string]any{"k": 2}), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		envelope, err := task.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		var message peer.CeleryMessage
		if err := json.Unmarshal(envelope, &message); err != nil {
			t.Fatal(err)
		}
		info := message.Properties.DeliveryInfo
		if message.ContentType != "application/json" || message.ContentEncoding != "utf-8" || message.Properties.BodyEncoding != "base64" ||
			info.RoutingKey != "celery" || message.Properties.ReplyTo == "" || message.Properties.CorrelationID != task.ID {
			t.Errorf("%+v", message)
		}
		got, err := peer.DecodeTaskMessage(message.Body)
		if protocol != 1 {
			if err == nil || message.Headers["task"] != "worker.add" || !strings.HasPrefix(fmt.Sprint(message.Headers["origin"]), "gen") {
				t.Errorf("protocol %d: %+v, %v", protocol, message, err)
			}
			continue
		}
		if err != nil || got.ID != task.ID || got.Task != "worker.add" || got.Expires != nil || got.ETA != nil || got.Retries != 0 ||
			!reflect.DeepEqual(got.Args, []any{1.0, "ü"}) || !reflect.DeepEqual(got.Kwargs, map[string]any{"k": 2.0}) {
			t.Errorf("%+v, %v", got, err)
		}
	}
}
