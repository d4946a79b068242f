// Package postgres is imported for its side effect: a program that does so can keep results in a site's PostgreSQL database.
//
// The driver is jackc/pgx. Statements are not prepared, so that a connection pooler may stand in between. OPTIONS are libpq's
// parameters; assume_role is obeyed, too.
package postgres

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/dfws/dfws/celeryproto/djangoresults"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/djangodb"
)

func init() {
	djangodb.Register(djangodb.Driver{Vendor: djangoresults.PostgreSQL, Open: open, Transient: transient})
}

// parameters are those of libpq that pgx obeys, or hands to the server.
var parameters = []string{
	"application_name", "channel_binding", "connect_timeout", "krbsrvname", "max_protocol_version", "min_protocol_version", "options", "passfile",
	"require_auth", "service", "servicefile", "sslcert", "sslcertmode", "sslkey", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert",
	"sslsni", "target_session_attrs",
}

func open(d compat.Database) (*sql.DB, error) {
	config, role, err := configOf(d)
	if err != nil {
		return nil, err
	}
	return stdlib.OpenDB(*config, stdlib.OptionAfterConnect(func(ctx context.Context, c *pgx.Conn) error {
		if role == "" {
			return nil
		}
		_, err := c.Exec(ctx, "SET ROLE "+pgx.Identifier{role}.Sanitize())
		return err
	})), nil
}

// configOf translates an entry of DATABASES; role is assume_role.
func configOf(d compat.Database) (config *pgx.ConnConfig, role string, err error) {
	o := djangodb.ParseOptions(d.Options)
	// of psycopg or Django alone, or about how libpq keeps a connection alive
	o.Ignore("isolation_level", "server_side_binding", "pool", "cursor_factory", "connection_factory", "row_factory", "context", "autocommit",
		"prepare_threshold", "client_encoding", "fallback_application_name", "gssencmode", "load_balance_hosts", "sslcompression",
		"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
	role = o.Text("assume_role")
	values := o.Texts()
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(parameters, name) {
			o.Refuse(name, "is not supported")
		}
	}
	if err := o.Err(); err != nil {
		return nil, "", err
	}
	for name, value := range map[string]string{
		"host": d.Host, "port": d.Port, "user": d.User, "password": d.Password.Reveal(), "dbname": d.Name,
	} {
		if value != "" {
			values[name] = value
		}
	}
	if config, err = pgx.ParseConfig(keywords(values)); err != nil {
		return nil, "", errors.New("cannot be used: " + withoutSecrets(err, d.Password.Reveal(), values["sslpassword"]))
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	return config, role, nil
}

// keywords writes parameters as libpq's connection string.
func keywords(values map[string]string) string {
	escape := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		parts = append(parts, name+"='"+escape.Replace(values[name])+"'")
	}
	return strings.Join(parts, " ")
}

// withoutSecrets is the text of an error, which quotes the connection string, without what must not be seen. pgx leaves the
// password out itself, where it finds it.
func withoutSecrets(err error, secrets ...string) string {
	text := err.Error()
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "xxxxx")
		}
	}
	return text
}

// transientClasses are the classes of SQLSTATE that pass by themselves: connections, rollbacks (deadlock, serialization),
// resources, operator's interventions (shutdown, restart, timeout), the system.
var transientClasses = []string{"08", "40", "53", "57", "58"}

// transientStates are further ones: a standby that will be the primary, a lock not got, a transaction that was idle for too long.
var transientStates = []string{"25006", "25P03", "55P03", "55006"}

func transient(err error) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		const class = 2 // characters
		return len(e.Code) > class && slices.Contains(transientClasses, e.Code[:class]) || slices.Contains(transientStates, e.Code)
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return connecting || pgconn.SafeToRetry(err) || pgconn.Timeout(err)
}
