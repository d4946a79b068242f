package redisbroker

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	defaultHost        = "127.0.0.1" // kombu; celery's backend says localhost
	defaultBackendHost = "localhost"
	defaultPort        = 6379
	// defaultSentinelPort is SentinelTransport.default_port.
	defaultSentinelPort = 26379
)

// endpoint is what a URL says.
type endpoint struct {
	sentinel           bool   // a Sentinel, which knows where Redis is
	network, addr      string // "tcp", "host:port" or "unix", path
	username, password string // of Redis, never of a Sentinel
	db                 int
	tls                *TLSOptions // of Redis; nil: plain
	settings           urlSettings // result backend only
}

// urlSettings are the keys of redis-py in a result backend's query; zero values are not there.
type urlSettings struct {
	socketTimeout, connectTimeout time.Duration
	maxConnections                int
	clientName                    string
	healthCheck                   time.Duration
}

// urlRules is whose rules a URL is read by, kombu's for brokers, or redis-py's and Celery's for result backends, and what the
// settings beside it say.
type urlRules struct {
	backend bool
	useTLS  *TLSOptions // broker_use_ssl or redis_backend_use_ssl
	// What a result backend's URL leaves open: redis_host, redis_port, redis_username, redis_password.
	host               string
	port               int
	username, password string
}

func urlFault(part, format string, args ...any) error {
	return &URLError{Part: part, Err: fmt.Errorf(format, args...)}
}

// parseURL reads a URL as kombu.utils.url.parse_url and redis-py do: percent-decoding is lenient, the user part ends at the
// last @, the path is the database.
func parseURL(raw string, rules urlRules) (*endpoint, error) {
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
	scheme = strings.ToLower(scheme)
	var e *endpoint
	switch scheme {
	case "redis", "rediss", "sentinel":
		e, err = parseTCP(rest, scheme == "sentinel", rules)
	case "redis+socket", "socket", "unix":
		e, err = parseSocket(rest, query, rules)
	case "redis+sentinel": // Celery takes it for redis:// and connects to the Sentinel as if it were Redis
		return nil, urlFault("scheme", "redis+sentinel is not known, use sentinel")
	default:
		return nil, urlFault("scheme", "must be redis, rediss, redis+socket, unix or sentinel")
	}
	if err != nil {
		return nil, err
	}
	if err := e.applyTLS(scheme, query, rules); err != nil {
		return nil, err
	}
	return e, e.applyQuery(query, rules)
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
	e.username, e.password = cmp.Or(unquote(user), e.username), cmp.Or(unquote(password), e.password)
	return authority[at+1:]
}

func parseTCP(rest string, sentinel bool, rules urlRules) (*endpoint, error) {
	e := &endpoint{network: "tcp", sentinel: sentinel, username: rules.username, password: rules.password}
	authority, path, _ := strings.Cut(rest, "/")
	host, portText, err := splitHostPort(e.splitUser(authority))
	if err != nil {
		return nil, err
	}
	host = cmp.Or(strings.ToLower(unquote(host)), rules.host, rules.defaultHost())
	port := cmp.Or(rules.port, rules.defaultPort(sentinel))
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

func (r *urlRules) defaultHost() string {
	if r.backend {
		return defaultBackendHost
	}
	return defaultHost
}

// defaultPort of a Sentinel is only known to kombu; Celery's result backend has the one of Redis for it too.
func (r *urlRules) defaultPort(sentinel bool) int {
	if sentinel && !r.backend {
		return defaultSentinelPort
	}
	return defaultPort
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

func parseSocket(rest string, query map[string]string, rules urlRules) (*endpoint, error) {
	e := &endpoint{network: "unix", username: rules.username, password: rules.password}
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

// applyTLS takes the ssl_* keys out of the query. In a broker's URL they stand for all of broker_use_ssl, in a result
// backend's each for one key of redis_backend_use_ssl.
func (e *endpoint) applyTLS(scheme string, query map[string]string, rules urlRules) error {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(query)), func(name string) bool { return !strings.HasPrefix(name, "ssl_") })
	switch {
	case len(names) > 0 && rules.backend && scheme != "rediss":
		return urlFault("query ssl_*", "needs the scheme rediss") // as Celery says
	case len(names) == 0 && scheme != "rediss" && rules.useTLS == nil:
		return nil
	case e.network == "unix":
		return urlFault("TLS", "a unix socket has none")
	}
	t := TLSOptions{}
	if rules.useTLS != nil && (rules.backend || len(names) == 0) {
		t = *rules.useTLS
	} else if len(names) == 0 && !rules.backend {
		t.CertReqs = CertNone // kombu's default for a bare rediss://
	}
	for _, name := range names {
		if err := t.Set(name, query[name]); err != nil {
			return urlFault("query "+name, "%w", err)
		}
		delete(query, name)
	}
	if rules.backend && t.CertReqs == "" {
		return urlFault("query ssl_cert_reqs", "a rediss result backend needs it: required, optional or none")
	}
	e.tls = &t
	return nil
}

// applyQuery handles the rest of the query: kombu refuses any, redis-py knows some.
func (e *endpoint) applyQuery(query map[string]string, rules urlRules) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !rules.backend {
			errs = append(errs, urlFault("query "+name, "%w in a broker URL, use broker_transport_options", ErrUnsupported))
			continue
		}
		errs = append(errs, e.applyBackendKey(name, query[name]))
	}
	return errors.Join(errs...)
}

func (e *endpoint) applyBackendKey(name, value string) (err error) {
	s := &e.settings
	switch name {
	case "socket_timeout":
		s.socketTimeout, err = parseSeconds(value)
	case "socket_connect_timeout":
		s.connectTimeout, err = parseSeconds(value)
	case "max_connections":
		if s.maxConnections, err = strconv.Atoi(value); err == nil && s.maxConnections < 0 {
			err = errors.New("is negative")
		}
	case "health_check_interval":
		if s.healthCheck, err = parseSeconds(value); err == nil && s.healthCheck == 0 {
			s.healthCheck = -1 // none
		}
	case "db":
		e.db, err = parseDB(value)
	case "username":
		e.username = value
	case "password":
		e.password = value
	case "client_name":
		s.clientName = value
	case "retry_on_timeout", "socket_keepalive": // always so here
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
