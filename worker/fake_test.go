package worker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/redistest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Main(m)) }

// fakeDelivery records how a message ended.
type fakeDelivery struct {
	broker   *fakeBroker
	mu       sync.Mutex // guards all
	ended    string     // "ack", "requeue", "move", "dead"
	envelope []byte
	wait     time.Duration
	rest     time.Duration
	to       string
	reason   string
	parked   bool
	failures int // how many of the next writes fail
	doneC    chan struct{}
}

func (d *fakeDelivery) end(how string, set func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failures > 0 {
		d.failures--
		return io.EOF
	}
	if d.ended != "" {
		return errors.New("settled twice: " + d.ended + " and " + how)
	}
	d.ended = how
	set()
	close(d.doneC)
	return nil
}

func (d *fakeDelivery) ack(context.Context) error { return d.end("ack", func() {}) }

func (d *fakeDelivery) complete(ctx context.Context, meta *celeryproto.ResultMeta, done func(error)) error {
	if meta != nil {
		if err := d.broker.Store(ctx, meta); err != nil {
			done(err)
			return nil
		}
	}
	d.mu.Lock()
	acked := d.ended == "ack"
	d.mu.Unlock()
	if acked {
		done(nil)
		return nil
	}
	done(d.ack(ctx))
	return nil
}

func (d *fakeDelivery) reject(context.Context) error { return d.end("reject", func() {}) }

func (d *fakeDelivery) requeue(_ context.Context, envelope []byte, wait, rest time.Duration) error {
	return d.end("requeue", func() { d.envelope, d.wait, d.rest = envelope, wait, rest })
}

func (d *fakeDelivery) move(_ context.Context, queue string, _ int, envelope []byte) error {
	return d.end("move", func() { d.envelope, d.to = envelope, queue })
}

func (d *fakeDelivery) deadLetter(_ context.Context, reason string) error {
	return d.end("dead", func() { d.reason = reason })
}

func (d *fakeDelivery) park() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.parked = true
}

// fakeBroker is a consumer and the part of a result backend in memory that tests of the engine need.
type fakeBroker struct {
	Backend // nil: chords are tested with Redis

	messagesC chan received // sent by tests, received by run
	backC     chan struct{} // closed by giveBackAll

	mu       sync.Mutex // guards the fields below
	stored   map[string]*celeryproto.ResultMeta
	fail     int // how many of the next stores fail
	given    int // jobs given back before they began
	window   int // sum of addPrefetch
	consumed []string

	published []redisbroker.Message
	fanned    []redisbroker.FanoutMessage
	fanFail   error // of PublishFanout
	replies   []fakeReply
}

// fakeReply is an answer of remote control.
type fakeReply struct {
	exchange, routingKey string
	envelope             []byte
}

// PublishFanout records events.
func (b *fakeBroker) PublishFanout(_ context.Context, msgs ...redisbroker.FanoutMessage) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fanFail != nil {
		return b.fanFail
	}
	b.fanned = append(b.fanned, msgs...)
	return nil
}

// PublishExchange records a message to a named exchange, to which one queue is bound.
func (b *fakeBroker) PublishExchange(ctx context.Context, m redisbroker.ExchangeMessage) (int, error) {
	return 1, b.Publish(ctx, redisbroker.Message{Queue: m.Exchange + "/" + m.RoutingKey, Priority: m.Priority, Envelope: m.Envelope})
}

// Bind implements publisher.
func (b *fakeBroker) Bind(context.Context, ...redisbroker.Binding) error { return nil }

// Broadcast records a command that this worker sends.
func (b *fakeBroker) Broadcast(ctx context.Context, m redisbroker.FanoutMessage) (int, error) {
	return 0, b.PublishFanout(ctx, m)
}

// Reply records an answer.
func (b *fakeBroker) Reply(_ context.Context, exchange, routingKey string, envelope []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replies = append(b.replies, fakeReply{exchange, routingKey, envelope})
	return 1, nil
}

func (b *fakeBroker) run(fetch context.Context, handle func(received)) error {
	for {
		select {
		case <-fetch.Done():
			<-b.backC
			return nil
		case r := <-b.messagesC:
			handle(r)
		}
	}
}

func (b *fakeBroker) takingEnded() <-chan struct{} {
	ended := make(chan struct{})
	close(ended)
	return ended
}

func (b *fakeBroker) giveBack(_ context.Context, jobs []*job) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.given += len(jobs)
	return nil
}

func (b *fakeBroker) addPrefetch(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.window += n
}

func (b *fakeBroker) prefetch() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.window
}

func (b *fakeBroker) queues() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.consumed)
}

func (b *fakeBroker) addQueue(queue string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.Contains(b.consumed, queue) {
		b.consumed = append(b.consumed, queue)
	}
}

func (b *fakeBroker) cancelQueue(queue string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.consumed = slices.DeleteFunc(b.consumed, func(q string) bool { return q == queue })
}

func (b *fakeBroker) giveBackAll(context.Context) error {
	close(b.backC)
	return nil
}

func (b *fakeBroker) Store(_ context.Context, m *celeryproto.ResultMeta) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail > 0 {
		b.fail--
		return io.EOF
	}
	b.stored[m.TaskID] = m
	return nil
}

func (b *fakeBroker) Get(_ context.Context, id string) (*celeryproto.ResultMeta, error) {
	if m := b.result(id); m != nil {
		return m, nil
	}
	return nil, celeryproto.ErrNoResult
}

func (b *fakeBroker) result(id string) *celeryproto.ResultMeta {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stored[id]
}

// Publish records what follows tasks.
func (b *fakeBroker) Publish(_ context.Context, msgs ...redisbroker.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.published = append(b.published, msgs...)
	return nil
}

// fakeSender records what handlers send.
type fakeSender struct {
	Sender // nil: canvases are tested with Redis

	mu       sync.Mutex // guards both
	triggers []Trigger
	frames   []string
}

func (s *fakeSender) Trigger(_ context.Context, t Trigger) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.triggers = append(s.triggers, t)
	return nil
}

func (s *fakeSender) Frame(_ context.Context, signal string, _ celeryproto.Raw, topics []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, topic := range topics {
		s.frames = append(s.frames, signal+" "+topic)
	}
	return nil
}

// rig is a worker between fakes.
type rig struct {
	t      testing.TB
	node   *node
	hub    *eventHub
	w      *Worker
	engine *engine
	broker *fakeBroker
	sender *fakeSender
	stop   context.CancelFunc
	doneC  chan error // one value: what the engine returned
}

func testSettings() *compat.Settings {
	s := &compat.Settings{Celery: compat.DefaultCelery()}
	s.DFWS.GoQueue = "go"
	s.Site.AuthUserModel = "auth.user"
	return s
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// startRig runs a worker whose handlers register adds; it stops at the end of the test.
func startRig(t testing.TB, cfg Config, register func(*Worker)) *rig {
	t.Helper()
	if cfg.Settings == nil {
		cfg.Settings = testSettings()
	}
	cfg.App = "test"
	if cfg.Logger == nil {
		cfg.Logger = testLogger(t)
	}
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	register(w)
	if err := w.handlers.freeze(); err != nil {
		t.Fatal(err)
	}
	n := &node{name: "go.test@host", pid: 1, began: time.Now(), clock: &celeryproto.Clock{}}
	r := &rig{
		t: t, w: w, node: n, hub: &eventHub{}, sender: &fakeSender{}, doneC: make(chan error, 1),
		broker: &fakeBroker{messagesC: make(chan received), backC: make(chan struct{}), stored: map[string]*celeryproto.ResultMeta{}},
	}
	exec := &executor{timeout: w.cfg.HandlerTimeout, sender: r.sender, env: &canvas.Env{}, log: w.log, observer: &w.cfg.Observer}
	settle := &settler{
		cfg: w.cfg, results: r.broker, quick: true, zone: time.UTC, node: "go.test@host", log: w.log, observer: &w.cfg.Observer,
		extended: cfg.Settings.Celery.ResultExtended, ignore: cfg.Settings.Celery.TaskIgnoreResult,
		events: r.hub,
	}
	if cfg.TaskEvents == Yes {
		r.hub.tasks.Store(true)
		r.hub.outbox = newEventOutbox(n, celeryproto.DefaultEventExchange, r.broker, w.log, &w.cfg.Observer)
	}
	settle.flow = newWorkflow(&w.cfg, r.broker, r.broker, time.UTC)
	exec.settle = settle
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	var group sync.WaitGroup
	r.engine = newEngine(w.cfg, w.handlers, exec, settle)
	r.engine.begin(ctx, r.broker)
	group.Go(func() { r.doneC <- r.engine.run(ctx, r.broker) })
	var mouth sync.WaitGroup
	if r.hub.outbox != nil {
		mouth.Go(r.hub.outbox.run)
	}
	t.Cleanup(func() {
		stop()
		group.Wait()
		if r.hub.outbox != nil {
			r.hub.outbox.close()
			mouth.Wait()
		}
	})
	return r
}

func (r *rig) delivery() *fakeDelivery {
	return &fakeDelivery{broker: r.broker, doneC: make(chan struct{})}
}

// send gives a message to the worker.
func (r *rig) send(task *celeryproto.Task) *fakeDelivery {
	r.t.Helper()
	envelope, err := task.Envelope()
	if err != nil {
		r.t.Fatal(err)
	}
	d := r.delivery()
	r.broker.messagesC <- received{delivery: d, queue: "go", envelope: envelope}
	return d
}

// settled sends a message and waits for its end.
func (r *rig) settled(task *celeryproto.Task) *fakeDelivery {
	r.t.Helper()
	d := r.send(task)
	r.await(d)
	return d
}

func (r *rig) await(d *fakeDelivery) {
	r.t.Helper()
	select {
	case <-d.doneC:
	case <-time.After(10 * time.Second):
		r.t.Fatal("the message was not settled")
	}
}

func mustTask(t testing.TB, name string, args, kwargs any) *celeryproto.Task {
	t.Helper()
	task, err := celeryproto.NewTask(name, args, kwargs)
	if err != nil {
		t.Fatal(err)
	}
	task.SetQueue("go")
	return task
}

func mustSignal(t testing.TB, call compat.SignalCall) *celeryproto.Task {
	t.Helper()
	task := mustTask(t, compat.TaskName, nil, nil)
	task.Args = call.AppendArgs(nil)
	return task
}

// exceptionIn is the stored exception of a result.
func exceptionIn(t testing.TB, m *celeryproto.ResultMeta) (class string, args []any) {
	t.Helper()
	if m == nil {
		t.Fatal("no result was stored")
	}
	var e struct {
		Type    string `json:"exc_type"`
		Module  string `json:"exc_module"`
		Message []any  `json:"exc_message"`
	}
	if err := json.Unmarshal(m.Result, &e); err != nil {
		t.Fatal(err)
	}
	return e.Module + "." + e.Type, e.Message
}

// eventually polls a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
