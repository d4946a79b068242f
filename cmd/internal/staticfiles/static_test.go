package staticfiles

import (
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var oldTime = time.Date(2024, 2, 29, 12, 0, 0, 123456789, time.UTC)

// tree makes a STATIC_ROOT with some files.
func tree(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "static")
	for name, content := range map[string]string{
		"app.js": "0123456789 plain", "app.js.gz": "gz variant", "app.js.br": "br var", "app.js.zst": "zst varia",
		"site.css": "body {}", "css/deep/x.css": "deep", "app.0123456789ab.js": "hashed",
		"stale.txt": "new content of it", "stale.txt.gz": "old", "grown.txt": "x", "grown.txt.gz": "larger than it",
		"secret/.env": "SECRET", ".htaccess": "SECRET", ".git/config": "SECRET", "noext": "?", "dir/index.html": "index", "space name.txt": "space",
		"staticfiles.json": `{"version": "1.1", "paths": {"app.js": "app.0123456789ab.js", "site.css": "site.css"}, "hash": "x"}`,
	} {
		write(t, filepath.Join(root, name), content)
	}
	stale := oldTime.Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(root, "stale.txt.gz"), stale, stale); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(filepath.Dir(root), "outside.txt")
	write(t, outside, "SECRET")
	for link, target := range map[string]string{"out.txt": outside, "up.txt": "../outside.txt", "in.txt": "site.css", "etc": "/etc"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(root, "pipe.txt"), 0o600); err != nil {
		t.Fatal(err)
	}
	return root
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, oldTime, oldTime); err != nil {
		t.Fatal(err)
	}
}

// site serves a tree.
type site struct {
	*Files
	t      *testing.T
	server *httptest.Server
	logs   strings.Builder
	mu     sync.Mutex
	served map[string]int
}

func newSite(t *testing.T, root string, change func(*Config)) *site {
	t.Helper()
	s := &site{t: t, served: map[string]int{}}
	cfg := Config{URL: "/static/", Root: root, Logger: slog.New(slog.NewTextHandler(&s.logs, nil)), Served: func(status int, encoding string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.served[fmt.Sprint(status, " ", encoding)]++
	}}
	if change != nil {
		change(&cfg)
	}
	var err error
	if s.Files, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	s.server = httptest.NewServer(s.Files)
	t.Cleanup(func() {
		s.server.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// do sends one request with headers in pairs.
func (s *site) do(method, path string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	return resp, string(body)
}

func (s *site) get(path string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	return s.do(http.MethodGet, path, headers...)
}

func TestFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t, tree(t), nil)
	for path, want := range map[string]string{
		"site.css": "body {}", "css/deep/x.css": "deep", "in.txt": "body {}", "noext": "?", "space%20name.txt": "space", "css%2Fdeep/x.css": "deep",
		"stale.txt": "new content of it", "app.js": "0123456789 plain", "app.js.gz": "gz variant",
	} {
		resp, body := s.get("/static/" + path)
		if resp.StatusCode != http.StatusOK || body != want || resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %d %q", path, resp.StatusCode, body)
		}
	}
	for _, path := range []string{
		"", "css", "css/", "css/deep", "dir/", "dir", "missing.txt", ".htaccess", "secret/.env", ".git/config", "out.txt", "up.txt", "etc/passwd", "pipe.txt",
		"..%2foutside.txt", "%2e%2e/outside.txt", "css/../../outside.txt", "css/%2e%2e/%2e%2e/outside.txt", "/site.css", "css//deep/x.css", "./site.css",
		"site.css/", "site.css%00", "..%5coutside.txt", "%2fetc/passwd", "site.css/x", strings.Repeat("a/", 1000) + "x", strings.Repeat("a", 5000),
	} {
		resp, body := s.get("/static/" + path)
		if resp.StatusCode != http.StatusNotFound || strings.Contains(body, "SECRET") {
			t.Errorf("%q: %d %q", path, resp.StatusCode, body)
		}
	}
	if resp, _ := s.get("/other/site.css"); resp.StatusCode != http.StatusNotFound {
		t.Errorf("beside the prefix: %d", resp.StatusCode)
	}
	if resp, _ := s.do(http.MethodPost, "/static/site.css"); resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d", resp.StatusCode)
	}
	resp, body := s.do(http.MethodHead, "/static/site.css")
	if resp.StatusCode != http.StatusOK || body != "" || resp.ContentLength != 7 || resp.Header.Get("Etag") == "" {
		t.Errorf("HEAD: %d, %d bytes", resp.StatusCode, resp.ContentLength)
	}
	if s.served["404 identity"] == 0 || s.served["405 identity"] != 1 || s.served["200 identity"] == 0 {
		t.Errorf("counted %v", s.served)
	}
}

func TestVariants(t *testing.T) {
	t.Parallel()
	s := newSite(t, tree(t), nil)
	etags := map[string]string{}
	for accept, want := range map[string]string{
		"":                               "",
		"gzip":                           "gzip",
		"x-gzip":                         "gzip",
		"gzip, deflate, br, zstd":        "br", // the smallest
		"gzip, zstd":                     "zstd",
		"GZIP;Q=1":                       "gzip",
		"br;q=0.5, gzip;q=0.8":           "gzip",
		"br;q=0, gzip;q=0":               "",
		"br;q=0, *":                      "zstd",
		"*":                              "br",
		"*;q=0":                          "",
		"identity, gzip;q=0.5":           "",
		"identity;q=0.2, gzip;q=0.5":     "gzip",
		"deflate":                        "",
		"br;q=nonsense, gzip;q=2":        "",
		"br;level=4":                     "",
		strings.Repeat("gzip, ", 10_000): "",
	} {
		resp, body := s.get("/static/app.js", "Accept-Encoding", accept)
		bodies := map[string]string{"": "0123456789 plain", "gzip": "gz variant", "br": "br var", "zstd": "zst varia"}
		if got := resp.Header.Get("Content-Encoding"); got != want || body != bodies[want] || int(resp.ContentLength) != len(body) {
			t.Errorf("%.40q: %q %q of length %d, want %q", accept, got, body, resp.ContentLength, want)
		}
		if resp.Header.Get("Vary") != "Accept-Encoding" || resp.Header.Get("Content-Type") != "text/javascript; charset=utf-8" {
			t.Errorf("%.40q: headers %v", accept, resp.Header)
		}
		if other, ok := etags[resp.Header.Get("Etag")]; ok && other != want {
			t.Errorf("%q and %q have the same ETag", want, other)
		}
		etags[resp.Header.Get("Etag")] = want
	}
	for _, name := range []string{"stale.txt", "grown.txt", "site.css"} { // an old variant, one without gain, none
		if resp, _ := s.get("/static/"+name, "Accept-Encoding", "gzip"); resp.Header.Get("Content-Encoding") != "" || resp.Header.Get("Vary") != "" {
			t.Errorf("%s: headers %v", name, resp.Header)
		}
	}
}

func TestConditionsAndRanges(t *testing.T) {
	t.Parallel()
	s := newSite(t, tree(t), nil)
	plain, _ := s.get("/static/app.js")
	gz, _ := s.get("/static/app.js", "Accept-Encoding", "gzip")
	etag, gzEtag, modified := plain.Header.Get("Etag"), gz.Header.Get("Etag"), plain.Header.Get("Last-Modified")
	if !strings.HasPrefix(etag, `"`) || modified != "Thu, 29 Feb 2024 12:00:00 GMT" {
		t.Fatalf("ETag %s, modified %s", etag, modified)
	}
	for name, tc := range map[string]struct {
		headers []string
		status  int
		body    string
		ranges  string // Content-Range
	}{
		"known":                    {[]string{"If-None-Match", etag}, 304, "", ""},
		"known, weak":              {[]string{"If-None-Match", "W/" + etag}, 304, "", ""},
		"known, of another coding": {[]string{"If-None-Match", gzEtag}, 200, "0123456789 plain", ""},
		"known, coded":             {[]string{"If-None-Match", gzEtag, "Accept-Encoding", "gzip"}, 304, "", ""},
		"known by time":            {[]string{"If-Modified-Since", modified}, 304, "", ""},
		"changed since":            {[]string{"If-Modified-Since", "Thu, 29 Feb 2024 11:59:59 GMT"}, 200, "0123456789 plain", ""},
		"other ETag":               {[]string{"If-None-Match", `"x"`, "If-Modified-Since", modified}, 200, "0123456789 plain", ""},
		"precondition":             {[]string{"If-Match", `"x"`}, 412, "", ""},
		"precondition, coded":      {[]string{"If-Match", `"x"`, "Accept-Encoding", "gzip"}, 412, "", ""},
		"range":                    {[]string{"Range", "bytes=2-4"}, 206, "234", "bytes 2-4/16"},
		"last bytes":               {[]string{"Range", "bytes=-5"}, 206, "plain", "bytes 11-15/16"},
		"range, coded":             {[]string{"Range", "bytes=0-1", "Accept-Encoding", "gzip"}, 206, "gz", "bytes 0-1/10"},
		"beyond the end":           {[]string{"Range", "bytes=16-"}, 416, "invalid range: failed to overlap\n", "bytes */16"},
		"if the same":              {[]string{"Range", "bytes=2-4", "If-Range", etag}, 206, "234", "bytes 2-4/16"},
		"if the same, it is not":   {[]string{"Range", "bytes=2-4", "If-Range", gzEtag}, 200, "0123456789 plain", ""},
		"if the same, weak":        {[]string{"Range", "bytes=2-4", "If-Range", "W/" + etag}, 200, "0123456789 plain", ""},
		"nonsense":                 {[]string{"Range", "lines=1"}, 416, "invalid range\n", ""},
	} {
		resp, body := s.get("/static/app.js", tc.headers...)
		if resp.StatusCode != tc.status || body != tc.body || resp.Header.Get("Content-Range") != tc.ranges {
			t.Errorf("%s: %d %q, range %q", name, resp.StatusCode, body, resp.Header.Get("Content-Range"))
		}
		if resp.StatusCode < 400 && resp.Header.Get("Vary") == "" {
			t.Errorf("%s: no Vary", name)
		}
	}
}

func TestCaching(t *testing.T) {
	t.Parallel()
	root := tree(t)
	s := newSite(t, root, nil)
	for name, want := range map[string]string{
		"app.0123456789ab.js": forEver, "app.js": "max-age=60, public", "site.css": "max-age=60, public", "missing": "no-cache",
	} {
		if resp, _ := s.get("/static/" + name); resp.Header.Get("Cache-Control") != want {
			t.Errorf("%s: %s", name, resp.Header.Get("Cache-Control"))
		}
	}
	never := newSite(t, root, func(c *Config) { c.MaxAge = -1 })
	if resp, _ := never.get("/static/app.js"); resp.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("%v", resp.Header)
	}
}

// TestDeployment: another root, and another manifest, are noticed; a root that is gone is served on.
func TestDeployment(t *testing.T) {
	t.Parallel()
	first, second := tree(t), tree(t)
	write(t, filepath.Join(second, "site.css"), "second")
	current := filepath.Join(t.TempDir(), "current")
	if err := os.Symlink(first, current); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, current, nil)
	now := time.Now()
	look := func() {
		now = now.Add(2 * lookInterval)
		s.look(now)
	}
	if _, body := s.get("/static/site.css"); body != "body {}" {
		t.Fatalf("got %q", body)
	}
	if err := os.Remove(current); err != nil {
		t.Fatal(err)
	}
	look()
	look()
	if _, body := s.get("/static/site.css"); body != "body {}" {
		t.Errorf("without a root: %q", body)
	}
	if n := strings.Count(s.logs.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d lines in the log: %s", n, s.logs.String())
	}
	if err := os.Symlink(second, current); err != nil {
		t.Fatal(err)
	}
	look()
	if _, body := s.get("/static/site.css"); body != "second" {
		t.Errorf("after the switch: %q", body)
	}
	write(t, filepath.Join(second, "staticfiles.json"), `{"paths": {"a.css": "site.css"}}`)
	look()
	if resp, _ := s.get("/static/site.css"); resp.Header.Get("Cache-Control") != forEver {
		t.Errorf("after a new manifest: %v", resp.Header)
	}
	write(t, filepath.Join(second, "staticfiles.json"), `{"paths": 5}`)
	look()
	if resp, _ := s.get("/static/site.css"); resp.Header.Get("Cache-Control") != forEver || !strings.Contains(s.logs.String(), "staticfiles.json") {
		t.Errorf("after a broken manifest: %v", resp.Header)
	}
	if err := os.Remove(filepath.Join(second, "staticfiles.json")); err != nil {
		t.Fatal(err)
	}
	look()
	if resp, _ := s.get("/static/site.css"); resp.Header.Get("Cache-Control") == forEver {
		t.Errorf("after the manifest was removed: %v", resp.Header)
	}
}

func TestNewFaults(t *testing.T) {
	t.Parallel()
	root := tree(t)
	for name, tc := range map[string]struct {
		cfg  Config
		want string
	}{
		"no url":       {Config{Root: root}, "STATIC_URL"},
		"the site":     {Config{URL: "/", Root: root}, "hide the whole site"},
		"no slash":     {Config{URL: "/static", Root: root}, "slash"},
		"relative":     {Config{URL: "static/", Root: root}, "slash"},
		"no root":      {Config{URL: "/static/"}, "STATIC_ROOT is not set"},
		"missing root": {Config{URL: "/static/", Root: root + "x"}, "collectstatic"},
	} {
		if _, err := New(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	write(t, filepath.Join(root, "staticfiles.json"), "{")
	if _, err := New(Config{URL: "/static/", Root: root}); err == nil || !strings.Contains(err.Error(), "manifest") {
		t.Errorf("broken manifest: %v", err)
	}
	f, err := New(Config{URL: "https://cdn.example/assets/", Root: tree(t)})
	if err != nil || f.Prefix() != "/assets/" {
		t.Fatalf("a CDN: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzCleanName(f *testing.F) {
	for _, seed := range []string{"a/b.css", "../x", "a/../b", "/etc/passwd", "a//b", ".env", "a\\b", "a\x00", "a/.", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		name, ok := cleanName(path)
		if ok && (!fs.ValidPath(name) || !filepath.IsLocal(name) || strings.Contains("/"+name, "/.") || filepath.Clean(name) != name) {
			t.Errorf("%q is let through as %q", path, name)
		}
	})
}

func FuzzAcceptEncoding(f *testing.F) {
	for _, seed := range []string{"gzip, br;q=0.5", "*;q=0", "identity;q=0", "gzip;q=1e-5", ";;,=", "gzip;q=NaN"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		for name, q := range parseAcceptEncoding(header) {
			if q < 0 || q > 1000 || name == "" {
				t.Errorf("%q: %q has weight %d", header, name, q)
			}
		}
	})
}
