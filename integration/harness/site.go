package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/integration/redistest"
)

// Databases of the site's Redis, as in project/settings.py.
const (
	BrokerDB = iota
	LayerDB
	CacheDB
	ResultDB
	JournalDB
)

const (
	// registryKey and pythonPublisher: where the Django app publishes Python's signals (settings.dfws.key_prefix "dfws:").
	registryKey     = "dfws:registry"
	pythonPublisher = "python"
)

// SiteOptions are the ways in which sites under test differ. The zero value is the usual site with the app "dfws".
type SiteOptions struct {
	// WithoutShim leaves the app "dfws" out, as before its installation.
	WithoutShim bool
	// Debug sets Django's DEBUG.
	Debug bool
	// VisibilityTimeout is kombu's visibility_timeout; zero leaves its default (one hour).
	VisibilityTimeout time.Duration
	// AcksLate makes Celery acknowledge tasks after they ran.
	AcksLate bool
	// SessionEngine is Django's SESSION_ENGINE; empty means the database.
	SessionEngine string
	// DatabaseResults keeps the results in Django's database (django-celery-results) instead of Redis.
	DatabaseResults bool
	// Workers is WEBSOCKET_WORKERS; empty means "celery".
	Workers string
	// Layer is the class of the channel layer, empty for channels_redis' core one; LayerConfig are options that are added to its CONFIG.
	Layer       string
	LayerConfig map[string]any
	// LayerHosts is the number of its hosts, databases of the site's Redis; zero means one.
	LayerHosts int
	// ManifestFiles names static files by their content (ManifestStaticFilesStorage); collectstatic must run before a page uses one.
	ManifestFiles bool
	// LogLevel is the level of Python's root logger; empty means INFO.
	LogLevel string
	// Redis configures the server.
	Redis redistest.Options
}

// Site is one installation: a Redis, a Django database, and whatever is started on them.
type Site struct {
	Redis *redistest.Server

	lab  *Lab
	opts SiteOptions
	dir  string
	env  []string
}

// NewSite starts a Redis and makes a database with the users alice, bob, staff and root.
func (l *Lab) NewSite(ctx context.Context, opts SiteOptions) (*Site, error) {
	template, err := l.migrated(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.cfg.Dir, "site-")
	if err != nil {
		return nil, fmt.Errorf("harness: site: %w", err)
	}
	content, err := os.ReadFile(template)
	if err != nil {
		return nil, fmt.Errorf("harness: site: %w", err)
	}
	s := &Site{lab: l, opts: opts, dir: dir}
	if err := os.WriteFile(s.database(), content, 0o600); err != nil {
		return nil, fmt.Errorf("harness: site: %w", err)
	}
	if s.Redis, err = redistest.Launch(opts.Redis); err != nil {
		return nil, err
	}
	l.onClose(s.Redis.Close)
	s.env = append(environment("redis://"+s.Redis.Addr, s.database(), opts), "DFWS_TEST_STATIC_ROOT="+s.StaticRoot())
	return s, nil
}

// StaticRoot is Django's STATIC_ROOT, which collectstatic fills.
func (s *Site) StaticRoot() string { return filepath.Join(s.dir, "static") }

// Env is the environment of the site's Python processes, without that of the harness.
func (s *Site) Env() []string { return slices.Clone(s.env) }

// Project is the folder with manage.py.
func (s *Site) Project() string { return s.lab.project() }

func (s *Site) database() string { return filepath.Join(s.dir, "db.sqlite3") }

func (l *Lab) project() string { return filepath.Join(l.cfg.Root, "integration", "project") }

// migrated makes the database that sites copy, once.
func (l *Lab) migrated(ctx context.Context) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.database != "" {
		return l.database, nil
	}
	path := filepath.Join(l.cfg.Dir, "template.sqlite3")
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("harness: %w", err)
	}
	env := environment("redis://127.0.0.1:1", path, SiteOptions{WithoutShim: true}) // neither command needs a Redis
	for _, args := range [][]string{{"migrate", "-v0"}, {"setup_demo"}} {
		if _, err := l.manage(ctx, env, args...); err != nil {
			return "", err
		}
	}
	l.database = path
	return path, nil
}

func environment(redisURL, database string, opts SiteOptions) []string {
	env := []string{
		"PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1", "DJANGO_SETTINGS_MODULE=project.settings",
		"DFWS_TEST_REDIS_URL=" + redisURL, "DFWS_TEST_DATABASE=" + database,
	}
	set := func(when bool, name, value string) {
		if when {
			env = append(env, name+"="+value)
		}
	}
	set(opts.WithoutShim, "DFWS_TEST_SHIM", "0")
	set(opts.Debug, "DFWS_TEST_DEBUG", "1")
	set(opts.AcksLate, "DFWS_TEST_ACKS_LATE", "1")
	set(opts.VisibilityTimeout > 0, "DFWS_TEST_VISIBILITY_TIMEOUT", strconv.FormatFloat(opts.VisibilityTimeout.Seconds(), 'f', -1, 64))
	set(opts.SessionEngine != "", "DFWS_TEST_SESSION_ENGINE", opts.SessionEngine)
	set(opts.ManifestFiles, "DFWS_TEST_MANIFEST_FILES", "1")
	set(opts.DatabaseResults, "DFWS_TEST_RESULTS", "django-db")
	set(opts.Workers != "", "DFWS_TEST_WORKERS", opts.Workers)
	set(opts.LayerHosts > 0, "DFWS_TEST_LAYER_HOSTS", strconv.Itoa(opts.LayerHosts))
	set(opts.Layer != "", "DFWS_TEST_LAYER", opts.Layer)
	if len(opts.LayerConfig) > 0 {
		if text, err := json.Marshal(opts.LayerConfig); err == nil { // options are texts, numbers and lists
			set(true, "DFWS_TEST_LAYER_CONFIG", string(text))
		}
	}
	set(opts.LogLevel != "", "DFWS_TEST_LOG_LEVEL", opts.LogLevel)
	return env
}

// Manage runs a management command to its end and returns its standard output.
func (s *Site) Manage(ctx context.Context, args ...string) (string, error) {
	return s.lab.manage(ctx, s.env, args...)
}

func (l *Lab) manage(ctx context.Context, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, l.cfg.Python, append([]string{"manage.py"}, args...)...)
	cmd.Dir, cmd.Env = l.project(), append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("harness: manage.py %s: %w\n%s%s", args[0], err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// ExportSettings runs `manage.py dfws settings` and returns the path of the file.
func (s *Site) ExportSettings(ctx context.Context) (string, error) {
	path := filepath.Join(s.dir, "settings.json")
	if _, err := s.Manage(ctx, "dfws", "settings", "--output", path); err != nil {
		return "", err
	}
	return path, nil
}

// Database returns a client of one database of the site's Redis, for tests to look and to damage. The caller closes it.
func (s *Site) Database(number int) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.Redis.Addr, DB: number, Protocol: 2})
}

// WaitRegistry waits until a publisher's signals are in the registry: "python" or "go:<app>".
func (s *Site) WaitRegistry(ctx context.Context, publisher string) error {
	client := s.Database(BrokerDB)
	defer client.Close()
	return WaitFor(ctx, "registry entry of "+publisher, func(ctx context.Context) error {
		return client.HGet(ctx, registryKey, publisher).Err()
	})
}
