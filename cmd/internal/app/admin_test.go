package app

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestAdminHandler(t *testing.T) {
	t.Parallel()
	var notReady error
	registry := prometheus.NewRegistry()
	factory{registry}.counter("dfws_test_total", "help").Add(3)
	server := httptest.NewServer(AdminHandler(func() error { return notReady }, registry, false))
	t.Cleanup(server.Close)
	for _, c := range []struct {
		path   string
		err    error
		status int
		body   string
	}{
		{"/healthz", errors.New("redis away"), 200, "ok"},
		{"/readyz", nil, 200, "ready"},
		{"/readyz", errors.New("redis away"), 503, "redis away"},
		{"/metrics", nil, 200, "dfws_test_total 3"},
		{"/other", nil, 404, ""},
		{"/debug/pprof/", nil, 404, ""},
	} {
		notReady = c.err
		resp, err := server.Client().Get(server.URL + c.path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.status || !strings.Contains(string(body), c.body) {
			t.Errorf("%s with %v: %d %q, want %d with %q", c.path, c.err, resp.StatusCode, body, c.status, c.body)
		}
	}
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(AdminHandler(func() error { return nil }, prometheus.NewRegistry(), true))
	t.Cleanup(server.Close)
	for path, want := range map[string]string{
		"/debug/pprof/": "goroutine", "/debug/pprof/goroutine?debug=1": "goroutine profile", "/debug/pprof/cmdline": "app.test", "/healthz": "ok",
	} {
		resp, err := server.Client().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %.200q", path, resp.StatusCode, body)
		}
	}
}

func TestServeAdminStops(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ServeAdmin(ctx, listener, http.NotFoundHandler()) }()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("ServeAdmin goes on after its context has ended")
	}
}

func TestServeAdminReportsItsListener(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ServeAdmin(t.Context(), listener, http.NotFoundHandler()); err == nil {
		t.Error("a closed listener: no error")
	}
}
