package channelslayer

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dfws/dfws/internal/redisconn"
)

// How a Redis is reached is the same for layers, brokers and result backends: see package redisconn.
type (
	// TLSOptions are the ssl_* options of a host, by redis-py's names.
	TLSOptions = redisconn.TLSOptions
	// SentinelOptions are sentinel_kwargs of a host.
	SentinelOptions = redisconn.SentinelOptions
)

// ParseSentinelOptions reads sentinel_kwargs from a JSON object. The error names every key at fault, never its value.
func ParseSentinelOptions(b []byte) (SentinelOptions, error) {
	return redisconn.ParseSentinelOptions(b)
}

// Where redis-py looks when a URL leaves it open (redis-py 6.4, asyncio/connection.py, Connection.__init__).
const (
	defaultRedisHost = "localhost"
	defaultRedisPort = "6379"
)

// Bounds of a connection whose URL says nothing. redis-py 6.4 has none; 8.0 waits for five seconds.
const (
	defaultConnectTimeout = 5 * time.Second
	defaultSocketTimeout  = 3 * time.Second
)

// Host is one Redis server, as an entry of the option hosts. Dictionaries of connection arguments are written as a URL.
type Host struct {
	// URL has one of redis-py's forms: redis://user:password@host:port/db, rediss://… (TLS), unix:///path?db=2. With Sentinels its
	// host and port say nothing; it may be empty.
	// Understood query parameters: db, username, password, socket_timeout, socket_connect_timeout (seconds), client_name, the ssl_* of
	// TLSOptions, and those that only tune redis-py (protocol, socket_keepalive, retry_on_timeout, health_check_interval,
	// max_connections, decode_responses, encoding, timeout), which are ignored. Any other is refused by name.
	URL string
	// TLS is used by rediss://; what the URL says itself wins. nil is redis-py's default: verify with the system's roots.
	TLS *TLSOptions
	// Sentinels are the addresses, "host:port", of the Sentinels that know the server ("sentinels"); empty for none.
	Sentinels []string
	// MasterName is how Sentinels call the server ("master_name"); required with Sentinels.
	MasterName string
	// Sentinel says how Sentinels themselves are reached ("sentinel_kwargs").
	Sentinel SentinelOptions
}

// String returns the URL without user, password and query, or the Sentinels.
func (h Host) String() string {
	if len(h.Sentinels) > 0 {
		return "sentinel:" + h.MasterName + "@" + strings.Join(h.Sentinels, ",")
	}
	u, err := url.Parse(h.URL)
	if err != nil {
		return redacted
	}
	if u.User != nil {
		u.User = url.User("redacted")
	}
	u.RawQuery = ""
	return u.String()
}

// GoString implements fmt.GoStringer: %#v must not print the password either.
func (h Host) GoString() string { return h.String() }

// LogValue implements slog.LogValuer.
func (h Host) LogValue() slog.Value { return slog.StringValue(h.String()) }

// servers prepares the connections to a host.
func (h Host) servers(log *slog.Logger) (*redisconn.Servers, error) {
	e, o, err := h.parse()
	if err != nil {
		return nil, err
	}
	o.Logger, o.Package = log, "channelslayer: "
	s, err := redisconn.New([]redisconn.Endpoint{e}, o)
	if errors.Is(err, redisconn.ErrNoMasterName) {
		return nil, hostFault("sentinels without master_name")
	}
	if err != nil {
		return nil, hostFault("%w", err)
	}
	return s, nil
}

// hostFault is an error of the option hosts. It must not contain the URL, which may hold a password.
func hostFault(format string, args ...any) error {
	return fmt.Errorf("channelslayer: option hosts: "+format, args...)
}

// parse translates the URL as redis-py's parse_url does.
func (h Host) parse() (redisconn.Endpoint, redisconn.Options, error) {
	e := redisconn.Endpoint{Network: "tcp"}
	o := redisconn.Options{
		ConnectTimeout: defaultConnectTimeout, SocketTimeout: defaultSocketTimeout,
		Sentinels: h.Sentinels, MasterName: h.MasterName, Sentinel: h.Sentinel,
	}
	if len(h.Sentinels) > redisconn.MaxServers {
		return e, o, hostFault("more than %d sentinels", redisconn.MaxServers)
	}
	if len(h.Sentinels) == 0 && h.MasterName != "" {
		return e, o, hostFault("master_name without sentinels")
	}
	raw := h.URL
	if raw == "" && len(h.Sentinels) > 0 {
		raw = "redis://"
	}
	u, err := url.Parse(raw)
	if err != nil {
		return e, o, hostFault("not a URL")
	}
	if u.User != nil {
		e.Username = u.User.Username()
		e.Password, _ = u.User.Password()
	}
	switch u.Scheme {
	case "redis", "rediss":
		err = h.parseTCP(u, &e)
	case "unix":
		e.Network, e.Addr = "unix", u.Path
		if u.Path == "" {
			err = hostFault("unix:// needs a path")
		}
		if len(h.Sentinels) > 0 {
			err = hostFault("a unix socket behind Sentinels")
		}
	default:
		err = &UnsupportedError{Option: "hosts", Detail: fmt.Sprintf("URL scheme %q (supported: redis, rediss, unix)", u.Scheme)}
	}
	if err != nil {
		return e, o, err
	}
	return e, o, parseQuery(u.Query(), &e, &o)
}

func (h Host) parseTCP(u *url.URL, e *redisconn.Endpoint) error {
	host, port := u.Hostname(), u.Port()
	if host == "" {
		host = defaultRedisHost
	}
	if port == "" {
		port = defaultRedisPort
	}
	e.Addr = net.JoinHostPort(host, port)
	if db := strings.ReplaceAll(u.Path, "/", ""); db != "" && !u.Query().Has("db") {
		n, err := strconv.Atoi(db)
		if err != nil || n < 0 {
			// redis-py silently takes database 0; that is never what was meant.
			return hostFault("the path of the URL is not a database number")
		}
		e.DB = n
	}
	if u.Scheme == "rediss" {
		e.TLS = &TLSOptions{}
		if h.TLS != nil {
			*e.TLS = *h.TLS
		}
		if err := e.TLS.Validate(); err != nil {
			return hostFault("%w", err)
		}
	}
	return nil
}

// parseQuery applies what a redis-py URL may carry behind its question mark.
func parseQuery(q url.Values, e *redisconn.Endpoint, o *redisconn.Options) error {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if err := queryOption(name, q.Get(name), e, o); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func queryOption(name, value string, e *redisconn.Endpoint, o *redisconn.Options) error {
	var err error
	switch name {
	case "db":
		e.DB, err = strconv.Atoi(value)
	case "username":
		e.Username = value
	case "password":
		e.Password = value
	case "client_name":
		o.ClientName = value
	case "socket_timeout":
		o.SocketTimeout, err = seconds(value)
	case "socket_connect_timeout":
		o.ConnectTimeout, err = seconds(value)
	case "protocol", "socket_keepalive", "retry_on_timeout", "health_check_interval", "max_connections", "decode_responses", "encoding", "timeout":
		// They tune redis-py's own machinery.
	default:
		return tlsOption(name, value, e)
	}
	if err != nil {
		return hostFault("URL parameter %s: malformed", name)
	}
	return nil
}

// tlsOption is an ssl_* parameter; redis-py fails to connect when the URL is not a rediss one.
func tlsOption(name, value string, e *redisconn.Endpoint) error {
	unsupported := &UnsupportedError{Option: "hosts", Detail: "URL parameter " + name}
	switch {
	case !strings.HasPrefix(name, "ssl_"):
		return unsupported
	case e.TLS == nil:
		return hostFault("URL parameter %s: needs the scheme rediss", name)
	}
	err := e.TLS.Set(name, value)
	switch {
	case errors.Is(err, redisconn.ErrUnsupported):
		return unsupported
	case err != nil:
		return hostFault("URL parameter %s: %w", name, err)
	}
	return nil
}

func seconds(text string) (time.Duration, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f <= 0 || f > 1e6 {
		return 0, errors.New("not a positive number of seconds")
	}
	return time.Duration(f * float64(time.Second)), nil
}
