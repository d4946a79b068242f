// Package workertest runs the handlers of a worker without Redis: arguments are decoded, permission rules asked, panics
// caught and limits applied as in a running worker; what handlers send is recorded instead of sent.
//
//	bench := workertest.New(t, func(w *worker.Worker) { handlers.Register(w) })
//	call := bench.Signal(workertest.Signal{Name: "demo.hello", Opts: map[string]any{"name": "Ada"}, FromClient: true})
//	call.Report.Handlers[0].Refused // why the handler was not called, "" when it was
//	call.Triggers[0].Signal         // what it sent
package workertest

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/worker"
)

// GoQueue is the queue of handlers that name none.
const GoQueue = "go"

// Bench runs handlers. Its calls may run side by side.
type Bench struct {
	t testing.TB
	w *worker.Worker
}

// New makes a worker, lets register add its handlers and returns a bench for them. The worker logs to t.
func New(t testing.TB, register func(w *worker.Worker)) *Bench {
	t.Helper()
	settings := &compat.Settings{}
	settings.DFWS.GoQueue = GoQueue
	settings.Site.AuthUserModel = "auth.user"
	return NewWith(t, worker.Config{Settings: settings, App: "test"}, register)
}

// NewWith is New with a configuration of the test's own. A nil Logger logs to t.
func NewWith(t testing.TB, cfg worker.Config, register func(w *worker.Worker)) *Bench {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	w, err := worker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	register(w)
	return &Bench{t: t, w: w}
}

// Signal is a call of a signal.
type Signal struct {
	// Name of the signal.
	Name string
	// Opts are the arguments: a map, a struct with json tags, or a celeryproto.Raw object.
	Opts any
	// Window is who calls; nil is a blank window info.
	Window *compat.WindowInfo
	// FromClient makes it a browser's call: rules are asked.
	FromClient bool
	// Queue the signal was sent to; empty: GoQueue.
	Queue string
	// Topics are those of a delayed signal: its frame is recorded.
	Topics []string
}

// Task is a call of a plain task.
type Task struct {
	Name   string
	Args   []any
	Kwargs any
	// TimeLimit and SoftTimeLimit are the message's; zero: none.
	TimeLimit, SoftTimeLimit time.Duration
}

// Frame is a frame that a delayed signal sent to the windows of its topics.
type Frame struct {
	Signal string
	Opts   celeryproto.Raw
	Topics []string
}

// Outcome is what a call did.
type Outcome struct {
	worker.Report
	// Triggers are what the handlers sent, in order. Window is the call's, To as the handler gave it.
	Triggers []worker.Trigger
	// Frames are the frames of a delayed signal.
	Frames []Frame
	// Plans are what the handler applied: canvas.Plan.Steps are the tasks it sent.
	Plans []*canvas.Plan
	// States are what the handler stored by UpdateState.
	States []*celeryproto.ResultMeta
}

// Value is what a task returned, as Python would get it; it fails the test when the task failed.
func (o *Outcome) Value(t testing.TB) any {
	t.Helper()
	if o.Err != nil {
		t.Fatalf("the task failed: %v", o.Err)
	}
	v, err := celeryproto.DecodeValue(o.Result)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Signal runs the handlers of a signal. It fails the test when there is none.
func (b *Bench) Signal(s Signal) *Outcome {
	b.t.Helper()
	opts, err := celeryproto.EncodeValue(s.Opts)
	if err != nil {
		b.t.Fatal(err)
	}
	if s.Queue == "" {
		s.Queue = GoQueue
	}
	call := compat.SignalCall{
		Signal: s.Name, Window: s.Window.AppendJSON(nil), Opts: opts, FromClient: s.FromClient, Topics: s.Topics,
		ToServer: true, Queue: s.Queue,
	}
	task, err := celeryproto.NewTask(compat.TaskName, nil, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	task.Args = call.AppendArgs(nil)
	return b.execute(task, s.Queue)
}

// Task runs the handler of a task. It fails the test when there is none.
func (b *Bench) Task(c Task) *Outcome {
	b.t.Helper()
	var args any
	if c.Args != nil {
		args = c.Args
	}
	task, err := celeryproto.NewTask(c.Name, args, c.Kwargs)
	if err != nil {
		b.t.Fatal(err)
	}
	for i, d := range []time.Duration{c.TimeLimit, c.SoftTimeLimit} {
		if d > 0 {
			seconds := d.Seconds()
			task.TimeLimit[i] = &seconds
		}
	}
	return b.execute(task, GoQueue)
}

func (b *Bench) execute(task *celeryproto.Task, queue string) *Outcome {
	b.t.Helper()
	task.SetQueue(queue)
	var rec recorder
	report, err := b.w.Execute(b.t.Context(), task, queue, &rec)
	if err != nil {
		b.t.Fatal(err)
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return &Outcome{Report: report, Triggers: rec.triggers, Frames: rec.frames, Plans: rec.plans, States: rec.states}
}

// recorder is a worker.Sender.
type recorder struct {
	mu       sync.Mutex // guards all
	triggers []worker.Trigger
	frames   []Frame
	plans    []*canvas.Plan
	states   []*celeryproto.ResultMeta
}

// Trigger implements worker.Sender.
func (r *recorder) Trigger(_ context.Context, t worker.Trigger) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.triggers = append(r.triggers, t)
	return nil
}

// Frame implements worker.Sender.
func (r *recorder) Frame(_ context.Context, signal string, opts celeryproto.Raw, topics []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames = append(r.frames, Frame{Signal: signal, Opts: opts, Topics: topics})
	return nil
}

// Apply implements worker.Sender.
func (r *recorder) Apply(_ context.Context, plan *canvas.Plan) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.plans = append(r.plans, plan)
	return nil
}

// AddToChord implements worker.Sender: the signature that was added comes with Apply.
func (r *recorder) AddToChord(context.Context, string, *celeryproto.ResultTree) error { return nil }

// StoreState implements worker.Sender.
func (r *recorder) StoreState(_ context.Context, m *celeryproto.ResultMeta) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states = append(r.states, m)
	return nil
}
