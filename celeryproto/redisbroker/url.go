package redisbroker

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	defaultHost        = "127.0.0.1" // kombu; celery's backend says localhost
	defaultBackendHost = "localhost"
	defaultPort        = 6379
)

// Certificate requirements (Python's ssl module).
const (
	certNone     = "none"
	certOptional = "optional" // for a client the same as required
	certRequired = "required"
)

// endpoint is what a URL says.
type endpoint struct {
	network, addr      string // "tcp", "host:port" or "unix", path
	username, password string
	db                 int
	tls                *tlsSettings // nil: plain
	timeouts           urlTimeouts  // result backend only
	warnings           []string
}

type tlsSettings struct {
	certReqs                   string
	caCerts, certFile, keyFile string
	skipHostname               bool
	serverName                 string
}

type urlTimeouts struct {
	socket, connect time.Duration
	maxConnections  int
	clientName      string
}

// urlKind is whose rules apply: kombu's for brokers, redis-py's and Celery's for result backends.
type urlKind int

const (
	brokerURL urlKind = iota
	backendURL
)

func urlFault(part, format string, args ...any) error {
	return &URLError{Part: part, Err: fmt.Errorf(format, args...)}
}

// parseURL reads a URL as kombu.utils.url.parse_url and redis-py do: percent-decoding is lenient, the user part ends at the
// last @, the path is the database.
func parseURL(raw string, kind urlKind) (*endpoint, error) {
	if raw == "" {
		raw = "redis://"
	}
	if strings.Contains(raw, ";") {
		return nil, urlFault("failover list (a;b)", "%w", ErrUnsupported)
	}
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return nil, urlFault("scheme", "missing")
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, rawQuery, _ := strings.Cut(rest, "?")
	query, err := parseQuery(rawQuery)
	if err != nil {
		return nil, err
	}
	var e *endpoint
	switch scheme {
	case "redis", "rediss":
		e, err = parseTCP(rest, kind)
	case "redis+socket", "socket", "unix":
		e, err = parseSocket(rest, query)
	case "sentinel":
		return nil, urlFault("scheme sentinel", "%w", ErrUnsupported)
	default:
		return nil, urlFault("scheme", "must be redis, rediss, redis+socket or unix")
	}
	if err != nil {
		return nil, err
	}
	if err := e.applyTLS(scheme, query, kind); err != nil {
		return nil, err
	}
	if err := e.applyQuery(query, kind); err != nil {
		return nil, err
	}
	return e, nil
}

// parseQuery splits like urllib's parse_qsl: empty values are dropped, the last of equal names wins.
func parseQuery(raw string) (map[string]string, error) {
	query := make(map[string]string)
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if value == "" {
			continue
		}
		name, value = unquotePlus(name), unquotePlus(value)
		query[name] = value
	}
	if _, ok := query["credential_provider"]; ok {
		return nil, urlFault("query credential_provider", "%w", ErrUnsupported)
	}
	return query, nil
}

func unquotePlus(s string) string { return unquote(strings.ReplaceAll(s, "+", " ")) }

// unquote is urllib's: what is no percent escape stays.
func unquote(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// splitUser takes the user part off an authority.
func (e *endpoint) splitUser(authority string) (host string) {
	at := strings.LastIndexByte(authority, '@')
	if at < 0 {
		return authority
	}
	user, password, _ := strings.Cut(authority[:at], ":")
	e.username, e.password = unquote(user), unquote(password)
	return authority[at+1:]
}

func parseTCP(rest string, kind urlKind) (*endpoint, error) {
	e := &endpoint{network: "tcp"}
	authority, path, _ := strings.Cut(rest, "/")
	host, portText, err := splitHostPort(e.splitUser(authority))
	if err != nil {
		return nil, err
	}
	host = strings.ToLower(unquote(host))
	switch {
	case host != "":
	case kind == backendURL:
		host = defaultBackendHost
	default:
		host = defaultHost
	}
	port := defaultPort
	if portText != "" {
		n, err := strconv.ParseUint(portText, 10, 16)
		if err != nil {
			return nil, urlFault("port", "must be a number from 0 to 65535")
		}
		if n != 0 { // Python: `port or default`
			port = int(n)
		}
	}
	e.addr = net.JoinHostPort(host, strconv.Itoa(port))
	e.db, err = parseDB(unquote(path))
	return e, err
}

func splitHostPort(s string) (host, port string, err error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		host, rest, closed := strings.Cut(inner, "]")
		port, hasPort := strings.CutPrefix(rest, ":")
		if !closed || rest != "" && !hasPort {
			return "", "", urlFault("host", "brackets of an IPv6 address do not match")
		}
		return host, port, nil
	}
	if strings.ContainsAny(s, "[]") {
		return "", "", urlFault("host", "brackets of an IPv6 address do not match")
	}
	host, port, _ = strings.Cut(s, ":")
	if strings.Contains(port, ":") {
		return "", "", urlFault("host", "an IPv6 address needs brackets")
	}
	return host, port, nil
}

// parseDB is Channel._prepare_virtual_host: one leading slash more is accepted.
func parseDB(path string) (int, error) {
	path = strings.TrimPrefix(path, "/")
	if path == "" {
		return 0, nil
	}
	db, err := strconv.Atoi(path)
	if err != nil || db < 0 {
		return 0, urlFault("database", "must be a number")
	}
	return db, nil
}

func parseSocket(rest string, query map[string]string) (*endpoint, error) {
	e := &endpoint{network: "unix"}
	authority, path, ok := strings.Cut(rest, "/")
	if host := e.splitUser(authority); host != "" {
		return nil, urlFault("host", "a socket URL has none; the path starts after ://")
	}
	if !ok || path == "" {
		return nil, urlFault("path", "missing")
	}
	e.addr = "/" + unquote(path)
	db := query["virtual_host"]
	if db == "" {
		db = query["db"] // redis-py's name
	}
	delete(query, "virtual_host")
	delete(query, "db")
	var err error
	e.db, err = parseDB(db)
	return e, err
}

var certNames = map[string]string{
	"required": certRequired, "CERT_REQUIRED": certRequired, "optional": certOptional, "CERT_OPTIONAL": certOptional,
	"none": certNone, "CERT_NONE": certNone,
}

// applyTLS takes the ssl_* keys out of the query.
func (e *endpoint) applyTLS(scheme string, query map[string]string, kind urlKind) error {
	hasSSL := false
	for name := range query {
		hasSSL = hasSSL || strings.HasPrefix(name, "ssl_")
	}
	switch {
	case scheme != "rediss" && !hasSSL:
		return nil
	case e.network == "unix":
		return urlFault("query ssl_*", "a unix socket has no TLS")
	case scheme != "rediss" && kind == backendURL:
		return urlFault("query ssl_*", "needs the scheme rediss")
	}
	host, _, err := net.SplitHostPort(e.addr)
	if err != nil {
		return urlFault("host", "%w", err)
	}
	t := &tlsSettings{
		caCerts: query["ssl_ca_certs"], certFile: query["ssl_certfile"], keyFile: query["ssl_keyfile"],
		skipHostname: strings.EqualFold(query["ssl_check_hostname"], "false"), serverName: host,
	}
	reqs, given := query["ssl_cert_reqs"]
	switch {
	case given:
		if t.certReqs, given = certNames[reqs]; !given {
			return urlFault("query ssl_cert_reqs", "must be required, optional or none")
		}
	case kind == backendURL:
		return urlFault("query ssl_cert_reqs", "a rediss result backend needs it: required, optional or none")
	default:
		t.certReqs = certNone // kombu's default
	}
	if t.certReqs == certNone {
		e.warnings = append(e.warnings, "the certificate of Redis is not verified: ssl_cert_reqs is none")
	}
	for _, name := range []string{"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs"} {
		delete(query, name)
	}
	e.tls = t
	return nil
}

// applyQuery handles the rest of the query: kombu refuses any, redis-py knows some.
func (e *endpoint) applyQuery(query map[string]string, kind urlKind) error {
	var errs []error
	for name, value := range query {
		if kind == brokerURL {
			errs = append(errs, urlFault("query "+name, "%w in a broker URL, use broker_transport_options", ErrUnsupported))
			continue
		}
		errs = append(errs, e.applyBackendKey(name, value))
	}
	return errors.Join(errs...)
}

func (e *endpoint) applyBackendKey(name, value string) (err error) {
	switch name {
	case "socket_timeout":
		e.timeouts.socket, err = parseSeconds(value)
	case "socket_connect_timeout":
		e.timeouts.connect, err = parseSeconds(value)
	case "max_connections":
		if e.timeouts.maxConnections, err = strconv.Atoi(value); err == nil && e.timeouts.maxConnections < 0 {
			err = errors.New("is negative")
		}
	case "db":
		e.db, err = parseDB(value)
	case "client_name":
		e.timeouts.clientName = value
	case "health_check_interval", "retry_on_timeout", "socket_keepalive": // always so here
	default:
		err = ErrUnsupported
	}
	if err != nil {
		return urlFault("query "+name, "%w", err)
	}
	return nil
}

func parseSeconds(s string) (time.Duration, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 || f > float64(365*24*time.Hour/time.Second) {
		return 0, errors.New("must be a number of seconds")
	}
	return time.Duration(f * float64(time.Second)), nil
}
