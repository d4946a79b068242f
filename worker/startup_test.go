package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dfws/dfws/compat/dispatch"
)

// fakeRegistry is a registry in memory.
type fakeRegistry struct {
	mu        sync.Mutex // guards all
	entries   []*dispatch.Entry
	away      int // how many of the next calls fail
	published int
}

func (r *fakeRegistry) call(f func()) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away > 0 {
		r.away--
		return io.EOF
	}
	f()
	return nil
}

func (r *fakeRegistry) Refresh(context.Context) error { return r.call(func() {}) }

func (r *fakeRegistry) Entries() []*dispatch.Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.entries)
}

func (r *fakeRegistry) CheckConflicts(*dispatch.Entry) error { return nil }

func (r *fakeRegistry) PublishRegistry(_ context.Context, e *dispatch.Entry) error {
	return r.call(func() {
		r.published++
		r.entries = append(r.entries, e)
	})
}

func mustWorker(t testing.TB, cfg Config, register func(*Worker)) *Worker {
	t.Helper()
	if cfg.Settings == nil {
		cfg.Settings = testSettings()
	}
	cfg.App = "test"
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	register(w)
	return w
}

func TestReport(t *testing.T) {
	t.Parallel()
	var lines strings.Builder
	w := mustWorker(t, Config{
		Queues: []string{"go", "shared", "celery"}, Logger: slog.New(slog.NewTextHandler(&lines, nil)),
	}, func(w *Worker) {
		HandleSignal(w, Signal[pair]{Name: "demo.elsewhere", Queue: "other", Run: func(context.Context, *Call, pair) error { return nil }})
	})
	w.cfg.Settings.Celery.TaskDefaultQueue = "celery"
	w.report([]*dispatch.Entry{
		{Publisher: "python", Language: dispatch.LanguagePython, Signals: map[string][]dispatch.Handler{
			"demo.b": {{Queue: "shared"}}, "demo.a": {{Dynamic: true, Queues: []string{"shared", "x"}}}, "demo.c": {{Queue: "mine"}},
		}},
		{Publisher: "go:other", Language: dispatch.LanguageGo, Signals: map[string][]dispatch.Handler{"demo.go": {{Queue: "go"}}}},
	}, w.Queues())
	for _, want := range []string{`signals="[demo.a demo.b]"`, "queue=shared", "queue=celery", "signal=demo.elsewhere"} {
		if !strings.Contains(lines.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, lines.String())
		}
	}
	for _, unwanted := range []string{"demo.c", "demo.go", "queue=go"} {
		if strings.Contains(lines.String(), unwanted) {
			t.Errorf("the log has %s:\n%s", unwanted, lines.String())
		}
	}
}

func TestAnnounce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := mustWorker(t, Config{}, addTask)
		reg := &fakeRegistry{away: 3}
		if err := w.announce(t.Context(), reg, []string{"go"}); err != nil || reg.published != 1 {
			t.Fatalf("published %d times, %v", reg.published, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { w.keepAnnounced(ctx, reg, []string{"go"}) })
		time.Sleep(2*announceEvery + time.Second) // synctest's clock
		if reg.published != 1 {
			t.Errorf("published %d times although it was there", reg.published)
		}
		reg.mu.Lock()
		reg.entries, reg.away = nil, 1
		reg.mu.Unlock()
		time.Sleep(2 * announceEvery)
		cancel()
		group.Wait()
		if reg.published != 2 {
			t.Errorf("published %d times after it had disappeared", reg.published)
		}
	})
}

func TestMistakesInRegistration(t *testing.T) {
	t.Parallel()
	run := func(context.Context, *Call, pair) error { return nil }
	w := mustWorker(t, Config{}, func(w *Worker) {
		HandleSignal(w, Signal[pair]{Name: "not a name", Run: run})
		HandleSignal(w, Signal[pair]{Name: "demo.norun"})
		HandleSignal(w, Signal[int]{Name: "demo.int", Run: func(context.Context, *Call, int) error { return nil }})
		HandleTask(w, Task[pair, int]{Name: ""})
		addTask(w)
		addTask(w)
	})
	err := w.Run(t.Context())
	for _, want := range []string{`"not a name"`, `"demo.norun": no Run`, `"demo.int": arguments are a int`, `task ""`, `task "demo.add": two handlers`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %s: %v", want, err)
		}
	}
	if err := w.Run(t.Context()); err == nil {
		t.Error("Run twice")
	}
	if err := mustWorker(t, Config{}, func(*Worker) {}).Run(t.Context()); err == nil {
		t.Error("a worker without handlers")
	}
}

func TestConfigFaults(t *testing.T) {
	t.Parallel()
	_, err := New(Config{App: "a b", Concurrency: -1, MaxHops: -1, Queues: []string{"x", ""}, UnknownQueue: "x"})
	for _, want := range []string{"Settings", "App", "Concurrency", "MaxHops", "empty name", "UnknownQueue"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %s: %v", want, err)
		}
	}
	w := mustWorker(t, Config{UnknownQueue: "go"}, addTask)
	if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "UnknownQueue") {
		t.Errorf("UnknownQueue is the queue of a handler: %v", err)
	}
}

func TestTaskMessage(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	task, err := TaskMessage{
		Name: "demo.add", Args: []any{1}, Kwargs: map[string]any{"y": 2}, Queue: "q", ID: "id", Countdown: time.Minute, Expires: time.Hour,
		Priority: 3, IgnoreResult: true, TimeLimit: 2 * time.Second, SoftTimeLimit: time.Second, Headers: map[string]any{"tenant": "x"},
	}.build("default", now)
	if err != nil {
		t.Fatal(err)
	}
	header, _ := task.ExtraHeaders.Get("tenant")
	got := strings.TrimSpace(fmt.Sprintln(task.ID, task.RootID, task.Queue(), task.Args, task.Kwargs, task.ETA.Sub(now), task.Expires.Sub(now),
		task.Properties.Priority, *task.IgnoreResult, *task.TimeLimit[0], *task.TimeLimit[1], header))
	if want := `id id q [1] {"y": 2} 1m0s 1h0m0s 3 true 2 1 "x"`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for name, m := range map[string]TaskMessage{
		"no name": {}, "both times": {Name: "a", Countdown: 1, ETA: now}, "priority": {Name: "a", Priority: 10},
		"negative": {Name: "a", Expires: -1}, "arguments": {Name: "a", Args: []any{make(chan int)}},
	} {
		if _, err := m.build("default", now); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestExceptionText(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]*Exception{
		"ValueError: boom, 5": {Type: "ValueError", Args: []any{"boom", 5}}, "shop.SoldOut": {Type: "SoldOut", Module: "shop"},
	} {
		if e.Error() != want {
			t.Errorf("%q, want %q", e.Error(), want)
		}
	}
	wrapped := fmt.Errorf("outer: %w", &Exception{Type: "A", Module: "m"})
	if !errors.Is(wrapped, &Exception{Type: "A"}) || errors.Is(wrapped, &Exception{Type: "A", Module: "n"}) {
		t.Error("errors.Is")
	}
}
