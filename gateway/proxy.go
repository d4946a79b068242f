package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

var (
	// errDrained is the cause with which the passed-through websockets of others end.
	errDrained = errors.New("gateway: drained")
	// errNoUpstream is logged when Config.FindUpstream has nothing.
	errNoUpstream = errors.New("gateway: no application server is ready")
)

// newProxy returns the handler for everything that is no window of df_websockets. Bodies are streamed both ways.
func newProxy(cfg *Config, samples *sampler, drainC <-chan struct{}) http.Handler {
	p := &proxy{
		log:      cfg.Logger,
		observer: &cfg.Observer,
		drainC:   drainC,
		headers:  newHeaderRules(cfg),
	}
	p.find = cfg.FindUpstream
	if p.find == nil {
		p.find = func() *url.URL { return cfg.Upstream }
	}
	p.upstream = newUpstreamState(cfg.Logger, samples)
	p.reverse = &httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      upstreamTransport(cfg),
		FlushInterval:  -1, // server-sent events and other streams go through as they come
		BufferPool:     new(copyBuffers),
		ErrorLog:       slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
		ErrorHandler:   p.failed,
		ModifyResponse: p.answered,
	}
	return p
}

type proxy struct {
	log      *slog.Logger
	observer *Observer
	drainC   <-chan struct{}
	headers  headerRules
	find     func() *url.URL // the application server of the moment; nil when none is ready
	upstream *upstreamState
	reverse  *httputil.ReverseProxy
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	rec := &statusRecorder{ResponseWriter: w}
	// Deferred, because ReverseProxy panics with http.ErrAbortHandler when a body breaks off.
	defer func() { p.observer.proxied(rec.status, time.Since(start)) }()
	if no := unfit(r); no != nil {
		p.refuse(rec, r, no)
		return
	}
	e := &exchange{upstream: p.find(), last: lastOfConnection(r)}
	if e.upstream == nil {
		p.none(rec, r)
		return
	}
	if hasBody(r) {
		// Without it the server reads what is left of a request before it sends an answer: there would be no stream both ways, and an
		// application that refuses an upload could not say so before its end.
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			p.log.Debug("no full duplex: answers wait for the ends of requests", "err", err)
		}
		e.body = &watchedBody{ReadCloser: r.Body, in: r}
		rec.early = true
	}
	r = r.WithContext(context.WithValue(r.Context(), exchangeKey{}, e))
	if e.body != nil {
		r.Body = e.body
	}
	if wantsWebsocket(r) {
		p.passThrough(rec, r)
		return
	}
	p.reverse.ServeHTTP(rec, r)
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
func (p *proxy) rewrite(r *httputil.ProxyRequest) {
	e := exchangeOf(r.In)
	target := upstreamURL(e.upstream)
	r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host
	r.Out.URL.RawQuery = r.In.URL.RawQuery // as it came: ReverseProxy drops parameters with semicolons
	r.Out.Host = r.In.Host
	onlyWebsocket(r)
	p.headers.apply(r)
	if e.body != nil {
		e.body.passTrailers(r.Out, &p.headers)
	}
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
	e := exchangeOf(r)
	p.upstream.failed(e.upstream, kind, id, err)
	if e.last {
		w.Header().Set("Connection", "close")
	}
	say(w, status, text, id)
}

// none answers a request while no application server is ready.
func (p *proxy) none(w http.ResponseWriter, r *http.Request) {
	p.observer.proxyFailed(ProxyStarting)
	id := requestID()
	p.upstream.failed(nil, ProxyAway, id, errNoUpstream)
	w.Header().Set("Retry-After", retryAfter)
	if lastOfConnection(r) {
		w.Header().Set("Connection", "close")
	}
	say(w, http.StatusServiceUnavailable, "503 Service Unavailable: the application server is starting.", id)
}

// say writes an answer of the gateway's own.
func say(w http.ResponseWriter, status int, text, id string) {
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
