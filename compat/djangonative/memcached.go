package djangonative

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"strings"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/djangostate"
)

// memcachedTimeout bounds one command.
const memcachedTimeout = 2 * time.Second

// memcached is django.core.cache.backends.memcached.PyMemcacheCache.
type memcached struct {
	client *memcache.Client
	cache  compat.Cache
}

func openMemcached(c compat.Cache) (cache, error) {
	nodes := &rendezvous{}
	for _, server := range c.Servers {
		addr, err := memcachedAddr(server.Reveal())
		if err != nil {
			return nil, err
		}
		nodes.names, nodes.addrs = append(nodes.names, server.Reveal()), append(nodes.addrs, addr)
	}
	client := memcache.NewFromSelector(nodes)
	client.Timeout, client.MaxIdleConns = memcachedTimeout, redisPool
	return &memcached{client, c}, nil
}

func (c *memcached) get(_ context.Context, key string) (celeryproto.Raw, error) {
	item, err := c.client.Get(fullKey(&c.cache, key))
	switch {
	case errors.Is(err, memcache.ErrCacheMiss), errors.Is(err, memcache.ErrMalformedKey):
		return nil, errNone
	case err != nil:
		return nil, err
	}
	return djangostate.DecodeMemcached(item.Flags, item.Value)
}

func (c *memcached) close() error { return c.client.Close() }

// address is a net.Addr by its text; the client dials it.
type address struct{ network, text string }

func (a address) Network() string { return a.network }
func (a address) String() string  { return a.text }

// memcachedAddr reads a server as pymemcache names it: host:port, or the path of a socket.
func memcachedAddr(server string) (net.Addr, error) {
	if strings.HasPrefix(server, "/") {
		return address{"unix", server}, nil
	}
	// pymemcache leaves out the brackets of an IPv6 address.
	at := strings.LastIndexByte(server, ':')
	if at <= 0 {
		return nil, fmt.Errorf("server: no host:port")
	}
	return address{"tcp", net.JoinHostPort(strings.Trim(server[:at], "[]"), server[at+1:])}, nil
}

// rendezvous chooses the server of a key as pymemcache does (pymemcache 4.0, client/rendezvous.py): the one whose name has the highest hash together
// with the key, and of two of them the one whose name is greater.
type rendezvous struct {
	names []string
	addrs []net.Addr
}

// PickServer implements memcache.ServerSelector.
func (r *rendezvous) PickServer(key string) (net.Addr, error) { return r.addrs[r.pick(key)], nil }

func (r *rendezvous) pick(key string) int {
	winner, high := 0, int64(-1)
	for i, name := range r.names {
		score := int64(murmur3([]byte(name + "-" + key)))
		if score > high || score == high && name > r.names[winner] {
			winner, high = i, score
		}
	}
	return winner
}

// Each implements memcache.ServerSelector.
func (r *rendezvous) Each(f func(net.Addr) error) error {
	for _, addr := range r.addrs {
		if err := f(addr); err != nil {
			return err
		}
	}
	return nil
}

// murmur3 is MurmurHash3_x86_32 with the seed 0 (pymemcache 4.0, client/murmur3.py).
func murmur3(data []byte) uint32 {
	const c1, c2 = 0xcc9e2d51, 0x1b873593
	h, n := uint32(0), uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := binary.LittleEndian.Uint32(data) * c1
		h = bits.RotateLeft32(h^bits.RotateLeft32(k, 15)*c2, 13)*5 + 0xe6546b64
	}
	if len(data) > 0 {
		var k uint32
		for i, b := range data {
			k |= uint32(b) << (8 * i)
		}
		h ^= bits.RotateLeft32(k*c1, 15) * c2
	}
	h ^= n
	h = (h ^ h>>16) * 0x85ebca6b
	h = (h ^ h>>13) * 0xc2b2ae35
	return h ^ h>>16
}
