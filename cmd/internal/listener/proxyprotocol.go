package listener

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"
)

// headerTimeout is how long a load balancer may take for its header, which it sends at once.
const headerTimeout = 5 * time.Second

// errNotTCP is returned for a header that is about something else than a TCP connection.
var errNotTCP = errors.New("listener: PROXY header of another protocol than TCP")

// WithProxyProtocol returns a listener whose connections from trusted addresses begin with a PROXY header. refused is called, with the address
// of the load balancer, for each connection whose header is missing or wrong; such a connection is closed. l must be a TCP listener.
func WithProxyProtocol(l net.Listener, trusted []netip.Prefix, refused func(peer net.Addr, err error)) net.Listener {
	return &proxyListener{Listener: l, trusted: trusted, refused: refused}
}

type proxyListener struct {
	net.Listener
	trusted []netip.Prefix
	refused func(net.Addr, error)
}

// Accept implements net.Listener. It does not wait for the header: the connection's first user does.
func (l *proxyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	raw, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("listener: the PROXY protocol needs TCP, not %T", conn), conn.Close())
	}
	peer, ok := raw.RemoteAddr().(*net.TCPAddr)
	if !ok || !l.trusts(peer.AddrPort().Addr()) {
		return raw, nil
	}
	return newProxiedConn(raw, l.refused), nil
}

func (l *proxyListener) trusts(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(l.trusted, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// proxiedConn is a connection of a load balancer. Its RemoteAddr is the client's once the header is read, which the first RemoteAddr, Read or
// Write waits for.
type proxiedConn struct {
	*proxyproto.Conn
	raw     *net.TCPConn
	refused func(net.Addr, error)
	told    atomic.Bool
}

func newProxiedConn(raw *net.TCPConn, refused func(net.Addr, error)) *proxiedConn {
	return &proxiedConn{raw: raw, refused: refused, Conn: proxyproto.NewConn(raw, proxyproto.WithPolicy(proxyproto.REQUIRE),
		proxyproto.SetReadHeaderTimeout(headerTimeout), proxyproto.ValidateHeader(onlyTCP))}
}

// onlyTCP refuses headers about other connections. A load balancer's own, for its health checks, has no addresses.
func onlyTCP(h *proxyproto.Header) error {
	if h.Command.IsLocal() {
		return nil
	}
	_, source := h.SourceAddr.(*net.TCPAddr)
	if !source || !h.TransportProtocol.IsStream() {
		return errNotTCP
	}
	return nil
}

// Read tells of a bad header once.
func (c *proxiedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && c.ProxyHeader() == nil && !c.told.Swap(true) {
		c.refused(c.raw.RemoteAddr(), err)
	}
	return n, err
}

// SyscallConn implements syscall.Conn. It is for writing, after the first Read.
func (c *proxiedConn) SyscallConn() (syscall.RawConn, error) { return c.raw.SyscallConn() }

// CloseWrite sends the end of the stream; net/http looks for it.
func (c *proxiedConn) CloseWrite() error { return c.raw.CloseWrite() }
