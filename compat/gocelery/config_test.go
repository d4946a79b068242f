package gocelery

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/worker"
)

func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	c := Config{Broker: &RedisCeleryBroker{URL: nowhere}}.withDefaults()
	node := fmt.Sprintf("gocelery%d@%%h", os.Getpid())
	if w := c.Worker; c.Protocol != 2 || w.App != "gocelery" || w.NodeName != node || w.SoftStopTimeout >= 0 || w.Logger != slog.Default() {
		t.Errorf("%+v", c)
	}
	given := Config{Protocol: 1, Worker: worker.Config{
		App: "shop", NodeName: "shop@%h", SoftStopTimeout: time.Second, Logger: testLogger(t),
	}}
	got := given.withDefaults()
	if w := got.Worker; got.Protocol != 1 || w.App != "shop" || w.NodeName != "shop@%h" || w.SoftStopTimeout != time.Second ||
		w.Logger != given.Worker.Logger {
		t.Errorf("%+v", got)
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	settings, err := compat.ParseSettings([]byte(`{"schema": 1,
		"celery": {"broker_url": "redis://127.0.0.1:1/0", "task_default_queue": "shop"},
		"channel_layer": {"hosts": [{"url": "redis://127.0.0.1:1/1"}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	for want, cfg := range map[string]Config{
		"celery": {Broker: NewRedisCeleryBroker("redis://")}, // gocelery's README
		"other":  {Broker: &RedisCeleryBroker{URL: nowhere, QueueName: "other"}},
		"shop":   {Settings: settings},
		"till":   {Settings: settings, Queue: "till"},
	} {
		c := mustNew(t, cfg)
		if c.queue != want {
			t.Errorf("queue %q, want %q", c.queue, want)
		}
		if cfg.Settings == nil && c.settings.Celery.TaskDefaultQueue != want { // where chains go on
			t.Errorf("task_default_queue %q, want %q", c.settings.Celery.TaskDefaultQueue, want)
		}
	}
}

func TestConfigFaults(t *testing.T) {
	t.Parallel()
	_, err := New(Config{
		Broker: NewRedisCeleryBroker(nowhere), Settings: &compat.Settings{}, NumWorkers: -1, Protocol: 3,
		Worker: worker.Config{Settings: &compat.Settings{}, Concurrency: 2},
	})
	for _, fact := range []string{"leave Broker and Backend out", "NumWorkers", "Protocol", "Worker.Settings", "Worker.Concurrency"} {
		if err == nil || !strings.Contains(err.Error(), fact) {
			t.Errorf("%q is not in: %v", fact, err)
		}
	}
	for fact, c := range map[string]Config{
		"a Broker or Settings is required": {},
		"use Broker.QueueName":             {Broker: NewRedisCeleryBroker(nowhere), Queue: "x"},
		"celery.broker_url: missing":       {Broker: NewRedisCeleryBroker("")},
		"broker":                           {Broker: NewRedisCeleryBroker("amqp://user:secret@host//")},
		"result backend":                   {Broker: NewRedisCeleryBroker(nowhere), Backend: NewRedisCeleryBackend("redis://user:secret@host:x/")},
		"App is":                           {Broker: NewRedisCeleryBroker(nowhere), Worker: worker.Config{App: "a b"}},
	} {
		_, err := New(c)
		if err == nil || !strings.Contains(err.Error(), fact) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v, want %q in it", err, fact)
		}
	}
}

func TestBackendIsRedis(t *testing.T) {
	t.Parallel()
	_, err := NewCeleryClient(NewRedisCeleryBroker(nowhere), NewRedisCeleryBackend("amqp://user:secret@host"), 1)
	if fault, ok := errors.AsType[*worker.BackendError](err); !ok || fault.Name != "amqp" || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	for waited, want := range map[time.Duration]time.Duration{
		0: minPoll, minPoll: minPoll, time.Second: 100 * time.Millisecond, 9 * time.Second: 900 * time.Millisecond, time.Hour: maxPoll,
	} {
		if got := pause(waited); got != want {
			t.Errorf("after %v: %v, want %v", waited, got, want)
		}
	}
}

func TestDelayErrors(t *testing.T) {
	t.Parallel()
	c := mustNew(t, Config{})
	for fact, delay := range map[string]func() (*AsyncResult, error){
		"argument 2":     func() (*AsyncResult, error) { return c.Delay("x", 1, make(chan int)) },
		`argument "bad"`: func() (*AsyncResult, error) { return c.DelayKwargs("x", map[string]any{"bad": func() {}}) },
		`delay ""`:       func() (*AsyncResult, error) { return c.Delay("") },
	} {
		if r, err := delay(); err == nil || !strings.Contains(err.Error(), fact) {
			t.Errorf("%+v, %v, want %q in it", r, err, fact)
		}
	}
}
