package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/integration/redistest"
)

// siteFor is the settings file of a site on a test's own Redis; more overrides its "celery" member.
func siteFor(t testing.TB, server *redistest.Server, more map[string]any) *compat.Settings {
	t.Helper()
	celery := map[string]any{"broker_url": server.URLFor(0), "result_backend": server.URLFor(1)}
	for k, v := range more {
		celery[k] = v
	}
	file, err := json.Marshal(map[string]any{
		"schema": 1, "celery": celery,
		"channel_layer": map[string]any{"hosts": []any{map[string]any{"url": server.URLFor(2)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	settings, err := compat.ParseSettings(file)
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

// running is a worker on a real Redis.
type running struct {
	t     testing.TB
	w     *Worker
	stop  context.CancelFunc
	doneC chan struct{} // closed when Run has returned
	err   error         // read after doneC
}

func startWorker(t testing.TB, cfg Config, register func(*Worker)) *running {
	t.Helper()
	if cfg.App == "" {
		cfg.App = "test"
	}
	if cfg.Logger == nil {
		cfg.Logger = testLogger(t)
	}
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	register(w)
	ctx, stop := context.WithCancel(t.Context())
	r := &running{t: t, w: w, stop: stop, doneC: make(chan struct{})}
	var group sync.WaitGroup
	group.Go(func() {
		defer close(r.doneC)
		r.err = w.Run(ctx)
	})
	t.Cleanup(func() {
		stop()
		group.Wait()
		if r.err != nil && !t.Failed() {
			t.Logf("worker ended with: %v", r.err)
		}
	})
	return r
}

func (r *running) awaitReady() *running {
	r.t.Helper()
	eventually(r.t, "the worker is ready", func() bool { return r.w.Ready() == nil })
	return r
}

// halt stops the worker and returns what Run did.
func (r *running) halt() error {
	r.stop()
	<-r.doneC
	return r.err
}

func clientFor(t testing.TB, settings *compat.Settings) *Client {
	t.Helper()
	c, err := NewClient(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func mustSend(t testing.TB, c *Client, m TaskMessage) *AsyncResult {
	t.Helper()
	if m.Queue == "" {
		m.Queue = "go"
	}
	p, err := c.Send(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func within10s(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestCycle(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	startWorker(t, Config{Settings: settings}, func(w *Worker) { addTask(w); failing(w) }).awaitReady()
	client := clientFor(t, settings)
	ctx := within10s(t)

	var sum int
	if err := mustSend(t, client, TaskMessage{Name: "demo.add", Args: []any{2}, Kwargs: map[string]any{"y": 40}}).Get(ctx, &sum); err != nil || sum != 42 {
		t.Errorf("demo.add: %d, %v", sum, err)
	}
	err := mustSend(t, client, TaskMessage{Name: "fail.value"}).Get(ctx, nil)
	if e, ok := errors.AsType[*Exception](err); !ok || e.Type != "ValueError" || fmt.Sprint(e.Args) != "[boom 5]" {
		t.Errorf("fail.value: %v", err)
	}
	if !errors.Is(err, &Exception{Type: "ValueError"}) || errors.Is(err, &Exception{Type: "KeyError"}) {
		t.Errorf("errors.Is does not tell classes apart: %v", err)
	}
	err = mustSend(t, client, TaskMessage{Name: "demo.add", Args: []any{1, 2}, Countdown: -time.Hour, Expires: time.Nanosecond}).Get(ctx, nil)
	if !errors.Is(err, &Exception{Type: "TaskRevokedError"}) {
		t.Errorf("expired: %v", err)
	}
	began := time.Now()
	err = mustSend(t, client, TaskMessage{Name: "demo.add", Args: []any{1, 2}, Countdown: 300 * time.Millisecond}).Get(ctx, &sum)
	if took := time.Since(began); err != nil || sum != 3 || took < 290*time.Millisecond {
		t.Errorf("countdown: %d, %v after %s", sum, err, took)
	}
	redis := server.Client(t)
	eventually(t, "nothing stays unacked", func() bool { return redis.HLen(ctx, "unacked").Val() == 0 })
}

func TestSignalCycle(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	type said struct {
		Text string `arg:"text"`
	}
	gotC := make(chan string, 4)
	startWorker(t, Config{Settings: settings}, func(w *Worker) {
		HandleSignal(w, Signal[said]{Name: "demo.first", Allow: Everyone, Run: func(ctx context.Context, c *Call, a said) error {
			return c.Trigger(ctx, "demo.second", map[string]any{"text": a.Text + "!"}, ToServer)
		}})
		HandleSignal(w, Signal[said]{Name: "demo.second", Run: func(ctx context.Context, c *Call, a said) error {
			key, _ := c.Window.WindowKey()
			gotC <- a.Text + " " + key
			return c.TriggerWith(ctx, Trigger{
				Signal: "demo.answer", Opts: map[string]any{"at": time.Unix(0, 0).UTC()}, To: []Target{ToWindow}, Countdown: 50 * time.Millisecond,
			})
		}})
	}).awaitReady()

	services, err := dispatch.Connect(t.Context(), dispatch.ServicesConfig{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = services.Close() })
	ctx := within10s(t)
	channel, err := services.Layer.NewChannel(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := services.Layer.GroupAdd(ctx, compat.GroupName("-window.abc"), channel); err != nil {
		t.Fatal(err)
	}
	client := clientFor(t, settings)
	err = client.Trigger(ctx, Trigger{
		Signal: "demo.first", To: []Target{ToServer}, Opts: map[string]any{"text": "hello"}, Window: mustWindow(t, `{"window_key": "abc"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := <-gotC; got != "hello! abc" {
		t.Errorf("second handler got %q", got)
	}
	message, err := services.Layer.Receive(ctx, channel)
	if err != nil {
		t.Fatal(err)
	}
	frame, ok := dispatch.FrameText(message)
	if !ok || !strings.Contains(frame, `"opts": {"at": "1970-01-01T00:00:00Z"}`) {
		t.Errorf("the delayed frame is %q", frame)
	}
}

func TestUnknownTask(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	startWorker(t, Config{Settings: settings, MaxHops: 3, HopDelay: time.Millisecond}, addTask).awaitReady()
	client := clientFor(t, settings)
	ctx := within10s(t)
	err := mustSend(t, client, TaskMessage{Name: "no.such.task"}).Get(ctx, nil)
	if !errors.Is(err, &Exception{Type: "NotRegistered"}) {
		t.Errorf("unknown task: %v", err)
	}
	redis := server.Client(t)
	eventually(t, "a dead letter", func() bool { return redis.LLen(ctx, "dfws:dead:go").Val() == 1 })
	if err := redis.LPush(ctx, "go", "no JSON").Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "garbage is a dead letter", func() bool { return redis.LLen(ctx, "dfws:dead:go").Val() == 2 })
	var sum int
	if err := mustSend(t, client, TaskMessage{Name: "demo.add", Args: []any{1, 2}}).Get(ctx, &sum); err != nil || sum != 3 {
		t.Errorf("the next message: %d, %v", sum, err)
	}
}

func TestMovedToUnknownQueue(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	startWorker(t, Config{Settings: settings, UnknownQueue: "celery"}, addTask).awaitReady()
	p := mustSend(t, clientFor(t, settings), TaskMessage{Name: "python.task", Args: []any{"é"}})
	redis, ctx := server.Client(t), within10s(t)
	eventually(t, "the task is in the other queue", func() bool {
		return redis.LLen(ctx, "celery").Val() == 1 && redis.HLen(ctx, "unacked").Val() == 0
	})
	envelope, err := celeryproto.DecodeEnvelope([]byte(redis.LIndex(ctx, "celery", 0).Val()))
	if err != nil {
		t.Fatal(err)
	}
	task, err := celeryproto.DecodeTask(envelope)
	if err != nil || task.ID != p.ID || task.Queue() != "celery" || task.Args.String() != `["\u00e9"]` {
		t.Errorf("moved task %+v, %v", task, err)
	}
}

func TestStopGivesBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	var begun atomic.Int32
	register := func(w *Worker) {
		HandleTask(w, Task[struct{ N int }, int]{Name: "wait", Run: func(ctx context.Context, _ *TaskCall, _ struct{ N int }) (int, error) {
			begun.Add(1)
			<-ctx.Done()
			return 0, ctx.Err()
		}})
	}
	w := startWorker(t, Config{Settings: settings, Concurrency: 1, SoftStopTimeout: 20 * time.Millisecond}, register).awaitReady()
	client := clientFor(t, settings)
	for n := range 6 {
		mustSend(t, client, TaskMessage{Name: "wait", Args: []any{n}})
	}
	mustSend(t, client, TaskMessage{Name: "wait", Args: []any{6}, Countdown: time.Hour})
	redis, ctx := server.Client(t), within10s(t)
	eventually(t, "the window is full and a task runs", func() bool { return begun.Load() == 1 && redis.HLen(ctx, "unacked").Val() >= 4 })
	if err := w.halt(); err != nil {
		t.Errorf("stop: %v", err)
	}
	if n, held := redis.LLen(ctx, "go").Val(), redis.HLen(ctx, "unacked").Val(); n != 7 || held != 0 {
		t.Errorf("%d in the queue and %d unacked, want 7 and 0", n, held)
	}
	var order []string
	for _, raw := range redis.LRange(ctx, "go", 0, -1).Val() {
		envelope, err := celeryproto.DecodeEnvelope([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		task, err := celeryproto.DecodeTask(envelope)
		if err != nil {
			t.Fatal(err)
		}
		order = append([]string{task.Args.String()}, order...)
	}
	if got := strings.Join(order[:4], ""); got != "[0][1][2][3]" {
		t.Errorf("the next to be consumed are %v", order)
	}
}

func TestRedeliveryOfAbandoned(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, map[string]any{
		"broker_transport_options": map[string]any{"visibility_timeout": 1, "unacked_restore_interval": 1, "unacked_restore_throttle": 1},
	})
	client := clientFor(t, settings)
	p := mustSend(t, client, TaskMessage{Name: "demo.add", Args: []any{1, 2}})
	abandon(t, settings)
	startWorker(t, Config{Settings: settings}, addTask)
	var sum int
	if err := p.Get(within10s(t), &sum); err != nil || sum != 3 {
		t.Errorf("a task of a dead worker: %d, %v", sum, err)
	}
}

// abandon takes what is in the queue go as a worker that is killed right afterwards: by hand, in kombu's format.
func abandon(t testing.TB, settings *compat.Settings) {
	t.Helper()
	services, err := dispatch.Connect(t.Context(), dispatch.ServicesConfig{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := services.Broker.NewConsumer(redisbroker.ConsumerConfig{Queues: []string{"go"}, Prefetch: 1, SkipRestore: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = consumer.Run(ctx, func(*redisbroker.Delivery) {
		_ = services.Broker.Close() // the process is gone: nothing it does reaches Redis any more
		cancel()
	})
	if err == nil {
		t.Error("the dead worker gave its task back")
	}
	_ = services.Close()
}

func TestRedisRestart(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	startWorker(t, Config{Settings: settings}, func(w *Worker) {
		addTask(w)
		HandleTask(w, Task[struct{}, string]{Name: "restart", Run: func(context.Context, *TaskCall, struct{}) (string, error) {
			server.Restart() // result and ack meet a Redis that has just come back
			return "done", nil
		}})
	}).awaitReady()
	client := clientFor(t, settings)
	var text string
	if err := mustSend(t, client, TaskMessage{Name: "restart"}).Get(within10s(t), &text); err != nil || text != "done" {
		t.Errorf("a task during which Redis restarted: %q, %v", text, err)
	}
	var sum int
	eventually(t, "the worker goes on", func() bool {
		p, err := client.Send(t.Context(), TaskMessage{Name: "demo.add", Args: []any{1, 2}, Queue: "go"})
		return err == nil && p.Get(within10s(t), &sum) == nil && sum == 3
	})
}

func TestRegistration(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	services, err := dispatch.Connect(t.Context(), dispatch.ServicesConfig{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = services.Close() })
	python := &dispatch.Entry{
		Publisher: dispatch.PublisherPython, Language: dispatch.LanguagePython,
		Signals: map[string][]dispatch.Handler{"demo.pair": {{Handler: "demo.signals.pair", Queue: "shared", Allow: "everyone"}}},
	}
	if err := services.Store.PublishRegistry(t.Context(), python); err != nil {
		t.Fatal(err)
	}
	run := func(context.Context, *Call, pair) error { return nil }
	taken := startWorker(t, Config{Settings: settings, App: "conflict"}, func(w *Worker) {
		HandleSignal(w, Signal[pair]{Name: "demo.pair", Queue: "shared", Run: run})
	})
	<-taken.doneC
	if conflict, ok := errors.AsType[*dispatch.ConflictError](taken.err); !ok || conflict.Queue != "shared" {
		t.Errorf("a handler on Python's queue: %v", taken.err)
	}
	startWorker(t, Config{Settings: settings, App: "fine"}, func(w *Worker) {
		HandleSignal(w, Signal[pair]{Name: "demo.pair", Allow: HasPerm("a.b"), Run: run})
	}).awaitReady()
	if err := services.Registry.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	found := services.Registry.Lookup("demo.pair")
	if len(found) != 2 || found[1].Publisher != "go:fine" || found[1].Queue != "go" || found[1].Allow != "has_perm:a.b" ||
		fmt.Sprint(*found[1].Arguments) != "{[x y] [] false}" {
		t.Errorf("registered %+v", found)
	}
}
