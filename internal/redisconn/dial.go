package redisconn

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// connect makes a connection. Where several servers are possible it must be one that takes writes. e.Addr becomes the address
// of the master where Sentinels know it.
func (s *Servers) connect(ctx context.Context, e *Endpoint, greet bool) (net.Conn, error) {
	if s.sentinels != nil {
		addr, err := s.sentinels.master(ctx)
		if err != nil {
			return nil, err
		}
		e.Addr = addr
	}
	ctx, cancel := context.WithTimeout(ctx, s.opts.ConnectTimeout)
	defer cancel()
	conn, err := dialOnce(ctx, e.Network, e.Addr, e.TLS, s.opts.Keepalive)
	if err != nil || !greet {
		return conn, err
	}
	if err := s.greet(ctx, conn, e); err != nil {
		return nil, drop(conn, err)
	}
	return conn, nil
}

// drop closes a connection that cannot be used, for the given reason; what closing says is no news.
func drop(conn net.Conn, reason error) error {
	_ = conn.Close()
	return reason
}

// dialOnce connects, with TLS where there are options for it.
func dialOnce(ctx context.Context, network, addr string, t *TLSOptions, keepalive Keepalive) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1, KeepAliveConfig: keepalive.config()}
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil || t == nil {
		return conn, err
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, drop(conn, err)
	}
	cfg, err := t.Config(host)
	if err != nil { // the files were good at the start: they are being replaced
		return nil, drop(conn, &net.OpError{Op: "dial", Net: network, Err: err})
	}
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, drop(conn, fmt.Errorf("TLS: %w", err))
	}
	return secure, nil
}

// greet says who we are and checks that the server takes writes.
func (s *Servers) greet(ctx context.Context, conn net.Conn, e *Endpoint) error {
	var commands [][]string
	switch {
	case e.Username != "":
		commands = append(commands, []string{"AUTH", e.Username, e.Password})
	case e.Password != "":
		commands = append(commands, []string{"AUTH", e.Password})
	}
	if e.DB != 0 {
		commands = append(commands, []string{"SELECT", strconv.Itoa(e.DB)})
	}
	if s.opts.ClientName != "" {
		commands = append(commands, []string{"CLIENT", "SETNAME", s.opts.ClientName})
	}
	if !s.isFixed() {
		commands = append(commands, []string{"ROLE"})
	}
	replies, err := exchange(ctx, conn, commands)
	if err != nil {
		return err
	}
	for i, reply := range replies {
		failed, isError := reply.(ReplyError)
		switch command := commands[i][0]; {
		case command == "CLIENT": // a name is nothing to fail for
		case isError && command == "ROLE" && (redis.HasErrorPrefix(failed, "NOPERM") || redis.HasErrorPrefix(failed, "unknown command")):
		case isError:
			return failed
		case command == "ROLE" && isReplica(reply):
			return fmt.Errorf("%s: %w", e.Addr, errNoMaster)
		}
	}
	return nil
}

// isReplica reads the answer to ROLE; who may not ask gets an error, which says nothing.
func isReplica(reply any) bool {
	items, _ := reply.([]any)
	return len(items) > 0 && slices.Contains([]any{"slave", "sentinel"}, items[0])
}

// exchange sends commands and reads their answers, within ctx. Errors of Redis are answers.
func exchange(ctx context.Context, conn net.Conn, commands [][]string) ([]any, error) {
	if len(commands) == 0 {
		return nil, nil
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // ends what waits
	replies, err := NewWire(conn, maxHandshakeReply).exchange(commands)
	if !stop() {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return replies, conn.SetDeadline(time.Time{})
}

func (w *Wire) exchange(commands [][]string) ([]any, error) {
	if err := w.Send(commands...); err != nil {
		return nil, err
	}
	replies := make([]any, 0, len(commands))
	for range commands {
		reply, err := w.Receive()
		if failed, ok := errors.AsType[ReplyError](err); ok {
			reply, err = failed, nil
		}
		if err != nil {
			return nil, err
		}
		replies = append(replies, reply)
	}
	if w.r.Buffered() > 0 {
		return nil, ErrWire
	}
	return replies, nil
}
