package channelslayer

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/dfws/dfws/internal/redisconn"
)

const (
	// MaxPublished is the longest message of a pub/sub layer that is received, in bytes. Longer ones are read past, dropped and
	// counted.
	MaxPublished = 16 << 20
	// maxSubscribe bounds the names in one SUBSCRIBE.
	maxSubscribe = 1000
	// subscriberSilence is how long a subscribed connection may be silent before Redis is asked for a sign of life.
	subscriberSilence = 5 * time.Second
)

// errLeft is what a Join learns whose group was left meanwhile.
var errLeft = errors.New("left meanwhile")

// subscriber holds the subscriptions on one server, over any number of connections that follow each other: each starts with all
// of them. What is published between two connections is lost, as in Python.
type subscriber struct {
	shard   *shard
	log     *slog.Logger
	obs     *Observer
	deliver func(channel, payload string) // called by the goroutine that reads
	wakeC   chan struct{}                 // capacity 1: ops is not empty; sent by whoever changes something, received by the connection's writer

	mu        sync.Mutex
	subs      map[string]*subscription // by the name in Redis
	ops       []subscribeOp            // to be written on this connection
	connected bool
	closed    bool
}

type subscription struct {
	refs       int // who wants it; 0 while the last command is on its way
	unanswered int // commands on this connection without their answer
	waiters    []chan error
}

// confirmed: what is published from now on arrives.
func (s *subscription) confirmed(connected bool) bool { return connected && s.unanswered == 0 }

func (s *subscription) tell(err error) {
	for _, w := range s.waiters {
		w <- err // each has room for one
	}
	s.waiters = nil
}

// subscribeOp is one name in a SUBSCRIBE or UNSUBSCRIBE.
type subscribeOp struct {
	name string
	off  bool
}

func newSubscriber(s *shard, log *slog.Logger, obs *Observer, deliver func(channel, payload string)) *subscriber {
	return &subscriber{shard: s, log: log, obs: obs, deliver: deliver, wakeC: make(chan struct{}, 1), subs: map[string]*subscription{}}
}

// subscribe notes that somebody more wants the names. It does not wait.
func (s *subscriber) subscribe(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		sub := s.subs[name]
		if sub == nil {
			sub = &subscription{}
			s.subs[name] = sub
		}
		if sub.refs++; sub.refs == 1 && s.connected {
			s.queue(sub, subscribeOp{name: name})
		}
	}
}

// unsubscribe notes that somebody less wants the names. It does not wait.
func (s *subscriber) unsubscribe(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		sub := s.subs[name]
		if sub == nil || sub.refs == 0 {
			continue
		}
		if sub.refs--; sub.refs > 0 {
			continue
		}
		sub.tell(errLeft)
		if !s.connected {
			delete(s.subs, name)
			continue
		}
		s.queue(sub, subscribeOp{name: name, off: true})
	}
}

// queue gives an operation to the connection's writer. s.mu is held.
func (s *subscriber) queue(sub *subscription, op subscribeOp) {
	sub.unanswered++
	s.ops = append(s.ops, op)
	select {
	case s.wakeC <- struct{}{}:
	default:
	}
}

// wait returns when Redis has confirmed the names, or when it cannot be asked; the names stay wanted then.
func (s *subscriber) wait(ctx context.Context, names ...string) error {
	var waiting []chan error
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	for _, name := range names {
		if sub := s.subs[name]; sub != nil && !sub.confirmed(s.connected) {
			w := make(chan error, 1)
			sub.waiters = append(sub.waiters, w)
			waiting = append(waiting, w)
		}
	}
	s.mu.Unlock()
	var errs []error
	for _, w := range waiting {
		select {
		case err := <-w:
			if err != nil && (len(errs) == 0 || !errors.Is(err, errs[0])) { // one outage is one error
				errs = append(errs, err)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return errors.Join(errs...)
}

// run holds the subscriptions until ctx ends.
func (s *subscriber) run(ctx context.Context) {
	var watching sync.WaitGroup
	watching.Go(func() { s.shard.servers.Watch(ctx) })
	defer watching.Wait()
	var pause redisconn.Backoff
	failing, before := false, false
	for ctx.Err() == nil {
		err := s.session(ctx, func() {
			pause.Reset()
			if before {
				s.obs.reconnected()
				s.log.InfoContext(ctx, "subscribed again; what was published meanwhile is lost")
			}
			failing, before = false, true
		})
		s.disconnected(err, ctx.Err() != nil)
		if ctx.Err() != nil {
			return
		}
		if !failing { // one outage, one line
			failing = true
			s.log.WarnContext(ctx, "subscription lost, trying again", slog.Any("err", err))
		}
		pause.Wait(ctx)
	}
	s.disconnected(ErrClosed, true)
}

// session is one connection, until it breaks or ctx ends.
func (s *subscriber) session(ctx context.Context, connected func()) error {
	conn, _, err := s.shard.servers.Dial(ctx, true)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // ends the read
	done := make(chan struct{})
	var writer sync.WaitGroup
	defer func() {
		close(done)
		if stop() {
			_ = conn.Close()
		}
		writer.Wait()
	}()
	s.connect()
	connected()
	writer.Go(func() {
		if err := s.write(conn, done); err != nil {
			_ = conn.Close() // the reader sees it
		}
	})
	w := redisconn.NewWire(conn, MaxPublished)
	for {
		if err := w.Await(subscriberSilence, defaultSocketTimeout); err != nil {
			return err
		}
		reply, err := w.Receive()
		if err != nil {
			return err
		}
		if err := s.handle(reply); err != nil {
			return err
		}
	}
}

// connect queues all subscriptions for a new connection.
func (s *subscriber) connect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected, s.ops = true, nil
	for name, sub := range s.subs {
		sub.unanswered = 0
		s.queue(sub, subscribeOp{name: name})
	}
}

// disconnected forgets what the connection knew, and tells those who wait.
func (s *subscriber) disconnected(err error, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connected, s.ops = false, nil
	s.closed = s.closed || closed
	for name, sub := range s.subs {
		sub.unanswered = 0
		if sub.refs == 0 {
			delete(s.subs, name)
		}
		if s.closed {
			err = ErrClosed
		}
		sub.tell(err)
	}
}

// write sends the operations of a connection in their order, those that came together in few commands.
func (s *subscriber) write(conn net.Conn, done <-chan struct{}) error {
	w := redisconn.NewWire(conn, 0)
	for {
		select {
		case <-done:
			return nil
		case <-s.wakeC:
		}
		s.mu.Lock()
		ops := s.ops
		s.ops = nil
		s.mu.Unlock()
		if err := conn.SetWriteDeadline(time.Now().Add(defaultSocketTimeout)); err != nil {
			return err
		}
		if commands := subscribeCommands(ops); len(commands) > 0 {
			if err := w.Send(commands...); err != nil {
				return err
			}
		}
	}
}

// subscribeCommands puts operations of one kind that follow each other into one command.
func subscribeCommands(ops []subscribeOp) [][]string {
	var commands [][]string
	for i, op := range ops {
		if i == 0 || op.off != ops[i-1].off || len(commands[len(commands)-1]) > maxSubscribe {
			verb := "SUBSCRIBE"
			if op.off {
				verb = "UNSUBSCRIBE"
			}
			commands = append(commands, []string{verb})
		}
		last := len(commands) - 1
		commands[last] = append(commands[last], op.name)
	}
	return commands
}

// handle takes one answer of a subscribed connection.
func (s *subscriber) handle(reply any) error {
	items, isArray := reply.([]any)
	if !isArray {
		if reply == "PONG" { // to a PING without any subscription
			return nil
		}
		return redisconn.ErrWire
	}
	if len(items) < 2 {
		return redisconn.ErrWire
	}
	kind, _ := items[0].(string)
	name, _ := items[1].(string)
	switch kind {
	case "message":
		if len(items) != 3 {
			return redisconn.ErrWire
		}
		switch payload := items[2].(type) {
		case string:
			s.deliver(name, payload)
		case redisconn.Oversized:
			s.obs.dropped(DropOversized, 1)
			s.log.Warn("published message is too large", slog.Int64("bytes", int64(payload)))
		default:
			return redisconn.ErrWire
		}
	case "subscribe", "unsubscribe":
		s.answered(name)
	}
	return nil // "pong" and what Redis may add one day
}

// answered notes that a command about a name has its answer.
func (s *subscriber) answered(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subs[name]
	if sub == nil {
		return
	}
	if sub.unanswered = max(sub.unanswered-1, 0); sub.unanswered > 0 {
		return
	}
	if sub.refs == 0 {
		delete(s.subs, name)
		return
	}
	sub.tell(nil)
}
