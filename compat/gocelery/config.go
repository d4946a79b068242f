package gocelery

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/worker"
)

const (
	// DefaultQueue is the queue of gocelery's NewRedisBroker, and Celery's task_default_queue.
	DefaultQueue = "celery"
	// defaultApp is worker.Config.App for programs that give none.
	defaultApp = "gocelery"
	// untilDone is worker.Config.SoftStopTimeout for a stop that waits as long as tasks take, as gocelery's.
	untilDone = -1
	// noLayer stands for the channel layer of a program that has none: using it fails with an error that says so.
	noLayer = "redis://no-channel-layer.invalid:6379/0"
)

// RedisCeleryBroker names the Redis of the queues.
type RedisCeleryBroker struct {
	// URL is Celery's broker_url: redis://, rediss://, unix:// and lists of them, see redisbroker.Options.URL. What needs Celery's
	// broker_transport_options as well, as Sentinel does, is for Config.Settings.
	URL compat.Secret
	// QueueName is the queue that the client sends to and the worker consumes; empty: DefaultQueue.
	QueueName string
}

// NewRedisCeleryBroker returns the broker at a URL, with the queue "celery".
func NewRedisCeleryBroker(url string) *RedisCeleryBroker {
	return &RedisCeleryBroker{URL: compat.Secret(url), QueueName: DefaultQueue}
}

// RedisCeleryBackend names the Redis of the results.
type RedisCeleryBackend struct {
	// URL is Celery's result_backend, see redisbroker.ResultOptions.URL.
	URL compat.Secret
}

// NewRedisCeleryBackend returns the result backend at a URL.
func NewRedisCeleryBackend(url string) *RedisCeleryBackend {
	return &RedisCeleryBackend{URL: compat.Secret(url)}
}

// Config is what [New] makes a client from: more than [NewCeleryClient] takes.
type Config struct {
	// Broker and Backend are where queues and results are. Without a Backend none are stored, and waiting for one is
	// worker.ErrNoResultBackend.
	Broker  *RedisCeleryBroker
	Backend *RedisCeleryBackend
	// Settings are those of a Django site, from worker.LoadSettings, instead of Broker and Backend. Waiting for results needs a
	// result_backend in Redis.
	Settings *compat.Settings
	// Queue is the queue with Settings; empty: the setting celery.task_default_queue. Without Settings it is Broker.QueueName.
	Queue string
	// NumWorkers is how many tasks run at once. Zero: none, the client only sends, as in gocelery.
	NumWorkers int
	// Protocol is the version of the messages that are sent, Celery's task_protocol: 2 when 0, or 1. gocelery's own workers drop
	// messages of protocol 2: send 1 as long as one of them consumes the queue. The worker takes both.
	Protocol int
	// Worker holds everything else that a worker can be told. Settings and Concurrency are those above. The differences to its own
	// defaults: App is "gocelery"; NodeName has the process ID in it, since several gocelery programs may run on a host;
	// SoftStopTimeout is negative, since StopWorker waits until the tasks are done; and a nil Logger is slog.Default(), since
	// gocelery prints to package log. Give programs that handle signals an App of their own.
	Worker worker.Config
	// Handlers adds handlers of package worker to those of Register, each time a worker starts; nil: none. It must not call Register.
	Handlers func(*worker.Worker)
}

// withDefaults does not touch c.
func (c Config) withDefaults() Config {
	if c.Protocol == 0 {
		c.Protocol = 2
	}
	w := &c.Worker
	if w.App == "" {
		w.App = defaultApp
	}
	if w.NodeName == "" {
		w.NodeName = fmt.Sprintf("%s%d@%%h", w.App, os.Getpid())
	}
	if w.SoftStopTimeout == 0 {
		w.SoftStopTimeout = untilDone
	}
	if w.Logger == nil {
		w.Logger = slog.Default()
	}
	return c
}

// validate joins all faults of a Config with its defaults filled in.
func (c Config) validate() error {
	var faults []error
	fault := func(bad bool, text string) {
		if bad {
			faults = append(faults, errors.New("gocelery: "+text))
		}
	}
	fault(c.Settings == nil && c.Broker == nil, "a Broker or Settings is required")
	fault(c.Settings != nil && (c.Broker != nil || c.Backend != nil),
		"Settings name broker and result backend: leave Broker and Backend out")
	fault(c.Settings == nil && c.Queue != "", "Queue is for Settings: use Broker.QueueName")
	fault(c.NumWorkers < 0, "NumWorkers is negative")
	fault(c.Protocol != 1 && c.Protocol != 2, "Protocol is neither 1 nor 2")
	fault(c.Worker.Settings != nil, "Worker.Settings is given: use Settings")
	fault(c.Worker.Concurrency != 0, "Worker.Concurrency is given: use NumWorkers")
	return errors.Join(faults...)
}

// site is the settings that a worker needs, and the queue.
func (c Config) site() (*compat.Settings, string, error) {
	if c.Settings != nil {
		queue := c.Queue
		if queue == "" {
			queue = c.Settings.Celery.TaskDefaultQueue
		}
		return c.Settings, queue, nil
	}
	queue := c.Broker.QueueName
	if queue == "" {
		queue = DefaultQueue
	}
	celery := map[string]any{"broker_url": c.Broker.URL.Reveal(), "task_default_queue": queue}
	if c.Backend != nil {
		celery["result_backend"] = c.Backend.URL.Reveal()
	}
	file, err := json.Marshal(map[string]any{
		"schema": compat.SettingsSchema, "celery": celery,
		"channel_layer": map[string]any{"hosts": []any{map[string]any{"url": noLayer}}},
	})
	if err != nil {
		return nil, "", fmt.Errorf("gocelery: %w", err)
	}
	settings, err := compat.ParseSettings(file)
	if err != nil {
		return nil, "", fmt.Errorf("gocelery: %w", err)
	}
	return settings, queue, nil
}

// worker is the configuration of a worker on the site.
func (c Config) worker(settings *compat.Settings) worker.Config {
	w := c.Worker
	w.Settings, w.Concurrency = settings, c.NumWorkers
	return w
}
