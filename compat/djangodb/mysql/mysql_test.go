package mysql

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/dbtest"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m, nil)) }

func TestConfig(t *testing.T) {
	t.Parallel()
	c, init, err := configOf(compat.Database{
		Name: "site", Host: "db", User: "u", Password: "p@:/w", Options: compat.SecretJSON(`{"charset": "latin1", "connect_timeout": 3,
			"read_timeout": 4, "sql_mode": "STRICT_ALL_TABLES", "init_command": "SET x = 1", "isolation_level": "read committed", "ssl_mode": "DISABLED"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Net != "tcp" || c.Addr != "db:3306" || c.User != "u" || c.Passwd != "p@:/w" || c.DBName != "site" || c.Timeout != 3*time.Second ||
		c.ReadTimeout != 4*time.Second || c.Params["sql_mode"] != "'STRICT_ALL_TABLES'" || init != "SET x = 1" || c.TLSConfig != "" ||
		!c.ClientFoundRows || !strings.Contains(c.FormatDSN(), "charset=latin1") {
		t.Errorf("%+v, %q", c, init)
	}
	for charset, want := range map[string]bool{"utf8mb4": true, "gbk": false, "sjis": false} {
		c, _, err := configOf(compat.Database{Host: "db", Options: compat.SecretJSON(`{"charset": "` + charset + `"}`)})
		if err != nil || c.InterpolateParams != want {
			t.Errorf("%s: values are quoted here: %v, %v", charset, c.InterpolateParams, err)
		}
	}
	socket := filepath.Join(t.TempDir(), "s")
	for name, tc := range map[string]struct {
		database compat.Database
		want     string
	}{
		"socket as host": {compat.Database{Host: socket}, "unix " + socket}, "port": {compat.Database{Host: "::1", Port: "1"}, "tcp [::1]:1"},
		"unix_socket": {compat.Database{Host: "db", Options: compat.SecretJSON(`{"unix_socket": "/s"}`)}, "unix /s"},
	} {
		c, _, err := configOf(tc.database)
		if got := c.Net + " " + c.Addr; err != nil || got != tc.want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	for options, part := range map[string]string{
		`{"odd": "secret"}`: "not supported: odd", `{"read_default_file": "/my.cnf"}`: "options.read_default_file",
		`{"ssl_mode": "secret"}`:   "options.ssl_mode",
		`{"ssl": {"ca": "/none"}}`: "options.ssl.ca", `{"ssl": {"cipher": "x"}}`: "options.ssl: options: not supported: cipher",
		`{"ssl": {"cert": "/none", "key": "/none"}}`: "options.ssl.cert",
	} {
		if _, _, err := configOf(compat.Database{Host: "db", Options: compat.SecretJSON(options)}); err == nil || !strings.Contains(err.Error(), part) ||
			strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", options, err)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]struct{ encrypted, verified bool }{
		"REQUIRED": {true, false}, "verify_identity": {true, true}, "VERIFY_CA": {true, false},
	} {
		c, _, err := configOf(compat.Database{Host: "db", Options: compat.SecretJSON(`{"ssl_mode": "` + mode + `"}`)})
		if err != nil || (c.TLS != nil) != want.encrypted || c.TLS.InsecureSkipVerify == want.verified || c.TLS.ServerName != "db" {
			t.Errorf("%s: %+v, %v", mode, c.TLS, err)
		}
		if (mode == "VERIFY_CA") != (c.TLS.VerifyConnection != nil) {
			t.Errorf("%s: the chain is checked: %v", mode, c.TLS.VerifyConnection != nil)
		}
	}
	if c, _, err := configOf(compat.Database{Host: "db"}); err != nil || c.TLSConfig != "preferred" {
		t.Errorf("by default: %q, %v", c.TLSConfig, err)
	}
}

// With a CA alone, the server's certificate must be its, whatever its name.
func TestVerifyCA(t *testing.T) {
	t.Parallel()
	ca, caFile, sign := newCA(t)
	_, _, signOther := newCA(t)
	c, _, err := configOf(compat.Database{Host: "db", Options: compat.SecretJSON(`{"ssl": {"ca": "` + caFile + `"}}`)})
	if err != nil || c.TLS == nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		leaf *x509.Certificate
		ok   bool
	}{"signed": {sign("another name"), true}, "foreign": {signOther("db"), false}} {
		err := c.TLS.VerifyConnection(tls.ConnectionState{PeerCertificates: []*x509.Certificate{tc.leaf, ca}})
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// newCA makes a certificate authority, with its file and what signs certificates.
func newCA(t *testing.T) (ca *x509.Certificate, file string, sign func(name string) *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	make := func(template, parent *x509.Certificate) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ca = make(template, template)
	file = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return ca, file, func(name string) *x509.Certificate {
		return make(&x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name}}, ca)
	}
}

func TestTransient(t *testing.T) {
	t.Parallel()
	for number, want := range map[uint16]bool{
		1213: true, 1205: true, 1040: true, 1053: true, 1290: true, 1146: false, 1062: false, 1045: false, 1406: false,
	} {
		if got := transient(fmt.Errorf("x: %w", &mysql.MySQLError{Number: number})); got != want {
			t.Errorf("%d: %v", number, got)
		}
	}
	if !transient(mysql.ErrInvalidConn) || transient(errors.New("x")) {
		t.Error("other errors")
	}
}

// init_command runs on each connection, and refused credentials are no error that passes.
func TestConnect(t *testing.T) {
	t.Parallel()
	settings := dbtest.New(t, dbtest.MariaDB).Settings
	settings.Options = compat.SecretJSON(`{"init_command": "SET @a = 7; SET @b = 8", "sql_mode": "ANSI_QUOTES"}`)
	db, err := open(settings)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var got string
	if err := db.QueryRowContext(t.Context(), `SELECT CONCAT(@a, @b, @@sql_mode)`).Scan(&got); err != nil || got != "78ANSI_QUOTES" {
		t.Errorf("%s, %v", got, err)
	}
	settings.User = "nobody at all"
	refused, err := open(settings)
	if err != nil {
		t.Fatal(err)
	}
	defer refused.Close()
	if err := refused.PingContext(t.Context()); err == nil || transient(err) {
		t.Errorf("refused: %v", err)
	}
}
