package harness

import "errors"

var (
	// ErrMissing is returned by [New] and [Lab.Browser] when a program they need is not installed.
	ErrMissing = errors.New("harness: not installed")
	// ErrExited is returned by functions that wait for a process that has ended meanwhile.
	ErrExited = errors.New("harness: process has ended")
	// ErrClosed is returned by the functions of a [Window] whose connection has ended.
	ErrClosed = errors.New("harness: websocket is closed")
)
