// Command celerysuite runs Celery's own integration tests twice, with Celery's session worker and with a Go worker in its place,
// and prints how they fared side by side.
//
//	make celerysuite                          sets up what it needs and runs it
//	go run ./integration/celerysuite -side go the Go worker alone
//
// Celery's project runs each file of tests in a process of its own; so does this program, several at a time, each with a Redis of
// its own, and takes the largest file in parts. The tests are those of the source distribution, unmodified; celerysuite.py, a plugin of
// pytest, exchanges the worker. Tests that have nothing to do with a session worker are not run.
//
// exceptions.json names each test that cannot apply to a worker in another language, and why. Those have to fail, all others have
// to pass, if they pass with Celery's worker: anything else ends the program with status 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	python  string // interpreter of the environment with pytest
	tests   string // folder in which the source distribution was unpacked
	worker  string // the Go worker
	suite   string // folder of the plugin and of exceptions.json
	logs    string // folder for what the sessions write
	side    string // "both", "python" or "go"
	match   string // pytest's -k
	atOnce  int
	longest time.Duration
	reruns  bool
}

func main() {
	var o options
	flag.StringVar(&o.python, "python", ".build/celerysuite/venv/bin/python", "`interpreter` with Celery and pytest")
	flag.StringVar(&o.tests, "tests", ".build/celerysuite/source", "`folder` of Celery's unpacked source distribution")
	flag.StringVar(&o.worker, "worker", "bin/suiteworker", "`program` in place of Celery's session worker")
	flag.StringVar(&o.suite, "suite", "integration/celerysuite", "`folder` of this program's sources, with the plugin")
	flag.StringVar(&o.logs, "logs", ".build/celerysuite/logs", "`folder` for the output of the sessions; emptied first")
	flag.StringVar(&o.side, "side", "both", "both, python or go")
	flag.StringVar(&o.match, "k", "", "only tests that match pytest's `expression`")
	flag.IntVar(&o.atOnce, "at-once", 6, "sessions that run side by side; the tests mostly wait")
	flag.DurationVar(&o.longest, "longest", 4*time.Minute, "bound of each try of a test; Celery's own is five minutes")
	flag.BoolVar(&o.reruns, "reruns", true, "tries flaky tests again, as Celery's project does")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ok, err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "celerysuite:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (ok bool, err error) {
	for _, path := range []*string{&o.python, &o.tests, &o.worker, &o.suite, &o.logs} {
		if *path, err = filepath.Abs(*path); err != nil {
			return false, err
		}
	}
	list, err := readList(filepath.Join(o.suite, listFile))
	if err != nil {
		return false, err
	}
	plan, err := planSessions(o.tests, list)
	if err != nil {
		return false, err
	}
	if err := errors.Join(os.RemoveAll(o.logs), os.MkdirAll(o.logs, 0o750)); err != nil {
		return false, err
	}
	var sides []*results
	for _, name := range []string{sidePython, sideGo} {
		if o.side != "both" && o.side != name {
			continue
		}
		began := time.Now()
		r, err := runSide(ctx, o, name, plan)
		if err != nil {
			return false, err
		}
		fmt.Fprintf(os.Stderr, "%s: %d tests in %s\n", name, len(r.tests), time.Since(began).Round(time.Second))
		sides = append(sides, r)
	}
	switch {
	case len(sides) == 0:
		return false, fmt.Errorf("no side %q; there are: both, %s, %s", o.side, sidePython, sideGo)
	case len(sides) == 2:
		return report(os.Stdout, sides[0], sides[1], list, o.match == "")
	case o.side == sideGo:
		return report(os.Stdout, nil, sides[0], list, o.match == "")
	default:
		return report(os.Stdout, sides[0], nil, list, o.match == "")
	}
}
