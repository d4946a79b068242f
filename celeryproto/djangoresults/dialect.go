package djangoresults

import (
	"database/sql"
	"strconv"
	"strings"
	"time"
)

// The tables (django-celery-results 2.6, models.py); Meta.db_table is not set there.
const (
	taskTable  = "django_celery_results_taskresult"
	groupTable = "django_celery_results_groupresult"
	chordTable = "django_celery_results_chordcounter"
)

// dialect is what the databases have different.
type dialect struct {
	numbered  bool               // parameters are $1, $2 …
	zoned     bool               // times are instants
	isolation sql.IsolationLevel // of transactions
	lock      string             // behind a SELECT whose row is to be changed
	now       string             // django.db.models.functions.Now
	seconds   string             // the database's clock, Unix time
	dateText  string             // a time as text; %s is the column
	conflict  string             // what makes an INSERT an UPDATE where the key is taken; %s is the key
	incoming  string             // the value that the INSERT had; %s is the column
	keep      string             // the same for no change at all
}

var dialects = map[Vendor]*dialect{
	SQLite: {
		now:     "STRFTIME('%Y-%m-%d %H:%M:%f', 'NOW')",
		seconds: "CAST(STRFTIME('%s', 'NOW') AS INTEGER)", dateText: "CAST(%s AS TEXT)",
		conflict: " ON CONFLICT (%s) DO UPDATE SET ", incoming: "excluded.%s", keep: " ON CONFLICT (%s) DO NOTHING",
	},
	PostgreSQL: {
		numbered: true, zoned: true, isolation: sql.LevelReadCommitted, lock: " FOR UPDATE",
		now:     "STATEMENT_TIMESTAMP()",
		seconds: "CAST(EXTRACT(EPOCH FROM CLOCK_TIMESTAMP()) AS bigint)", dateText: "TO_CHAR(%s AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
		conflict: " ON CONFLICT (%s) DO UPDATE SET ", incoming: "excluded.%s", keep: " ON CONFLICT (%s) DO NOTHING",
	},
	MySQL: {
		isolation: sql.LevelReadCommitted, lock: " FOR UPDATE",
		now:     "CURRENT_TIMESTAMP(6)",
		seconds: "UNIX_TIMESTAMP(SYSDATE())", dateText: "CAST(%s AS CHAR)",
		conflict: " ON DUPLICATE KEY UPDATE ", incoming: "VALUES(%s)", keep: " ON DUPLICATE KEY UPDATE %[1]s = %[1]s",
	},
}

// bind writes the parameters, which are question marks, in the database's way.
func (d *dialect) bind(query string) string {
	if !d.numbered {
		return query
	}
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("$" + strconv.Itoa(n))
		query = after
	}
}

// fill puts a name into a piece of SQL.
func fill(pattern, name string) string {
	return strings.NewReplacer("%[1]s", name, "%s", name).Replace(pattern)
}

// list is "?, ?, ?".
func list(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// djangoTime is how Django writes a datetime to a database without a type for instants: str() of it, in microseconds
// (django/db/backends/sqlite3/operations.py, adapt_datetimefield_value).
const (
	djangoTime      = "2006-01-02 15:04:05.000000"
	djangoWholeTime = "2006-01-02 15:04:05"
)

// time is a time as a parameter.
func (b *Backend) time(t time.Time) any {
	t = t.Truncate(time.Microsecond)
	switch {
	case b.d.zoned:
		return t.UTC()
	case t.Nanosecond() == 0:
		return t.In(b.opts.Zone).Format(djangoWholeTime)
	default:
		return t.In(b.opts.Zone).Format(djangoTime)
	}
}

// parseTime reads a time as the dateText of the dialect gives it.
func (b *Backend) parseTime(text string) (time.Time, error) {
	zone := b.opts.Zone
	if b.d.zoned {
		zone = time.UTC
	}
	return time.ParseInLocation(djangoWholeTime, text, zone) // takes fractions, too
}
