package pages

import (
	"errors"
	"io"
	"net"
	"sync"
)

// Balancer passes TCP connections on, to one target after the other, as any load balancer without stickiness.
type Balancer struct {
	Addr     string
	listener net.Listener
	running  sync.WaitGroup

	mu      sync.Mutex
	targets []string
	next    int
	conns   map[*net.TCPConn]struct{} // those of the clients
	closed  bool
}

// NewBalancer listens on a free port of the loopback. targets are host:port.
func NewBalancer(targets ...string) (*Balancer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Balancer{Addr: listener.Addr().String(), listener: listener, targets: targets, conns: make(map[*net.TCPConn]struct{})}
	b.running.Go(b.accept)
	return b, nil
}

// SetTargets says where new connections go. Those that are open stay.
func (b *Balancer) SetTargets(targets ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.targets = targets
}

// Cut breaks all connections, without a goodbye to either side.
func (b *Balancer) Cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for conn := range b.conns {
		_ = conn.SetLinger(0)
		_ = conn.Close()
	}
}

// Close ends everything.
func (b *Balancer) Close() error {
	err := b.listener.Close()
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.Cut()
	b.running.Wait()
	return err
}

func (b *Balancer) accept() {
	for {
		conn, err := b.listener.Accept()
		if err != nil {
			return // closed
		}
		b.running.Go(func() { b.serve(conn.(*net.TCPConn)) })
	}
}

func (b *Balancer) serve(client *net.TCPConn) {
	defer func() { _ = client.Close() }()
	b.mu.Lock()
	if b.closed || len(b.targets) == 0 {
		b.mu.Unlock()
		return
	}
	b.next++
	target := b.targets[b.next%len(b.targets)]
	b.conns[client] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.conns, client)
	}()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return // as a balancer that has not noticed yet
	}
	defer func() { _ = server.Close() }()
	var back sync.WaitGroup
	back.Go(func() { pass(client, server) })
	pass(server, client)
	back.Wait()
}

// pass copies one direction and ends the other side's when it is over.
func pass(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if err != nil && !errors.Is(err, net.ErrClosed) {
		_ = to.Close() // a broken connection is broken on both sides
		_ = from.Close()
		return
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}
