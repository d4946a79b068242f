package harness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Tap is a TCP proxy in front of a Redis that Python Celery workers connect through. It notes which messages they popped, and which of
// these they then recorded in kombu's unacked hash. A worker that is killed between the two has lost the message: that gap is
// Python's own, and Tap tells exactly which messages fell into it.
type Tap struct {
	Addr string

	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu       sync.Mutex
	conns    map[net.Conn]struct{} // nil after Close
	popped   map[string]string     // task ID → delivery tag, of messages that were given to a worker and not recorded since
	failures []error
}

// NewTap starts a tap in front of the server at an address.
func (l *Lab) NewTap(target string) (*Tap, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("harness: tap: %w", err)
	}
	t := &Tap{
		Addr: listener.Addr().String(), target: target, listener: listener, conns: map[net.Conn]struct{}{}, popped: map[string]string{},
	}
	t.wg.Go(t.accept)
	l.onClose(t.Close)
	return t, nil
}

// Unrecorded are the IDs of the tasks that a worker has popped and not recorded: those that it is about to record, and those that died
// with it. The error is what the tap did not understand, which makes its answer worthless.
func (t *Tap) Unrecorded() (ids []string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range t.popped {
		ids = append(ids, id)
	}
	return ids, errors.Join(t.failures...)
}

// Close ends all connections.
func (t *Tap) Close() error {
	err := t.listener.Close()
	t.mu.Lock()
	for conn := range t.conns {
		_ = conn.Close()
	}
	t.conns = nil
	t.mu.Unlock()
	t.wg.Wait()
	return err
}

func (t *Tap) accept() {
	for {
		client, err := t.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", t.target)
		if err != nil { // Redis is away: so is the tap
			_ = client.Close()
			continue
		}
		if !t.own(client, server) {
			return
		}
		t.wg.Go(func() { t.relay(client, server) })
	}
}

func (t *Tap) own(conns ...net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, conn := range conns {
		if t.conns == nil {
			_ = conn.Close()
			continue
		}
		t.conns[conn] = struct{}{}
	}
	return t.conns != nil
}

// relay passes on what the two say until both have said everything. When a client ends, what Redis has answered until then is noted too,
// since Redis has popped it.
func (t *Tap) relay(client, server net.Conn) {
	defer func() {
		_ = server.Close()
		_ = client.Close()
		t.mu.Lock()
		delete(t.conns, client)
		delete(t.conns, server)
		t.mu.Unlock()
	}()
	number, err := clientID(server)
	if err != nil {
		t.failed(err)
		return
	}
	var replies sync.WaitGroup
	replies.Go(func() {
		t.forward(client, server, t.readReplies)
		_ = client.Close() // nothing comes any more; ends the other direction
	})
	t.forward(server, client, t.readCommands)
	t.failed(t.unblock(number))
	if tcp, ok := server.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	replies.Wait()
}

// failed notes an error, if it is one.
func (t *Tap) failed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil && t.conns != nil {
		t.failures = append(t.failures, err)
	}
}

// clientID is the number of a new connection to Redis.
func clientID(server net.Conn) (string, error) {
	if _, err := io.WriteString(server, "CLIENT ID\r\n"); err != nil {
		return "", err
	}
	return integerReply(server)
}

// unblock ends the BRPOP that a connection may wait in. Redis frees a client whose end it sees without writing what it has just popped
// for it: so it must be given its answer before it ends.
func (t *Tap) unblock(number string) error {
	conn, err := net.Dial("tcp", t.target)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "CLIENT UNBLOCK "+number+"\r\n"); err != nil {
		return err
	}
	_, err = integerReply(conn)
	return err
}

func integerReply(conn net.Conn) (string, error) {
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", err
	}
	number, isInteger := strings.CutPrefix(strings.TrimSuffix(line, "\r\n"), ":")
	if !isInteger {
		return "", fmt.Errorf("harness: tap: Redis said %q", line)
	}
	return number, nil
}

// forward copies from one connection to the other until it ends, and to a reader of what it means.
func (t *Tap) forward(to, from net.Conn, read func(*bufio.Reader) error) {
	copied, copyTo := io.Pipe()
	var reading sync.WaitGroup
	reading.Go(func() {
		err := read(bufio.NewReader(copied))
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.failed(err)
		}
		_, _ = io.Copy(io.Discard, copied)
	})
	// What goes on first is what is noted: a message counts as popped before its worker has it.
	_, _ = io.Copy(io.MultiWriter(copyTo, to), from)
	_, _ = io.Copy(copyTo, from) // to is gone: the rest is only noted
	_ = copyTo.Close()
	reading.Wait()
}

var (
	taskID      = regexp.MustCompile(`"id": "([^"]+)"`)
	deliveryTag = regexp.MustCompile(`"delivery_tag": "([^"]+)"`)
)

// readReplies looks for the replies to BRPOP: a list of a key and a message.
func (t *Tap) readReplies(r *bufio.Reader) error {
	for {
		value, err := readRESP(r)
		if err != nil {
			return err
		}
		list, _ := value.([]any)
		if len(list) != 2 {
			continue
		}
		message, _ := list[1].(string)
		id, tag := taskID.FindStringSubmatch(message), deliveryTag.FindStringSubmatch(message)
		if id == nil || tag == nil {
			continue
		}
		t.mu.Lock()
		t.popped[id[1]] = tag[1]
		t.mu.Unlock()
	}
}

// readCommands looks for HSET unacked in a transaction that is executed.
func (t *Tap) readCommands(r *bufio.Reader) error {
	var recorded []string
	for {
		value, err := readRESP(r)
		if err != nil {
			return err
		}
		command, _ := value.([]any)
		if len(command) == 0 {
			continue
		}
		name, _ := command[0].(string)
		switch strings.ToUpper(name) {
		case "MULTI":
			recorded = nil
		case "HSET":
			if key, _ := command[1].(string); len(command) == 4 && key == "unacked" {
				tag, _ := command[2].(string)
				recorded = append(recorded, tag)
			}
		case "EXEC":
			t.mu.Lock()
			for _, tag := range recorded {
				for id, popped := range t.popped {
					if popped == tag {
						delete(t.popped, id)
					}
				}
			}
			t.mu.Unlock()
		}
	}
}

// readRESP reads one value of RESP2: string, int64, error, nil or a list of these.
func readRESP(r *bufio.Reader) (any, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return nil, errors.New("harness: tap: empty line")
	}
	kind, rest := line[0], line[1:]
	if kind == '+' || kind == '-' || kind == ':' {
		return rest, nil
	}
	n, err := strconv.Atoi(rest)
	if err != nil || kind != '$' && kind != '*' {
		return nil, fmt.Errorf("harness: tap: unexpected line of %d bytes starting with %q", len(line), kind)
	}
	if n < 0 {
		return nil, nil
	}
	if kind == '$' {
		text := make([]byte, n+2)
		_, err := io.ReadFull(r, text)
		return string(text[:n]), err
	}
	list := make([]any, n)
	for i := range list {
		if list[i], err = readRESP(r); err != nil {
			return nil, err
		}
	}
	return list, nil
}
