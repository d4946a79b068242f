package channelslayer

import (
	"crypto/tls"
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

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Where redis-py looks when a URL leaves it open (redis-py 6.4, asyncio/connection.py, Connection.__init__).
const (
	defaultRedisHost = "localhost"
	defaultRedisPort = "6379"
)

// Host is one Redis server, as an entry of the option hosts.
type Host struct {
	// URL has one of redis-py's forms: redis://user:password@host:port/db, rediss://… (TLS), unix:///path?db=2.
	// Understood query parameters: db, username, password, socket_timeout, socket_connect_timeout (seconds), client_name, protocol, ssl_cert_reqs,
	// ssl_check_hostname, and those that only tune redis-py (socket_keepalive, retry_on_timeout, health_check_interval,
	// max_connections, decode_responses, encoding, timeout), which are ignored. Any other is refused by name.
	URL string
	// TLS is used by rediss:// in place of the default (verify with the system's roots, TLS 1.2 and newer). The place for a private CA or a client certificate.
	TLS *tls.Config
}

// String returns the URL without user, password and query.
func (h Host) String() string {
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

// options translates the URL as redis-py's parse_url does. Errors never contain the URL: it may hold a password.
func (h Host) options() (*redis.Options, error) {
	u, err := url.Parse(h.URL)
	if err != nil {
		return nil, errors.New("channelslayer: option hosts: not a URL")
	}
	o := &redis.Options{
		// One attempt: a send that is repeated may be delivered twice, and callers know best when to try again.
		MaxRetries:            -1,
		DialerRetries:         1,
		ContextTimeoutEnabled: true,
		PipelinePoolSize:      -1,
		DisableIdentity:       true,
		// Managed-service notifications: an extra command at each connect that plain servers refuse.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if u.User != nil {
		o.Username = u.User.Username()
		o.Password, _ = u.User.Password()
	}
	switch u.Scheme {
	case "redis", "rediss":
		err = h.tcpOptions(u, o)
	case "unix":
		o.Network, o.Addr = "unix", u.Path
		if u.Path == "" {
			err = errors.New("channelslayer: option hosts: unix:// needs a path")
		}
	default:
		err = &UnsupportedError{Option: "hosts", Detail: fmt.Sprintf("URL scheme %q (supported: redis, rediss, unix)", u.Scheme)}
	}
	if err != nil {
		return nil, err
	}
	return o, queryOptions(u.Query(), o)
}

func (h Host) tcpOptions(u *url.URL, o *redis.Options) error {
	host, port := u.Hostname(), u.Port()
	if host == "" {
		host = defaultRedisHost
	}
	if port == "" {
		port = defaultRedisPort
	}
	o.Network, o.Addr = "tcp", net.JoinHostPort(host, port)
	if db := strings.ReplaceAll(u.Path, "/", ""); db != "" && !u.Query().Has("db") {
		n, err := strconv.Atoi(db)
		if err != nil || n < 0 {
			// redis-py silently takes database 0; that is never what was meant.
			return errors.New("channelslayer: option hosts: the path of the URL is not a database number")
		}
		o.DB = n
	}
	if u.Scheme != "rediss" {
		return nil
	}
	o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if h.TLS != nil {
		o.TLSConfig = h.TLS.Clone()
	}
	if o.TLSConfig.ServerName == "" {
		o.TLSConfig.ServerName = host
	}
	return nil
}

// queryOptions applies what a redis-py URL may carry behind its question mark.
func queryOptions(q url.Values, o *redis.Options) error {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(q)) {
		if err := queryOption(name, q.Get(name), o); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func queryOption(name, value string, o *redis.Options) error {
	var err error
	switch name {
	case "db":
		o.DB, err = strconv.Atoi(value)
	case "username":
		o.Username = value
	case "password":
		o.Password = value
	case "client_name":
		o.ClientName = value
	case "protocol":
		o.Protocol, err = strconv.Atoi(value)
	case "socket_timeout":
		o.ReadTimeout, err = seconds(value)
		o.WriteTimeout = o.ReadTimeout
	case "socket_connect_timeout":
		o.DialTimeout, err = seconds(value)
	case "ssl_cert_reqs":
		err = certReqs(value, o)
	case "ssl_check_hostname":
		if value != "true" && value != "True" && value != "1" {
			err = &UnsupportedError{Option: "hosts", Detail: "URL parameter ssl_check_hostname other than true"}
		}
	case "socket_keepalive", "retry_on_timeout", "health_check_interval", "max_connections", "decode_responses", "encoding", "timeout":
		// They tune redis-py's own machinery.
	default:
		err = &UnsupportedError{Option: "hosts", Detail: "URL parameter " + name}
	}
	if err != nil && !errors.Is(err, ErrUnsupported) {
		return fmt.Errorf("channelslayer: option hosts: URL parameter %s: malformed", name)
	}
	return err
}

func certReqs(value string, o *redis.Options) error {
	switch value {
	case "required":
		return nil
	case "none":
		if o.TLSConfig != nil {
			o.TLSConfig.InsecureSkipVerify = true
		}
		return nil
	default:
		return &UnsupportedError{Option: "hosts", Detail: "URL parameter ssl_cert_reqs other than required and none"}
	}
}

func seconds(text string) (time.Duration, error) {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f <= 0 || f > 1e6 {
		return 0, errors.New("not a positive number of seconds")
	}
	return time.Duration(f * float64(time.Second)), nil
}
