package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dfws/dfws/integration/redistest"
)

// The two workers.
const (
	sidePython = "python"
	sideGo     = "go"
)

// testFolder is where the tests are in the source distribution.
const testFolder = "t/integration"

// parts is in how many sessions a file is run that takes long; the others are run in one.
var parts = map[string]int{testFolder + "/test_canvas.py": 12, testFolder + "/test_tasks.py": 2}

// session is one process of pytest, with a Redis and a worker of its own.
type session struct {
	file        string
	part, parts int
}

func (s session) name() string {
	name := strings.TrimSuffix(filepath.Base(s.file), ".py")
	if s.parts > 1 {
		name += fmt.Sprintf("-%d", s.part)
	}
	return name
}

// planSessions lists what is to be run, the longest first.
func planSessions(tests string, list *list) ([]session, error) {
	files, err := filepath.Glob(filepath.Join(tests, testFolder, "test_*.py"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no tests in %s", filepath.Join(tests, testFolder))
	}
	var long, short []session
	for _, path := range files {
		file := testFolder + "/" + filepath.Base(path)
		if _, skip := list.Files[file]; skip {
			continue
		}
		if n := parts[file]; n > 1 {
			for part := range n {
				long = append(long, session{file, part, n})
			}
			continue
		}
		short = append(short, session{file, 0, 1})
	}
	return append(long, short...), nil
}

// runSide runs all sessions with one of the workers.
func runSide(ctx context.Context, o options, side string, plan []session) (*results, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(o.atOnce)
	all := make([]*results, len(plan))
	for i, s := range plan {
		group.Go(func() error {
			r, err := s.run(ctx, o, side)
			if err != nil {
				return fmt.Errorf("%s with the %s worker: %w", s.name(), side, err)
			}
			all[i] = r
			fmt.Fprintf(os.Stderr, "%-6s %-22s %s\n", side, s.name(), r.summary())
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return merge(all), nil
}

// Exit statuses of pytest that say that it ran.
const (
	exitFailures = 1
	exitNoTests  = 5
)

// run runs the session and reads what became of its tests.
func (s session) run(ctx context.Context, o options, side string) (r *results, err error) {
	server, err := redistest.Launch(redistest.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	base := filepath.Join(o.logs, side+"-"+s.name())
	log, err := os.Create(base + ".log")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	cmd := exec.CommandContext(ctx, o.python, s.args(o, side, base)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = o.tests, log, log
	if cmd.Env, err = environment(o.python, o.suite, server.Addr); err != nil {
		return nil, err
	}
	// SIGINT makes pytest stop its worker.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && (exit.ExitCode() == exitFailures || exit.ExitCode() == exitNoTests) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("pytest: %w; see %s.log", err, base)
	}
	if r, err = readResults(base + ".jsonl"); err != nil {
		return nil, fmt.Errorf("%w; see %s.log", err, base)
	}
	return r, nil
}

func (s session) args(o options, side, base string) []string {
	args := []string{
		"-m", "pytest", "-p", "celerysuite", "-p", "no:cacheprovider", "-v", s.file,
		"--results", base + ".jsonl", "--exceptions", filepath.Join(o.suite, listFile), "--part", fmt.Sprintf("%d/%d", s.part, s.parts),
		"--longest", fmt.Sprint(o.longest.Seconds()),
	}
	if side == sideGo {
		args = append(args, "--go-worker", o.worker, "--worker-log", base+".worker.log")
	}
	if o.match != "" {
		args = append(args, "-k", o.match)
	}
	if !o.reruns {
		args = append(args, "--no-reruns")
	}
	return args
}

// environment is what the tests read: where the broker and the result backend are, and the program celery in PATH.
func environment(python, plugin, addr string) ([]string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	return append(os.Environ(),
		"PATH="+filepath.Dir(python)+string(os.PathListSeparator)+os.Getenv("PATH"),
		"PYTHONPATH="+plugin, "PYTHONDONTWRITEBYTECODE=1",
		"TEST_BROKER=redis://"+addr, "TEST_BACKEND=redis://"+addr, "REDIS_HOST="+host, "REDIS_PORT="+port,
		"WORKER_LOGLEVEL=INFO", // as Celery's project sets it: tests look at log records
		"C_FORCE_ROOT=1",       // Celery's workers refuse to run as root else
	), nil
}
