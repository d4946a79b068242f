package gateway

import (
	"context"
	"encoding/hex"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// maxAnswerHeaderBytes bounds the headers of the application server's answer; Go's own limit is 10 MiB.
const maxAnswerHeaderBytes = 1 << 20

// unixHost marks a host name of upstreamURL that is the path of a socket in hex. The Host header is the client's own.
const unixHost = ".unix"

// upstreamURL is where requests go, for the transport. Each socket is a host of its own, so that no connection to one that was
// replaced gets another request.
func upstreamURL(u *url.URL) *url.URL {
	if u.Scheme == "unix" {
		return &url.URL{Scheme: "http", Host: hex.EncodeToString([]byte(u.Path)) + unixHost}
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}
}

// upstreamName is what the log calls an application server.
func upstreamName(u *url.URL) string {
	switch {
	case u == nil:
		return "none"
	case u.Scheme == "unix":
		return u.Path
	default:
		return u.Host
	}
}

// upstreamTransport talks to the application server: no proxy from the environment, no compression of its own, HTTP/1.1. A request that
// found its kept connection dead is sent again on another one only if not a byte of an answer came, and then only when it was not written
// at all, or has no body and a method that is idempotent (net/http, Request.isReplayable).
func upstreamTransport(cfg *Config) *http.Transport {
	dialer := &net.Dialer{Timeout: cfg.UpstreamDialTimeout}
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if host, _, found := strings.Cut(addr, unixHost+":"); found {
				if path, err := hex.DecodeString(host); err == nil {
					return dialer.DialContext(ctx, "unix", string(path))
				}
			}
			return dialer.DialContext(ctx, network, addr)
		},
		DisableCompression:     true,
		MaxIdleConns:           cfg.UpstreamIdleConns,
		MaxIdleConnsPerHost:    cfg.UpstreamIdleConns,
		IdleConnTimeout:        cfg.UpstreamIdleTimeout,
		ResponseHeaderTimeout:  max(cfg.UpstreamHeaderTimeout, 0),
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxAnswerHeaderBytes,
	}
}

// upstreamState logs the events of the application server's life, not each request that suffers from them.
type upstreamState struct {
	log     *slog.Logger
	samples *sampler

	mu       sync.Mutex
	since    time.Time // of the first failed dial in a row, zero while all is well
	failures int
}

func newUpstreamState(log *slog.Logger, samples *sampler) *upstreamState {
	return &upstreamState{log: log, samples: samples}
}

// failed notes a request without an answer. Those that the server took but did not answer say something about the request, so each has
// its line; a server that is away has one for all.
func (s *upstreamState) failed(upstream *url.URL, kind, id string, err error) {
	host := upstreamName(upstream)
	if kind != ProxyAway {
		s.samples.warn(s.log, "application server gave no whole answer", "upstream", host, "kind", kind, "request_id", id, "err", err)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures++
	if !s.since.IsZero() {
		s.log.Debug("application server is still away", "upstream", host, "request_id", id, "err", err)
		return
	}
	s.since = time.Now()
	s.log.Error("application server is away, requests get 502 or 503", "upstream", host, "request_id", id, "err", err)
}

// answered notes an answer.
func (s *upstreamState) answered() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since.IsZero() {
		return
	}
	s.log.Info("application server is back", "away", time.Since(s.since).Round(time.Millisecond), "failed", s.failures)
	s.since, s.failures = time.Time{}, 0
}
