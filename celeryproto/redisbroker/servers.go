package redisbroker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// servers is where Redis is: one server, a failover list of which one is in use at a time, or whatever Sentinels say.
//
// All connections lead to one server. When the one in use cannot be reached and another one can, or when Sentinel names a new
// master, every connection to the old one is closed, so that publishing, consuming and subscriptions move together.
type servers struct {
	ends      []*endpoint // the failover list, or one; of Sentinel the one whose address Sentinel knows
	sentinels *sentinels  // nil without Sentinel
	opts      serverOptions

	mu      sync.Mutex
	current int    // in ends: the one in use
	inUse   string // its place; "" before the first connection
	epoch   int    // counts the changes of inUse
	conns   map[*trackedConn]struct{}
}

// serverOptions are what brokers and result backends have in common.
type serverOptions struct {
	connectTimeout, socketTimeout time.Duration
	keepalive                     Keepalive
	clientName                    string
	masterName                    string
	sentinel                      SentinelOptions
	minOtherSentinels             int
	failoverStrategy              string
	logger                        *slog.Logger
	obs                           *Observer
}

// Keepalive are the transport options socket_keepalive and socket_keepalive_options. The zero value is Go's default: after
// 15 s of silence the other side is asked every 15 s, nine times. redis-py's default is none.
type Keepalive struct {
	// Off is socket_keepalive false.
	Off bool
	// Idle, Interval and Count are TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT; Go's default when 0.
	Idle, Interval time.Duration
	Count          int
}

func (k Keepalive) config() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: !k.Off, Idle: k.Idle, Interval: k.Interval, Count: k.Count}
}

const (
	// maxServers bounds a failover list and a list of Sentinels.
	maxServers = 32
	// maxHandshakeReply bounds what the first commands of a connection and Sentinels answer.
	maxHandshakeReply = 64 << 10
)

// Strategies of a failover list (kombu 5.7, connection.py, failover_strategies).
const (
	FailoverRoundRobin = "round-robin"
	FailoverShuffle    = "shuffle"
)

// newServers reads a URL, or a list of them with ";" in between.
func newServers(raw string, rules urlRules, o serverOptions) (*servers, error) {
	ends, err := parseURLs(raw, rules)
	if err != nil {
		return nil, err
	}
	s := &servers{ends: ends, opts: o, conns: make(map[*trackedConn]struct{})}
	if ends[0].sentinel {
		if o.masterName == "" {
			return nil, urlFault("scheme sentinel", "needs the transport option master_name")
		}
		if o.sentinel.TLS != nil {
			if _, err := o.sentinel.TLS.config(""); err != nil {
				return nil, fmt.Errorf("sentinel_kwargs: %w", err)
			}
		}
		s.sentinels = newSentinels(ends, o)
		s.ends = ends[:1:1]
	}
	if o.failoverStrategy == FailoverShuffle { // the first one stays first, as in kombu
		rest := s.ends[1:]
		rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	}
	for _, e := range s.ends {
		if e.tls == nil {
			continue
		}
		if _, err := e.tls.config(""); err != nil { // faults in the files are known now
			return nil, err
		}
		if w := e.tls.warning(); w != "" {
			o.logger.Warn("redisbroker: "+w, "server", e.addr)
		}
	}
	return s, nil
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
	case len(ends) > maxServers:
		return nil, urlFault("failover list (a;b)", "more than %d servers", maxServers)
	case len(ends) > 1 && rules.backend && !ends[0].sentinel:
		return nil, urlFault("failover list (a;b)", "%w by Celery for a result backend", ErrUnsupported)
	}
	return ends, nil
}

// isFixed reports whether there is only one server, known from the start.
func (s *servers) isFixed() bool { return len(s.ends) == 1 && s.sentinels == nil }

// db is the database of the server in use. The members of a failover list may have different ones.
func (s *servers) db() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends[s.current].db
}

// options are the go-redis options for clients of these servers. Addr, and what is beside it, tells servers apart; where the
// address is looked up, it is a name for the lookup.
func (s *servers) options() redis.Options {
	e := s.ends[0]
	o := redis.Options{
		Network: e.network, Addr: e.addr, ClientName: s.opts.clientName,
		Protocol: 2, DisableIdentity: true, // enough for everything here, and known to every server
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		MaxRetries:               -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DialTimeout: s.dialBudget(), ReadTimeout: s.opts.socketTimeout, WriteTimeout: s.opts.socketTimeout,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, _, err := s.dial(ctx, !s.isFixed())
			return conn, err
		},
	}
	switch {
	case s.isFixed():
		o.Username, o.Password, o.DB = e.username, e.password, e.db
		if e.tls != nil {
			o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12} // only says that there is TLS; the dialer has the rest
		}
	case s.sentinels != nil:
		o.Addr = fmt.Sprintf("sentinel:%s/%d@%s", s.opts.masterName, e.db, s.sentinels)
		if e.username != "" {
			o.Addr = e.username + "@" + o.Addr
		}
	default:
		o.Addr = lookedUp
	}
	return o
}

// lookedUp is the address of clients whose server changes; two of them may have different ones.
const lookedUp = "FailoverClient"

// dialBudget is the longest that dial takes.
func (s *servers) dialBudget() time.Duration {
	d := time.Duration(len(s.ends)) * s.opts.connectTimeout
	if s.sentinels != nil {
		d += s.sentinels.budget()
	}
	return d
}

// dial connects to the server in use; when that fails to the next one of the list, and so on, each once. With greet the
// connection is authenticated and has its database.
func (s *servers) dial(ctx context.Context, greet bool) (net.Conn, *endpoint, error) {
	s.mu.Lock()
	first, epoch := s.current, s.epoch
	s.mu.Unlock()
	var errs []error
	for i := range s.ends {
		n := (first + i) % len(s.ends)
		e := *s.ends[n]
		conn, err := s.connect(ctx, &e, greet)
		if err == nil {
			tracked, ok := s.use(n, epoch, &e, conn)
			if ok {
				return tracked, &e, nil
			}
			err = drop(conn, errElsewhere)
		}
		errs = append(errs, dialError(&e, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) > 1 {
		return nil, nil, &listError{errs: errs}
	}
	return nil, nil, errs[0]
}

var (
	// errNoMaster: no server that takes writes is known just now.
	errNoMaster = errors.New("not a master")
	// errElsewhere: while one server was dialled, another one was chosen.
	errElsewhere = errors.New("another server is in use meanwhile")
)

// dialError marks what cannot have reached Redis, and may pass, as an error of dialling. Answers of Redis and faults of
// certificates stay what they are.
func dialError(e *endpoint, err error) error {
	if opErr, ok := errors.AsType[*net.OpError](err); ok && opErr.Op == "dial" {
		return err
	}
	if _, answered := errors.AsType[redis.Error](err); answered {
		return err
	}
	_, isNet := errors.AsType[net.Error](err)
	if isNet || errors.Is(err, errNoMaster) || errors.Is(err, errElsewhere) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &net.OpError{Op: "dial", Net: e.network, Err: err}
	}
	return err
}

// listError is why none of several servers could be used.
type listError struct{ errs []error }

func (e *listError) Error() string { return errors.Join(e.errs...).Error() }

// Unwrap gives the fault that may pass, if there is one: with it the list is worth another try.
func (e *listError) Unwrap() error {
	for _, err := range e.errs {
		if Retryable(err) {
			return err
		}
	}
	return e.errs[0]
}

// place tells endpoints apart.
func (e *endpoint) place() string { return e.addr + "/" + strconv.Itoa(e.db) }

// use notes a new connection. It reports false when another server was chosen since epoch.
func (s *servers) use(n, epoch int, e *endpoint, conn net.Conn) (net.Conn, bool) {
	place := e.place()
	s.mu.Lock()
	if s.epoch != epoch && place != s.inUse {
		s.mu.Unlock()
		return nil, false
	}
	tracked := &trackedConn{Conn: conn, servers: s}
	var old map[*trackedConn]struct{}
	was := s.inUse
	if place != was {
		s.current, s.inUse = n, place
		s.epoch++
		old, s.conns = s.conns, make(map[*trackedConn]struct{})
	}
	s.conns[tracked] = struct{}{}
	s.mu.Unlock()
	if was != "" && place != was {
		s.opts.logger.Warn("redisbroker: another Redis is in use now", "server", place, "before", was)
		s.opts.obs.switched(e.addr)
	}
	closeAll(old)
	if raw, ok := conn.(syscall.Conn); ok {
		return &plainConn{trackedConn: tracked, raw: raw}, true
	}
	return tracked, true
}

func closeAll(conns map[*trackedConn]struct{}) {
	for c := range conns {
		_ = c.Close() // whoever uses it sees the error that matters
	}
}

// answered looks at an error that a script passed on as text, which go-redis cannot see: a server that became a replica is
// left, as go-redis leaves it when the error is the answer.
func (s *servers) answered(err error) {
	if !redis.HasErrorPrefix(err, "READONLY") {
		return
	}
	s.mu.Lock()
	old := s.conns
	s.conns = make(map[*trackedConn]struct{})
	s.mu.Unlock()
	closeAll(old)
}

// trackedConn is a connection that is closed when another server is used.
type trackedConn struct {
	net.Conn
	servers *servers
}

func (c *trackedConn) Close() error {
	c.servers.mu.Lock()
	delete(c.servers.conns, c)
	c.servers.mu.Unlock()
	return c.Conn.Close()
}

// plainConn has what go-redis looks for to find out whether an idle connection is still alive. A TLS connection must not have
// it: records of its own may wait in the socket.
type plainConn struct {
	*trackedConn
	raw syscall.Conn
}

func (c *plainConn) SyscallConn() (syscall.RawConn, error) { return c.raw.SyscallConn() }
