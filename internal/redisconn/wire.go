package redisconn

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// Limits of what a wire reads.
const (
	maxWireLine  = 4 << 10 // one status, error or number
	maxWireItems = 4 << 10 // elements of an array
	maxWireDepth = 4       // arrays in arrays
	wireBuffer   = 4 << 10
	// wireMessageTime bounds the arrival of one message once it has begun.
	wireMessageTime = time.Minute
)

// Wire speaks RESP 2 on one connection, for what go-redis has no place for: the first commands of a connection whose server is
// only known once it is dialled, Sentinels, and subscriptions, whose losses of connection must be told and whose messages must
// be bounded. It is not safe for concurrent use.
type Wire struct {
	conn net.Conn
	r    *bufio.Reader
	// maxBulk is the longest string that is kept. A longer one is read past and stands as Oversized in its place.
	maxBulk int
	buf     []byte
}

// NewWire returns a wire on conn that keeps strings of at most maxBulk bytes.
func NewWire(conn net.Conn, maxBulk int) *Wire {
	return &Wire{conn: conn, r: bufio.NewReaderSize(conn, wireBuffer), maxBulk: maxBulk}
}

// Oversized stands for a string that was longer than maxBulk, with its length.
type Oversized int64

// ErrWire reports bytes that are no answer of Redis.
var ErrWire = errors.New("not an answer of Redis")

// Send writes commands, in one go.
func (w *Wire) Send(commands ...[]string) error {
	b := w.buf[:0]
	for _, args := range commands {
		b = append(strconv.AppendInt(append(b, '*'), int64(len(args)), 10), "\r\n"...)
		for _, arg := range args {
			b = append(strconv.AppendInt(append(b, '$'), int64(len(arg)), 10), "\r\n"...)
			b = append(append(b, arg...), "\r\n"...)
		}
	}
	w.buf = b
	_, err := w.conn.Write(b)
	return err
}

// Receive reads one answer: a string, an int64, nil, Oversized, or a []any of these. An error of Redis is a ReplyError inside
// an array, and the error when it is the answer.
func (w *Wire) Receive() (any, error) {
	reply, err := w.reply(0)
	if failed, ok := reply.(ReplyError); ok && err == nil {
		return nil, failed
	}
	return reply, err
}

// Do sends a command and reads the answer.
func (w *Wire) Do(args ...string) (any, error) {
	if err := w.Send(args); err != nil {
		return nil, err
	}
	return w.Receive()
}

// Await returns when something arrives. Silence of the given length, if it is positive, makes it send a PING, which must be answered
// within timeout. It is for subscriptions, which have no other answers to wait for.
func (w *Wire) Await(silence, timeout time.Duration) error {
	asked := false
	for {
		var deadline time.Time
		switch {
		case asked:
			deadline = time.Now().Add(timeout)
		case silence > 0:
			deadline = time.Now().Add(silence)
		}
		if err := w.conn.SetDeadline(deadline); err != nil {
			return err
		}
		_, err := w.r.Peek(1)
		netErr, isNet := errors.AsType[net.Error](err)
		switch {
		case err == nil:
			return w.conn.SetDeadline(time.Now().Add(wireMessageTime))
		case !isNet || !netErr.Timeout():
			return err
		case asked:
			return fmt.Errorf("no answer to PING: %w", err)
		}
		asked = true
		if err := w.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		if err := w.Send([]string{"PING"}); err != nil {
			return err
		}
	}
}

func (w *Wire) reply(depth int) (any, error) {
	line, err := w.line()
	if err != nil {
		return nil, err
	}
	if line == "" {
		return nil, ErrWire
	}
	switch text := line[1:]; line[0] {
	case '+':
		return text, nil
	case '-':
		return ReplyError(text), nil
	case ':':
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, ErrWire
		}
		return n, nil
	case '$':
		return w.bulk(text)
	case '*':
		return w.array(text, depth)
	default:
		return nil, ErrWire
	}
}

// line reads up to CR LF, which it removes.
func (w *Wire) line() (string, error) {
	var line []byte
	for {
		part, err := w.r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxWireLine:
			return "", fmt.Errorf("%w: a line of more than %d bytes", ErrWire, maxWireLine)
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return "", unexpectedEOF(err, len(line) > 0)
		case len(line) < 2 || line[len(line)-2] != '\r':
			return "", ErrWire
		}
		return string(line[:len(line)-2]), nil
	}
}

// ReplyError is an error that Redis has answered with; for go-redis it is one of its own.
type ReplyError string

// Error implements error.
func (e ReplyError) Error() string { return string(e) }

// RedisError implements redis.Error.
func (ReplyError) RedisError() {}

// unexpectedEOF tells an end in the middle from one between two answers.
func unexpectedEOF(err error, middle bool) error {
	if middle && errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (w *Wire) bulk(length string) (any, error) {
	n, err := strconv.ParseInt(length, 10, 64)
	switch {
	case err != nil || n < -1:
		return nil, ErrWire
	case n == -1:
		return nil, nil
	case n > int64(w.maxBulk):
		if _, err := io.CopyN(io.Discard, w.r, n); err != nil {
			return nil, unexpectedEOF(err, true)
		}
		return Oversized(n), w.lineEnd()
	}
	// The memory grows with what arrives, not with what was announced.
	b := make([]byte, 0, min(n, wireBuffer))
	for int64(len(b)) < n {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		m, err := io.ReadFull(w.r, b[len(b):min(int64(cap(b)), n)])
		b = b[:len(b)+m]
		if err != nil {
			return nil, unexpectedEOF(err, true)
		}
	}
	return string(b), w.lineEnd()
}

func (w *Wire) lineEnd() error {
	var end [2]byte
	if _, err := io.ReadFull(w.r, end[:]); err != nil {
		return unexpectedEOF(err, true)
	}
	if end != [2]byte{'\r', '\n'} {
		return ErrWire
	}
	return nil
}

func (w *Wire) array(length string, depth int) (any, error) {
	n, err := strconv.ParseInt(length, 10, 64)
	switch {
	case err != nil || n < -1 || n > maxWireItems || depth == maxWireDepth:
		return nil, ErrWire
	case n == -1:
		return nil, nil
	}
	items := make([]any, 0, min(n, 64))
	for range n {
		item, err := w.reply(depth + 1)
		if err != nil {
			return nil, unexpectedEOF(err, true)
		}
		items = append(items, item)
	}
	return items, nil
}
