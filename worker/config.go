package worker

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

// Defaults of Config.
const (
	// DefaultSoftStopTimeout is the time that running handlers get at a stop: less than the 30 s of systemd and Kubernetes
	// leave before they kill.
	DefaultSoftStopTimeout = 20 * time.Second
	// DefaultHardStopTimeout is the time that handlers get after their context has ended.
	DefaultHardStopTimeout = 5 * time.Second
	// DefaultMaxHops is how often a task without handler goes back before it goes to the dead letters: with the default
	// back-off two minutes later.
	DefaultMaxHops = 15
	// DefaultHopDelay is the first back-off; each further one is twice as long.
	DefaultHopDelay = 100 * time.Millisecond
	// DefaultMaxWaiting is below the 65,535 at which Celery's prefetch count has no limit any more.
	DefaultMaxWaiting = 50_000
	// DefaultMaxHopDelay bounds the back-off.
	DefaultMaxHopDelay = 10 * time.Second
)

// Config says what a Worker consumes and how.
type Config struct {
	// Settings is what `manage.py dfws settings` exported, read by compat.ParseSettings. Required.
	Settings *compat.Settings
	// App names this program in the registry of signals, as "go:<App>": letters, digits, '_', '-' and '.'. Processes with
	// the same App must register the same handlers: the last to start speaks for all. Required.
	App string
	// Queues to consume. Empty: the queues of the handlers, or the setting dfws.go_queue when they name none.
	Queues []string
	// ExcludeQueues are not consumed, even where Queues or the handlers name them.
	ExcludeQueues []string
	// NodeName is the worker's name among all workers, unique in its broker, as Celery's -n: "shop@%h", with %h for the host
	// name, %n for the part of it before the first dot and %d for the rest. What has no "@" is a host. Empty: "go.<App>@%h".
	NodeName string
	// Concurrency is how many tasks run at once. Zero: the setting worker_concurrency, the number of CPUs by default. Handlers that
	// mostly wait for others want more: a slot costs a goroutine.
	Concurrency int
	// PrefetchMultiplier times Concurrency is how many tasks are held at once, running ones included. Zero: the setting
	// worker_prefetch_multiplier, 4 by default. Negative: as many as there are, which Celery's setting says with 0.
	// worker_disable_prefetch makes it 1.
	PrefetchMultiplier int
	// AutoscaleMax makes the number of tasks that run at once follow the need: from Concurrency, which is then the least, up to
	// this, as Celery's --autoscale. Zero: always Concurrency.
	AutoscaleMax int
	// MaxWaiting is how many tasks may wait for their ETA in this worker's memory beside those of the prefetch window. More
	// take up room in the window, so that other workers get the rest. Zero: worker_eta_task_limit, else 50,000.
	MaxWaiting int
	// HandlerTimeout ends the context of each signal's handler that has no Timeout of its own, and is the hard time limit of
	// tasks that have none. Zero: no limit, as in Celery.
	HandlerTimeout time.Duration
	// AckEarly acks a task before its handlers run, which is Celery's default: then a task is run at most once, and is
	// lost when the process dies. False: it is acked after its result is stored, and run again after a crash. A task's own
	// TaskOptions.AcksLate comes first.
	AckEarly bool
	// TimeLimit and SoftTimeLimit are the limits of tasks that have none of their own. Zero: the settings task_time_limit and
	// task_soft_time_limit.
	TimeLimit, SoftTimeLimit time.Duration
	// UnknownQueue names a queue that only Python workers consume: tasks without handler go there at once instead of
	// around in their own queue.
	UnknownQueue string
	// MaxHops is how often a task without handler goes back to its queue, or to UnknownQueue, before it goes to the dead
	// letters. A retry by Python counts anew. Zero: 15.
	MaxHops int
	// HopDelay is the wait before the first return to the queue; it doubles each time up to MaxHopDelay. Zero: 100 ms and 10 s.
	HopDelay, MaxHopDelay time.Duration
	// SoftStopTimeout is how long running handlers may go on after Run's context has ended. Zero: 20 s. Negative: as long as they
	// take, which is Celery's warm shutdown; Cold ends it.
	SoftStopTimeout time.Duration
	// SoftShutdownTimeout is what a cold stop (Worker.Stop) still gives running handlers. Zero: the setting
	// worker_soft_shutdown_timeout of Celery 5.5 and later, which is nothing by default. A worker without running handlers does not
	// wait, whatever worker_enable_soft_shutdown_on_idle says: what waits for its ETA has gone back to its queue before.
	SoftShutdownTimeout time.Duration
	// HardStopTimeout is how long they may go on after their own context was then cancelled. Zero: 5 s.
	HardStopTimeout time.Duration
	// TaskEvents publishes what happens to tasks for monitors such as Flower, from the start on, as Celery's -E; remote control can
	// switch it. The default is the setting worker_send_task_events.
	TaskEvents Choice
	// WithoutRemoteControl makes the worker deaf to `celery inspect` and `celery control`, and to revocations. The setting
	// worker_enable_remote_control = False does so too.
	WithoutRemoteControl bool
	// WithoutMingle does not ask the other workers for revoked tasks at the start.
	WithoutMingle bool
	// WithoutGossip does not listen to the other workers' events. Elections among Python workers then may not end.
	WithoutGossip bool
	// WithoutHeartbeat publishes no worker-online, worker-heartbeat and worker-offline: monitors do not see the worker then.
	WithoutHeartbeat bool
	// HeartbeatInterval is the time between two heartbeats. Zero: 2 s, as in Celery.
	HeartbeatInterval time.Duration
	// Logger gets what happens; nil: nothing is logged.
	Logger *slog.Logger
	// Observer gets what an operator may want to count.
	Observer Observer
}

var appName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)

func (c Config) withDefaults() Config {
	c = c.withSite()
	if c.Concurrency == 0 {
		c.Concurrency = runtime.GOMAXPROCS(0) // which knows a container's quota of CPU
	}
	if c.MaxHops == 0 {
		c.MaxHops = DefaultMaxHops
	}
	if c.MaxWaiting == 0 {
		c.MaxWaiting = DefaultMaxWaiting
	}
	c.HopDelay = cmp.Or(c.HopDelay, DefaultHopDelay)
	c.MaxHopDelay = cmp.Or(c.MaxHopDelay, max(DefaultMaxHopDelay, c.HopDelay))
	c.SoftStopTimeout = cmp.Or(c.SoftStopTimeout, DefaultSoftStopTimeout)
	c.HardStopTimeout = cmp.Or(c.HardStopTimeout, DefaultHardStopTimeout)
	c.HeartbeatInterval = cmp.Or(c.HeartbeatInterval, DefaultHeartbeatInterval)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Queues = slices.Clone(c.Queues)
	return c
}

// withSite fills in what the site's settings say.
func (c Config) withSite() Config {
	if c.Settings == nil {
		return c
	}
	celery := &c.Settings.Celery
	if c.Concurrency == 0 && celery.WorkerConcurrency > 0 {
		c.Concurrency = int(celery.WorkerConcurrency)
	}
	if c.PrefetchMultiplier == 0 {
		c.PrefetchMultiplier = celery.WorkerPrefetchMultiplier
		if c.PrefetchMultiplier == 0 {
			c.PrefetchMultiplier = -1
		}
	}
	if celery.WorkerDisablePrefetch {
		c.PrefetchMultiplier = 1
	}
	if c.MaxWaiting == 0 && celery.WorkerETATaskLimit != nil && *celery.WorkerETATaskLimit > 0 {
		c.MaxWaiting = *celery.WorkerETATaskLimit
	}
	c.TimeLimit = cmp.Or(c.TimeLimit, durationOf(celery.TaskTimeLimit))
	c.SoftTimeLimit = cmp.Or(c.SoftTimeLimit, durationOf(celery.TaskSoftTimeLimit))
	c.SoftShutdownTimeout = cmp.Or(c.SoftShutdownTimeout, celery.WorkerSoftShutdownTimeout.Duration())
	return c
}

// validate checks a Config with its defaults filled in; the error joins all faults.
func (c Config) validate() error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("worker: "+format, args...))
		}
	}
	fault(c.Settings == nil, "Settings is required")
	fault(!appName.MatchString(c.App), "App is %q, want 1 to 100 letters, digits, '_', '-' or '.'", c.App)
	fault(c.Concurrency < 0, "Concurrency is negative")
	fault(c.AutoscaleMax < 0 || c.AutoscaleMax > 0 && c.AutoscaleMax < c.Concurrency, "AutoscaleMax is smaller than Concurrency")
	fault(c.SoftShutdownTimeout < 0, "SoftShutdownTimeout is negative")
	fault(c.TimeLimit < 0 || c.SoftTimeLimit < 0, "TimeLimit or SoftTimeLimit is negative")
	fault(c.HandlerTimeout < 0, "HandlerTimeout is negative")
	fault(c.MaxWaiting < 0, "MaxWaiting is negative")
	fault(c.MaxHops < 0, "MaxHops is negative")
	fault(c.HopDelay < 0, "HopDelay is negative")
	fault(c.MaxHopDelay < c.HopDelay, "MaxHopDelay is shorter than HopDelay")
	fault(c.HardStopTimeout < 0, "HardStopTimeout is negative")
	fault(c.HeartbeatInterval < 0, "HeartbeatInterval is negative")
	_, err := c.nodeName()
	return errors.Join(append(faults, err, c.checkQueues(c.Queues))...)
}

// checkQueues checks the queues to consume.
func (c Config) checkQueues(queues []string) error {
	var faults []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			faults = append(faults, fmt.Errorf("worker: "+format, args...))
		}
	}
	fault(slices.Contains(queues, ""), "Queues has an empty name")
	fault(len(c.ExcludeQueues) > 0 && queues != nil && len(queues) == 0, "ExcludeQueues leaves no queue")
	fault(c.UnknownQueue != "" && slices.Contains(queues, c.UnknownQueue),
		"UnknownQueue %q is among the worker's queues: what this worker does not know would come back to it", c.UnknownQueue)
	return errors.Join(faults...)
}

// unlimitedPrefetch is what stands for no limit: Celery's prefetch count ends below it (celery 5.7, worker/consumer/consumer.py).
const unlimitedPrefetch = 1 << 16

// prefetch is how many tasks may be held at once.
func (c Config) prefetch() int {
	if c.PrefetchMultiplier < 0 {
		return unlimitedPrefetch
	}
	return c.prefetchOf(max(c.Concurrency, c.AutoscaleMax))
}

// prefetchOf is what so many slots more add to it.
func (c Config) prefetchOf(slots int) int { return slots * max(c.PrefetchMultiplier, 0) }

// hopDelay is the wait before the hop-th return to the queue; the first is 0.
func (c Config) hopDelay(hop int) time.Duration {
	d := c.HopDelay
	for range hop {
		if d >= c.MaxHopDelay {
			break
		}
		d *= 2
	}
	return min(d, c.MaxHopDelay)
}

// minRest and maxRest bound how long the worker leaves a queue alone after the return of a task that had come back before.
// An idle Python worker takes some hundred tasks a second.
const minRest, maxRest = 250 * time.Millisecond, 2 * time.Second

// hopRest is how long the worker leaves the queue alone after the hop-th return; the first is 0. There is none after the first
// return: a task that comes back shows that this worker gets in the way. Up to a quarter less than the nominal time, so that
// several workers do not keep step.
func hopRest(hop int) time.Duration {
	if hop == 0 {
		return 0
	}
	d := minRest
	for range hop - 1 {
		if d >= maxRest {
			break
		}
		d *= 2
	}
	return d - rand.N(d/4)
}

// nodeName is this process in results, events and remote control.
func (c Config) nodeName() (string, error) {
	host := hostName()
	name := c.NodeName
	if name == "" {
		name = "go." + c.App + "@%h"
	}
	name, err := celeryproto.HostFormat(name, host)
	if err != nil {
		return "", fmt.Errorf("worker: NodeName: %w", err)
	}
	return celeryproto.CompleteNodeName(name, host), nil
}

// sitePolicy is what the tasks' options leave open.
func (c Config) sitePolicy() sitePolicy {
	celery := &c.Settings.Celery
	return sitePolicy{
		ackEarly: c.AckEarly, ignoreResult: celery.TaskIgnoreResult, storeErrors: celery.TaskStoreErrorsEvenIfIgnored,
		trackStarted: celery.TaskTrackStarted, acksOnFailure: celery.AcksOnFailure(), acksOnTimeout: celery.AcksOnTimeout(),
		requeueLost: celery.TaskRejectOnWorkerLost, timeLimit: c.TimeLimit, softTimeLimit: c.SoftTimeLimit, rateLimit: celery.TaskDefaultRateLimit,
		noRateLimits: celery.WorkerDisableRateLimits,
	}
}
