package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/dfws/dfws/compat"
)

// Kind is a kind of database.
type Kind string

// The kinds.
const (
	SQLite     Kind = "sqlite"
	PostgreSQL Kind = "postgresql"
	MariaDB    Kind = "mariadb"
)

// Kinds are all kinds.
var Kinds = []Kind{SQLite, PostgreSQL, MariaDB}

// Database is an empty database.
type Database struct {
	Kind Kind
	// Settings is the entry of DATABASES as `manage.py dfws settings` exports it.
	Settings compat.Database
}

// Django is the entry of DATABASES, as JSON has it.
func (d *Database) Django() map[string]any {
	entry := map[string]any{"ENGINE": d.Settings.Engine, "NAME": d.Settings.Name}
	if d.Kind == SQLite { // Django's default loses against a second writer
		entry["OPTIONS"] = map[string]any{"timeout": 20, "transaction_mode": "IMMEDIATE"}
		return entry
	}
	entry["HOST"], entry["PORT"], entry["USER"], entry["PASSWORD"] = d.Settings.Host, d.Settings.Port, d.Settings.User, d.Settings.Password.Reveal()
	return entry
}

// Each runs a test for each kind of database, with an empty one.
func Each(t *testing.T, test func(t *testing.T, d *Database)) {
	t.Helper()
	for _, kind := range Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, New(t, kind))
		})
	}
}

// New makes an empty database, on the shared server of its kind.
func New(t testing.TB, kind Kind) *Database {
	t.Helper()
	if kind == SQLite {
		return file(t.TempDir())
	}
	return shared(t, kind).Create(t)
}

// NewShared is New for a database that lives until Main returns.
func NewShared(t testing.TB, kind Kind) *Database {
	t.Helper()
	if kind != SQLite {
		return shared(t, kind).Create(t)
	}
	dir, err := os.MkdirTemp("", "dbtest-")
	if err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	running.mu.Lock()
	defer running.mu.Unlock()
	running.dirs = append(running.dirs, dir)
	return file(dir)
}

// file is a database of SQLite.
func file(dir string) *Database {
	return &Database{Kind: SQLite, Settings: compat.Database{
		Engine: "django.db.backends.sqlite3", Vendor: "sqlite", Name: filepath.Join(dir, "db.sqlite3"), Options: compat.SecretJSON(`{"timeout": 20}`),
	}}
}

var created atomic.Int64

// Create makes an empty database.
func (s *Server) Create(t testing.TB) *Database {
	t.Helper()
	name := fmt.Sprintf("test_%d", created.Add(1))
	if err := s.exec(t.Context(), "CREATE DATABASE "+name+s.kind.options); err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatalf("dbtest: %v", err)
	}
	return &Database{Kind: s.kind.kind, Settings: compat.Database{
		Engine: s.kind.engine, Vendor: s.kind.vendor, Name: name, Host: host, Port: port, User: s.kind.user,
	}}
}

// exec runs a statement outside of the tests' databases.
func (s *Server) exec(ctx context.Context, statement string) error {
	db, err := sql.Open(s.kind.driver, s.kind.dsn(s.addr))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	_, err = db.ExecContext(ctx, statement)
	return err
}
