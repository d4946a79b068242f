//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/dfws/dfws/integration/harness"
)

// execArgs are the options of a gateway that starts Django itself.
func execArgs(l *harness.Lab, site *harness.Site, module string, more ...string) []string {
	command := "'" + l.Python() + "' -m gunicorn " + module + " --chdir '" + site.Project() + "' --threads 4 --no-control-socket"
	return append([]string{"--exec", command, "--exec-ready-path", "/echo/"}, more...)
}

// appServers returns the process ids of the application servers that a gateway has logged as ready.
func appServers(t *testing.T, gateway *harness.Gateway) []int {
	t.Helper()
	var pids []int
	for _, match := range regexp.MustCompile(`msg="app server is ready" generation=\d+ pid=(\d+)`).FindAllStringSubmatch(gateway.LogFrom(0), -1) {
		pids = append(pids, must1(strconv.Atoi(match[1]))(t))
	}
	return pids
}

// TestOnlyFront: the gateway is all that a site needs before and around Django: it starts gunicorn, serves the static files, replaces
// gunicorn on SIGHUP without a failed request, and leaves nothing behind.
func TestOnlyFront(t *testing.T) {
	ctx := deadline(t)
	l := lab(t)
	site := must1(l.NewSite(ctx, harness.SiteOptions{ManifestFiles: true}))(t)
	must1(site.Manage(ctx, "collectstatic", "--noinput", "-v0"))(t)
	settings := must1(site.ExportSettings(ctx))(t)
	gateway := must1(site.Gateway(ctx, harness.GatewayOptions{
		Name: "front", Settings: settings, Env: site.Env(), Args: execArgs(l, site, "project.wsgi", "--static", "--pprof"),
	}))(t)
	c := harness.NewClient(gateway.URL)

	resp := must1(c.Get(ctx, "/echo/", "X-Forwarded-For", "6.6.6.6"))(t)
	var got echoed
	must(t, json.Unmarshal([]byte(resp.Body), &got))
	if got.Headers["X-Forwarded-For"] != "127.0.0.1" || got.Host != gateway.URL.Host {
		t.Errorf("Django saw %+v", got)
	}
	must(t, gateway.WaitLog(soon(t, ctx), 0, "Booting worker"))
	must(t, c.Page(ctx))
	w := must1(c.Open(ctx))(t)
	t.Cleanup(func() { _ = w.Close() })

	staticFiles(t, ctx, site, c)
	if resp := must1(harness.NewClient(gateway.Admin).Get(ctx, "/debug/pprof/goroutine?debug=1"))(t); resp.Status != http.StatusOK {
		t.Errorf("profiles: %d", resp.Status)
	}

	asking, stop := context.WithCancel(ctx)
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() {
			for asking.Err() == nil {
				resp, err := c.Do(asking, http.MethodPost, "/echo/", strings.NewReader("body"))
				if asking.Err() == nil && (err != nil || resp.Status == http.StatusBadGateway || resp.Status == http.StatusServiceUnavailable) {
					t.Errorf("a request during the replacement: %d, %v", resp.Status, err)
				}
			}
		})
	}
	must(t, gateway.Signal(syscall.SIGHUP))
	must(t, gateway.WaitLog(soon(t, ctx), 0, "app server stopped"))
	stop()
	clients.Wait()
	pids := appServers(t, gateway)
	if len(pids) != 2 || !errors.Is(syscall.Kill(pids[0], 0), syscall.ESRCH) {
		t.Errorf("application servers %v: the first should be gone", pids)
	}
	must(t, gateway.WaitMetric(soon(t, ctx), `dfws_appserver_starts_total{reason="reload"}`, 1))
	if resp := must1(c.Get(ctx, "/echo/"))(t); resp.Status != http.StatusOK {
		t.Errorf("after the replacement: %d", resp.Status)
	}

	must(t, gateway.Stop())
	for _, pid := range pids {
		if !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			t.Errorf("gunicorn %d is left", pid)
		}
	}
}

// staticFiles: what collectstatic has named by its content is for ever; other names are not.
func staticFiles(t *testing.T, ctx context.Context, site *harness.Site, c *harness.Client) {
	t.Helper()
	var manifest struct{ Paths map[string]string }
	must(t, json.Unmarshal(must1(os.ReadFile(filepath.Join(site.StaticRoot(), "staticfiles.json")))(t), &manifest))
	hashed := manifest.Paths["demo/demo.css"]
	if hashed == "" || hashed == "demo/demo.css" {
		t.Fatalf("the manifest is %v", manifest.Paths)
	}
	resp := must1(c.Get(ctx, "/static/"+hashed))(t)
	if resp.Status != http.StatusOK || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/css") {
		t.Errorf("%s: %d %v", hashed, resp.Status, resp.Header)
	}
	if resp := must1(c.Get(ctx, "/static/"+hashed, "If-None-Match", resp.Header.Get("Etag")))(t); resp.Status != http.StatusNotModified {
		t.Errorf("known: %d", resp.Status)
	}
	if resp := must1(c.Get(ctx, "/static/demo/demo.css"))(t); resp.Status != http.StatusOK || strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("demo/demo.css: %d %v", resp.Status, resp.Header)
	}
	if resp := must1(c.Get(ctx, "/static/no-such-file"))(t); resp.Status != http.StatusNotFound || resp.Header.Get("X-Request-Id") != "" {
		t.Errorf("a file that is not there: %d %v", resp.Status, resp.Header)
	}
}

// TestDjangoThatDoesNotStart: the gateway ends, and says what Django said.
func TestDjangoThatDoesNotStart(t *testing.T) {
	ctx := deadline(t)
	l := lab(t)
	site := must1(l.NewSite(ctx, harness.SiteOptions{}))(t)
	gateway := must1(site.Gateway(ctx, harness.GatewayOptions{
		Name: "front-fails", Env: site.Env(), NotReady: true, Args: execArgs(l, site, "no_such_site.wsgi", "--exec-start-attempts", "2"),
	}))(t)
	if err := gateway.Wait(soon(t, ctx)); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("the gateway ended with %v", err)
	}
	end := gateway.Tail(40)
	for _, want := range []string{"given up after 2 starts", "No module named 'no_such_site'"} {
		if !strings.Contains(end, want) {
			t.Errorf("it did not say %q:\n%s", want, end)
		}
	}
}
