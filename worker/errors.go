package worker

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNoBroker is returned by Trigger of a call that has nowhere to send to: a Call made by hand.
var ErrNoBroker = errors.New("worker: not connected to a broker")

// ErrGoexit is the failure of a handler that ended its goroutine with runtime.Goexit (a testing.T.FailNow, most often).
var ErrGoexit = errors.New("worker: handler called runtime.Goexit")

// BindError reports arguments that a handler cannot take. It names the argument and the rule, never the value:
// arguments hold what users typed.
type BindError struct {
	Argument string // the argument's name, "" when the fault is not that of one argument
	Path     string // place inside the argument, such as "[2].name"; "" for the argument itself
	Fact     string // what is wrong: "missing", "unknown argument", "null", "text, want an integer"
}

// Error implements error.
func (e *BindError) Error() string {
	if e.Argument == "" {
		return "arguments: " + e.Fact
	}
	return fmt.Sprintf("argument %q%s: %s", printable(e.Argument), e.Path, e.Fact)
}

// PanicError is the failure of a handler that panicked.
type PanicError struct {
	Value any
	Stack string // from the panic down to the handler, the worker's own frames left out
}

// Error implements error.
func (e *PanicError) Error() string { return "panic: " + valueText(e.Value) }

// LimitError is the failure of a handler that returned an error after its time was over.
type LimitError struct {
	Soft    bool    // the task's soft limit, else its hard limit or Config.HandlerTimeout
	Seconds float64 // the limit
	Err     error   // what the handler returned
}

// Error implements error.
func (e *LimitError) Error() string {
	kind := "time limit"
	if e.Soft {
		kind = "soft time limit"
	}
	return fmt.Sprintf("%s of %g s exceeded: %v", kind, e.Seconds, e.Err)
}

// Unwrap returns the handler's own error.
func (e *LimitError) Unwrap() error { return e.Err }

// Exception is an error with the name of a Python exception: returned by a task's handler, AsyncResult.get() raises
// that class in Python; returned by Client, it is the exception that a Python task raised.
type Exception struct {
	Type   string // class name, such as "ValueError" or "Outer.Inner"
	Module string // where Python finds the class; "" is "builtins". A class that cannot be imported is made up by Celery.
	Args   []any  // the exception's args: anything celeryproto.EncodeValue takes
	// Traceback is the text stored beside the exception. Empty: none is stored for a returned Exception.
	Traceback string
}

// Error implements error, in the way Python prints an uncaught exception.
func (e *Exception) Error() string {
	name := e.Type
	if e.Module != "" && e.Module != "builtins" {
		name = e.Module + "." + e.Type
	}
	texts := make([]string, 0, len(e.Args))
	for _, a := range e.Args {
		texts = append(texts, valueText(a))
	}
	if len(texts) == 0 {
		return name
	}
	return name + ": " + strings.Join(texts, ", ")
}

// Is makes errors.Is(err, &Exception{Type: "ValueError"}) true for every exception of that class: an empty Module in
// target matches any.
func (e *Exception) Is(target error) bool {
	t, ok := target.(*Exception)
	return ok && t.Type == e.Type && len(t.Args) == 0 && (t.Module == "" || t.Module == e.Module)
}
