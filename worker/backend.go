package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/compat/resultbackend"
)

// Backend is a result backend: where the results of tasks, of groups and the state of chords are.
type Backend = resultbackend.Backend

// BackendError reports a result backend that this program cannot use.
type BackendError struct {
	Name string // as result_backend has it, without what may be secret
	Hint string // what to do
}

// Error implements error.
func (e *BackendError) Error() string {
	return fmt.Sprintf("worker: result_backend %q is not supported: %s", e.Name, e.Hint)
}

// djangoDatabase is the name of django-celery-results' backend in the database.
const djangoDatabase = "django-db"

// useInstead is what every refusal ends with.
const useInstead = ": use redis:// or django-db"

// refusedBackends are those of Celery 5.7 (app/backends.py) and django-celery-results that Go does not have, and why.
var refusedBackends = map[string]string{
	"django-cache": "it keeps Python's pickles in a cache of Django's" + useInstead,
	"rpc":          "it sends each result to the queue of the process that waits for it" + useInstead,
	"amqp":         "it sends each result to a queue of its own" + useInstead,
	"database":     "its tables are SQLAlchemy's, with Python's pickles in them" + useInstead,
	"db":           "its tables are SQLAlchemy's, with Python's pickles in them" + useInstead,
}

// openBackend opens the result backend that the settings name: nil when they name none.
func openBackend(ctx context.Context, services *dispatch.Services) (Backend, error) {
	if services.Results != nil {
		return services.Results, nil
	}
	name := backendName(services.Settings.Celery.ResultBackend.Reveal())
	switch name {
	case "", "disabled":
		return nil, nil
	case djangoDatabase:
		b, err := resultbackend.OpenDatabase(ctx, resultbackend.Config{Settings: services.Settings, Logger: services.Logger})
		if driver, ok := errors.AsType[*resultbackend.DriverError](err); ok {
			return nil, &BackendError{Name: name, Hint: strings.TrimPrefix(driver.Error(), "resultbackend: ")}
		}
		if err != nil {
			return nil, fmt.Errorf("worker: result_backend %q: %w", name, err)
		}
		return b, nil
	}
	family, _, _ := strings.Cut(name, "+")
	hint, ok := refusedBackends[family]
	if !ok {
		hint = strings.TrimPrefix(useInstead, ": ")
	}
	return nil, &BackendError{Name: name, Hint: hint}
}

// backendName is the part of result_backend that can be shown: the scheme of a URL, or a word.
func backendName(url string) string {
	name, _, isURL := strings.Cut(url, "://")
	if !isURL && strings.ContainsAny(name, "@/ ") {
		return "this one"
	}
	return strings.TrimSuffix(name, ":") // "db+sqlite:" of a path
}

// closeBackend closes what openBackend opened beside the services.
func closeBackend(services *dispatch.Services, backend Backend) error {
	if backend == nil || services.Results != nil {
		return nil // the services close their own
	}
	return backend.Close()
}

var errNoBackend = errors.New("worker: a chord needs a result backend")
