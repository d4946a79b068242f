package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Server is a process that answers HTTP.
type Server struct {
	*Process
	URL *url.URL
}

// Gunicorn starts Django behind a WSGI server: what stands behind a gateway.
func (s *Site) Gunicorn(ctx context.Context, args ...string) (*Server, error) {
	return s.python(ctx, "gunicorn", func(addr *url.URL) []string {
		base := []string{"-m", "gunicorn", "project.wsgi", "--bind", addr.Host, "--workers", "1", "--threads", "4",
			"--access-logfile", "-", "--no-control-socket"}
		return append(base, args...)
	})
}

// Daphne starts Django behind daphne with df_websockets' own websockets: what the gateway is compared with.
func (s *Site) Daphne(ctx context.Context, args ...string) (*Server, error) {
	return s.python(ctx, "daphne", func(addr *url.URL) []string {
		base := []string{"-m", "daphne", "-b", addr.Hostname(), "-p", addr.Port(), "df_websockets.routing:application"}
		return append(base, args...)
	})
}

// Uvicorn starts the same application behind uvicorn, whose websockets are those of the package websockets.
func (s *Site) Uvicorn(ctx context.Context, args ...string) (*Server, error) {
	return s.python(ctx, "uvicorn", func(addr *url.URL) []string {
		base := []string{"-m", "uvicorn", "--host", addr.Hostname(), "--port", addr.Port(), "--lifespan", "off", "--no-access-log",
			"df_websockets.routing:application"}
		return append(base, args...)
	})
}

func (s *Site) python(ctx context.Context, name string, args func(*url.URL) []string) (*Server, error) {
	addr, err := s.lab.freeURL()
	if err != nil {
		return nil, err
	}
	page := addr.JoinPath("echo/").String()
	p, err := s.lab.Start(ctx, Command{
		Name: name, Path: s.lab.cfg.Python, Args: args(addr), Dir: s.lab.project(), Env: s.env,
		Ready: func(ctx context.Context, _ *Process) error { return answers(page)(ctx) },
	})
	if err != nil {
		return nil, err
	}
	return &Server{Process: p, URL: addr}, s.waitShim(ctx)
}

// waitShim waits until the Django app has published Python's signals; with it, every Python process does so at start.
func (s *Site) waitShim(ctx context.Context) error {
	if s.opts.WithoutShim {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return s.WaitRegistry(ctx, pythonPublisher)
}

// CeleryOptions of a Python worker.
type CeleryOptions struct {
	// Name of the process; empty means "celery".
	Name string
	// Queues; empty means "celery", "slow" and "demo-queue": all that the site uses.
	Queues []string
	// Pool is Celery's --pool; empty means threads, which start quickly.
	Pool string
	// Concurrency; zero means 4.
	Concurrency int
	// Env is added to the worker's environment.
	Env []string
}

// Celery starts a Python worker.
func (s *Site) Celery(ctx context.Context, opts CeleryOptions) (*Process, error) {
	if opts.Name == "" {
		opts.Name = "celery"
	}
	if len(opts.Queues) == 0 {
		opts.Queues = []string{"celery", "slow", "demo-queue"}
	}
	if opts.Pool == "" {
		opts.Pool = "threads"
	}
	if opts.Concurrency == 0 {
		opts.Concurrency = 4
	}
	return s.lab.Start(ctx, Command{
		Name: opts.Name, Path: s.lab.cfg.Python, Dir: s.lab.project(), Env: append(s.env, opts.Env...),
		StopTimeout: 5 * time.Second, MayBeKilled: true, // it waits for its tasks, and an example of the README sleeps for 100 s
		Args: []string{
			"manage.py", "worker", "-Q", strings.Join(opts.Queues, ","), "-n", opts.Name + "@%h",
			"--pool", opts.Pool, "-c", strconv.Itoa(opts.Concurrency), "--loglevel", "INFO",
		},
		Ready: func(_ context.Context, p *Process) error {
			if !strings.Contains(p.LogFrom(0), " ready.") {
				return errors.New("no line with \"ready.\"")
			}
			return nil
		},
	})
}

// ChannelsWorker starts Channels' worker on the queues of a site whose WEBSOCKET_WORKERS is "channels".
func (s *Site) ChannelsWorker(ctx context.Context, queues ...string) (*Process, error) {
	return s.lab.Start(ctx, Command{
		Name: "channels", Path: s.lab.cfg.Python, Dir: s.lab.project(), Env: s.env, StopTimeout: 5 * time.Second, MayBeKilled: true,
		Args: []string{"manage.py", "worker", "-Q", strings.Join(queues, ",")},
		Ready: func(_ context.Context, p *Process) error {
			if !strings.Contains(p.LogFrom(0), "Running worker for channels") {
				return errors.New("no line with \"Running worker for channels\"")
			}
			return nil
		},
	})
}

// Beat starts Celery's scheduler on the periodic tasks in Django's database (django-celery-beat).
func (s *Site) Beat(ctx context.Context) (*Process, error) {
	return s.lab.Start(ctx, Command{
		Name: "beat", Path: s.lab.cfg.Python, Dir: s.lab.project(), Env: s.env,
		Args: []string{
			"-m", "celery", "-A", "df_websockets.celery", "beat", "--scheduler", "django_celery_beat.schedulers:DatabaseScheduler",
			"--max-interval", "1", "--pidfile", "", "--loglevel", "INFO",
		},
		Ready: func(_ context.Context, p *Process) error {
			if !strings.Contains(p.LogFrom(0), "beat: Starting") {
				return errors.New("no line with \"beat: Starting\"")
			}
			return nil
		},
	})
}

// Gateway is a running `dfws gateway`.
type Gateway struct {
	Server
	// Admin is the address of health, readiness and metrics.
	Admin *url.URL
}

// GatewayOptions of a gateway.
type GatewayOptions struct {
	// Name of the process; empty means "gateway".
	Name string
	// Upstream is Django.
	Upstream *url.URL
	// Settings is the exported file; empty means that it is exported now.
	Settings string
	// Args are added to the command line.
	Args []string
	// Env is added to the environment.
	Env []string
	// NotReady returns as soon as the gateway is alive: with Redis away it is never ready.
	NotReady bool
}

// Gateway starts `dfws gateway` and waits until it is ready.
func (s *Site) Gateway(ctx context.Context, opts GatewayOptions) (*Gateway, error) {
	binary, err := s.lab.Binary(ctx, "cmd/dfws")
	if err != nil {
		return nil, err
	}
	if opts.Settings == "" {
		if opts.Settings, err = s.ExportSettings(ctx); err != nil {
			return nil, err
		}
	}
	if opts.Name == "" {
		opts.Name = "gateway"
	}
	listen, err := s.lab.freeURL()
	if err != nil {
		return nil, err
	}
	admin, err := s.lab.freeURL()
	if err != nil {
		return nil, err
	}
	probe := admin.JoinPath("readyz").String()
	if opts.NotReady {
		probe = admin.JoinPath("healthz").String()
	}
	args := []string{"gateway", "--settings", opts.Settings, "--listen", listen.Host, "--admin", admin.Host}
	if opts.Upstream != nil {
		args = append(args, "--upstream", opts.Upstream.String())
	}
	p, err := s.lab.Start(ctx, Command{
		Name: opts.Name, Path: binary, Args: append(args, opts.Args...), Dir: s.dir, Env: opts.Env,
		StopTimeout: 35 * time.Second, // --drain, --drain-linger and what README gives it beyond
		Ready:       func(ctx context.Context, _ *Process) error { return answers(probe)(ctx) },
	})
	if err != nil {
		return nil, err
	}
	return &Gateway{Server: Server{Process: p, URL: listen}, Admin: admin}, nil
}

// GoWorkerOptions of a Go worker.
type GoWorkerOptions struct {
	// Name of the process; empty means the last part of Package.
	Name string
	// Package is the worker's main package, such as "cmd/demo-worker".
	Package string
	// App is the name under which it publishes its signals.
	App string
	// Settings is the exported file; empty means that it is exported now.
	Settings string
	// Args are added to the command line.
	Args []string
	// Env is added to the environment.
	Env []string
}

// GoWorker starts a Go worker and waits until its own signals are in the registry.
func (s *Site) GoWorker(ctx context.Context, opts GoWorkerOptions) (*Process, error) {
	binary, err := s.lab.Binary(ctx, opts.Package)
	if err != nil {
		return nil, err
	}
	if opts.Settings == "" {
		if opts.Settings, err = s.ExportSettings(ctx); err != nil {
			return nil, err
		}
	}
	if opts.Name == "" {
		opts.Name = filepath.Base(opts.Package)
	}
	client := s.Database(BrokerDB)
	defer client.Close()
	return s.lab.Start(ctx, Command{
		Name: opts.Name, Path: binary, Args: append([]string{"-settings", opts.Settings}, opts.Args...), Dir: s.dir, Env: opts.Env,
		Ready: func(ctx context.Context, p *Process) error {
			text, err := client.HGet(ctx, registryKey, "go:"+opts.App).Bytes()
			if err != nil {
				return err
			}
			var entry struct{ PID int }
			if err := json.Unmarshal(text, &entry); err != nil {
				return err
			}
			if entry.PID != p.PID() {
				return fmt.Errorf("the registry has the entry of process %d", entry.PID)
			}
			return nil
		},
	})
}
