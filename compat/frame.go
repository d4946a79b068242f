package compat

import (
	"errors"
	"fmt"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// HeartbeatFrame is what the browser's script sends every minute; the same text goes back (consumers.HEARTBEAT_MESSAGE).
const HeartbeatFrame = "--heartbeat--"

// DefaultMaxFrameBytes bounds a frame: daphne 4.2 takes 1 MiB (autobahn's maxMessagePayloadSize in daphne/ws_protocol.py).
const DefaultMaxFrameBytes = 1 << 20

// FrameLimits bounds what a browser may send. The zero value is what Python reads.
type FrameLimits struct {
	// MaxBytes is the size of a frame; 0 means DefaultMaxFrameBytes.
	MaxBytes int
	// JSON bounds depth and digits; its zero value is what a Python worker can read.
	JSON celeryproto.JSONLimits
}

// FrameReason says why a frame was refused. The values are few and fixed: they label a counter.
type FrameReason string

// Reasons to refuse a frame. df_websockets logs an error for most of them, or ignores the frame; the socket stays open in any case.
const (
	ReasonTooLarge     FrameReason = "too_large"     // more bytes than FrameLimits.MaxBytes
	ReasonNotJSON      FrameReason = "not_json"      // not what json.loads takes
	ReasonTooDeep      FrameReason = "too_deep"      // nested deeper than a worker reads
	ReasonIntTooLong   FrameReason = "int_too_long"  // an integer of more digits than a worker reads
	ReasonNotObject    FrameReason = "not_object"    // JSON, but no object
	ReasonNoSignal     FrameReason = "no_signal"     // no key "signal"
	ReasonBadSignal    FrameReason = "bad_signal"    // the signal is no text
	ReasonNoOpts       FrameReason = "no_opts"       // no key "opts"
	ReasonTypedMarker  FrameReason = "typed_marker"  // opts has an object that Celery would turn into a Python object
	ReasonBadCountdown FrameReason = "bad_countdown" // int(countdown) fails or is out of range
	ReasonBadExpires   FrameReason = "bad_expires"   // int(expires) fails or is out of range
	ReasonBadETA       FrameReason = "bad_eta"       // any eta but zero: Celery fails on what int() gives
)

// FrameError is returned by DecodeClientFrame. It never contains the frame.
type FrameError struct {
	Reason FrameReason
	Err    error // nil when the reason says it all
}

// Error implements error.
func (e *FrameError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("compat: frame: %s", e.Reason)
	}
	return fmt.Sprintf("compat: frame: %s: %v", e.Reason, e.Err)
}

// Unwrap returns the cause.
func (e *FrameError) Unwrap() error { return e.Err }

// ClientFrame is one text frame of a browser.
type ClientFrame struct {
	// Heartbeat is true for the heartbeat; the other fields are then empty.
	Heartbeat bool
	// Signal is the name of the signal. Any text is valid; an unknown one is dropped later.
	Signal string
	// Opts are the signal's options as they were sent, never empty: null and {} are {}. A list or a text is relayed, as Python does;
	// workers refuse it.
	Opts celeryproto.Raw
	// Countdown delays the call; 0 means none. It may be negative, as in Python.
	Countdown time.Duration
	// Expires drops the call when it was not run in that time; 0 means never. It may be negative.
	Expires time.Duration
}

// Keys of a frame (consumers.DFConsumer.receive), in the order of frameKeys.
const (
	frameSignal = iota
	frameOpts
	frameETA
	frameExpires
	frameCountdown
	frameKeyCount
)

// frameKeys are the keys that a frame is searched for.
var frameKeys = []string{"signal", "opts", "eta", "expires", "countdown"}

// DecodeClientFrame reads a text frame as df_websockets' consumer does. What Python tolerates is tolerated: blanks around, duplicate keys (the
// last wins), NaN, big integers, lone surrogates, further keys. The error is a *FrameError: the frame must be ignored and counted. The Opts
// of the result refer to b.
func DecodeClientFrame(b []byte, lim FrameLimits) (*ClientFrame, error) {
	if string(b) == HeartbeatFrame {
		return &ClientFrame{Heartbeat: true}, nil
	}
	maxBytes := lim.MaxBytes
	if maxBytes <= 0 {
		maxBytes = DefaultMaxFrameBytes
	}
	if len(b) > maxBytes {
		return nil, &FrameError{Reason: ReasonTooLarge}
	}
	facts, err := celeryproto.Inspect(b, lim.JSON)
	if err != nil {
		return nil, &FrameError{Reason: syntaxReason(err), Err: err}
	}
	if facts.Kind != celeryproto.KindObject {
		return nil, &FrameError{Reason: ReasonNotObject}
	}
	var values [frameKeyCount]celeryproto.Raw
	if err := celeryproto.Raw(b).Lookup(frameKeys, values[:]); err != nil {
		return nil, &FrameError{Reason: ReasonNotJSON, Err: err}
	}
	return decodeFrame(&values, facts.TypedMarker)
}

// decodeFrame judges the members in the order in which Python reads them.
func decodeFrame(values *[frameKeyCount]celeryproto.Raw, marker bool) (*ClientFrame, error) {
	signal, opts := values[frameSignal], values[frameOpts]
	if signal == nil {
		return nil, &FrameError{Reason: ReasonNoSignal}
	}
	if opts == nil {
		return nil, &FrameError{Reason: ReasonNoOpts}
	}
	f := &ClientFrame{Opts: opts}
	var err error
	if f.Signal, err = signal.Text(); err != nil {
		return nil, &FrameError{Reason: ReasonBadSignal, Err: err}
	}
	if seconds, err := pythonInt(values[frameETA]); err != nil || seconds != 0 {
		return nil, &FrameError{Reason: ReasonBadETA, Err: err}
	}
	if f.Expires, err = delay(values[frameExpires]); err != nil {
		return nil, &FrameError{Reason: ReasonBadExpires, Err: err}
	}
	if f.Countdown, err = delay(values[frameCountdown]); err != nil {
		return nil, &FrameError{Reason: ReasonBadCountdown, Err: err}
	}
	if opts.IsNull() { // kwargs is None in Python
		f.Opts = celeryproto.Raw(emptyObject)
	} else if marker && celeryproto.HasTypedMarker(opts) {
		return nil, &FrameError{Reason: ReasonTypedMarker}
	}
	return f, nil
}

// syntaxReason tells the limits from wrong JSON.
func syntaxReason(err error) FrameReason {
	switch {
	case errors.Is(err, celeryproto.ErrTooDeep):
		return ReasonTooDeep
	case errors.Is(err, celeryproto.ErrIntTooLong):
		return ReasonIntTooLong
	default:
		return ReasonNotJSON
	}
}

// AppendServerFrame appends a text frame for the browser, as json.dumps writes it (tasks._call_ws_signal). opts comes from EncodeOpts; empty
// means {}.
func AppendServerFrame(dst []byte, signal string, opts celeryproto.Raw, signalID string) []byte {
	dst = append(dst, `{"signal": `...)
	dst = celeryproto.AppendString(dst, signal)
	dst = append(dst, `, "opts": `...)
	if len(opts) == 0 {
		dst = append(dst, emptyObject...)
	} else {
		dst = append(dst, opts...)
	}
	dst = append(dst, `, "signal_id": `...)
	dst = celeryproto.AppendString(dst, signalID)
	return append(dst, '}')
}
