package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/compat/resultbackend"
)

func servicesWith(backend string) *dispatch.Services {
	s := testSettings()
	s.Celery.ResultBackend = compat.Secret(backend)
	return &dispatch.Services{Settings: s}
}

// A backend that Go does not have keeps the worker from starting, with what to do; secrets stay out of it.
func TestBackendRefused(t *testing.T) {
	t.Parallel()
	for url, part := range map[string]string{
		"django-cache": `"django-cache" is not supported: it keeps Python's pickles`, "rpc://": `"rpc"`, "rpc": `"rpc"`,
		"db+postgresql://u:secret@h/x": `"db+postgresql" is not supported: its tables are SQLAlchemy's`, "database": `"database"`,
		"mongodb://u:secret@h": `"mongodb" is not supported: use redis:// or django-db`, "cache+memcached://h": `"cache+memcached"`,
		"elasticsearch://h": `"elasticsearch"`, "secret@h": `"this one"`, "file:///secret": `"file"`,
	} {
		b, err := openBackend(t.Context(), servicesWith(url))
		refused, ok := errors.AsType[*BackendError](err)
		if !ok || b != nil || !strings.Contains(err.Error(), part) || strings.Contains(err.Error(), "secret") || refused.Hint == "" {
			t.Errorf("%s: %v", url, err)
		}
	}
	for _, url := range []string{"", "disabled", "disabled://"} {
		if b, err := openBackend(t.Context(), servicesWith(url)); b != nil || err != nil {
			t.Errorf("%q: %v, %v", url, b, err)
		}
	}
}

// With django-db, a missing driver is named with the line that imports it.
func TestBackendWithoutDriver(t *testing.T) {
	t.Parallel()
	services := servicesWith("django-db")
	if _, err := openBackend(t.Context(), services); err == nil || !strings.Contains(err.Error(), "celery.result_database") {
		t.Errorf("no database: %v", err)
	}
	services.Settings.Celery.ResultDatabase = "results"
	for vendor, part := range map[string]string{
		"postgresql": `import _ "github.com/dfws/dfws/compat/djangodb/postgres"`, "sqlite": "djangodb/sqlite", "mysql": "djangodb/mysql",
		"oracle": "SQLite, PostgreSQL, MySQL and MariaDB are",
	} {
		services.Settings.Databases = map[string]compat.Database{"results": {Engine: "site.engine", Vendor: vendor}}
		_, err := openBackend(t.Context(), services)
		if _, ok := errors.AsType[*BackendError](err); !ok || !strings.Contains(err.Error(), part) ||
			!strings.Contains(err.Error(), `"django-db"`) || !strings.Contains(err.Error(), `"site.engine"`) {
			t.Errorf("%s: %v", vendor, err)
		}
	}
}

// Worker and client get what a driver has registered; a client that only sends can do without.
func TestBackendRegistered(t *testing.T) {
	t.Parallel()
	opened := &fakeBroker{}
	resultbackend.RegisterDatabase("test vendor", func(_ context.Context, cfg resultbackend.Config) (Backend, error) {
		if cfg.Settings.Celery.ResultDatabase == "broken" {
			return nil, errors.New("no such option")
		}
		return opened, nil
	})
	services := servicesWith("django-db")
	services.Settings.Databases = map[string]compat.Database{"results": {Vendor: "test vendor"}, "broken": {Vendor: "test vendor"}}
	services.Settings.Celery.ResultDatabase = "results"
	if b, err := openBackend(t.Context(), services); err != nil || b != Backend(opened) {
		t.Errorf("%v, %v", b, err)
	}
	services.Settings.Celery.ResultDatabase = "broken"
	if _, err := openBackend(t.Context(), services); err == nil || !strings.Contains(err.Error(), `"django-db": no such option`) {
		t.Errorf("%v", err)
	}
	client := &Client{services: services, backendErr: &BackendError{Name: "rpc"}}
	if err := client.Wait(t.Context(), "x", nil); !errors.Is(err, client.backendErr) {
		t.Errorf("%v", err)
	}
	client.backendErr = nil
	if err := client.Wait(t.Context(), "x", nil); !errors.Is(err, ErrNoResultBackend) {
		t.Errorf("%v", err)
	}
}

type backendFault bool

func (f backendFault) Error() string   { return "fault" }
func (f backendFault) Retryable() bool { return bool(f) }

// A backend's own word on its errors counts, Redis' otherwise.
func TestRetryableErrors(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]bool{
		fmt.Errorf("store: %w", backendFault(true)): true, backendFault(false): false, context.DeadlineExceeded: true,
		redisbroker.ErrLost: false, context.Canceled: false,
	} {
		if got := retryable(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}
