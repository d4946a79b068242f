package appserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxSocketPath is what the path of a unix socket may be long (unix(7), sun_path, less its NUL).
	maxSocketPath = 107
	// maxNumber is a number of a generation that none will reach.
	maxNumber = 9_999_999
)

// socketPath is where a generation listens.
func socketPath(dir string, number int) string {
	return filepath.Join(dir, strconv.Itoa(number)+".sock")
}

// Supervisor keeps one application server running. Create it with New and let Run do the rest.
type Supervisor struct {
	cfg     Config
	words   []string
	reloadC chan struct{} // Reload sends, Run receives; capacity 1: a second request before the first is served says nothing new
	current atomic.Pointer[generation]
	ran     atomic.Bool
	failure atomic.Pointer[StartError] // of the last start, until one succeeds

	generations sync.WaitGroup
	number      int // of the last generation; Run's only
}

// New checks the configuration. It fails on systems other than Linux with ErrUnsupported, and when the program does not exist.
func New(cfg Config) (*Supervisor, error) {
	if !supported {
		return nil, ErrUnsupported
	}
	cfg = cfg.withDefaults()
	words, err := parseCommand(cfg.Command)
	if err := errors.Join(err, cfg.validate()); err != nil {
		return nil, err
	}
	program := words[0]
	if cfg.Dir != "" && filepath.Base(program) != program && !filepath.IsAbs(program) {
		program = filepath.Join(cfg.Dir, program) // as exec.Cmd does
	}
	if _, err := exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("appserver: command: %w", err)
	}
	return &Supervisor{cfg: cfg, words: words, reloadC: make(chan struct{}, 1)}, nil
}

// Upstream returns where the application server listens (unix:///…), or nil while none is ready.
func (s *Supervisor) Upstream() *url.URL {
	if g := s.current.Load(); g != nil {
		return g.url
	}
	return nil
}

// Ready returns nil while an application server is ready, else an error that says why not.
func (s *Supervisor) Ready() error {
	if s.current.Load() != nil {
		return nil
	}
	if failure := s.failure.Load(); failure != nil {
		return failure
	}
	return errors.New("appserver: it has not answered yet")
}

// Reload replaces the application server by a new one, started from the same command. It returns at once.
func (s *Supervisor) Reload() {
	select {
	case s.reloadC <- struct{}{}:
	default: // one is under way
	}
}

// Run starts the application server and keeps it running until ctx ends; then it stops it, waits for its end and returns nil. It returns an
// error when no generation has ever answered in Config.StartAttempts starts. It may be called once.
func (s *Supervisor) Run(ctx context.Context) (err error) {
	if s.ran.Swap(true) {
		return ErrRunning
	}
	dir, err := os.MkdirTemp("", "dfws-app-") // mode 0700: whoever can connect there can say who the client is
	if err != nil {
		return fmt.Errorf("appserver: folder for the sockets: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if longest := socketPath(dir, maxNumber); len(longest) > maxSocketPath {
		return fmt.Errorf("appserver: folder for the sockets: %s is too long for the path of a socket (%d bytes): set TMPDIR", dir, maxSocketPath)
	}
	defer s.generations.Wait()

	failures, everReady, reason := 0, false, StartFirst
	for {
		g, err := s.launch(ctx, dir, nil, reason)
		if ctx.Err() != nil {
			return s.finish(g)
		}
		if err == nil {
			everReady = true
			began := time.Now()
			if g = s.serve(ctx, dir, g); g != nil {
				return s.finish(g)
			}
			reason = StartExited
			if time.Since(began) >= s.cfg.stable {
				failures = 0
			}
		}
		failures++
		if err != nil && !everReady && failures >= s.cfg.StartAttempts {
			return fmt.Errorf("appserver: given up after %d starts: %w", failures, err)
		}
		s.pause(ctx, failures)
	}
}

// finish stops the last generation.
func (s *Supervisor) finish(g *generation) error {
	s.current.Store(nil)
	if g != nil {
		g.stop(s.cfg.StopTimeout, &s.cfg.Observer)
	}
	return nil
}

// pause waits before the next start: half a second, doubled with each failure in a row up to 30 s, a fifth more or less. A reload ends it.
func (s *Supervisor) pause(ctx context.Context, failures int) {
	wait := backoffMax
	if doublings := failures - 1; doublings < 16 {
		wait = min(s.cfg.backoff<<doublings, backoffMax)
	}
	wait = time.Duration(float64(wait) * (0.8 + 0.4*rand.Float64()))
	s.cfg.Logger.Info("app server is started again", "in", wait.Round(time.Millisecond), "failures", failures)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.reloadC:
	case <-ctx.Done():
	}
}

// serve watches a serving generation and its successors. It returns the one that still serves when ctx ends, nil when it ended by itself.
func (s *Supervisor) serve(ctx context.Context, dir string, g *generation) *generation {
	tick := time.NewTicker(s.cfg.check)
	defer tick.Stop()
	var notBefore time.Time // after a replacement that failed
	for {
		reason := ""
		select {
		case <-ctx.Done():
			return g
		case <-g.exitC:
			s.exited(g)
			return nil
		case <-s.reloadC:
			reason = StartReload
		case <-tick.C:
			if reason = s.due(g); time.Now().Before(notBefore) {
				reason = ""
			}
		}
		if reason == "" {
			continue
		}
		next, err := s.launch(ctx, dir, g, reason)
		switch {
		case err != nil:
			notBefore = time.Now().Add(backoffMax)
		case next != nil:
			s.retire(g)
			g = next
		}
	}
}

func (s *Supervisor) exited(g *generation) {
	s.current.CompareAndSwap(g, nil)
	call(s.cfg.Observer.Exited)
	s.cfg.Logger.Error("app server ended by itself, requests get 503", "generation", g.number, "pid", g.pid, "status", g.status,
		"after", time.Since(g.started).Round(time.Millisecond))
}

// due says why a generation is to be replaced now; "" if it is not.
func (s *Supervisor) due(g *generation) string {
	bytes, err := groupMemory(g.pid)
	if err != nil {
		s.cfg.Logger.Warn("the memory of the app server cannot be read", "err", err)
	}
	s.cfg.Observer.memory(bytes)
	switch {
	case s.cfg.MaxMemory > 0 && bytes > s.cfg.MaxMemory:
		g.log.Info("app server holds too much memory", "bytes", bytes, "limit", s.cfg.MaxMemory)
		return StartMemory
	case g.maxAge > 0 && time.Since(g.started) > g.maxAge:
		return StartAge
	}
	return ""
}

// retire stops a generation in the background, a moment later: connections that are being made must still be taken.
func (s *Supervisor) retire(g *generation) {
	s.generations.Go(func() {
		timer := time.NewTimer(s.cfg.linger)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-g.exitC:
		}
		g.stop(s.cfg.StopTimeout, &s.cfg.Observer)
	})
}

// launch starts a generation and makes it the current one when it answers. Until then old, if there is one, goes on; a new one that answers
// with server errors does not replace it. After an error the new generation has ended.
func (s *Supervisor) launch(ctx context.Context, dir string, old *generation, reason string) (*generation, error) {
	s.number++
	s.cfg.Observer.started(reason)
	g, err := spawn(&s.cfg, s.words, dir, s.number, &s.generations)
	if err != nil {
		call(s.cfg.Observer.Failed)
		s.cfg.Logger.Error("app server cannot be started", "err", err)
		failure := &StartError{Err: err}
		s.failure.Store(failure)
		return nil, failure
	}
	if s.cfg.MaxAge > 0 {
		g.maxAge = s.cfg.MaxAge + time.Duration(rand.Float64()*float64(s.cfg.MaxAge)/10)
	}
	g.log.Info("app server started", "reason", reason)
	err = s.awaitReady(ctx, g, old)
	if err == nil {
		s.current.Store(g)
		s.failure.Store(nil)
		d := time.Since(g.started)
		s.cfg.Observer.ready(d)
		g.log.Info("app server is ready", "after", d.Round(time.Millisecond))
		return g, nil
	}
	g.stop(s.cfg.StopTimeout, &s.cfg.Observer)
	if ctx.Err() != nil {
		return nil, nil // we stop; nothing is wrong
	}
	call(s.cfg.Observer.Failed)
	failure := g.failure(nil)
	if !errors.Is(err, errEnded) {
		failure = g.failure(err)
	}
	s.failure.Store(failure)
	if old != nil && !old.ended() {
		g.log.Error("app server was not replaced: the new one failed, the old one stays", "reason", reason, "err", failure)
	} else {
		g.log.Error("app server did not start", "err", failure)
	}
	return nil, failure
}

// errEnded is the reason why a generation that ended by itself is not asked any more.
var errEnded = errors.New("ended")

// awaitReady returns nil when g answers.
func (s *Supervisor) awaitReady(ctx context.Context, g, old *generation) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	defer watcher.Wait()
	defer cancel(nil)
	watcher.Go(func() { s.watchStart(ctx, cancel, g, old) })
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	var last error
	for {
		status, err := g.probe(ctx, &s.cfg)
		switch {
		case err != nil && ctx.Err() == nil:
			last = err
		case err != nil: // the question was cut short
		case status < http.StatusInternalServerError:
			return nil
		case old == nil || old.ended():
			g.log.Warn("app server answers with a server error; it serves all the same, since there is no other", "status", status)
			return nil
		default:
			last = fmt.Errorf("it answers %s with status %d", s.cfg.ReadyPath, status)
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		if cause := context.Cause(ctx); !errors.Is(cause, errSlow) || last == nil {
			return cause
		}
		return fmt.Errorf("%w (%s): %w", errSlow, s.cfg.StartTimeout, last)
	}
}

// watchStart cancels the wait for g when g ends or its time is over, and notes the end of old meanwhile.
func (s *Supervisor) watchStart(ctx context.Context, cancel context.CancelCauseFunc, g, old *generation) {
	timer := time.NewTimer(s.cfg.StartTimeout)
	defer timer.Stop()
	var oldC chan struct{}
	if old != nil {
		oldC = old.exitC
	}
	for {
		select {
		case <-oldC:
			s.current.CompareAndSwap(old, nil) // requests get 503 until g answers
			oldC = nil
			continue
		case <-g.exitC:
			cancel(errEnded)
		case <-timer.C:
			cancel(errSlow)
		case <-ctx.Done():
		}
		return
	}
}
