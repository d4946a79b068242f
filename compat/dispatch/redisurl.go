package dispatch

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// What a URL leaves open (kombu 5.7, transport/redis.py).
const (
	defaultRedisHost = "127.0.0.1"
	defaultRedisPort = "6379"
)

// redisOptions reads the URL of the store's Redis. Its default is the broker's, so the forms of kombu are understood: redis, rediss (with
// ssl_cert_reqs, ssl_ca_certs, ssl_certfile, ssl_keyfile; verification only on demand, as in kombu), redis+socket and unix. The errors never
// contain the URL: it may hold a password.
func redisOptions(text string) (*redis.Options, error) {
	if strings.Contains(text, ";") {
		return nil, errors.New("a failover list of URLs is not supported: set DFWS_REDIS_URL to one of them")
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	o := &redis.Options{
		Protocol:                 2, // RESP2 is enough here and works with every server
		DisableIdentity:          true,
		DialerRetries:            1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		ContextTimeoutEnabled:    true,
	}
	if u.User != nil {
		o.Username = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	query := u.Query()
	switch u.Scheme {
	case "redis", "rediss":
		err = tcpOptions(o, u, query)
	case "unix", "socket", "redis+socket":
		err = socketOptions(o, u, query)
	default:
		err = fmt.Errorf("scheme %q is not supported: redis, rediss, redis+socket and unix are", u.Scheme)
	}
	if err != nil {
		return nil, err
	}
	for name := range query {
		return nil, fmt.Errorf("query parameter %s is not supported", name)
	}
	return o, nil
}

func tcpOptions(o *redis.Options, u *url.URL, query url.Values) error {
	host, port := u.Hostname(), u.Port()
	if host == "" {
		host = defaultRedisHost
	}
	if port == "" {
		port = defaultRedisPort
	}
	o.Network, o.Addr = "tcp", net.JoinHostPort(host, port)
	if err := setDatabase(o, strings.Trim(u.Path, "/")); err != nil {
		return err
	}
	if u.Scheme == "rediss" {
		return tlsOptions(o, host, query)
	}
	return nil
}

func socketOptions(o *redis.Options, u *url.URL, query url.Values) error {
	if u.Path == "" || u.Host != "" {
		return errors.New("a socket URL has no host, and a path")
	}
	o.Network, o.Addr = "unix", u.Path
	database := query.Get("virtual_host")
	if database == "" {
		database = query.Get("db")
	}
	query.Del("virtual_host")
	query.Del("db")
	return setDatabase(o, strings.Trim(database, "/"))
}

func setDatabase(o *redis.Options, text string) error {
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return errors.New("the database is not a number")
	}
	o.DB = n
	return nil
}

// tlsOptions applies the ssl_ parameters and takes them out of query.
func tlsOptions(o *redis.Options, host string, query url.Values) error {
	o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	switch reqs := query.Get("ssl_cert_reqs"); reqs {
	case "required", "CERT_REQUIRED", "optional", "CERT_OPTIONAL":
	case "", "none", "CERT_NONE":
		o.TLSConfig.InsecureSkipVerify = true
	default:
		return fmt.Errorf("ssl_cert_reqs: %q is not known", reqs)
	}
	if file := query.Get("ssl_ca_certs"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("ssl_ca_certs: %w", err)
		}
		o.TLSConfig.RootCAs = x509.NewCertPool()
		if !o.TLSConfig.RootCAs.AppendCertsFromPEM(pem) {
			return errors.New("ssl_ca_certs: no certificate in the file")
		}
	}
	if file := query.Get("ssl_certfile"); file != "" {
		keyFile := query.Get("ssl_keyfile")
		if keyFile == "" {
			keyFile = file
		}
		pair, err := tls.LoadX509KeyPair(file, keyFile)
		if err != nil {
			return fmt.Errorf("ssl_certfile: %w", err)
		}
		o.TLSConfig.Certificates = []tls.Certificate{pair}
	}
	for _, name := range []string{"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"} {
		query.Del(name)
	}
	return nil
}
