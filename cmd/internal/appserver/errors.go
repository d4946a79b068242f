package appserver

import (
	"errors"
	"fmt"
)

var (
	// ErrUnsupported is returned by New on systems other than Linux, whose process groups, parent-death signals and memory accounts it needs.
	ErrUnsupported = errors.New("appserver: only Linux is supported")
	// ErrRunning is returned by Run when it is called twice.
	ErrRunning = errors.New("appserver: was run before")
	// errSlow is the reason why a generation that did not answer in Config.StartTimeout is stopped.
	errSlow = errors.New("no answer within the time for a start")
)

// StartError says why a generation did not come to serve.
type StartError struct {
	// Status is how its process ended, "exit status 3"; empty when it was still running.
	Status string
	// Output is what it wrote last, some lines of at most a few hundred bytes.
	Output string
	// Err is the fault beside the status, or nil.
	Err error
}

// Error says what happened and, on further lines, what the server wrote last.
func (e *StartError) Error() string {
	text := "appserver: start"
	if e.Status != "" {
		text += ": it ended with " + e.Status
	}
	if e.Err != nil {
		text = fmt.Sprintf("%s: %v", text, e.Err)
	}
	if e.Output != "" {
		text += "; it wrote last:\n" + e.Output
	}
	return text
}

// Unwrap returns Err.
func (e *StartError) Unwrap() error { return e.Err }
