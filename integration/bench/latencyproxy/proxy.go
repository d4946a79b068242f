// Package latencyproxy is a TCP proxy that adds a delay to each direction, as a longer wire does: what was sent arrives later, but
// nobody waits for it to arrive before sending more.
package latencyproxy

import (
	"errors"
	"net"
	"sync"
	"time"
)

const (
	chunkSize = 64 << 10
	// chunks is how much of one direction may be under way; a full wire makes its sender wait.
	chunks = 256
)

// Proxy forwards connections until Close.
type Proxy struct {
	listener net.Listener
	target   string
	delay    time.Duration
	wg       sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

// Listen makes a proxy on a free port of 127.0.0.1. delay is added to each direction.
func Listen(target string, delay time.Duration) (*Proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: listener, target: target, delay: delay, conns: make(map[net.Conn]struct{})}
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is where it listens, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close ends all connections and waits for what forwards them.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	errs := []error{p.listener.Close()}
	for conn := range p.conns {
		_ = conn.Close() // both sides see the end, that is enough
	}
	p.mu.Unlock()
	p.wg.Wait()
	return errors.Join(errs...)
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close() // the client sees a connection that ends at once
			continue
		}
		if !p.hold(client, server) {
			return
		}
		p.wg.Go(func() { p.forward(server, client) })
		p.wg.Go(func() { p.forward(client, server) })
	}
}

// hold notes the connections for Close; false when that was called before.
func (p *Proxy) hold(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		if p.closed {
			_ = conn.Close()
			continue
		}
		p.conns[conn] = struct{}{}
	}
	return !p.closed
}

func (p *Proxy) drop(conn net.Conn) {
	p.mu.Lock()
	delete(p.conns, conn)
	p.mu.Unlock()
	_ = conn.Close() // the other direction ends with it
}

// chunk is what was read at once, and when it is to arrive.
type chunk struct {
	data []byte
	at   time.Time
}

// forward copies one direction.
func (p *Proxy) forward(to, from net.Conn) {
	wire := make(chan chunk, chunks) // closed when from has ended
	p.wg.Go(func() {
		defer p.drop(to)
		failed := false
		for c := range wire { // to its end, so that the reader never blocks for ever
			if failed {
				continue
			}
			time.Sleep(time.Until(c.at))
			_, err := to.Write(c.data)
			failed = err != nil
		}
	})
	defer close(wire)
	defer p.drop(from)
	for {
		buf := make([]byte, chunkSize)
		n, err := from.Read(buf)
		if n > 0 {
			wire <- chunk{buf[:n:n], time.Now().Add(p.delay)}
		}
		if err != nil {
			return
		}
	}
}
