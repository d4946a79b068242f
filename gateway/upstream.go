package gateway

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// unixUpstreamHost stands for the socket in URLs; the Host header is the client's own.
const unixUpstreamHost = "upstream"

// upstreamURL is where requests go, for the transport.
func upstreamURL(u *url.URL) *url.URL {
	if u.Scheme == "unix" {
		return &url.URL{Scheme: "http", Host: unixUpstreamHost}
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}
}

// upstreamTransport talks to the application server: no proxy from the environment, no compression of its own, HTTP/1.1.
func upstreamTransport(cfg *Config) *http.Transport {
	dialer := &net.Dialer{Timeout: cfg.UpstreamDialTimeout}
	dial := dialer.DialContext
	if cfg.Upstream.Scheme == "unix" {
		path := cfg.Upstream.Path
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) }
	}
	return &http.Transport{
		DialContext:           dial,
		DisableCompression:    true,
		MaxIdleConns:          cfg.UpstreamIdleConns,
		MaxIdleConnsPerHost:   cfg.UpstreamIdleConns,
		IdleConnTimeout:       cfg.UpstreamIdleTimeout,
		ResponseHeaderTimeout: max(cfg.UpstreamHeaderTimeout, 0),
		ExpectContinueTimeout: time.Second,
	}
}

// upstreamState logs the events of the application server's life, not each request that suffers from them.
type upstreamState struct {
	log     *slog.Logger
	samples *sampler
	host    string

	mu       sync.Mutex
	since    time.Time // of the first failed dial in a row, zero while all is well
	failures int
}

func newUpstreamState(log *slog.Logger, samples *sampler, host string) *upstreamState {
	return &upstreamState{log: log, samples: samples, host: host}
}

// failed notes a request without an answer. Those that the server took but did not answer say something about the request, so each has
// its line; a server that is away has one for all.
func (s *upstreamState) failed(kind, id string, err error) {
	if kind != ProxyAway {
		s.samples.warn(s.log, "application server gave no answer", "upstream", s.host, "kind", kind, "request_id", id, "err", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures++
	if !s.since.IsZero() {
		s.log.Debug("application server is still away", "upstream", s.host, "request_id", id, "err", err)
		return
	}
	s.since = time.Now()
	s.log.Error("application server is away, requests get 502", "upstream", s.host, "request_id", id, "err", err)
}

// answered notes an answer.
func (s *upstreamState) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		return
	}
	s.log.Info("application server is back", "upstream", s.host, "away", time.Since(s.since).Round(time.Millisecond), "failed", s.failures)
	s.since, s.failures = time.Time{}, 0
}
