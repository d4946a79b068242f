package djangoresults_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/djangoresults"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/djangodb"
	_ "github.com/dfws/dfws/compat/djangodb/mysql"
	_ "github.com/dfws/dfws/compat/djangodb/postgres"
	_ "github.com/dfws/dfws/compat/djangodb/sqlite"
	"github.com/dfws/dfws/compat/resultbackend"
	"github.com/dfws/dfws/integration/dbtest"
	"github.com/dfws/dfws/integration/needs"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m, closeSites)) }

// python is a process with django-celery-results in it.
type python struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  *bufio.Reader
	stderr *os.File

	mu sync.Mutex // one request at a time
}

// settings of a site, for testdata/django_site.py.
type settings struct {
	Databases map[string]any `json:"databases"`
	UseTZ     bool           `json:"use_tz"`
	TimeZone  string         `json:"time_zone"`
	Celery    map[string]any `json:"celery,omitempty"`
}

var errNoPython = errors.New("DFWS_PYTHON names no Python interpreter with django-celery-results")

func launchPython(s settings) (*python, error) {
	interpreter := os.Getenv("DFWS_PYTHON")
	if interpreter == "" {
		return nil, errNoPython
	}
	site, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	p := &python{cmd: exec.Command(interpreter, "testdata/django_site.py")}
	p.cmd.Env = append(os.Environ(), "DFWS_TEST_SITE="+string(site), "PYTHONDONTWRITEBYTECODE=1")
	if p.stderr, err = os.CreateTemp("", "django-site-*.log"); err != nil {
		return nil, err
	}
	p.cmd.Stderr = p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.lines = bufio.NewReader(stdout)
	return p, p.cmd.Start()
}

func (p *python) close() {
	_ = p.stdin.Close() // which ends it
	timer := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	_ = p.cmd.Wait()
	timer.Stop()
	_ = p.stderr.Close()
	_ = os.Remove(p.stderr.Name())
}

// request asks for a method of Commands.
func (p *python) request(op string, args map[string]any, into any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	request := map[string]any{"op": op}
	for name, value := range args {
		request[name] = value
	}
	line, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		return p.complain(err)
	}
	if line, err = p.lines.ReadBytes('\n'); err != nil {
		return p.complain(err)
	}
	var answer struct {
		OK    json.RawMessage `json:"ok"`
		Error string          `json:"error"`
	}
	switch err := json.Unmarshal(line, &answer); {
	case err != nil:
		return err
	case answer.Error != "":
		return fmt.Errorf("python: %s: %s", op, answer.Error)
	case into == nil:
		return nil
	}
	return json.Unmarshal(answer.OK, into)
}

func (p *python) complain(err error) error {
	text, _ := os.ReadFile(p.stderr.Name())
	return fmt.Errorf("python: %w\n%s", err, text)
}

// site is a migrated database with Python on it.
type site struct {
	*python
	db   *dbtest.Database
	spec settings
	zone string // of times in the database, where they need one
}

// sites are shared by all tests: each uses tasks and groups of its own.
var sites struct {
	mu     sync.Mutex
	byKind map[dbtest.Kind]*site
}

func closeSites() {
	sites.mu.Lock()
	defer sites.mu.Unlock()
	for _, s := range sites.byKind {
		s.close()
	}
	sites.byKind = nil
}

// each runs a test on each kind of database.
func each(t *testing.T, test func(t *testing.T, s *site)) {
	t.Parallel()
	for _, kind := range dbtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, sharedSite(t, kind))
		})
	}
}

func sharedSite(t testing.TB, kind dbtest.Kind) *site {
	t.Helper()
	sites.mu.Lock()
	defer sites.mu.Unlock()
	if s := sites.byKind[kind]; s != nil {
		return s
	}
	db := dbtest.NewShared(t, kind)
	s, err := launchSite(db, settings{UseTZ: true, TimeZone: "UTC"}, "UTC")
	skipOrFail(t, err)
	must(t, s.request("migrate", nil, nil))
	if sites.byKind == nil {
		sites.byKind = map[dbtest.Kind]*site{}
	}
	sites.byKind[kind] = s
	return s
}

func launchSite(db *dbtest.Database, spec settings, zone string) (*site, error) {
	spec.Databases = map[string]any{"default": db.Django()}
	p, err := launchPython(spec)
	return &site{python: p, db: db, spec: spec, zone: zone}, err
}

// another is a second Python process on the same database.
func (s *site) another(t testing.TB) *site {
	t.Helper()
	return startSite(t, s.db, s.spec, s.zone)
}

func startSite(t testing.TB, db *dbtest.Database, spec settings, zone string) *site {
	t.Helper()
	s, err := launchSite(db, spec, zone)
	skipOrFail(t, err)
	t.Cleanup(s.close)
	return s
}

// skipOrFail passes over tests that lack Python.
func skipOrFail(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, errNoPython):
		needs.Missing(t, "python", err.Error())
	default:
		t.Fatal(err)
	}
}

// ask is request for tests.
func ask[T any](t testing.TB, s *site, op string, args map[string]any) T {
	t.Helper()
	var value T
	must(t, s.request(op, args, &value))
	return value
}

// open opens the backend as a worker does.
func (s *site) open(t testing.TB) *djangoresults.Backend {
	t.Helper()
	database := s.db.Settings
	database.TimeZone = s.zone
	config := resultbackend.Config{Settings: &compat.Settings{}}
	config.Settings.Celery.ResultDatabase = "default"
	config.Settings.Databases = map[string]compat.Database{"default": database}
	b, err := resultbackend.OpenDatabase(t.Context(), config)
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	return b.(*djangoresults.Backend)
}

// openWith opens a backend with other options.
func (s *site) openWith(t testing.TB, change func(*djangoresults.Options)) *djangoresults.Backend {
	t.Helper()
	database := s.db.Settings
	database.TimeZone = s.zone
	opts := must1(djangodb.Open(database))(t)
	change(&opts)
	b := must1(djangoresults.New(opts))(t)
	t.Cleanup(func() { must(t, b.Close()) })
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must1[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return v
	}
}

// newID is a task's or group's ID.
func newID() string { return uuid.NewString() }

func raw(text string) celeryproto.Raw { return celeryproto.Raw(text) }

// eventually polls a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// raw2any is JSON as Go's values.
func raw2any(text string) (v any) {
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		panic(err)
	}
	return v
}
