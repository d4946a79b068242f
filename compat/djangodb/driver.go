package djangodb

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
	"github.com/dfws/dfws/celeryproto/djangoresults"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/resultbackend"
)

const (
	// maxConnections bounds the connections of one program to one database.
	maxConnections = 8
	// maxIdleTime closes connections that nobody has needed for a while.
	maxIdleTime = time.Minute
	// checkTimeout is how long the start waits for a database.
	checkTimeout = 5 * time.Second
)

// Driver is what there is for one kind of database.
type Driver struct {
	// Vendor is compat.Database.Vendor.
	Vendor djangoresults.Vendor
	// Open prepares connections as the entry of DATABASES says. The error names the option that cannot be obeyed, without values.
	Open func(database compat.Database) (*sql.DB, error)
	// Transient reports whether an error of the driver passes by itself.
	Transient func(error) bool
	// MaxConnections is for databases that want fewer than 8.
	MaxConnections int
}

var register struct {
	mu      sync.Mutex
	drivers map[string]Driver // by vendor
}

// Register makes a driver known, and with it the result backend in its databases. It is called by init functions, once for each
// vendor.
func Register(d Driver) {
	vendor := string(d.Vendor)
	resultbackend.RegisterDatabase(vendor, openResults)
	register.mu.Lock()
	defer register.mu.Unlock()
	if register.drivers == nil {
		register.drivers = map[string]Driver{}
	}
	register.drivers[vendor] = d
}

// Open prepares connections to a database, bounded in number. It does not connect. The result are options of a backend to which
// only what is Celery's is to be added. The error is a *resultbackend.DriverError when the program does not import the driver.
func Open(database compat.Database) (djangoresults.Options, error) {
	register.mu.Lock()
	d, ok := register.drivers[database.Vendor]
	register.mu.Unlock()
	if !ok {
		return djangoresults.Options{}, &resultbackend.DriverError{Engine: database.Engine, Vendor: database.Vendor}
	}
	zone, err := time.LoadLocation(cmp.Or(database.TimeZone, "UTC"))
	if err != nil {
		return djangoresults.Options{}, fmt.Errorf("time_zone: %w", err)
	}
	db, err := d.Open(database)
	if err != nil {
		return djangoresults.Options{}, err
	}
	connections := cmp.Or(d.MaxConnections, maxConnections)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxIdleTime(maxIdleTime)
	return djangoresults.Options{DB: db, Vendor: d.Vendor, Transient: d.Transient, Zone: zone}, nil
}

// openResults implements resultbackend.Opener.
func openResults(ctx context.Context, cfg resultbackend.Config) (resultbackend.Backend, error) {
	alias := cfg.Settings.Celery.ResultDatabase
	opts, err := Open(cfg.Settings.Databases[alias])
	if err != nil {
		return nil, fmt.Errorf("djangodb: databases.%s: %w", alias, err)
	}
	celery := &cfg.Settings.Celery
	opts.Codec.Serializer, opts.Logger = celery.ResultSerializer, cfg.Logger
	accept := celery.ResultAcceptContent
	if accept == nil {
		accept = celery.AcceptContent
	}
	if opts.Codec.Accept, err = celeryproto.ParseAccept(accept); err != nil {
		return nil, errors.Join(fmt.Errorf("djangodb: accept_content: %w", err), opts.DB.Close())
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	b, err := djangoresults.New(opts)
	if err != nil {
		return nil, errors.Join(err, opts.DB.Close())
	}
	if err := check(ctx, b, opts.Logger); err != nil {
		return nil, err
	}
	return b, nil
}

// check finds out at the start what would make every result be lost: wrong credentials, missing tables. A database that is only
// away is waited for later.
func check(ctx context.Context, b *djangoresults.Backend, logger *slog.Logger) error {
	limited, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := b.Check(limited)
	switch {
	case err == nil, ctx.Err() != nil: // the program is being stopped
		return nil
	case djangoresults.Retryable(err):
		logger.WarnContext(ctx, "the database of the results is away", "err", err)
		return nil
	default:
		return errors.Join(b.Close(),
			fmt.Errorf("djangodb: the results' database cannot be used (are the migrations of django_celery_results applied?): %w", err))
	}
}
