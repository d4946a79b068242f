package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
)

const (
	// DefaultStoreTimeout bounds one command of the store.
	DefaultStoreTimeout = 3 * time.Second
	// DefaultStorePool is the number of connections of a store: one reads about 50,000 tickets a second.
	DefaultStorePool = 8
)

// StoreConfig configures a Store.
type StoreConfig struct {
	// URL is the Redis of dfws (settings dfws.redis_url), in every form that a broker's URL may have; required.
	URL compat.Secret
	// Transport are the broker's transport options, for what a URL does not say: master_name of a Sentinel and the like.
	Transport redisbroker.TransportOptions
	// KeyPrefix starts each key (settings dfws.key_prefix); required.
	KeyPrefix string
	// Timeout bounds one command; 0 means DefaultStoreTimeout.
	Timeout time.Duration
	// PoolSize is the number of connections; 0 means DefaultStorePool.
	PoolSize int
	// Logger gets trouble; nil discards.
	Logger *slog.Logger
	// Observer gets the counts.
	Observer Observer
}

// Store is what Django and Go share in Redis: the registry, tickets and revocations. It is safe for concurrent use and survives restarts of
// Redis.
type Store struct {
	client   *redis.Client
	keys     keys
	logger   *slog.Logger
	observer Observer
}

// OpenStore returns a store. Redis need not be up.
func OpenStore(cfg StoreConfig) (*Store, error) {
	if cfg.KeyPrefix == "" {
		return nil, errors.New("dispatch: store: key prefix: missing")
	}
	if cfg.URL == "" {
		return nil, errors.New("dispatch: store: dfws.redis_url: missing")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultStoreTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Transport.SocketTimeout, cfg.Transport.SocketConnectTimeout = cfg.Timeout, cfg.Timeout
	opts, err := redisbroker.ClientOptions(redisbroker.Options{URL: cfg.URL.Reveal(), TransportOptions: cfg.Transport, Logger: cfg.Logger})
	if err != nil {
		return nil, fmt.Errorf("dispatch: store: dfws.redis_url: %w", err)
	}
	opts.PoolTimeout = cfg.Timeout
	opts.MaxRetries = 1 // a connection that died in the pool; a Redis that is away is the caller's to wait for
	opts.PoolSize = cfg.PoolSize
	if opts.PoolSize <= 0 {
		opts.PoolSize = DefaultStorePool
	}
	return &Store{client: redis.NewClient(opts), keys: keys{cfg.KeyPrefix}, logger: cfg.Logger, observer: cfg.Observer}, nil
}

// Close ends the connections.
func (s *Store) Close() error { return s.client.Close() }

// Ping reports whether Redis answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("dispatch: store: %w", err)
	}
	return nil
}

// PublishRegistry writes an entry and announces it. Schema and Digest are filled in.
func (s *Store) PublishRegistry(ctx context.Context, e *Entry) error {
	b, err := e.encode()
	if err != nil {
		return &EntryError{Publisher: e.Publisher, Err: err}
	}
	_, err = s.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, s.keys.registry(), e.Publisher, b)
		p.Publish(ctx, s.keys.registryChanged(), e.Publisher)
		return nil
	})
	if err != nil {
		return fmt.Errorf("dispatch: registry: publish: %w", err)
	}
	return nil
}

// LoadRegistry reads all entries, sorted by publisher. Those that cannot be read are left out and reported as faults; the error is one of Redis.
func (s *Store) LoadRegistry(ctx context.Context) (entries []*Entry, faults []*EntryError, err error) {
	fields, err := s.client.HGetAll(ctx, s.keys.registry()).Result()
	if err != nil {
		return nil, nil, fmt.Errorf("dispatch: registry: load: %w", err)
	}
	for publisher, text := range fields {
		e, err := decodeEntry(publisher, []byte(text))
		if err != nil {
			faults = append(faults, &EntryError{Publisher: publisher, Err: err})
			continue
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b *Entry) int { return strings.Compare(a.Publisher, b.Publisher) })
	return entries, faults, nil
}

// Ticket reads what Django said about a window. It returns ErrNoTicket, a *TicketError, or an error of Redis; only the last is worth a
// retry.
func (s *Store) Ticket(ctx context.Context, windowKey string) (*Ticket, error) {
	// A range bounds what is read, whatever is stored there; it is empty for a missing key. One byte more lets DecodeTicket refuse it.
	text, err := s.client.GetRange(ctx, s.keys.ticket(windowKey), 0, maxTicketBytes).Result()
	switch {
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		return nil, &TicketError{Err: errors.New("the key holds no text")}
	case err != nil:
		return nil, fmt.Errorf("dispatch: ticket: %w", err)
	case text == "":
		return nil, ErrNoTicket
	default:
		return DecodeTicket([]byte(text))
	}
}
