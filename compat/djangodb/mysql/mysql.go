// Package mysql is imported for its side effect: a program that does so can keep results in a site's MySQL or MariaDB database.
//
// The driver is go-sql-driver/mysql. Of OPTIONS, the parameters of mysqlclient that concern the connection are obeyed.
package mysql

import (
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/dfws/dfws/celeryproto/djangoresults"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/djangodb"
)

const (
	defaultPort    = "3306"
	defaultCharset = "utf8mb4"
	// defaultConnectTimeout is mysqlclient's.
	defaultConnectTimeout = 10 * time.Second
)

// plainCharsets are those in which a backslash or a quote is never the second byte of a character: only there the driver can
// quote values.
var plainCharsets = []string{"utf8mb4", "utf8mb3", "utf8", "latin1", "ascii"}

// sockets are where servers of this machine listen, for HOST "localhost" or none, which mysqlclient never takes for TCP.
var sockets = []string{"/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"}

func init() {
	djangodb.Register(djangodb.Driver{Vendor: djangoresults.MySQL, Open: open, Transient: transient})
}

func open(d compat.Database) (*sql.DB, error) {
	c, init, err := configOf(d)
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(djangodb.WithInit(connector, init)), nil
}

// configOf translates an entry of DATABASES; init is init_command.
func configOf(d compat.Database) (c *mysql.Config, init string, err error) {
	o := djangodb.ParseOptions(d.Options)
	// of mysqlclient or Django alone; transactions have the level that they need
	o.Ignore("isolation_level", "use_unicode", "conv", "cursorclass", "autocommit", "compress", "local_infile", "client_flag", "program_name",
		"binary_prefix", "defer_connect", "max_allowed_packet", "auth_plugin_map")
	if file := o.Text("read_default_file"); file != "" {
		o.Refuse("read_default_file", "is not read: put the values into the entry of DATABASES")
	}
	c = mysql.NewConfig()
	c.User, c.Passwd, c.DBName = d.User, d.Password.Reveal(), d.Name
	c.Net, c.Addr = address(d, o.Text("unix_socket"))
	c.Logger = &mysql.NopLogger{} // what it would print, it returns
	c.ClientFoundRows = true      // an UPDATE that changes nothing has found its row
	c.Timeout = o.Seconds("connect_timeout", defaultConnectTimeout)
	c.ReadTimeout, c.WriteTimeout = o.Seconds("read_timeout", 0), o.Seconds("write_timeout", 0)
	if mode := o.Text("sql_mode"); mode != "" {
		c.Params = map[string]string{"sql_mode": "'" + strings.ReplaceAll(mode, "'", "''") + "'"}
	}
	charset := o.Text("charset")
	if charset == "" {
		charset = defaultCharset
	}
	c.InterpolateParams = slices.Contains(plainCharsets, charset) // one round trip instead of two
	init = o.Text("init_command")
	tlsErr := setTLS(c, o)
	return c, init, errors.Join(tlsErr, c.Apply(mysql.Charset(charset, "")), o.Err())
}

// address is where the server listens (django/db/backends/mysql/base.py: a HOST with a leading slash is a socket).
func address(d compat.Database, socket string) (network, addr string) {
	if socket == "" && strings.HasPrefix(d.Host, "/") {
		socket = d.Host
	}
	host, port := d.Host, d.Port
	if port == "" {
		port = defaultPort
	}
	if socket == "" && (host == "" || host == "localhost") {
		host = "127.0.0.1" // when there is no socket
		for _, path := range sockets {
			if _, err := os.Stat(path); err == nil {
				socket = path
				break
			}
		}
	}
	if socket != "" {
		return "unix", socket
	}
	return "tcp", net.JoinHostPort(host, port)
}

// setTLS obeys ssl and ssl_mode, as libmysqlclient does: encrypted where the server can, by default; with a CA the server's
// certificate is checked, its name only with VERIFY_IDENTITY.
func setTLS(c *mysql.Config, o *djangodb.Options) error {
	mode := strings.ToUpper(o.Text("ssl_mode"))
	ssl := o.Object("ssl")
	if ssl == nil {
		ssl = djangodb.ParseOptions(nil)
	}
	ca, cert, key := ssl.Text("ca"), ssl.Text("cert"), ssl.Text("key")
	if sslErr := ssl.Err(); sslErr != nil {
		return fmt.Errorf("options.ssl: %w", sslErr)
	}
	switch {
	case mode == "" && ca != "":
		mode = "VERIFY_CA"
	case mode == "" && cert != "":
		mode = "REQUIRED"
	case mode == "":
		mode = "PREFERRED"
	}
	switch mode {
	case "DISABLED":
		return nil
	case "PREFERRED":
		if c.Net != "unix" {
			c.TLSConfig = "preferred"
		}
		return nil
	case "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY":
	default:
		return errors.New("options.ssl_mode: is none of DISABLED, PREFERRED, REQUIRED, VERIFY_CA and VERIFY_IDENTITY")
	}
	config, err := tlsConfig(c.Addr, mode, ca, cert, key)
	c.TLS = config
	return err
}

func tlsConfig(addr, mode, ca, cert, key string) (*tls.Config, error) {
	host, _, _ := net.SplitHostPort(addr)
	config := &tls.Config{ServerName: host, InsecureSkipVerify: mode != "VERIFY_IDENTITY"}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("options.ssl.ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("options.ssl.ca: no certificate in the file")
		}
	}
	if cert != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("options.ssl.cert: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if mode == "VERIFY_CA" { // the chain, not the name
		config.VerifyConnection = func(state tls.ConnectionState) error {
			intermediates := x509.NewCertPool()
			for _, c := range state.PeerCertificates[1:] {
				intermediates.AddCert(c)
			}
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: config.RootCAs, Intermediates: intermediates})
			return err
		}
	}
	return config, nil
}

// transientNumbers are errors of the server that pass by themselves (MySQL 8 and MariaDB 11, errmsg): too many connections, short
// of memory or disk, shutting down, reading only, network, lock wait timeout, deadlock, statement timeout, connection killed,
// changed row.
var transientNumbers = []uint16{
	1020, 1021, 1030, 1037, 1038, 1040, 1041, 1053, 1135, 1152, 1158, 1159, 1160, 1161, 1180, 1184, 1189, 1190, 1203, 1205, 1206, 1213, 1226,
	1290, 1317, 1614, 1637, 1792, 1836, 1927, 1969, 3024, 3058, 3572, 4031,
}

func transient(err error) bool {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return slices.Contains(transientNumbers, e.Number)
	}
	return errors.Is(err, mysql.ErrInvalidConn)
}
