// Package pages is many pages of df_websockets' script (df_websockets 1.2.6, js/df_websockets.min.js) without a browser: each comes back
// three seconds after its socket is gone, for ever and whatever the code was, and drops repeats by signal_id. It counts what arrives.
package pages

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// ReconnectDelay is the script's.
const ReconnectDelay = 3 * time.Second

// Options of a set of pages.
type Options struct {
	// URL is the websocket's, ws://host:port/ws/.
	URL string
	// Cookies are one Cookie header for each page.
	Cookies []string
	// CutEvery lets each page lose its socket again and again after this time; it comes back as from any other loss. 0: never.
	CutEvery time.Duration
	// Concurrency is how many handshakes the pages have under way at once; 0: no limit, as pages that come back at once.
	Concurrency int
}

// Set is a number of pages.
type Set struct {
	opts    Options
	stop    context.CancelFunc
	ctx     context.Context
	running sync.WaitGroup
	slots   chan struct{}
	pages   []*page

	open, refused, opened, repeats atomic.Int64
}

// page is one of them.
type page struct {
	set    *Set
	cookie string
	source net.IP
	mu     sync.Mutex
	conn   *websocket.Conn // nil while there is none
	seen   map[string]struct{}
}

// Open starts the pages. Their first connections are made at once.
func Open(ctx context.Context, opts Options) *Set {
	s := &Set{opts: opts}
	s.ctx, s.stop = context.WithCancel(ctx)
	if opts.Concurrency > 0 {
		s.slots = make(chan struct{}, opts.Concurrency)
	}
	for i, cookie := range opts.Cookies {
		p := &page{set: s, cookie: cookie, source: net.IPv4(127, 0, 0, byte(2+i%8)), seen: make(map[string]struct{})}
		s.pages = append(s.pages, p)
		s.running.Go(p.live)
	}
	return s
}

// Close ends the pages.
func (s *Set) Close() {
	s.stop()
	s.CutAll()
	s.running.Wait()
}

// CutAll breaks the sockets of all pages, without a goodbye. They come back.
func (s *Set) CutAll() {
	for _, p := range s.pages {
		p.cut()
	}
}

// Connected is how many pages have a socket.
func (s *Set) Connected() int { return int(s.open.Load()) }

// Refused is how many handshakes were not accepted, Opened how many were, and Repeats how many messages came again.
func (s *Set) Refused() int { return int(s.refused.Load()) }

// Opened is how many handshakes were accepted.
func (s *Set) Opened() int { return int(s.opened.Load()) }

// Repeats is how many messages came more than once.
func (s *Set) Repeats() int { return int(s.repeats.Load()) }

// Received is how many of the messages with these IDs have arrived, over all pages, and the smallest number that a page has.
func (s *Set) Received(ids []string) (total, least int) {
	least = len(ids)
	for _, p := range s.pages {
		p.mu.Lock()
		n := 0
		for _, id := range ids {
			if _, ok := p.seen[id]; ok {
				n++
			}
		}
		p.mu.Unlock()
		total += n
		least = min(least, n)
	}
	return total, least
}

// cut breaks the page's socket.
func (p *page) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return
	}
	if tcp, ok := p.conn.NetConn().(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = p.conn.Close()
}

// live connects, reads and comes back.
func (p *page) live() {
	for p.set.ctx.Err() == nil {
		if conn := p.connect(); conn != nil {
			p.read(conn)
		}
		wait(p.set.ctx, ReconnectDelay)
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (p *page) connect() *websocket.Conn {
	if p.set.slots != nil {
		p.set.slots <- struct{}{}
		defer func() { <-p.set.slots }()
	}
	dialer := websocket.Dialer{NetDialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: p.source}}).DialContext,
		ReadBufferSize: 1024, WriteBufferSize: 512, HandshakeTimeout: time.Minute}
	conn, resp, err := dialer.DialContext(p.set.ctx, p.set.opts.URL, http.Header{"Cookie": {p.cookie}})
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
	if err != nil {
		p.set.refused.Add(1)
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = conn
	p.set.opened.Add(1)
	p.set.open.Add(1)
	if p.set.ctx.Err() != nil { // Close did not see it
		_ = conn.Close()
	}
	return conn
}

// read takes messages until the socket is gone.
func (p *page) read(conn *websocket.Conn) {
	if every := p.set.opts.CutEvery; every > 0 {
		timer := time.AfterFunc(every/2+rand.N(every), p.cut) // each at its own time
		defer timer.Stop()
	}
	for {
		_, text, err := conn.ReadMessage()
		if err != nil {
			break
		}
		p.take(text)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = conn.Close()
	p.conn = nil
	p.set.open.Add(-1)
}

// take is the script's onmessage.
func (p *page) take(text []byte) {
	_, rest, ok := bytes.Cut(text, []byte(`"signal_id": "`))
	if !ok {
		return
	}
	id, _, _ := bytes.Cut(rest, []byte(`"`))
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.seen[string(id)]; ok {
		p.set.repeats.Add(1)
		return
	}
	p.seen[string(id)] = struct{}{}
}
