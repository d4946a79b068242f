package djangonative_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/dfws/dfws/compat"
	_ "github.com/dfws/dfws/compat/djangodb/mysql"
	_ "github.com/dfws/dfws/compat/djangodb/postgres"
	_ "github.com/dfws/dfws/compat/djangodb/sqlite"
	"github.com/dfws/dfws/compat/djangonative"
	"github.com/dfws/dfws/integration/dbtest"
	"github.com/dfws/dfws/integration/logbuffer"
	"github.com/dfws/dfws/integration/needs"
	"github.com/dfws/dfws/integration/redistest"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m, nil)) }

// site is a process with Django in it, and what reads its state.
type site struct {
	t        *testing.T
	stdin    io.WriteCloser
	lines    *bufio.Reader
	settings *compat.Settings
	reader   *djangonative.Reader
}

// newSite starts Django with these settings; tables are made.
func newSite(t *testing.T, settings map[string]any) *site {
	t.Helper()
	interpreter := needs.Python(t, "Django")
	text, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	errors := &logbuffer.Buffer{}
	cmd := exec.Command(interpreter, "testdata/site.py")
	cmd.Env = append(os.Environ(), "DFWS_TEST_SITE="+string(text), "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stderr = errors
	s := &site{t: t}
	if s.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.lines = bufio.NewReader(stdout)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.stdin.Close() // which ends it
		timer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait() // its end is all that matters
		timer.Stop()
		if t.Failed() {
			t.Log(errors.String())
		}
	})
	exported := s.ask("settings", nil)
	if s.settings, err = compat.ParseSettings(exported); err != nil {
		t.Fatal(err)
	}
	return s
}

// open makes the reader.
func (s *site) open() {
	s.t.Helper()
	var err error
	if s.reader, err = djangonative.Open(djangonative.Config{Settings: s.settings}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := s.reader.Close(); err != nil {
			s.t.Error(err)
		}
	})
}

// ask sends one request.
func (s *site) ask(action string, arguments map[string]any) json.RawMessage {
	s.t.Helper()
	request := map[string]any{"do": action}
	for name, value := range arguments {
		request[name] = value
	}
	text, err := json.Marshal(request)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.stdin.Write(append(text, '\n')); err != nil {
		s.t.Fatal(err)
	}
	line, err := s.lines.ReadBytes('\n')
	if err != nil {
		s.t.Fatalf("%s: %v", action, err)
	}
	var answer struct {
		Answer json.RawMessage `json:"answer"`
		Error  string          `json:"error"`
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		s.t.Fatal(err)
	}
	if answer.Error != "" {
		s.t.Fatalf("%s %v: %s", action, arguments, answer.Error)
	}
	return answer.Answer
}

const (
	djangoSessions = "django.contrib.sessions.backends."
	djangoCaches   = "django.core.cache.backends."
)

// siteSettings are Django's settings for a database, a cache and an engine of sessions.
func siteSettings(database map[string]any, cache map[string]any, engine string) map[string]any {
	return map[string]any{
		"DATABASES": map[string]any{"default": database}, "CACHES": map[string]any{"default": cache}, "SESSION_ENGINE": djangoSessions + engine,
		"USE_TZ": true, "TIME_ZONE": "UTC",
	}
}

// redisCacheOf is a RedisCache in a database of its own.
func redisCacheOf(t *testing.T, backend string, options map[string]any) map[string]any {
	t.Helper()
	cache := map[string]any{"BACKEND": backend, "LOCATION": redistest.Start(t).URLFor(1)}
	if options != nil {
		cache["OPTIONS"] = options
	}
	return cache
}

// startMemcached returns the addresses of servers.
func startMemcached(t *testing.T, n int) []string {
	t.Helper()
	program, err := exec.LookPath("memcached")
	if err != nil {
		needs.Missing(t, "memcached", "memcached is not installed")
	}
	var addresses []string
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := listener.Addr().String()
		port := listener.Addr().(*net.TCPAddr).Port
		_ = listener.Close()
		cmd := exec.Command(program, "-l", "127.0.0.1", "-p", strconv.Itoa(port), "-U", "0", "-u", "nobody")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		awaitPort(t, address)
		addresses = append(addresses, address)
	}
	return addresses
}

func awaitPort(t *testing.T, address string) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("memcached: %v", err)
		case <-tick.C:
		}
	}
}

func fileCacheOf(t *testing.T) map[string]any {
	t.Helper()
	return map[string]any{"BACKEND": djangoCaches + "filebased.FileBasedCache", "LOCATION": filepath.Join(t.TempDir(), "cache")}
}
