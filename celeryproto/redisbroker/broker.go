package redisbroker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Broker is one Redis database used as Celery's broker. It is safe for concurrent use.
type Broker struct {
	opts   Options
	keys   keyspace
	logger *slog.Logger
	obs    *Observer

	// client runs everything that does not block. It never retries by itself: each caller knows what may be sent twice.
	client *redis.Client
	// servers know where Redis is; dial is what further clients of this broker are made from.
	servers *servers
	dial    redis.Options
	// connects counts the connections of client made so far. A new one may mean a new, empty Redis.
	connects atomic.Int64

	lockMu     sync.Mutex
	lockHolder string    // of the restore lock, when it was looked at last
	lockSince  time.Time // when it was first seen with it

	boundMu sync.Mutex
	bound   map[string]int64 // queue → connects when its binding was written
}

// Open checks the options and prepares a broker. It does not connect: Redis may be away at start.
func Open(opts Options) (*Broker, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	b := &Broker{opts: opts, keys: opts.keys(), logger: opts.Logger, obs: &opts.Observer, bound: make(map[string]int64)}
	var err error
	if b.servers, err = opts.servers(); err != nil {
		return nil, err
	}
	b.dial = b.servers.ClientOptions()
	main := b.dial
	main.PoolSize = opts.MaxConnections
	main.OnConnect = func(context.Context, *redis.Conn) error {
		b.connects.Add(1)
		return nil
	}
	b.client = redis.NewClient(&main)
	return b, nil
}

// ClientOptions are go-redis options for a client of the Redis that Open would use, for what is no broker there: every form of
// URL, Sentinel, failover lists, TLS. Timeouts, pool and retries may be changed, addresses and credentials may not. DialTimeout
// is for all servers together.
func ClientOptions(opts Options) (*redis.Options, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	s, err := opts.servers()
	if err != nil {
		return nil, err
	}
	o := s.ClientOptions()
	o.PoolSize = opts.MaxConnections
	return &o, nil
}

// Ping asks Redis for a sign of life.
func (b *Broker) Ping(ctx context.Context) error {
	return opError("ping", b.client.Ping(ctx).Err())
}

// Close closes the connections. Publishers and consumers must have stopped.
func (b *Broker) Close() error {
	return opError("close", b.client.Close())
}

// VisibilityTimeout is the one in effect.
func (b *Broker) VisibilityTimeout() time.Duration { return b.opts.VisibilityTimeout }

// DeadLetterKey is the list that Delivery.DeadLetter pushes to for a queue, newest first.
func (b *Broker) DeadLetterKey(queue string) string { return b.keys.dead(queue) }

// opError names the operation, once, at the package's boundary.
func opError(operation string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.ErrClosed):
		return ErrClosed
	default:
		return fmt.Errorf("redisbroker: %s: %w", operation, err)
	}
}
