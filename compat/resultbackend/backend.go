// Package resultbackend is what workers and clients need of a result backend, and the register of those that a program brings
// along.
//
// The backend in Redis is part of package worker. One in a database needs a driver, which most programs do without: it is there
// when the program imports its package for the side effect, as with database/sql:
//
//	import _ "github.com/dfws/dfws/compat/djangodb/postgres"
package resultbackend

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

// Backend is a result backend: where the results of tasks, of groups and the state of chords are. All of Celery's workers and
// clients of a site use the same. An error is worth repeating the call when it has a method Retryable that returns true. Methods
// are safe for concurrent use.
type Backend interface {
	// Store stores a result and tells those who wait for it. In Redis a stored SUCCESS is final: another result is not stored,
	// without an error. In a database of Django the last one counts. Both are what Celery does there.
	Store(ctx context.Context, m *celeryproto.ResultMeta) error
	// Get reads a result; celeryproto.ErrNoResult when there is none.
	Get(ctx context.Context, taskID string) (*celeryproto.ResultMeta, error)
	// Wait returns the result once it is SUCCESS, FAILURE or REVOKED.
	Wait(ctx context.Context, taskID string) (*celeryproto.ResultMeta, error)
	// Forget deletes results.
	Forget(ctx context.Context, taskIDs ...string) error

	// SaveGroup stores the results that a group consists of.
	SaveGroup(ctx context.Context, group *celeryproto.ResultTree) error
	// Group reads them; celeryproto.ErrNoResult when there are none.
	Group(ctx context.Context, groupID string) (*celeryproto.ResultTree, error)
	// ForgetGroup deletes them.
	ForgetGroup(ctx context.Context, groupID string) error

	// StartChord prepares the header of a chord.
	StartChord(ctx context.Context, c celeryproto.ChordStart) error
	// AddToChord makes the header one part larger.
	AddToChord(ctx context.Context, groupID string, r *celeryproto.ResultTree) error
	// ChordPart counts the end of a header's task. It returns the chord to the one caller that has to send the body; nil to all
	// others.
	ChordPart(ctx context.Context, p celeryproto.ChordPart) (*celeryproto.Chord, error)
	// RenewChord keeps a chord for this caller a while longer; false when it is somebody else's by now.
	RenewChord(ctx context.Context, c *celeryproto.Chord) (bool, error)
	// FinishChord ends a chord whose body was sent, FailChord one whose header failed.
	FinishChord(ctx context.Context, c *celeryproto.Chord) error
	FailChord(ctx context.Context, c *celeryproto.Chord) error

	// Close ends the connections.
	Close() error
}

// Config is what a backend is opened with.
type Config struct {
	// Settings of the site; required.
	Settings *compat.Settings
	// Logger for what an operator may want to know; nil discards.
	Logger *slog.Logger
}

// Opener opens a backend in the database that Settings.Celery.ResultDatabase names. A database that is away at the moment is no
// error.
type Opener func(ctx context.Context, cfg Config) (Backend, error)

var register struct {
	mu      sync.Mutex
	openers map[string]Opener // by vendor
}

// RegisterDatabase says how results in databases of a vendor (compat.Database.Vendor) are reached. It panics when a vendor has
// two. Packages of drivers call it when they are initialized.
func RegisterDatabase(vendor string, open Opener) {
	register.mu.Lock()
	defer register.mu.Unlock()
	if register.openers[vendor] != nil {
		panic("resultbackend: two drivers for " + vendor)
	}
	if register.openers == nil {
		register.openers = map[string]Opener{}
	}
	register.openers[vendor] = open
}

// drivers are the packages that register the vendors that there is a driver for.
var drivers = map[string]string{"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mysql"}

// DriverError says that the program has no driver for the database that the site keeps its results in.
type DriverError struct {
	Engine string // ENGINE of the entry in DATABASES
	Vendor string
}

func (e *DriverError) Error() string {
	name, ok := drivers[e.Vendor]
	if !ok {
		return fmt.Sprintf("resultbackend: database engine %q (%s) is not supported: SQLite, PostgreSQL, MySQL and MariaDB are", e.Engine, e.Vendor)
	}
	return fmt.Sprintf("resultbackend: this program has no driver for the database engine %q: add the line\n"+
		"\timport _ \"github.com/dfws/dfws/compat/djangodb/%s\"", e.Engine, name)
}

// OpenDatabase opens the backend of a site whose result_backend is django-db. The error is a *DriverError when the program does
// not import the driver.
func OpenDatabase(ctx context.Context, cfg Config) (Backend, error) {
	alias := cfg.Settings.Celery.ResultDatabase
	database, ok := cfg.Settings.Databases[alias]
	if !ok {
		return nil, fmt.Errorf("resultbackend: the settings do not say in which database the results are (celery.result_database %q): "+
			"run `manage.py dfws settings --output FILE` again", alias)
	}
	register.mu.Lock()
	open := register.openers[database.Vendor]
	register.mu.Unlock()
	if open == nil {
		return nil, &DriverError{Engine: database.Engine, Vendor: database.Vendor}
	}
	return open(ctx, cfg)
}
