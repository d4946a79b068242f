package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/celeryproto/redisbroker"
)

// How a message of remote control ended. The values serve as metric labels.
const (
	// ControlDone: the command was carried out.
	ControlDone = "done"
	// ControlFailed: it was refused, or failed; who asked got the error.
	ControlFailed = "failed"
	// ControlUnknown: this worker has no such command.
	ControlUnknown = "unknown"
	// ControlUnreadable: no message that Celery writes, or a pattern that is none. Nobody got an answer.
	ControlUnreadable = "unreadable"
	// ControlUnanswered: it was carried out, and Redis did not take the answer.
	ControlUnanswered = "unanswered"
)

// Bounds of remote control.
const (
	// maxControlMessages and maxControlBytes bound the messages that wait while a command is carried out.
	maxControlMessages = 1000
	maxControlBytes    = 64 << 20
	// maxReplyBytes is the longest answer: the arguments of all tasks that this worker holds may be too much for anybody.
	maxReplyBytes = 64 << 20
	// maxCustomCommands is how many of the program's own commands run at once. Celery's run one after the other.
	maxCustomCommands = 16
	// commandTimeout bounds what a command does with Redis.
	commandTimeout = 10 * time.Second
)

// command carries out one command of remote control. The value goes to who asked; a *controlError, or any other error, instead of it as
// {"error": text}.
type command func(ctx context.Context, args *arguments) (celeryproto.Raw, error)

// remote obeys remote control (celery 5.7, worker/control.py, worker/pidbox.py). Commands run one after the other, in the subscriber's
// goroutine, but for those of the program.
type remote struct {
	node     *node
	engine   *engine
	hub      *eventHub
	gossip   *gossip // nil: off
	mailbox  *mailbox
	site     *siteControl
	queues   *queueBook
	bind     func(ctx context.Context, bindings ...redisbroker.Binding) error
	commands map[string]command
	custom   map[string]command
	log      *slog.Logger
	observer *Observer

	running sync.WaitGroup // commands of the program
	slots   chan struct{}  // one element for each of them
}

// errNoReplyWanted is returned by commands that never answer.
var errNoReplyWanted = errors.New("no reply")

// handle takes a message from the exchange of remote control.
func (r *remote) handle(ctx context.Context, d redisbroker.FanoutDelivery) {
	m, err := celeryproto.DecodeControl(d.Envelope, r.site.limits)
	if err != nil {
		r.unreadable(err, len(d.Raw))
		return
	}
	r.node.clock.Forward()
	r.mailbox.clock.Adjust(m.Clock)
	meant, err := m.IsFor(r.node.name)
	if err != nil {
		r.unreadable(err, len(d.Raw))
		return
	}
	if !meant {
		return
	}
	r.log.Debug("remote control", "command", printable(m.Method))
	if c := r.custom[m.Method]; c != nil {
		r.start(ctx, m, c)
		return
	}
	c := r.commands[m.Method]
	if c == nil {
		r.answer(ctx, m, celeryproto.ReplyError(pyError("KeyError", rawText(m.Method)).text), ControlUnknown)
		return
	}
	r.carryOut(ctx, m, c)
}

func (r *remote) unreadable(err error, size int) {
	r.observer.controlled(otherCommand, ControlUnreadable)
	r.log.Warn("remote control: message skipped", "bytes", size, "err", err)
}

// start carries out a command of the program beside all others: it may take its time.
func (r *remote) start(ctx context.Context, m *celeryproto.ControlMessage, c command) {
	select {
	case r.slots <- struct{}{}:
	default:
		busy := pyError("RuntimeError", rawText(fmt.Sprintf("%d commands are still running", maxCustomCommands)))
		r.answer(ctx, m, celeryproto.ReplyError(busy.text), ControlFailed)
		return
	}
	r.running.Go(func() {
		defer func() { <-r.slots }()
		r.carryOut(ctx, m, c)
	})
}

// wait tells whether no command of the program runs any more, within a time.
func (r *remote) wait(most time.Duration) bool {
	idleC := make(chan struct{})
	var waiter sync.WaitGroup // left behind together with the commands when they hang
	waiter.Go(func() {
		r.running.Wait()
		close(idleC)
	})
	return within(most, idleC)
}

func (r *remote) carryOut(ctx context.Context, m *celeryproto.ControlMessage, c command) {
	var value celeryproto.Raw
	err := protect(func() (err error) {
		value, err = c(ctx, &arguments{command: m.Method, members: m.Arguments})
		return err
	})
	switch {
	case errors.Is(err, errNoReplyWanted):
		r.observer.controlled(m.Method, ControlDone)
		return
	case err != nil:
		r.log.Warn("remote control: command failed", append([]any{"command", m.Method}, failureAttrs(err)...)...)
		r.answer(ctx, m, celeryproto.ReplyError(controlText(err)), ControlFailed)
		return
	case len(value) > maxReplyBytes:
		long := pyError("ValueError", rawText(fmt.Sprintf("the answer has %d bytes, which is over %d", len(value), maxReplyBytes)))
		r.answer(ctx, m, celeryproto.ReplyError(long.text), ControlFailed)
		return
	}
	r.answer(ctx, m, value, ControlDone)
}

// otherCommand stands for names that are not known here, in the Observer.
const otherCommand = "other"

// answer replies, when that was asked for.
func (r *remote) answer(ctx context.Context, m *celeryproto.ControlMessage, value celeryproto.Raw, outcome string) {
	name := m.Method
	if outcome == ControlUnknown {
		name = otherCommand
		r.log.Warn("remote control: no such command", "command", printable(m.Method))
	}
	if m.ReplyTo != nil {
		ctx, cancel := context.WithTimeout(ctx, commandTimeout)
		defer cancel()
		if err := r.mailbox.reply(ctx, *m.ReplyTo, m.Ticket, r.node.name, value); err != nil {
			r.log.Warn("remote control: reply not sent", "command", printable(m.Method), "err", err)
			outcome = ControlUnanswered
		}
	}
	r.observer.controlled(name, outcome)
}

// controlError is what a command answers instead of a value: the text of Celery, or the repr of a Python exception.
type controlError struct{ text string }

func (e *controlError) Error() string { return e.text }

// refused is Celery's nok(text).
func refused(text string) error { return &controlError{text} }

// pyError is a Python exception that a command of Celery would raise.
func pyError(class string, args ...celeryproto.Raw) *controlError {
	return &controlError{canvas.ReprException(&celeryproto.Exception{Type: class, Module: moduleBuiltins, Message: args})}
}

// controlText is what an error becomes in an answer.
func controlText(err error) string {
	if own, ok := errors.AsType[*controlError](err); ok {
		return own.text
	}
	e, _ := exceptionOf(err)
	return canvas.ReprException(e)
}

// arguments are the keyword arguments of a command. Readers note the first fault; those that are missing or null are zero.
type arguments struct {
	command string
	members celeryproto.Members
	err     error
}

func (a *arguments) fail(key string, want string, got celeryproto.Raw) {
	if a.err == nil {
		a.err = pyError("TypeError", rawText(fmt.Sprintf("%s() argument %s: a %s, want %s", a.command, key, got.Kind(), want)))
	}
}

// get is an argument; ok is false when it is missing or null.
func (a *arguments) get(key string) (value celeryproto.Raw, ok bool) {
	value, ok = a.members.Get(key)
	return value, ok && !value.IsNull()
}

// need reports arguments that are missing, as Python does for a function without defaults.
func (a *arguments) need(keys ...string) {
	var missing []string
	for _, key := range keys {
		if _, there := a.members.Get(key); !there {
			missing = append(missing, "'"+key+"'")
		}
	}
	if len(missing) == 0 || a.err != nil {
		return
	}
	noun, list := "argument", missing[0]
	if n := len(missing); n > 1 {
		noun, list = "arguments", strings.Join(missing[:n-1], ", ")+" and "+missing[n-1]
		if n > 2 {
			list = strings.Join(missing[:n-1], ", ") + ", and " + missing[n-1]
		}
	}
	text := fmt.Sprintf("%s() missing %d required positional %s: %s", a.command, len(missing), noun, list)
	a.err = pyError("TypeError", rawText(text))
}

func (a *arguments) text(key string) string {
	value, ok := a.get(key)
	if !ok {
		return ""
	}
	text, err := value.Text()
	if err != nil {
		a.fail(key, "a text", value)
	}
	return text
}

// texts are a list of texts, or a single one.
func (a *arguments) texts(key string) []string {
	value, ok := a.get(key)
	if !ok {
		return nil
	}
	if value.Kind() == celeryproto.KindString {
		return []string{a.text(key)}
	}
	elements, err := value.Array()
	if err != nil {
		a.fail(key, "a list of texts", value)
		return nil
	}
	texts := make([]string, len(elements))
	for i, element := range elements {
		if texts[i], err = element.Text(); err != nil {
			a.fail(key, "a list of texts", element)
		}
	}
	return texts
}

// truth is Python's bool() of an argument.
func (a *arguments) truth(key string) bool {
	value, ok := a.get(key)
	if !ok {
		return false
	}
	switch v, _ := celeryproto.DecodeValue(value); v := v.(type) {
	case bool:
		return v
	case string:
		return v != ""
	case int64:
		return v != 0
	case float64:
		return v != 0
	default:
		return !isEmpty(value)
	}
}

// number is a number, also one in a text, as the command line sends it.
func (a *arguments) number(key string) (n float64, given bool) {
	value, ok := a.get(key)
	if !ok {
		return 0, false
	}
	if value.Kind() == celeryproto.KindString {
		text, _ := value.Text()
		value = celeryproto.Raw(strings.TrimSpace(text))
	}
	v, err := celeryproto.DecodeValue(value)
	if err == nil {
		switch v := v.(type) {
		case int64:
			return float64(v), true
		case float64:
			return v, true
		}
	}
	a.fail(key, "a number", value)
	return 0, false
}

// count is a whole number within bounds that no caller means to exceed, otherwise when it is not given.
func (a *arguments) count(key string, otherwise int) int {
	n, given := a.number(key)
	if !given {
		return otherwise
	}
	const most = 1 << 30
	if n != float64(int64(n)) || n < -most || n > most {
		a.fail(key, "a whole number", rawFloat(n))
		return otherwise
	}
	return int(n)
}

// HandleControl registers a command of remote control beside Celery's: `app.control.broadcast(name, arguments={…}, reply=True)` in Python,
// Control.Call here. A is the struct of its arguments, by the rules of a task's keyword arguments. The value, anything that
// celeryproto.EncodeValue takes, is the answer as it is; Celery's own control commands answer with {"ok": value}. An error becomes
// {"error": text}. Commands may take their time; up to 16 run at once. Mistakes are reported by Run.
func HandleControl[A any](w *Worker, name string, run func(ctx context.Context, args A) (any, error)) {
	p, err := planFor(reflect.TypeFor[A]())
	switch {
	case name == "" || builtinCommands[name]:
		w.fault(fmt.Errorf("control command %q: Celery has a command of this name, or it is empty", name))
		return
	case run == nil:
		w.fault(fmt.Errorf("control command %q: no function", name))
		return
	case err != nil:
		w.fault(fmt.Errorf("control command %q: %w", name, err))
		return
	}
	w.addControl(name, func(ctx context.Context, in *arguments) (celeryproto.Raw, error) {
		var args A
		if err := p.bind(reflect.ValueOf(&args).Elem(), nil, in.members.Append(nil)); err != nil {
			return nil, bindFailure{err}
		}
		value, err := run(ctx, args)
		if err != nil {
			return nil, err
		}
		raw, err := celeryproto.EncodeValue(value)
		if err != nil {
			return nil, encodeFailure(err)
		}
		return raw, nil
	})
}
