package redisconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Endpoint is where a Redis is, and who we are there.
type Endpoint struct {
	// Network and Addr are "tcp" and "host:port", or "unix" and a path. Behind Sentinels the address is theirs to say.
	Network, Addr string
	// Username and Password of Redis, never of a Sentinel.
	Username, Password string
	// DB is the number of the database.
	DB int
	// TLS are its options; nil: plain.
	TLS *TLSOptions
}

// Servers is where Redis is: one server, a failover list of which one is in use at a time, or whatever Sentinels say.
//
// All connections lead to one server. When the one in use cannot be reached and another one can, or when Sentinel names a new
// master, every connection to the old one is closed, so that publishing, consuming and subscriptions move together.
type Servers struct {
	ends      []Endpoint // the failover list, or one; of Sentinel the one whose address Sentinel knows
	sentinels *sentinels // nil without Sentinel
	opts      Options

	mu      sync.Mutex
	current int    // in ends: the one in use
	inUse   string // its place; "" before the first connection
	epoch   int    // counts the changes of inUse
	conns   map[*trackedConn]struct{}
}

// Options are what all connections have in common.
type Options struct {
	// ConnectTimeout and SocketTimeout bound the making of a connection and each exchange; both must be positive.
	ConnectTimeout, SocketTimeout time.Duration
	// Keepalive of TCP.
	Keepalive Keepalive
	// ClientName is what CLIENT LIST shows; may be empty.
	ClientName string
	// Sentinels are their addresses, "host:port"; with any the endpoint is the master that they name for MasterName.
	Sentinels []string
	// MasterName is the name of the master that Sentinels watch.
	MasterName string
	// MinOtherSentinels is how many others a Sentinel must see to be believed.
	MinOtherSentinels int
	// Sentinel says how Sentinels themselves are reached.
	Sentinel SentinelOptions
	// Logger gets changes of the server; required. Package, such as "redisbroker: ", begins its lines.
	Logger  *slog.Logger
	Package string
	// Switched is told of each change of the server, Disconnected of each lost connection to a Sentinel. Both may be nil.
	Switched     func(addr string)
	Disconnected func(err error)
}

// Keepalive are redis-py's socket_keepalive and socket_keepalive_options. The zero value is Go's default: after 15 s of silence
// the other side is asked every 15 s, nine times. redis-py's default is none.
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
	// MaxServers bounds a failover list and a list of Sentinels.
	MaxServers = 32
	// maxHandshakeReply bounds what the first commands of a connection and Sentinels answer.
	maxHandshakeReply = 64 << 10
)

// ErrNoMasterName is returned by New for Sentinels without the name of their master.
var ErrNoMasterName = errors.New("sentinels need the name of their master")

// New prepares connections to the first of the endpoints that can be reached, or to the master that Sentinels name. It connects to
// nothing; faults in files of certificates are known now.
func New(ends []Endpoint, o Options) (*Servers, error) {
	s := &Servers{ends: ends, opts: o, conns: make(map[*trackedConn]struct{})}
	if len(o.Sentinels) > 0 {
		if o.MasterName == "" {
			return nil, ErrNoMasterName
		}
		if o.Sentinel.TLS != nil {
			if _, err := o.Sentinel.TLS.Config(""); err != nil {
				return nil, fmt.Errorf("sentinel_kwargs: %w", err)
			}
		}
		s.sentinels = newSentinels(o)
		s.ends = ends[:1:1]
	}
	for i := range s.ends {
		e := &s.ends[i]
		if e.TLS == nil {
			continue
		}
		if _, err := e.TLS.Config(""); err != nil {
			return nil, err
		}
		if w := e.TLS.warning(); w != "" {
			o.Logger.Warn(o.Package+w, "server", e.Addr)
		}
	}
	return s, nil
}

// HasSentinels reports whether the server is one that Sentinels name.
func (s *Servers) HasSentinels() bool { return s.sentinels != nil }

// isFixed reports whether there is only one server, known from the start.
func (s *Servers) isFixed() bool { return len(s.ends) == 1 && s.sentinels == nil }

// DB is the database of the server in use. The members of a failover list may have different ones.
func (s *Servers) DB() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends[s.current].DB
}

// ClientOptions are the go-redis options for clients of these servers. Addr, and what is beside it, tells servers apart; where the
// address is looked up, it is a name for the lookup.
func (s *Servers) ClientOptions() redis.Options {
	e := &s.ends[0]
	o := redis.Options{
		Network: e.Network, Addr: e.Addr, ClientName: s.opts.ClientName,
		Protocol: 2, DisableIdentity: true, // enough for everything here, and known to every server
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		MaxRetries:               -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DialTimeout: s.dialBudget(), ReadTimeout: s.opts.SocketTimeout, WriteTimeout: s.opts.SocketTimeout,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, _, err := s.Dial(ctx, !s.isFixed())
			return conn, err
		},
	}
	switch {
	case s.isFixed():
		o.Username, o.Password, o.DB = e.Username, e.Password, e.DB
		if e.TLS != nil {
			o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12} // only says that there is TLS; the dialer has the rest
		}
	case s.sentinels != nil:
		o.Addr = fmt.Sprintf("sentinel:%s/%d@%s", s.opts.MasterName, e.DB, s.sentinels)
		if e.Username != "" {
			o.Addr = e.Username + "@" + o.Addr
		}
	default:
		o.Addr = LookedUp
	}
	return o
}

// LookedUp is the address of clients whose server changes; two of them may have different ones.
const LookedUp = "FailoverClient"

// dialBudget is the longest that Dial takes.
func (s *Servers) dialBudget() time.Duration {
	d := time.Duration(len(s.ends)) * s.opts.ConnectTimeout
	if s.sentinels != nil {
		d += s.sentinels.budget()
	}
	return d
}

// Dial connects to the server in use; when that fails to the next one of the list, and so on, each once. With greet the
// connection is authenticated and has its database.
func (s *Servers) Dial(ctx context.Context, greet bool) (net.Conn, *Endpoint, error) {
	s.mu.Lock()
	first, epoch := s.current, s.epoch
	s.mu.Unlock()
	var errs []error
	for i := range s.ends {
		n := (first + i) % len(s.ends)
		e := s.ends[n]
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
func dialError(e *Endpoint, err error) error {
	if opErr, ok := errors.AsType[*net.OpError](err); ok && opErr.Op == "dial" {
		return err
	}
	if _, answered := errors.AsType[redis.Error](err); answered {
		return err
	}
	_, isNet := errors.AsType[net.Error](err)
	if isNet || errors.Is(err, errNoMaster) || errors.Is(err, errElsewhere) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &net.OpError{Op: "dial", Net: e.Network, Err: err}
	}
	return err
}

// listError is why none of several servers could be used.
type listError struct{ errs []error }

func (e *listError) Error() string { return errors.Join(e.errs...).Error() }

// Unwrap gives the fault that may pass, if there is one: with it the list is worth another try.
func (e *listError) Unwrap() error {
	for _, err := range e.errs {
		if Transient(err) {
			return err
		}
	}
	return e.errs[0]
}

// place tells endpoints apart.
func (e *Endpoint) place() string { return e.Addr + "/" + strconv.Itoa(e.DB) }

// use notes a new connection. It reports false when another server was chosen since epoch.
func (s *Servers) use(n, epoch int, e *Endpoint, conn net.Conn) (net.Conn, bool) {
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
		s.opts.Logger.Warn(s.opts.Package+"another Redis is in use now", "server", place, "before", was)
		if s.opts.Switched != nil {
			s.opts.Switched(e.Addr)
		}
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

// Answered looks at an error that a script passed on as text, which go-redis cannot see: a server that became a replica is
// left, as go-redis leaves it when the error is the answer.
func (s *Servers) Answered(err error) {
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
	servers *Servers
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
