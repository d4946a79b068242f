// Package djangodb opens a database as Django's entry in DATABASES describes it, for the results of django-celery-results.
//
// It has no driver. A program imports the package of the one that its site needs, for the side effect:
//
//	compat/djangodb/sqlite     modernc.org/sqlite, SQLite in Go
//	compat/djangodb/postgres   github.com/jackc/pgx/v5
//	compat/djangodb/mysql      github.com/go-sql-driver/mysql, for MySQL and MariaDB
//
// OPTIONS of DATABASES are those of the Python driver. What matters to a Go program is translated; what is about Python alone is
// passed over; an option that is neither is refused by name.
package djangodb
