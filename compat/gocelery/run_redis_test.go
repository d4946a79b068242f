package gocelery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/worker"
)

// countTask notices when somebody else uses its fields.
type countTask struct {
	n float64

	mu      sync.Mutex // guards running
	running int
}

func (c *countTask) ParseKwargs(kwargs map[string]any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running++; c.running > 1 {
		return errors.New("two calls at once")
	}
	c.n, _ = kwargs["n"].(float64)
	return nil
}

func (c *countTask) RunTask() (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	return c.n, nil
}

// meetTask succeeds when two of it run at the same time.
type meetTask struct{ meet *sync.WaitGroup }

func (m *meetTask) ParseKwargs(map[string]any) error {
	m.meet.Done()
	return nil
}

func (m *meetTask) RunTask() (any, error) {
	m.meet.Wait()
	return "met", nil
}

func TestCeleryTasks(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	c := s.client(t, Config{NumWorkers: 8})
	var meet sync.WaitGroup
	meet.Add(2)
	c.Register("shared", &countTask{})
	c.Register("made", func() CeleryTask { return &meetTask{&meet} })
	c.StartWorker()
	results := make([]*AsyncResult, 40)
	for i := range results {
		var err error
		if results[i], err = c.DelayKwargs("shared", map[string]any{"n": i}); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range results {
		if got := mustGet(t, r, nil); got != float64(i) {
			t.Errorf("%d: %v", i, got)
		}
	}
	for _, r := range []*AsyncResult{mustDelay(t, c, "made"), mustDelay(t, c, "made")} {
		if got := mustGet(t, r, nil); got != "met" {
			t.Error(got)
		}
	}
	s.mustBeIdle(t, DefaultQueue)
}

func mustDelay(t testing.TB, c *CeleryClient, task string, args ...any) *AsyncResult {
	t.Helper()
	r, err := c.Delay(task, args...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// StopWorker waits for the tasks that run; those that do not are there for the next start.
func TestStopAndStartAgain(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	c := s.client(t, Config{NumWorkers: 1})
	begunC, goC := make(chan struct{}), make(chan struct{})
	c.Register("wait", func(v any) []any {
		begunC <- struct{}{}
		<-goC
		return []any{v}
	})
	c.Register("version", func() int { return 1 })
	c.StartWorker()
	if got := mustGet(t, mustDelay(t, c, "version"), nil); got != 1.0 {
		t.Errorf("version %v", got)
	}
	c.Register("version", func() int { return 2 }) // while it runs
	if got := mustGet(t, mustDelay(t, c, "version"), nil); got != 2.0 {
		t.Errorf("version %v", got)
	}
	mustPanic(t, "register before StartWorker", func() { c.Register("new", func() {}) })

	running := mustDelay(t, c, "wait", "x")
	<-begunC
	waiting := mustDelay(t, c, "version")
	stopped := inBackground(t, c.StopWorker)
	eventually(t, "the waiting task is given back", func() bool { return s.broker.LLen(t.Context(), DefaultQueue).Val() == 1 })
	select {
	case <-stopped:
		t.Error("stopped with a task that runs")
	default:
	}
	close(goC)
	mustEnd(t, "the worker stops", stopped)
	if got := fmt.Sprint(mustGet(t, running, nil)); got != "[x]" {
		t.Error(got)
	}
	if ready, err := waiting.Ready(); ready || err != nil {
		t.Errorf("ready: %v, %v", ready, err)
	}
	c.StopWorker() // which does nothing
	c.WaitForStopWorker()

	c.Register("new", func() string { return "new" })
	ctx, cancel := context.WithCancel(t.Context())
	c.StartWorkerWithContext(ctx)
	if got := mustGet(t, waiting, nil); got != 2.0 {
		t.Error(got)
	}
	if got := mustGet(t, mustDelay(t, c, "new"), nil); got != "new" {
		t.Error(got)
	}
	if err := c.Run(ctx); !errors.Is(err, errStarted) {
		t.Errorf("started twice: %v", err)
	}
	cancel()
	c.WaitForStopWorker()
	s.mustBeIdle(t, DefaultQueue)
}

func mustPanic(t testing.TB, fact string, f func()) {
	t.Helper()
	defer func() {
		if text, _ := recover().(string); !strings.Contains(text, fact) {
			t.Errorf("%q, want %q in it", text, fact)
		}
	}()
	f()
}

func TestRunErrors(t *testing.T) {
	t.Parallel()
	if err := mustNew(t, Config{}).Run(t.Context()); !errors.Is(err, errNoWorkers) {
		t.Errorf("no workers: %v", err)
	}
	c := mustNew(t, Config{NumWorkers: 1})
	if err := c.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no handler") {
		t.Errorf("nothing registered: %v", err)
	}
	c.StartWorker() // logs the same
	c.WaitForStopWorker()
	c.StopWorker()
}

// Without Redis a stop ends a worker that has not begun.
func TestStopWithoutRedis(t *testing.T) {
	t.Parallel()
	c := mustNew(t, Config{NumWorkers: 1})
	c.Register("x", func() {})
	c.StartWorker()
	mustEnd(t, "the worker stops", inBackground(t, c.StopWorker))
}

// Handlers of package worker run beside gocelery's.
func TestHandlers(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	c := s.client(t, Config{NumWorkers: 1, Handlers: func(w *worker.Worker) {
		worker.HandleFunc(w, worker.Func{Name: "new", Queue: DefaultQueue, Run: func(_ context.Context, n int64) (int64, error) { return n, nil }})
	}})
	c.Register("old", func(n int) int { return n })
	c.StartWorker()
	for _, name := range []string{"old", "new"} {
		if got := mustGet(t, mustDelay(t, c, name, 5), nil); got != 5.0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestResultsThatAreNotThere(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	c := s.client(t, Config{})
	r := mustDelay(t, c, "nobody.has.it")
	if v, err := r.AsyncGet(); !errors.Is(err, ErrNotAvailable) || v != nil {
		t.Errorf("AsyncGet: %v, %v", v, err)
	}
	if ready, err := r.Ready(); ready || err != nil {
		t.Errorf("Ready: %v, %v", ready, err)
	}
	for _, timeout := range []time.Duration{-1, 0, 3 * minPoll} {
		_, err := r.Get(timeout)
		want := fmt.Sprintf("%v timeout getting result for %s", timeout, r.TaskID) // gocelery's text
		if !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("Get(%v): %v", timeout, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: %v", err)
	}
	s.Stop()
	for timeout := 3 * minPoll; ; timeout *= 2 { // on a busy machine it ends before Redis has been asked
		_, err := r.Get(timeout)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Get without Redis: %v", err)
		}
		if strings.Contains(err.Error(), "refused") {
			break
		}
		if timeout > waitLimit {
			t.Fatalf("Get without Redis does not say what is wrong: %v", err)
		}
	}
	if _, err := r.Ready(); err == nil {
		t.Error("Ready without Redis")
	}
	if _, err := c.Delay("x"); err == nil {
		t.Error("Delay without Redis")
	}
}

func TestWithoutBackend(t *testing.T) {
	t.Parallel()
	s := startSite(t)
	ranC := make(chan struct{}, 1)
	c := mustNew(t, Config{Broker: &RedisCeleryBroker{URL: NewRedisCeleryBroker(s.URLFor(0)).URL}, NumWorkers: 1})
	c.Register("x", func() int { ranC <- struct{}{}; return 1 })
	c.StartWorker()
	r := mustDelay(t, c, "x")
	mustEnd(t, "the task runs", ranC)
	s.mustBeIdle(t, DefaultQueue)
	for _, f := range []func() error{
		func() error { _, err := r.Get(time.Second); return err },
		func() error { _, err := r.AsyncGet(); return err },
		func() error { _, err := r.Ready(); return err },
		func() error { _, err := (&AsyncResult{TaskID: "x"}).Get(time.Second); return err },
	} {
		if err := f(); !errors.Is(err, worker.ErrNoResultBackend) {
			t.Error(err)
		}
	}
}
