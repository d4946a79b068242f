package redisbroker

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Options of a Broker. The zero value of each field is Python's default.
type Options struct {
	// URL is Celery's broker_url: redis://, rediss://, redis+socket://, unix:// or socket://; empty: redis://127.0.0.1:6379/0.
	// Failover lists and sentinel:// are refused by name.
	URL string
	// TransportOptions is Celery's broker_transport_options. All participants of a broker need the same ones.
	TransportOptions
	// OwnPrefix starts the keys that only this package uses, "dfws:" when empty. It stands behind the global key prefix.
	OwnPrefix string
	// Bindings is what Publish does with kombu's binding sets: it adds a queue to them once per connection, as Python does,
	// unless SkipBindings is set. Only messages to a named exchange need them.
	SkipBindings bool
	// Logger; nil discards.
	Logger *slog.Logger
	// Observer for counters.
	Observer Observer
}

// TransportOptions are kombu's, by the same names (kombu 5.7, transport/redis.py). Durations are whole numbers or fractions
// of a second there.
type TransportOptions struct {
	// VisibilityTimeout: after this time without an ack or refresh a delivery may be restored; 1 hour when 0.
	VisibilityTimeout time.Duration
	// PrioritySteps, ascending; 0, 3, 6, 9 when empty.
	PrioritySteps []int
	// Sep stands between queue and step and inside binding members; "\x06\x16" when empty.
	Sep string
	// QueueOrderStrategy is "round_robin" (default), "priority" or "sorted".
	QueueOrderStrategy string
	// GlobalKeyPrefix stands before every key.
	GlobalKeyPrefix string
	// UnackedKey, UnackedIndexKey and UnackedMutexKey; "unacked", "unacked_index", "unacked_mutex" when empty.
	UnackedKey, UnackedIndexKey, UnackedMutexKey string
	// UnackedMutexExpire frees the restore lock of a process that died; 5 minutes when 0.
	UnackedMutexExpire time.Duration
	// UnackedRestoreLimit is the most deliveries one restore pass takes, the newest; 0: all.
	UnackedRestoreLimit int
	// UnackedRestoreInterval × UnackedRestoreThrottle is the time between restore passes; 10 s and 10 when 0.
	UnackedRestoreInterval time.Duration
	UnackedRestoreThrottle int
	// DeadletterQueue receives restored messages whose named exchange has no queue; empty: they stay unacked.
	DeadletterQueue string
	// SocketTimeout bounds one reply or write, SocketConnectTimeout a connect; 5 s when 0. kombu has no limit by default,
	// which lets a hanging Redis hang its users.
	SocketTimeout, SocketConnectTimeout time.Duration
	// ClientName is shown by CLIENT LIST.
	ClientName string
	// MaxConnections bounds the connection pool; 10 per CPU when 0. Blocking waits have connections of their own.
	MaxConnections int
}

const (
	defaultVisibilityTimeout = time.Hour        // Channel.visibility_timeout = 3600
	defaultMutexExpire       = 5 * time.Minute  // Channel.unacked_mutex_expire = 300
	defaultRestoreInterval   = 10 * time.Second // Channel.unacked_restore_interval
	defaultRestoreThrottle   = 10               // Channel.unacked_restore_throttle
	defaultSocketTimeout     = 5 * time.Second
)

// Orders in which a consumer goes through its queues (kombu.utils.scheduling).
const (
	OrderRoundRobin = "round_robin"
	OrderPriority   = "priority"
	OrderSorted     = "sorted"
)

func (o Options) withDefaults() Options {
	o.TransportOptions = o.TransportOptions.withDefaults()
	if o.OwnPrefix == "" {
		o.OwnPrefix = defaultOwnPrefix
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (t TransportOptions) withDefaults() TransportOptions {
	setDefault(&t.VisibilityTimeout, defaultVisibilityTimeout)
	setDefault(&t.Sep, defaultSep)
	setDefault(&t.QueueOrderStrategy, OrderRoundRobin)
	setDefault(&t.UnackedKey, defaultUnackedKey)
	setDefault(&t.UnackedIndexKey, defaultUnackedIndex)
	setDefault(&t.UnackedMutexKey, defaultUnackedMutex)
	setDefault(&t.UnackedMutexExpire, defaultMutexExpire)
	setDefault(&t.UnackedRestoreInterval, defaultRestoreInterval)
	setDefault(&t.UnackedRestoreThrottle, defaultRestoreThrottle)
	setDefault(&t.SocketTimeout, defaultSocketTimeout)
	setDefault(&t.SocketConnectTimeout, defaultSocketTimeout)
	if len(t.PrioritySteps) == 0 {
		t.PrioritySteps = defaultPrioritySteps
	}
	t.PrioritySteps = slices.Sorted(slices.Values(t.PrioritySteps)) // kombu sorts them too, and this is a copy
	return t
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate names every fault, by the name that the operator wrote.
func (o Options) validate() error {
	var errs []error
	fault := func(name, text string) { errs = append(errs, fmt.Errorf("redisbroker: %s: %s", name, text)) }
	for name, d := range map[string]time.Duration{
		"visibility_timeout": o.VisibilityTimeout, "unacked_mutex_expire": o.UnackedMutexExpire,
		"unacked_restore_interval": o.UnackedRestoreInterval, "socket_timeout": o.SocketTimeout,
		"socket_connect_timeout": o.SocketConnectTimeout,
	} {
		if d < 0 {
			fault(name, "is negative")
		}
	}
	if o.UnackedRestoreLimit < 0 || o.UnackedRestoreThrottle < 0 || o.MaxConnections < 0 {
		fault("unacked_restore_limit, unacked_restore_throttle, max_connections", "must not be negative")
	}
	for i, step := range o.PrioritySteps {
		if step < 0 || step > 9 || i > 0 && step == o.PrioritySteps[i-1] {
			fault("priority_steps", fmt.Sprintf("step %d is outside 0 to 9 or there twice", step))
		}
	}
	switch o.QueueOrderStrategy {
	case OrderRoundRobin, OrderPriority, OrderSorted:
	default:
		fault("queue_order_strategy", "must be round_robin, priority or sorted")
	}
	if strings.HasPrefix(o.OwnPrefix, "_kombu.") || o.OwnPrefix == o.UnackedKey {
		fault("own prefix", "collides with kombu's keys")
	}
	return errors.Join(errs...)
}

func (o Options) keys() keyspace {
	p := o.GlobalKeyPrefix
	return keyspace{
		prefix: p, own: p + o.OwnPrefix, sep: o.Sep, steps: o.PrioritySteps,
		unacked: p + o.UnackedKey, index: p + o.UnackedIndexKey, mutex: p + o.UnackedMutexKey,
	}
}
