//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/harness"
)

// testTimeout bounds each test; a hang fails with the logs of all processes instead of the whole run.
const testTimeout = 3 * time.Minute

// patience is how long one expected event may take on a busy machine.
const patience = 20 * time.Second

// shared is what the tests of this package use together: built binaries and, once a test asks for it, one running site.
var shared struct {
	mu   sync.Mutex
	lab  *harness.Lab
	err  error
	full *fullSite
}

func TestMain(m *testing.M) {
	shared.lab, shared.err = harness.New(harness.Config{})
	code := m.Run()
	if shared.lab != nil {
		if err := shared.lab.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// lab returns the shared lab; the logs of its processes are shown when the test fails.
func lab(t *testing.T) *harness.Lab {
	t.Helper()
	harness.Require(t, "python", shared.err)
	shared.lab.DumpOnFailure(t)
	return shared.lab
}

// deadline is the context of a test.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), testTimeout, errors.New("the test took too long"))
	t.Cleanup(cancel)
	return ctx
}

// soon is a context for one expected event.
func soon(t *testing.T, ctx context.Context) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("did not happen in time"))
	t.Cleanup(cancel)
	return ctx
}

// must fails the test on an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// must1 fails the test on an error and returns the value otherwise.
func must1[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// fullSite is everything running: the way a site uses this project.
type fullSite struct {
	*harness.Site
	django     *harness.Server
	celery     *harness.Process
	gateway    *harness.Gateway
	goWorker   *harness.Process
	demoWorker *harness.Process // nil until a test needs it
	settings   string
}

// full returns the shared site with Django, a Celery worker, the gateway and a Go worker. Tests that use it do not run in
// parallel and leave everything running.
func full(t *testing.T) *fullSite {
	t.Helper()
	l := lab(t)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.full == nil {
		site, err := startFull(t.Context(), l, harness.SiteOptions{}, harness.CeleryOptions{})
		must(t, err)
		shared.full = site
	}
	return shared.full
}

func startFull(ctx context.Context, l *harness.Lab, opts harness.SiteOptions, celery harness.CeleryOptions) (*fullSite, error) {
	site, err := l.NewSite(ctx, opts)
	if err != nil {
		return nil, err
	}
	f := &fullSite{Site: site}
	if f.settings, err = site.ExportSettings(ctx); err != nil {
		return nil, err
	}
	if f.django, err = site.Gunicorn(ctx); err != nil {
		return nil, err
	}
	if f.celery, err = site.Celery(ctx, celery); err != nil {
		return nil, err
	}
	if f.goWorker, err = site.GoWorker(ctx, matrixWorker(site, f.settings)); err != nil {
		return nil, err
	}
	f.gateway, err = site.Gateway(ctx, harness.GatewayOptions{Upstream: f.django.URL, Settings: f.settings})
	return f, err
}

func matrixWorker(site *harness.Site, settings string, args ...string) harness.GoWorkerOptions {
	args = append([]string{"-journal", site.Redis.URLFor(harness.JournalDB)}, args...)
	return harness.GoWorkerOptions{Package: "integration/matrixworker", App: "matrix", Settings: settings, Args: args}
}
