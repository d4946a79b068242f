package dispatch

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/redistest"
)

// TestMain ignores go-redis' probe of a server that is away: it sleeps a second between its tries and then sees that its pool is closed.
func TestMain(m *testing.M) {
	os.Exit(redistest.Main(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")))
}

// testNow is the clock of the tests.
var testNow = time.Date(2026, 11, 23, 9, 30, 0, 123456789, time.UTC)

// mustSettings returns settings whose three Redis URLs are url.
func mustSettings(tb testing.TB, url string) *compat.Settings {
	tb.Helper()
	s, err := compat.ParseSettings(fmt.Appendf(nil,
		`{"schema": 1, "celery": {"broker_url": %q, "result_backend": %q}, "channel_layer": {"hosts": [{"url": %q}]}}`, url, url, url))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// counter makes IDs that tell their order.
func counter() func() string {
	var mu sync.Mutex
	n := 0
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		n++
		return fmt.Sprintf("00000000-0000-4000-8000-%012d", n)
	}
}

// mustDispatcher returns a dispatcher with a fixed clock that knows these entries.
func mustDispatcher(tb testing.TB, entries ...*Entry) *Dispatcher {
	tb.Helper()
	registry := NewRegistry(RegistryConfig{})
	if len(entries) > 0 {
		registry.Set(entries...)
	}
	d, err := NewDispatcher(Config{
		Settings: mustSettings(tb, "redis://127.0.0.1:6379/0"), Registry: registry, Now: func() time.Time { return testNow }, NewID: counter(),
		Origin: "gen1@h",
	})
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// python is the entry of a site with these signals.
func python(signals map[string][]Handler) *Entry {
	return &Entry{Publisher: PublisherPython, Language: LanguagePython, App: "project", DefaultQueue: "celery", Signals: signals}
}

// golang is the entry of a Go application with these signals.
func golang(app string, signals map[string][]Handler) *Entry {
	return &Entry{Publisher: PublisherGo(app), Language: LanguageGo, App: app, DefaultQueue: "go", Signals: signals}
}

// on is a handler that everyone may call.
func on(queue string) Handler { return Handler{Handler: "f_" + queue, Queue: queue, Allow: "everyone"} }

// dynamic is a handler whose queue only Python can compute.
func dynamic(queues ...string) Handler {
	return Handler{Handler: "dyn", Dynamic: true, Queues: queues, Allow: "everyone"}
}

// serverSide is a handler that no browser may call.
func serverSide(queue string) Handler {
	return Handler{Handler: "s_" + queue, Queue: queue, Allow: AllowServerSide}
}

// sent is one task as its receiver sees it.
type sent struct {
	task *celeryproto.Task
	call *compat.SignalCall // nil for other tasks
}

// mustSent decodes the messages of a plan.
func mustSent(tb testing.TB, p *Plan) []sent {
	tb.Helper()
	var out []sent
	for _, m := range p.Messages {
		envelope, err := celeryproto.DecodeEnvelope(m.Envelope)
		if err != nil {
			tb.Fatalf("%s: %v", m.Envelope, err)
		}
		task, err := celeryproto.DecodeTask(envelope)
		if err != nil {
			tb.Fatal(err)
		}
		if task.Queue() != m.Queue {
			tb.Errorf("routing key %q in queue %q", task.Queue(), m.Queue)
		}
		s := sent{task: task}
		if task.Name == compat.TaskName {
			if s.call, err = compat.DecodeSignalArgs(task.Args); err != nil {
				tb.Fatal(err)
			}
			if s.call.Queue != m.Queue {
				tb.Errorf("argument 6 is %q in queue %q", s.call.Queue, m.Queue)
			}
		}
		out = append(out, s)
	}
	return out
}

// mustPlan plans.
func mustPlan(tb testing.TB, d *Dispatcher, t Trigger) *Plan {
	tb.Helper()
	p, err := d.Plan(t)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}
