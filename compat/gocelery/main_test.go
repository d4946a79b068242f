package gocelery

import (
	"log/slog"
	"os"
	"testing"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/integration/redistest"
	"github.com/dfws/dfws/worker"
	"github.com/dfws/dfws/worker/workertest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Main(m)) }

// nowhere is a Redis that no test connects to.
const nowhere = "redis://127.0.0.1:1/0"

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// mustNew makes a client that is closed at the end of the test.
func mustNew(t testing.TB, cfg Config) *CeleryClient {
	t.Helper()
	if cfg.Broker == nil && cfg.Settings == nil {
		cfg.Broker = NewRedisCeleryBroker(nowhere)
	}
	if cfg.Worker.Logger == nil {
		cfg.Worker.Logger = testLogger(t)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// bench runs registered tasks without Redis.
func bench(t testing.TB, tasks map[string]any) *workertest.Bench {
	t.Helper()
	c := mustNew(t, Config{NumWorkers: 1})
	names := make([]string, 0, len(tasks))
	for name, task := range tasks {
		c.Register(name, task)
		names = append(names, name)
	}
	return workertest.NewWith(t, c.cfg.worker(c.settings), func(w *worker.Worker) { c.handle(w, names) })
}

// raws are arguments as a message has them.
func raws(texts ...string) []any {
	args := make([]any, len(texts))
	for i, text := range texts {
		args[i] = celeryproto.Raw(text)
	}
	return args
}
