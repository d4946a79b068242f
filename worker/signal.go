package worker

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"runtime"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

// Signal is a handler of a df_websockets signal, registered by [HandleSignal]. A is the struct of its arguments, see the
// package comment; struct{} takes none, map[string]any takes all.
type Signal[A any] struct {
	// Name of the signal, such as "demo.hello": dotted identifiers.
	Name string
	// Queue whose tasks reach this handler. Empty: the setting dfws.go_queue. A queue that Python workers consume as well
	// is a mistake: they drop what they do not know.
	Queue string
	// Allow says which browsers may call it. The zero value is ServerSide: none.
	Allow Rule
	// Timeout ends the context of Run; zero means Config.HandlerTimeout.
	Timeout time.Duration
	// Run does the work. Its error is logged and counted; the signal's other handlers run all the same.
	Run func(ctx context.Context, call *Call, args A) error
}

// signalHandler is a Signal with its type erased.
type signalHandler struct {
	signal  string
	queue   string
	name    string // of the Go function, for the registry and the logs
	allow   Rule
	timeout time.Duration
	plan    *plan
	run     func(ctx context.Context, call *Call) error // a *BindError or faultList when the arguments do not fit
}

// signalName is what df_websockets' Connection takes (decorators.py).
var signalName = regexp.MustCompile(`^[_\pL][_\pL\pN]*(\.[_\pL][_\pL\pN]*)*$`)

// HandleSignal registers a handler. Handlers of one signal and queue run in the order of their registration, each for
// itself. Mistakes in s are reported together by Run.
func HandleSignal[A any](w *Worker, s Signal[A]) {
	h := &signalHandler{signal: s.Name, queue: s.Queue, allow: s.Allow, timeout: s.Timeout}
	p, err := planFor(reflect.TypeFor[A]())
	switch {
	case !signalName.MatchString(s.Name):
		w.fault(fmt.Errorf("signal %q: the name is not made of identifiers and dots", s.Name))
		return
	case s.Run == nil:
		w.fault(fmt.Errorf("signal %q: no Run", s.Name))
		return
	case s.Timeout < 0:
		w.fault(fmt.Errorf("signal %q: Timeout is negative", s.Name))
		return
	case err != nil:
		w.fault(fmt.Errorf("signal %q: %w", s.Name, err))
		return
	}
	h.name, h.plan = funcName(s.Run), p
	h.run = func(ctx context.Context, call *Call) error {
		var args A
		if err := p.bind(reflect.ValueOf(&args).Elem(), nil, call.Opts); err != nil {
			return bindFailure{err}
		}
		return s.Run(ctx, call, args)
	}
	w.addSignal(h)
}

// bindFailure tells the executor that Run was not called.
type bindFailure struct{ error }

func (b bindFailure) Unwrap() error { return b.error }

// Call is one signal on its way to a handler. It is valid until the handler returns.
type Call struct {
	// Window says who called: read only, and passed on unchanged with each Trigger.
	Window *compat.WindowInfo
	// Signal is the signal's name.
	Signal string
	// Opts are the arguments as they came; Run's third parameter has them decoded.
	Opts celeryproto.Raw
	// FromClient is true when a browser called.
	FromClient bool
	// Queue is the queue that the signal was sent to.
	Queue string
	// TaskID is the ID of the task that carried the signal.
	TaskID string
	// Redelivered is true when another worker may have begun this call before.
	Redelivered bool

	sender Sender
	log    func() *slog.Logger
}

// Logger returns a logger that carries the handler, the signal, the task ID and the queue.
func (c *Call) Logger() *slog.Logger { return loggerOf(c.log) }

// loggerOf makes a call's logger when it is asked for: most calls never are.
func loggerOf(log func() *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log()
}

// funcName is the name of a function as a stack trace has it.
func funcName(f any) string {
	if fn := runtime.FuncForPC(reflect.ValueOf(f).Pointer()); fn != nil {
		return fn.Name()
	}
	return "func"
}
