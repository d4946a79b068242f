// Package sqlite is imported for its side effect: a program that does so can keep results in a site's SQLite database.
//
// The driver is modernc.org/sqlite, which needs no C compiler. Of OPTIONS, timeout (5 s as in Python) and init_command are
// obeyed; transactions are always IMMEDIATE.
package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/dfws/dfws/celeryproto/djangoresults"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/djangodb"
)

// defaultTimeout is how long Python's sqlite3.connect lets a statement wait for a lock.
const defaultTimeout = 5 * time.Second

func init() {
	djangodb.Register(djangodb.Driver{
		Vendor: djangoresults.SQLite, Open: open, Transient: transient,
		MaxConnections: 1, // one writer at a time, and within a program a queue is fairer than SQLite's lock
	})
}

// open prepares connections. The file must be there: SQLite would make an empty one.
func open(d compat.Database) (*sql.DB, error) {
	o := djangodb.ParseOptions(d.Options)
	timeout := o.Seconds("timeout", defaultTimeout)
	init := o.Text("init_command")
	o.Ignore("transaction_mode", "isolation_level", "check_same_thread", "uri", "detect_types", "cached_statements", "factory", "autocommit")
	dsn, err := source(d.Name, timeout)
	if err := errors.Join(err, o.Err()); err != nil {
		return nil, err
	}
	return sql.OpenDB(djangodb.WithInit(&connector{dsn: dsn}, init)), nil
}

// source is the name in the driver's form.
func source(name string, timeout time.Duration) (string, error) {
	path, query, isURI := name, url.Values{}, false
	if rest, ok := strings.CutPrefix(name, "file:"); ok {
		encoded, parameters, _ := strings.Cut(strings.TrimPrefix(rest, "//"), "?")
		var pathErr, queryErr error
		isURI = true
		path, pathErr = url.PathUnescape(encoded)
		query, queryErr = url.ParseQuery(parameters)
		if pathErr != nil || queryErr != nil {
			return "", errors.New("name: no URI that SQLite reads")
		}
	}
	if path == "" || path == ":memory:" || query.Get("mode") == "memory" {
		return "", errors.New("name: a database in memory belongs to the process that made it: use a file")
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("name: %w", err)
	}
	if !isURI || query.Get("mode") == "" {
		query.Set("mode", "rw")
	}
	query.Set("_txlock", "immediate")
	query.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", timeout.Milliseconds()))
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + query.Encode(), nil
}

// connector connects by the driver that modernc.org/sqlite registers.
type connector struct{ dsn string }

// Connect implements driver.Connector.
func (c *connector) Connect(context.Context) (driver.Conn, error) { return c.Driver().Open(c.dsn) }

// Driver implements driver.Connector.
func (c *connector) Driver() driver.Driver {
	db, err := sql.Open("sqlite", c.dsn)
	if err != nil { // it is registered
		panic(err)
	}
	defer func() { _ = db.Close() }() // it never connected
	return db.Driver()
}

// transient knows a locked database, and a disk that is full or failing.
func transient(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	const primary = 0xff // the rest tells more of the same
	switch e.Code() & primary {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
		sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_INTERRUPT:
		return true
	default:
		return false
	}
}
