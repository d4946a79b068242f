package celeryproto

import "fmt"

// Limits of the JSON scanner.
const (
	// DefaultMaxDepth is how deep arrays and objects may be nested. CPython's
	// scanner stops at sys.getrecursionlimit() (1000) less the stack of its
	// caller; half of it is read by every Python worker.
	DefaultMaxDepth = 512
	// DefaultMaxIntDigits is CPython's sys.int_info.default_max_str_digits.
	DefaultMaxIntDigits = 4300
	// MaxSendDepth is how deep each part of a new task (arguments, headers, what
	// follows) may be nested. A worker of Celery's with the pool prefork pickles
	// the arguments and headers for its child processes, which takes two of the
	// interpreter's 1000 levels for each: at 470 and more it exits and gives the
	// message back, so that the next worker dies of it too (celery 5.7,
	// concurrency/asynpool.py, CPython 3.11).
	MaxSendDepth = 400
	// maxMaxDepth bounds the recursion whatever the caller asks for.
	maxMaxDepth = 10_000
)

// JSONLimits bounds what the scanner accepts. The zero value is what a Python
// worker with its default settings can read.
type JSONLimits struct {
	// MaxDepth is how deep arrays and objects may be nested: 0 means
	// DefaultMaxDepth, more than 10000 means 10000.
	MaxDepth int
	// MaxIntDigits is how many digits an integer may have (floats have no such
	// limit, in CPython neither): 0 means DefaultMaxIntDigits, -1 no limit.
	MaxIntDigits int
}

func (l JSONLimits) withDefaults() JSONLimits {
	if l.MaxDepth <= 0 {
		l.MaxDepth = DefaultMaxDepth
	}
	l.MaxDepth = min(l.MaxDepth, maxMaxDepth)
	if l.MaxIntDigits == 0 {
		l.MaxIntDigits = DefaultMaxIntDigits
	}
	return l
}

// SyntaxError reports bytes that Python's json.loads would refuse.
type SyntaxError struct {
	// Offset is where the fault is, in bytes from the start.
	Offset int64
	// Msg says what was expected there.
	Msg string
	// Err is ErrTooDeep or ErrIntTooLong when a limit was hit, else nil.
	Err error
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("json: %s at byte %d", e.Msg, e.Offset)
}

// Unwrap returns the limit that was hit, if one was.
func (e *SyntaxError) Unwrap() error { return e.Err }

// Facts are what one scan of a JSON value tells beside its validity.
type Facts struct {
	// Kind of the value.
	Kind Kind
	// TypedMarker is what HasTypedMarker tells.
	TypedMarker bool
}

// CheckJSON tells whether b is one JSON value as Python's json.loads takes it:
// standard JSON plus NaN, Infinity and -Infinity, in strict UTF-8 without a
// byte order mark. The error is a *SyntaxError. It takes linear time and
// allocates nothing when b is valid.
func CheckJSON(b []byte, lim JSONLimits) error {
	_, err := Inspect(b, lim)
	return err
}

// Inspect is CheckJSON that also tells what it saw on the way.
func Inspect(b []byte, lim JSONLimits) (Facts, error) {
	s := newScanner(b, lim)
	s.space()
	kind := kindAt(s.b, s.pos)
	if !s.value() {
		return Facts{}, s.err
	}
	s.space()
	if s.pos != len(b) {
		s.fail(s.pos, "extra data after the value")
		return Facts{}, s.err
	}
	return Facts{Kind: kind, TypedMarker: s.marker}, nil
}
