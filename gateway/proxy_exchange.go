package gateway

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
)

// proxyBufferSize is the size of a copy buffer, as io.Copy has it.
const proxyBufferSize = 32 << 10

// exchange is what the steps of one proxied request share, in its context.
type exchange struct {
	upstream *url.URL     // where it goes
	body     *watchedBody // nil when it has none
	last     bool         // its connection is closed after it
}

type exchangeKey struct{}

// exchangeOf returns the exchange of a request that ServeHTTP has let through.
func exchangeOf(r *http.Request) *exchange { return r.Context().Value(exchangeKey{}).(*exchange) }

// hasBody says whether a request has a body, of whatever length.
func hasBody(r *http.Request) bool { return r.Body != nil && r.Body != http.NoBody }

// watchedBody is the body of a request. It notes that the client broke off, since the transport's error does not tell whose fault it was,
// and hands the trailers over at its end.
type watchedBody struct {
	io.ReadCloser
	in       *http.Request // its Trailer is complete when Read returned io.EOF
	trailers http.Header   // of the request to the application server, with the names that may pass; the transport reads it after io.EOF
	broken   atomic.Bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		for name := range b.trailers {
			b.trailers[name] = b.in.Trailer[name]
		}
	case !errors.Is(err, http.ErrBodyReadAfterClose):
		b.broken.Store(true)
	}
	return n, err
}

// passTrailers announces the trailers of the request to the application server: those that would pass as headers.
func (b *watchedBody) passTrailers(out *http.Request, rules *headerRules) {
	out.Trailer = nil // ReverseProxy's copy never gets values
	if len(b.in.Trailer) == 0 {
		return
	}
	names := make(http.Header, len(b.in.Trailer))
	for name := range b.in.Trailer {
		names[name] = nil
	}
	rules.dropForged(names, false)
	if len(names) > 0 {
		b.trailers, out.Trailer = names, names
	}
}

// clientBroke says whether the request itself ended too early.
func clientBroke(r *http.Request) bool {
	body := exchangeOf(r).body
	return r.Context().Err() != nil || (body != nil && body.broken.Load())
}

// answered prepares the application server's answer for the client.
func (p *proxy) answered(res *http.Response) error {
	p.upstream.answered()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return nil
	}
	e := exchangeOf(res.Request)
	if e.last {
		res.Header.Set("Connection", "close")
	}
	res.Body = &answerBody{ReadCloser: res.Body, cut: func(err error) {
		if res.Request.Context().Err() != nil {
			p.observer.proxyFailed(ProxyCanceled)
			return
		}
		p.observer.proxyFailed(ProxyCut)
		p.upstream.failed(e.upstream, ProxyCut, "", err)
	}}
	return nil
}

// answerBody is the body of an answer. It notes that the application server broke off: the client's connection is then cut as well, so that
// nobody takes a part for the whole.
type answerBody struct {
	io.ReadCloser
	cut func(error)
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && b.cut != nil {
		b.cut(err)
		b.cut = nil
	}
	return n, err
}

// statusRecorder notes the status of an answer. Unwrap keeps Flush working.
type statusRecorder struct {
	http.ResponseWriter
	status int
	early  bool // the request has a body: its client may wait for an answer, even an empty one, before it sends more
}

func (s *statusRecorder) WriteHeader(status int) {
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
	if s.early && status >= http.StatusOK {
		_ = http.NewResponseController(s.ResponseWriter).Flush() // fails on a broken connection, as what follows does
	}
}

// Hijack implements http.Hijacker: the answer that makes a websocket is written past WriteHeader.
func (s *statusRecorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err == nil {
		s.status = http.StatusSwitchingProtocols
	}
	return conn, buf, err
}

// Unwrap is what http.ResponseController looks for.
func (s *statusRecorder) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// copyBuffers is a httputil.BufferPool.
type copyBuffers struct{ pool sync.Pool }

func (c *copyBuffers) Get() []byte {
	if b, ok := c.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, proxyBufferSize)
}

func (c *copyBuffers) Put(b []byte) { c.pool.Put(&b) }
