package redisbroker

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/dfws/dfws/internal/redisconn"
)

// How Redis is reached is the same for brokers, result backends and channel layers: see package redisconn.
type (
	// TLSOptions are the ssl_* keys of broker_use_ssl and redis_backend_use_ssl.
	TLSOptions = redisconn.TLSOptions
	// SentinelOptions are the transport option sentinel_kwargs.
	SentinelOptions = redisconn.SentinelOptions
	// Keepalive are the transport options socket_keepalive and socket_keepalive_options.
	Keepalive = redisconn.Keepalive

	servers    = redisconn.Servers
	wire       = redisconn.Wire
	replyError = redisconn.ReplyError
)

// Values of TLSOptions.CertReqs (Python's ssl module).
const (
	CertNone     = redisconn.CertNone
	CertOptional = redisconn.CertOptional
	CertRequired = redisconn.CertRequired
)

// Strategies of a failover list (kombu 5.7, connection.py, failover_strategies).
const (
	FailoverRoundRobin = "round-robin"
	FailoverShuffle    = "shuffle"
)

// ParseTLSOptions reads broker_use_ssl or redis_backend_use_ssl from JSON: an object of ssl_* keys, in which ssl_cert_reqs may be
// a name or the number of Python's constant. null, false and {} are no TLS: nil. true is refused, since with it Python connects
// to Redis without TLS.
func ParseTLSOptions(b []byte) (*TLSOptions, error) {
	t, err := redisconn.ParseTLSOptions(b)
	if err != nil {
		return nil, fmt.Errorf("redisbroker: use_ssl: %w", err)
	}
	return t, nil
}

// checkTLS names the setting whose TLS options are wrong.
func checkTLS(setting string, t *TLSOptions) error {
	if err := t.Validate(); err != nil {
		return fmt.Errorf("redisbroker: %s: %w", setting, err)
	}
	return nil
}

// newServers prepares the connections to what URLs have named.
func newServers(ends []*endpoint, o redisconn.Options) (*servers, error) {
	list := make([]redisconn.Endpoint, len(ends))
	for i, e := range ends {
		list[i] = redisconn.Endpoint{
			Network: e.network, Addr: e.addr, Username: e.username, Password: e.password, DB: e.db, TLS: e.tls,
		}
		if e.sentinel {
			o.Sentinels = append(o.Sentinels, e.addr)
		}
	}
	o.Package = "redisbroker: "
	s, err := redisconn.New(list, o)
	switch {
	case errors.Is(err, redisconn.ErrNoMasterName):
		return nil, urlFault("scheme sentinel", "needs the transport option master_name")
	case err != nil:
		return nil, fmt.Errorf("redisbroker: %w", err)
	}
	return s, nil
}

// shuffle changes the order of a failover list, for the strategy of that name. The first one stays first, as in kombu.
func shuffle(ends []*endpoint, strategy string) {
	if strategy == FailoverShuffle {
		rest := ends[1:]
		rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	}
}

// parseURLs reads a list of URLs. Sentinels stand among themselves; a result backend has no other list.
func parseURLs(raw string, rules urlRules) ([]*endpoint, error) {
	if raw == "" {
		raw = "redis://"
	}
	var ends []*endpoint
	for part := range strings.SplitSeq(raw, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		e, err := parseURL(part, rules)
		if err != nil {
			return nil, err
		}
		if len(ends) > 0 && e.sentinel != ends[0].sentinel {
			return nil, urlFault("failover list (a;b)", "Sentinels and other servers in one list: %w", ErrUnsupported)
		}
		ends = append(ends, e)
	}
	switch {
	case len(ends) == 0:
		return nil, urlFault("scheme", "missing")
	case len(ends) > redisconn.MaxServers:
		return nil, urlFault("failover list (a;b)", "more than %d servers", redisconn.MaxServers)
	case len(ends) > 1 && rules.backend && !ends[0].sentinel:
		return nil, urlFault("failover list (a;b)", "%w by Celery for a result backend", ErrUnsupported)
	}
	return ends, nil
}
