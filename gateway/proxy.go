package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// proxyBufferSize is the size of a copy buffer, as io.Copy has it.
const proxyBufferSize = 32 << 10

// errDrained is the cause with which the passed-through websockets of others end.
var errDrained = errors.New("gateway: drained")

// newProxy returns the handler for everything that is no window of df_websockets. Bodies are streamed both ways.
func newProxy(cfg *Config, samples *sampler, drainC <-chan struct{}) http.Handler {
	p := &proxy{
		log:      cfg.Logger,
		observer: &cfg.Observer,
		drainC:   drainC,
		headers:  newHeaderRules(cfg),
	}
	target := upstreamURL(cfg.Upstream)
	p.upstream = newUpstreamState(cfg.Logger, samples, target.Host)
	p.reverse = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { p.rewrite(r, target) },
		Transport:     upstreamTransport(cfg),
		FlushInterval: -1, // server-sent events and other streams go through as they come
		BufferPool:    new(copyBuffers),
		ErrorLog:      slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
		ErrorHandler:  p.failed,
		ModifyResponse: func(*http.Response) error {
			p.upstream.answered()
			return nil
		},
	}
	return p
}

type proxy struct {
	log      *slog.Logger
	observer *Observer
	drainC   <-chan struct{}
	headers  headerRules
	upstream *upstreamState
	reverse  *httputil.ReverseProxy
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	rec := &statusRecorder{ResponseWriter: w}
	// Deferred, because ReverseProxy panics with http.ErrAbortHandler when a body breaks off.
	defer func() { p.observer.proxied(rec.status, time.Since(start)) }()
	if wantsWebsocket(r) {
		p.passThrough(rec, r)
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		body := &watchedBody{ReadCloser: r.Body}
		r = r.WithContext(context.WithValue(r.Context(), bodyKey{}, body))
		r.Body = body
	}
	p.reverse.ServeHTTP(rec, r)
}

// bodyKey finds the watchedBody of a request.
type bodyKey struct{}

// watchedBody notes that the client broke off its request: the transport's error does not tell whose fault it was.
type watchedBody struct {
	io.ReadCloser
	broken atomic.Bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, http.ErrBodyReadAfterClose) {
		b.broken.Store(true)
	}
	return n, err
}

// clientBroke says whether the request itself ended too early.
func clientBroke(r *http.Request) bool {
	body, ok := r.Context().Value(bodyKey{}).(*watchedBody)
	return r.Context().Err() != nil || (ok && body.broken.Load())
}

// passThrough serves somebody else's websocket until one side ends it or the gateway drains: the server's own shutdown does not see it.
func (p *proxy) passThrough(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancelCause(r.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() {
		select {
		case <-p.drainC:
			cancel(errDrained)
		case <-ctx.Done():
		}
	})
	p.reverse.ServeHTTP(w, r.WithContext(ctx))
}

// rewrite makes the request for the application server: same path, query and Host, our own forwarded headers.
func (p *proxy) rewrite(r *httputil.ProxyRequest, target *url.URL) {
	r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
	r.Out.URL.RawQuery = r.In.URL.RawQuery // as it came: ReverseProxy drops parameters with semicolons
	r.Out.Host = r.In.Host
	onlyWebsocket(r)
	p.headers.apply(r)
}

// onlyWebsocket lets no other protocol be asked for than a websocket: behind an upgrade to h2c a client speaks to the application server
// without us, and could forge every header of its requests.
func onlyWebsocket(r *httputil.ProxyRequest) {
	switch out := r.Out.Header; {
	case out.Get("Upgrade") == "":
	case wantsWebsocket(r.In):
		out.Set("Upgrade", "websocket") // there may have been others beside it
	default:
		out.Del("Upgrade")
		out.Del("Connection")
	}
}

// failed answers a request that the application server did not.
func (p *proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	kind := proxyFailure(r, err)
	p.observer.proxyFailed(kind)
	if kind == ProxyCanceled {
		// Nobody reads it; the status is for whoever logs requests.
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	id := requestID()
	status, text := http.StatusBadGateway, "502 Bad Gateway: the application server is not available."
	if kind == ProxyTimeout {
		status, text = http.StatusGatewayTimeout, "504 Gateway Timeout: the application server did not answer in time."
	}
	p.upstream.failed(kind, id, err)
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Request-Id", id)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\nRequest id: "+id+"\n") // the client may be gone
}

// proxyFailure names what went wrong.
func proxyFailure(r *http.Request, err error) string {
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled) || clientBroke(r):
		return ProxyCanceled
	case errors.As(err, &op) && op.Op == "dial":
		return ProxyAway
	case errors.As(err, &timeout) && timeout.Timeout():
		return ProxyTimeout
	default:
		return ProxyBroken
	}
}

// statusRecorder notes the status of an answer. Unwrap keeps Flush working.
type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (s *statusRecorder) WriteHeader(status int) {
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
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
