package worker

import (
	"runtime/debug"
	"strings"
)

// mostFrames bounds a stored stack: handlers that recurse without end panic with thousands of frames.
const mostFrames = 60

// ownFrames are the functions below which a stack is the worker's own; engine_test.go keeps them true.
var ownFrames = []string{
	"github.com/dfws/dfws/worker.newTaskHandler[", "github.com/dfws/dfws/worker.HandleSignal[", "github.com/dfws/dfws/worker.protect(",
}

// protect calls a handler and turns its panic into an error, also one in the methods of the error that it returns.
func protect(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: trimStack(string(debug.Stack()))}
		}
	}()
	return sound(f())
}

// trimStack keeps the frames between the panic and the worker. A frame is two lines: function and place.
func trimStack(stack string) string {
	_, frames, found := strings.Cut(stack, "\npanic(") // above are debug.Stack and protect's deferred function
	if found {
		_, frames, found = cutLine(frames) // the rest of the function line
		if found {
			_, frames, _ = cutLine(frames) // its place in the runtime
		}
	} else {
		frames = stack
	}
	for _, own := range ownFrames {
		if end := strings.Index(frames, own); end >= 0 {
			frames = frames[:end]
		}
	}
	lines := strings.Split(strings.TrimRight(frames, "\n"), "\n")
	if len(lines) > 2*mostFrames {
		lines = append(lines[:2*mostFrames], "…")
	}
	return strings.Join(lines, "\n")
}

func cutLine(s string) (line, rest string, found bool) { return strings.Cut(s, "\n") }
