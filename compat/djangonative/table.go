package djangonative

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/djangoresults"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/djangodb"
	"github.com/dfws/dfws/compat/djangostate"
)

// database is one of the site's databases, for reading.
type database struct {
	db     *sql.DB
	vendor djangoresults.Vendor
	zone   *time.Location
}

func openDatabase(settings compat.Database) (*database, error) {
	opts, err := djangodb.Open(settings)
	if err != nil {
		return nil, err
	}
	return &database{opts.DB, opts.Vendor, opts.Zone}, nil
}

// quote quotes a name as the dialect wants it.
func (d *database) quote(name string) string {
	if d.vendor == djangoresults.MySQL {
		return "`" + strings.ReplaceAll(name, "`", "``") + "`"
	}
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// mark is the n-th parameter, counted from one.
func (d *database) mark(n int) string {
	if d.vendor == djangoresults.PostgreSQL {
		return "$" + strconv.Itoa(n)
	}
	return "?"
}

// moment is a time as the column has it: a text in the connection's time zone where there is no type for instants.
func (d *database) moment(t time.Time) any {
	if d.vendor == djangoresults.PostgreSQL {
		return t
	}
	return t.In(d.zone).Format("2006-01-02 15:04:05.000000")
}

// selectLiving is a query for a column of the row with a key and a time that is not before another one.
func (d *database) selectLiving(column, table, key, expires, comparison string) string {
	return fmt.Sprintf("SELECT %s FROM %s WHERE %s = %s AND %s %s %s", d.quote(column), d.quote(table), d.quote(key), d.mark(1),
		d.quote(expires), comparison, d.mark(2))
}

// text returns the text that a query finds; errNone when there is none.
func (d *database) text(ctx context.Context, query string, args ...any) (string, error) {
	var text string
	err := d.db.QueryRowContext(ctx, query, args...).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return "", errNone
	}
	return text, err
}

// tableCache is django.core.cache.backends.db.DatabaseCache.
type tableCache struct {
	database *database
	cache    compat.Cache
	now      func() time.Time
}

func (c *tableCache) get(ctx context.Context, key string) (celeryproto.Raw, error) {
	query := c.database.selectLiving("value", c.cache.Table, "cache_key", "expires", ">=")
	text, err := c.database.text(ctx, query, fullKey(&c.cache, key), c.database.moment(c.now().Truncate(time.Second)))
	if err != nil {
		return nil, err
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: base64", djangostate.ErrMalformed)
	}
	return djangostate.DecodePickle(data)
}

func (*tableCache) close() error { return nil } // the database's owner does
