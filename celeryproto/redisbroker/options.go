package redisbroker

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/dfws/dfws/internal/redisconn"
)

// Options of a Broker. The zero value of each field is Python's default.
type Options struct {
	// URL is Celery's broker_url: redis://, rediss://, redis+socket://, unix:// or socket://; empty: redis://127.0.0.1:6379/0.
	// Several with ";" in between are a failover list; sentinel:// ones name Sentinels, port 26379 by default, and need
	// TransportOptions.MasterName. User, password and database of Redis come from the first Sentinel's URL.
	URL string
	// UseTLS is Celery's broker_use_ssl, nil for none. ssl_* keys in a URL stand for all of it.
	UseTLS *TLSOptions
	// FailoverStrategy is Celery's broker_failover_strategy: FailoverRoundRobin (also when empty) or FailoverShuffle.
	FailoverStrategy string
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
	// SocketKeepalive are socket_keepalive and socket_keepalive_options.
	SocketKeepalive Keepalive
	// HealthCheckInterval is how long a subscription may be silent before Redis is asked for a sign of life; without one
	// within SocketTimeout the connection is made anew. 25 s when 0, negative: never. Other connections need no such check:
	// SocketTimeout bounds every answer.
	HealthCheckInterval time.Duration
	// PollingInterval is how long one blocking command waits, and how often an idle consumer looks at its lists in any case.
	// 1 s when 0 or less than that: a message that arrives ends the wait.
	PollingInterval time.Duration
	// ClientName is shown by CLIENT LIST.
	ClientName string
	// MaxConnections bounds the connection pool; 10 per CPU when 0. Blocking waits have connections of their own.
	MaxConnections int
	// BodyEncoding is how producers put bodies into envelopes: celeryproto.BodyBase64 (also when empty) or BodyUTF8. Nothing in
	// this package makes a body: it is for whoever does.
	BodyEncoding string

	// FanoutPrefix starts the channels of fanout exchanges, behind the global key prefix; "{db}" in it is the database. "/{db}."
	// when empty (fanout_prefix true). NoFanoutPrefix is fanout_prefix false.
	FanoutPrefix   string
	NoFanoutPrefix bool
	// NoFanoutPatterns is fanout_patterns false: the routing key is no part of the channel, and subscribers look at each message.
	NoFanoutPatterns bool

	// MasterName of the Redis that Sentinels watch; needed with sentinel://.
	MasterName string
	// Sentinel is sentinel_kwargs.
	Sentinel SentinelOptions
	// MinOtherSentinels is how many others a Sentinel must see to be believed.
	MinOtherSentinels int
	// SentinelFanoutCompat uses the channels of kombu before 5.4 too, which begin with "/{db}." literally. Only with sentinel://.
	SentinelFanoutCompat bool
}

const (
	defaultVisibilityTimeout = time.Hour        // Channel.visibility_timeout = 3600
	defaultMutexExpire       = 5 * time.Minute  // Channel.unacked_mutex_expire = 300
	defaultRestoreInterval   = 10 * time.Second // Channel.unacked_restore_interval
	defaultRestoreThrottle   = 10               // Channel.unacked_restore_throttle
	defaultSocketTimeout     = 5 * time.Second
	defaultHealthCheck       = 25 * time.Second // DEFAULT_HEALTH_CHECK_INTERVAL
	minPollingInterval       = time.Second      // Transport.brpop_timeout = 1
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
	setDefault(&t.HealthCheckInterval, defaultHealthCheck)
	setDefault(&t.FanoutPrefix, defaultFanoutPrefix)
	t.PollingInterval = max(t.PollingInterval, minPollingInterval)
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
		"socket_connect_timeout": o.SocketConnectTimeout, "sentinel_kwargs": min(o.Sentinel.SocketTimeout, o.Sentinel.SocketConnectTimeout),
		"socket_keepalive_options": min(o.SocketKeepalive.Idle, o.SocketKeepalive.Interval),
	} {
		if d < 0 {
			fault(name, "is negative")
		}
	}
	if o.UnackedRestoreLimit < 0 || o.UnackedRestoreThrottle < 0 || o.MaxConnections < 0 || o.MinOtherSentinels < 0 {
		fault("unacked_restore_limit, unacked_restore_throttle, max_connections, min_other_sentinels", "must not be negative")
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
	switch o.FailoverStrategy {
	case "", FailoverRoundRobin, FailoverShuffle:
	default:
		fault("broker_failover_strategy", "must be round-robin or shuffle")
	}
	if strings.ContainsAny(strings.ReplaceAll(o.FanoutPrefix, dbPlaceholder, ""), "{}") {
		fault("fanout_prefix", "has braces other than those of {db}")
	}
	errs = append(errs, checkTLS("broker_use_ssl", o.UseTLS), checkTLS("sentinel_kwargs", o.Sentinel.TLS))
	if strings.HasPrefix(o.OwnPrefix, "_kombu.") || o.OwnPrefix == o.UnackedKey {
		fault("own prefix", "collides with kombu's keys")
	}
	return errors.Join(errs...)
}

// servers prepares the connections.
func (o Options) servers() (*servers, error) {
	ends, err := parseURLs(o.URL, urlRules{useTLS: o.UseTLS})
	if err != nil {
		return nil, err
	}
	shuffle(ends, o.FailoverStrategy)
	return newServers(ends, redisconn.Options{
		ConnectTimeout: o.SocketConnectTimeout, SocketTimeout: o.SocketTimeout, Keepalive: o.SocketKeepalive,
		ClientName: o.ClientName, MasterName: o.MasterName, Sentinel: o.Sentinel, MinOtherSentinels: o.MinOtherSentinels,
		Logger: o.Logger, Switched: o.Observer.switched, Disconnected: o.Observer.sentinelLost,
	})
}

func (o Options) keys() keyspace {
	p := o.GlobalKeyPrefix
	return keyspace{
		prefix: p, own: p + o.OwnPrefix, sep: o.Sep, steps: o.PrioritySteps,
		unacked: p + o.UnackedKey, index: p + o.UnackedIndexKey, mutex: p + o.UnackedMutexKey,
	}
}
