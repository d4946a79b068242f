package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dfws/dfws/worker"
)

// running is a worker with what surrounds it.
type running struct {
	worker *worker.Worker
	logger *slog.Logger
	out    io.Writer // where the log goes
	// termIsQuit makes SIGTERM a cold stop.
	termIsQuit bool
}

// serve runs the worker until it has stopped, and returns the exit status.
func (p Program) serve(ctx context.Context, sys System, o *options, r *running) int {
	var admin net.Listener
	if o.admin != "" {
		var err error
		if admin, err = net.Listen("tcp", o.admin); err != nil {
			return p.wrong(sys, fmt.Errorf("--admin: %w", err))
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	doneC := make(chan error, 1) // one value, sent when Run has returned
	var group sync.WaitGroup
	group.Go(func() { doneC <- r.worker.Run(ctx) })
	server := &http.Server{
		Handler: adminHandler(r.worker.Ready), ReadHeaderTimeout: headerTimeout, ErrorLog: slog.NewLogLogger(r.logger.Handler(), slog.LevelDebug),
	}
	if admin != nil {
		group.Go(func() {
			if err := server.Serve(admin); !errors.Is(err, http.ErrServerClosed) {
				r.logger.Error("admin server has ended", "err", err)
			}
		})
	}
	how, err := r.untilStopped(sys.Signals, stop, doneC)
	_ = server.Close() // probes may ask to the very end
	if how == stoppedAtOnce {
		r.logger.Error("stopped at once: what was not acknowledged is restored after the visibility timeout")
		return exitFailed // the worker and its handlers may hang: nothing is waited for
	}
	group.Wait()
	if err != nil {
		r.logger.Error("worker has failed", "err", err)
	}
	if err != nil || how == stoppedCold {
		return exitFailed
	}
	return exitOK
}

// headerTimeout bounds the header of a request to the admin server.
const headerTimeout = 5 * time.Second

// stopKind is how a worker came to its end.
type stopKind int

const (
	stoppedWarm stopKind = iota
	stoppedCold
	stoppedAtOnce
)

// untilStopped obeys OS signals until the worker has stopped.
func (r *running) untilStopped(signals <-chan os.Signal, warm func(), doneC <-chan error) (how stopKind, err error) {
	interrupted, colds := false, 0
	for {
		select {
		case err := <-doneC:
			return how, err
		case s := <-signals:
			cold := false
			switch s {
			case sigDump:
				r.dump()
				continue
			case syscall.SIGQUIT:
				cold = true
			case os.Interrupt:
				cold = interrupted || colds > 0
				interrupted = true
			case syscall.SIGTERM:
				cold = r.termIsQuit
			}
			if !cold {
				r.logger.Info("warm shutdown: waiting for running tasks; SIGQUIT, or SIGINT once more, ends them", "signal", s.String())
				warm()
				continue
			}
			if colds++; colds > lastStop {
				return stoppedAtOnce, nil
			}
			how = stoppedCold
			r.stopColdly(colds, s, warm)
		}
	}
}

// lastStop is how often a cold stop can be asked for before the process just ends.
const lastStop = 3

// stopColdly stops the worker for the n-th time. warm stops one that has not begun to consume.
func (r *running) stopColdly(n int, s os.Signal, warm func()) {
	mode := worker.Cold
	switch n {
	case 1:
		r.logger.Warn("cold shutdown; once more ends the wait of a soft shutdown", "signal", s.String())
	case 2:
		r.logger.Warn("cold shutdown: nothing may end any more; once more leaves behind what still runs", "signal", s.String())
	default:
		r.logger.Error("hard shutdown: what still runs is left behind; once more ends the process", "signal", s.String())
		mode = worker.Hard
	}
	if r.worker.Stop(mode) != nil {
		warm()
	}
}

// dump writes the stacks of all goroutines to the log.
func (r *running) dump() {
	stacks := make([]byte, 1<<20)
	for {
		n := runtime.Stack(stacks, true)
		if n < len(stacks) {
			stacks = stacks[:n]
			break
		}
		stacks = make([]byte, 2*len(stacks))
	}
	r.logger.Info("stacks of all goroutines follow", "goroutines", runtime.NumGoroutine())
	_, _ = fmt.Fprintf(r.out, "%s\n", stacks)
}

// adminHandler answers probes: /healthz says that the process lives, /readyz that the worker consumes.
func adminHandler(ready func() error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
	return mux
}

// takePidFile writes a process ID to a file, unless it has that of another living process. One that a dead process left behind is
// replaced (celery 5.7, platforms.py, Pidfile).
func takePidFile(path string, pid int) error {
	for {
		file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = fmt.Fprintf(file, "%d\n", pid)
			return errors.Join(err, file.Close())
		}
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		other, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return fmt.Errorf("%s has no process ID in it", path)
		}
		if other != pid && alive(other) {
			return fmt.Errorf("process %d of %s is running", other, path)
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
}

// alive tells whether a process exists.
func alive(pid int) bool {
	process, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	err = process.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, os.ErrPermission)
}
