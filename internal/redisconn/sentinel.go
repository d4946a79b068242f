package redisconn

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// SentinelOptions are sentinel_kwargs of kombu and of channel layers: how Sentinels themselves are reached, by redis-py's names. User name
// and password of the URL are for Redis only.
type SentinelOptions struct {
	// Username and Password of the Sentinels.
	Username, Password string
	// SocketTimeout and SocketConnectTimeout bound a question to a Sentinel; those of Redis when 0.
	SocketTimeout, SocketConnectTimeout time.Duration
	// TLS of the Sentinels, nil for none. redis-py: ssl true, and ssl_* keys.
	TLS *TLSOptions
}

// ParseSentinelOptions reads sentinel_kwargs from a JSON object. The error names every key at fault, never its value.
func ParseSentinelOptions(b json.RawMessage) (SentinelOptions, error) {
	var o SentinelOptions
	var fields map[string]json.RawMessage
	if err := DecodeOption(b, &fields); err != nil {
		return o, err
	}
	useTLS, tlsFields := false, make(map[string]json.RawMessage)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		value, err := fields[name], error(nil)
		switch {
		case string(value) == "null":
		case name == "username":
			err = DecodeOption(value, &o.Username)
		case name == "password":
			err = DecodeOption(value, &o.Password)
		case name == "socket_timeout":
			err = DecodeOption(value, &o.SocketTimeout)
		case name == "socket_connect_timeout":
			err = DecodeOption(value, &o.SocketConnectTimeout)
		case name == "ssl":
			useTLS, err = DecodeBool(value)
		case strings.HasPrefix(name, "ssl_"):
			tlsFields[name] = value
		case slices.Contains(ignoredSentinelOptions, name):
		default:
			err = ErrUnsupported
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	if useTLS {
		o.TLS = &TLSOptions{}
		errs = append(errs, o.TLS.SetAll(tlsFields))
	}
	return o, errors.Join(errs...)
}

// ignoredSentinelOptions change nothing: a question to a Sentinel has a connection of its own, a few milliseconds long.
var ignoredSentinelOptions = []string{
	"client_name", "db", "decode_responses", "encoding", "encoding_errors", "health_check_interval", "max_connections", "protocol",
	"retry_on_timeout", "single_connection_client", "socket_keepalive", "socket_keepalive_options",
}

// sentinels asks Sentinels for the master, as redis-py's Sentinel.discover_master does. They are asked for each new connection.
type sentinels struct {
	opts Options

	mu    sync.Mutex
	addrs []string // the one that answered last comes first
}

func newSentinels(o Options) *sentinels {
	s := &sentinels{opts: o, addrs: slices.Clone(o.Sentinels)}
	s.opts.Sentinel.SocketTimeout = cmp.Or(o.Sentinel.SocketTimeout, o.SocketTimeout)
	s.opts.Sentinel.SocketConnectTimeout = cmp.Or(o.Sentinel.SocketConnectTimeout, o.ConnectTimeout)
	return s
}

// String names the Sentinels, in an order that does not change.
func (s *sentinels) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(slices.Sorted(slices.Values(s.addrs)), ",")
}

// budget is the longest that master takes.
func (s *sentinels) budget() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(len(s.addrs)) * (s.opts.Sentinel.SocketTimeout + s.opts.Sentinel.SocketConnectTimeout)
}

// master is the address of the master that the first Sentinel with an acceptable answer names. The error is errNoMaster, with
// what each Sentinel said; their errors of Redis are texts in it, not answers of the broker.
func (s *sentinels) master(ctx context.Context) (string, error) {
	s.mu.Lock()
	addrs := slices.Clone(s.addrs)
	s.mu.Unlock()
	var faults []string
	for _, addr := range addrs {
		master, err := s.ask(ctx, addr)
		if err == nil {
			s.prefer(addr)
			return master, nil
		}
		faults = append(faults, fmt.Sprintf("%s: %v", addr, err))
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
	}
	return "", fmt.Errorf("%w: Sentinel knows none for %q: %s", errNoMaster, s.opts.MasterName, strings.Join(faults, "; "))
}

// prefer puts a Sentinel at the head of the list.
func (s *sentinels) prefer(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.addrs, addr)
	s.addrs[0], s.addrs[i] = s.addrs[i], s.addrs[0]
}

// ask asks one Sentinel.
func (s *sentinels) ask(ctx context.Context, addr string) (string, error) {
	conn, err := s.connect(ctx, addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }() // nothing is left to be said
	ctx, cancel := context.WithTimeout(ctx, s.opts.Sentinel.SocketTimeout)
	defer cancel()
	replies, err := exchange(ctx, conn, [][]string{{"SENTINEL", "MASTER", s.opts.MasterName}})
	if err != nil {
		return "", err
	}
	if failed, ok := replies[0].(ReplyError); ok {
		return "", failed
	}
	return s.acceptable(replies[0])
}

// connect makes a connection to a Sentinel.
func (s *sentinels) connect(ctx context.Context, addr string) (net.Conn, error) {
	o := &s.opts.Sentinel
	ctx, cancel := context.WithTimeout(ctx, o.SocketConnectTimeout)
	defer cancel()
	conn, err := dialOnce(ctx, "tcp", addr, o.TLS, s.opts.Keepalive)
	if err != nil || o.Password == "" && o.Username == "" {
		return conn, err
	}
	auth := []string{"AUTH", o.Password}
	if o.Username != "" {
		auth = []string{"AUTH", o.Username, o.Password}
	}
	replies, err := exchange(ctx, conn, [][]string{auth})
	if err != nil {
		return nil, drop(conn, err)
	}
	if failed, ok := replies[0].(ReplyError); ok {
		return nil, drop(conn, failed)
	}
	return conn, nil
}

// acceptable reads the answer of SENTINEL MASTER, a flat list of names and values, and applies check_master_state.
func (s *sentinels) acceptable(reply any) (string, error) {
	items, _ := reply.([]any)
	state := make(map[string]string)
	for i := 0; i+1 < len(items); i += 2 {
		name, _ := items[i].(string)
		state[name], _ = items[i+1].(string)
	}
	flags := strings.Split(state["flags"], ",")
	others, err := strconv.Atoi(state["num-other-sentinels"])
	switch {
	case state["ip"] == "" || state["port"] == "" || err != nil:
		return "", ErrWire
	case !slices.Contains(flags, "master"), slices.Contains(flags, "s_down"), slices.Contains(flags, "o_down"):
		return "", fmt.Errorf("the master is %s", state["flags"])
	case others < s.opts.MinOtherSentinels:
		return "", fmt.Errorf("it sees %d other Sentinels, min_other_sentinels is %d", others, s.opts.MinOtherSentinels)
	}
	return net.JoinHostPort(state["ip"], state["port"]), nil
}

// How Watch listens to a Sentinel.
const (
	switchChannel   = "+switch-master"
	sentinelSilence = 5 * time.Second
)

// Watch leaves the old master as soon as Sentinel has made another one: it goes on taking writes for some seconds, which are lost
// then. redis-py does not do this. It returns at the end of ctx, and at once without Sentinel.
func (s *Servers) Watch(ctx context.Context) {
	if s.sentinels == nil {
		return
	}
	var pause Backoff
	for ctx.Err() == nil {
		err := s.sentinels.listen(ctx, func() {
			pause.Reset()
			if addr, err := s.sentinels.master(ctx); err == nil {
				s.moved(addr) // while nobody listened
			}
		}, s.moved)
		if ctx.Err() == nil {
			if s.opts.Disconnected != nil {
				s.opts.Disconnected(err)
			}
			pause.Wait(ctx)
		}
	}
}

// WatchWhile watches until ctx ends; the function that it returns waits for that.
func (s *Servers) WatchWhile(ctx context.Context) (wait func()) {
	var wg sync.WaitGroup
	wg.Go(func() { s.Watch(ctx) })
	return wg.Wait
}

// moved closes the connections to any other master. The next one asks Sentinel.
func (s *Servers) moved(master string) {
	s.mu.Lock()
	var old map[*trackedConn]struct{}
	if host, _, _ := strings.Cut(s.inUse, "/"); s.inUse != "" && host != master {
		old, s.conns = s.conns, make(map[*trackedConn]struct{})
	}
	s.mu.Unlock()
	closeAll(old)
}

// listen tells of each new master that a Sentinel announces, until the connection breaks or ctx ends. ready is called when it has
// begun to listen.
func (s *sentinels) listen(ctx context.Context, ready func(), moved func(master string)) error {
	s.mu.Lock()
	addrs := slices.Clone(s.addrs)
	s.mu.Unlock()
	var errs []error
	for _, addr := range addrs {
		conn, err := s.connect(ctx, addr)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the read
		err = s.listenOn(conn, ready, moved)
		if stop() {
			_ = conn.Close()
		}
		return err
	}
	return errors.Join(errs...)
}

func (s *sentinels) listenOn(conn net.Conn, ready func(), moved func(master string)) error {
	timeout := s.opts.Sentinel.SocketTimeout
	w := NewWire(conn, maxHandshakeReply)
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := w.Do("SUBSCRIBE", switchChannel); err != nil {
		return err
	}
	ready()
	for {
		if err := w.Await(sentinelSilence, timeout); err != nil {
			return err
		}
		reply, err := w.Receive()
		if err != nil {
			return err
		}
		items, _ := reply.([]any)
		if len(items) != 3 || items[0] != "message" { // the answer to PING
			continue
		}
		text, _ := items[2].(string) // name, old host and port, new host and port
		if fields := strings.Fields(text); len(fields) == 5 && fields[0] == s.opts.MasterName {
			moved(net.JoinHostPort(fields[3], fields[4]))
		}
	}
}
