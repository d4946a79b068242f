package appserver

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Defaults of [Config].
const (
	// DefaultStartTimeout is what a site may take to import itself.
	DefaultStartTimeout = time.Minute
	// DefaultStopTimeout is a little more than gunicorn's graceful_timeout of 30 s (gunicorn/config.py).
	DefaultStopTimeout = 35 * time.Second
	// DefaultStartAttempts is how often a server that has never answered is started.
	DefaultStartAttempts = 5
	// DefaultReadyPath is what is asked for to see whether the site answers.
	DefaultReadyPath = "/"
)

const (
	// backoffMin and backoffMax bound the pause before a start that follows failures; it doubles with each.
	backoffMin = 500 * time.Millisecond
	backoffMax = 30 * time.Second
	// stableAfter is how long a generation must have served for its end not to count as one more failure.
	stableAfter = time.Minute
	// checkInterval is how often memory and age are looked at.
	checkInterval = 10 * time.Second
	// switchLinger is how long an old generation still takes connections that were being made when the new one took over.
	switchLinger = time.Second
	// probeInterval is the pause between two questions whether a generation answers.
	probeInterval = 50 * time.Millisecond
)

// Config of a [Supervisor]. Zero values mean the defaults.
type Config struct {
	// Command is the command line, as SplitCommand takes it. {socket} in it becomes the path of the socket that the server must listen on.
	// Without {socket}, the option for it is added for gunicorn, hypercorn, uvicorn and daphne. Required.
	Command string
	// Dir is the server's working directory. Empty: that of this process.
	Dir string
	// Env is added to the environment of this process.
	Env []string
	// ReadyPath is the path that is asked for with GET to see whether the site answers. Empty: "/".
	ReadyPath string
	// ReadyHost is the Host header of that request, one of Django's ALLOWED_HOSTS. Empty: "localhost".
	ReadyHost string
	// StartTimeout is how long a generation may take to answer. 0: 1 min.
	StartTimeout time.Duration
	// StopTimeout is how long a generation may take to end after SIGTERM; then its process group gets SIGKILL. 0: 35 s.
	StopTimeout time.Duration
	// StartAttempts is how many starts in a row may fail before the first generation has ever answered; then Run returns an error. After
	// that it never gives up. 0: 5.
	StartAttempts int
	// MaxMemory is how many bytes the processes of a generation may hold together, shared pages divided among their users (PSS); one that
	// holds more is replaced. 0: no limit.
	MaxMemory int64
	// MaxAge is how long a generation serves before it is replaced, plus up to a tenth, so that several gateways do not do it at once.
	// 0: no limit.
	MaxAge time.Duration
	// Logger gets the server's output line by line, and what becomes of it; nil discards.
	Logger *slog.Logger
	// Observer gets the counts.
	Observer Observer

	// Shorter in tests.
	backoff, stable, check, linger time.Duration
}

// Why a generation was started: the labels that [Observer.Started] gets.
const (
	StartFirst  = "first"  // the gateway started
	StartExited = "exited" // the one before had ended by itself
	StartReload = "reload" // Reload
	StartMemory = "memory" // Config.MaxMemory
	StartAge    = "age"    // Config.MaxAge
)

// Observer is called at what a metric may want to know. Every field may be nil. Labels are bounded.
type Observer struct {
	// Started is called for each started generation, with one of the Start constants.
	Started func(reason string)
	// Ready is called when a generation begins to serve, with the time that it took to answer.
	Ready func(d time.Duration)
	// Failed is called for each generation that ended, or was stopped, before it served.
	Failed func()
	// Exited is called when a serving generation ended by itself.
	Exited func()
	// Killed is called when a generation had to be killed because it did not obey SIGTERM in time.
	Killed func()
	// Memory is called with the bytes that the serving generation holds, at each look.
	Memory func(bytes int64)
}

func (c Config) withDefaults() Config {
	c.ReadyPath = cmp.Or(c.ReadyPath, DefaultReadyPath)
	c.ReadyHost = cmp.Or(c.ReadyHost, "localhost")
	c.StartTimeout = cmp.Or(c.StartTimeout, DefaultStartTimeout)
	c.StopTimeout = cmp.Or(c.StopTimeout, DefaultStopTimeout)
	c.StartAttempts = cmp.Or(c.StartAttempts, DefaultStartAttempts)
	c.backoff = cmp.Or(c.backoff, backoffMin)
	c.stable = cmp.Or(c.stable, stableAfter)
	c.check = cmp.Or(c.check, checkInterval)
	c.linger = cmp.Or(c.linger, switchLinger)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate joins all faults. It is called after withDefaults.
func (c *Config) validate() error {
	var faults []error
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"StartTimeout", int64(c.StartTimeout)}, {"StopTimeout", int64(c.StopTimeout)}, {"StartAttempts", int64(c.StartAttempts)},
		{"MaxMemory", c.MaxMemory}, {"MaxAge", int64(c.MaxAge)},
	} {
		if f.value < 0 {
			faults = append(faults, fmt.Errorf("appserver: config: %s: must not be negative", f.name))
		}
	}
	if !strings.HasPrefix(c.ReadyPath, "/") || strings.ContainsAny(c.ReadyPath, " \r\n?#") {
		faults = append(faults, fmt.Errorf("appserver: config: ReadyPath: %q is not a path", c.ReadyPath))
	}
	return errors.Join(faults...)
}

func (o *Observer) started(reason string) {
	if o.Started != nil {
		o.Started(reason)
	}
}

func (o *Observer) ready(d time.Duration) {
	if o.Ready != nil {
		o.Ready(d)
	}
}

func (o *Observer) memory(bytes int64) {
	if o.Memory != nil {
		o.Memory(bytes)
	}
}

// call calls f unless it is nil.
func call(f func()) {
	if f != nil {
		f()
	}
}
