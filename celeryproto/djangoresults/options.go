package djangoresults

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// Defaults of Options.
const (
	// DefaultPollInterval is how long AsyncResult.get waits between two looks (celery 5.7, result.py).
	DefaultPollInterval = 500 * time.Millisecond
	// MinPollInterval is how long Wait waits between its first looks.
	MinPollInterval = 20 * time.Millisecond
	// DefaultTimeout bounds one operation.
	DefaultTimeout = 30 * time.Second
	// DefaultChordClaim is how long the body of a chord may take to be sent.
	DefaultChordClaim = 30 * time.Second
)

// Vendor is the kind of a database, in Django's words (django.db.connection.vendor).
type Vendor string

// The vendors that this package knows.
const (
	SQLite     Vendor = "sqlite"
	PostgreSQL Vendor = "postgresql"
	MySQL      Vendor = "mysql" // MariaDB too
)

// Options of a backend.
type Options struct {
	// DB is the site's database, with the tables of django-celery-results 2.6; required. Close closes it. Transactions of SQLite
	// must be immediate.
	DB *sql.DB
	// Vendor says what DB speaks; required.
	Vendor Vendor
	// Transient reports whether an error of DB's driver passes by itself. Errors of the network and lost connections are known
	// without.
	Transient func(error) bool
	// Zone is the time zone of times in the tables where the database has no type for instants (SQLite, MySQL): UTC with USE_TZ,
	// unless the entry of DATABASES has a TIME_ZONE; else Django's TIME_ZONE. nil is UTC.
	Zone *time.Location
	// Codec says how values are serialized: Celery's result_serializer, and what may be read. Its Compression does not count: as
	// in Python, this backend has none.
	Codec celeryproto.ResultCodec
	// PollInterval is the longest time between two looks for a result that is waited for; 500 ms when zero.
	PollInterval time.Duration
	// Timeout bounds one operation; 30 s when zero.
	Timeout time.Duration
	// ChordClaim is how long a chord is kept for the process that completes it; whole seconds, 30 s when zero.
	ChordClaim time.Duration
	// Logger gets what an operator may want to know; nil discards.
	Logger *slog.Logger
}

// Backend is the result backend. It is safe for concurrent use.
type Backend struct {
	opts    Options
	db      *sql.DB
	d       *dialect
	content content
	log     *slog.Logger

	stopC chan struct{} // closed by Close
	wg    sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	closed  bool
	polling bool                            // runPoll runs
	waiters map[string]map[*waiter]struct{} // by task
	kickC   chan struct{}                   // Wait and Store send, runPoll receives; capacity 1: there is something to look at
}

// New returns a backend. It does not connect.
func New(opts Options) (*Backend, error) {
	d := dialects[opts.Vendor]
	var faults []error
	if opts.DB == nil {
		faults = append(faults, errors.New("djangoresults: DB is required"))
	}
	if d == nil {
		faults = append(faults, errors.New("djangoresults: vendor "+string(opts.Vendor)+" is not supported"))
	}
	if opts.PollInterval < 0 || opts.Timeout < 0 || opts.ChordClaim < 0 {
		faults = append(faults, errors.New("djangoresults: a negative duration"))
	}
	content, err := newContent(opts.Codec)
	if err := errors.Join(append(faults, err)...); err != nil {
		return nil, err
	}
	if opts.Zone == nil {
		opts.Zone = time.UTC
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	opts.PollInterval = cmp.Or(opts.PollInterval, DefaultPollInterval)
	opts.Timeout = cmp.Or(opts.Timeout, DefaultTimeout)
	opts.ChordClaim = max(cmp.Or(opts.ChordClaim, DefaultChordClaim), time.Second)
	return &Backend{
		opts: opts, db: opts.DB, d: d, content: content, log: opts.Logger, stopC: make(chan struct{}),
		waiters: make(map[string]map[*waiter]struct{}), kickC: make(chan struct{}, 1),
	}, nil
}

// Check asks the database for the tables.
func (b *Backend) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.opts.Timeout)
	defer cancel()
	for _, table := range []string{taskTable, groupTable, chordTable} {
		rows, err := b.db.QueryContext(ctx, "SELECT 1 FROM "+table+" WHERE id = 0")
		if err == nil {
			err = errors.Join(rows.Err(), rows.Close())
		}
		if err != nil {
			return b.wrap("look for "+table, err)
		}
	}
	return nil
}

// Close ends the connections; calls in progress return an error.
func (b *Backend) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	close(b.stopC)
	b.mu.Unlock()
	b.wg.Wait()
	return b.wrap("close", b.db.Close())
}

// do runs one operation, bounded in time.
func (b *Backend) do(ctx context.Context, op string, f func(context.Context) error) error {
	select {
	case <-b.stopC:
		return b.wrap(op, ErrClosed)
	default:
	}
	limited, cancel := context.WithTimeout(ctx, b.opts.Timeout)
	defer cancel()
	err := f(limited)
	switch { // drivers have words of their own for the end of a context
	case err == nil:
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case limited.Err() != nil:
		err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	}
	return b.wrap(op, err)
}

// inTx runs one transaction, bounded in time.
func (b *Backend) inTx(ctx context.Context, op string, f func(context.Context, *sql.Tx) error) error {
	return b.do(ctx, op, func(ctx context.Context) error {
		tx, err := b.db.BeginTx(ctx, &sql.TxOptions{Isolation: b.d.isolation})
		if err != nil {
			return err
		}
		if err := f(ctx, tx); err != nil {
			return errors.Join(err, ignoreDone(tx.Rollback()))
		}
		return tx.Commit()
	})
}

// ignoreDone leaves out that a transaction had ended already, with its context.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}
