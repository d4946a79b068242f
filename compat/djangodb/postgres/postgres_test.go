package postgres

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/dbtest"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m, nil)) }

func TestConfig(t *testing.T) {
	t.Parallel()
	c, role, err := configOf(compat.Database{
		Name: "site", Host: "db", Port: "5433", User: `o'neil\`, Password: `p'w\ d`, Options: compat.SecretJSON(`{
			"sslmode": "disable", "connect_timeout": 7, "application_name": "shop", "options": "-c search_path=a,b", "pool": {"min_size": 2}, "keepalives": 1, "assume_role": "writer"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Host != "db" || c.Port != 5433 || c.User != `o'neil\` || c.Password != `p'w\ d` || c.Database != "site" || c.TLSConfig != nil ||
		c.ConnectTimeout != 7*time.Second || c.RuntimeParams["application_name"] != "shop" || c.RuntimeParams["options"] != "-c search_path=a,b" ||
		len(c.RuntimeParams) != 2 || role != "writer" {
		t.Errorf("%+v, role %q", c, role)
	}
	c, _, err = configOf(compat.Database{Name: "site", Host: "db", Options: compat.SecretJSON(`{"sslmode": "verify-full"}`)})
	if err != nil || c.TLSConfig == nil || c.TLSConfig.ServerName != "db" || c.TLSConfig.InsecureSkipVerify || len(c.Fallbacks) != 0 {
		t.Errorf("verify-full: %+v, %v", c, err)
	}
	c, _, err = configOf(compat.Database{Name: "site", Host: "/run/pg"})
	if err != nil || c.Host != "/run/pg" {
		t.Errorf("socket: %v", err)
	}
	for options, part := range map[string]string{
		`{"sslcrl": "/x"}`: "options.sslcrl: is not supported", `{"work_mem": "1"}`: "options.work_mem", `{"sslmode": "odd"}`: "cannot be used",
		`{"connection_class": {"unsupported": "class x"}}`: "options.connection_class", `{"sslpassword": "secret", "sslmode": "odd"}`: "cannot be used",
	} {
		_, _, err := configOf(compat.Database{Name: "site", Host: "db", Password: "secret", Options: compat.SecretJSON(options)})
		if err == nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", options, err)
		}
	}
}

func TestTransient(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"40001": true, "40P01": true, "57P01": true, "57P03": true, "53300": true, "08006": true, "25006": true, "55P03": true,
		"42P01": false, "23505": false, "22001": false, "28P01": false, "": false,
	} {
		if got := transient(fmt.Errorf("x: %w", &pgconn.PgError{Code: code})); got != want {
			t.Errorf("%s: %v", code, got)
		}
	}
	if transient(errors.New("x")) || transient(sql.ErrNoRows) {
		t.Error("any error passes")
	}
}

// The role is assumed on each connection, and refused credentials are no error that passes.
func TestConnect(t *testing.T) {
	t.Parallel()
	settings := dbtest.New(t, dbtest.PostgreSQL).Settings
	db, err := open(settings)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `CREATE ROLE "a ""writer"`); err != nil {
		t.Fatal(err)
	}
	settings.Options = compat.SecretJSON(`{"assume_role": "a \"writer"}`)
	assumed, err := open(settings)
	if err != nil {
		t.Fatal(err)
	}
	defer assumed.Close()
	var role string
	if err := assumed.QueryRowContext(t.Context(), "SELECT current_role::text").Scan(&role); err != nil || role != `a "writer` {
		t.Errorf("%q, %v", role, err)
	}
	settings.Name, settings.Options = "no such database", nil
	missing, err := open(settings)
	if err != nil {
		t.Fatal(err)
	}
	defer missing.Close()
	if err := missing.PingContext(t.Context()); err == nil || transient(err) {
		t.Errorf("no such database: %v", err)
	}
}
