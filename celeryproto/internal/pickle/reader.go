package pickle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Limits bounds what Read may cost.
type Limits struct {
	// MaxValues is how many opcodes may be run; each makes one value at most.
	MaxValues int
	// MaxIntBytes is how many bytes an integer may have, 0 for no limit.
	MaxIntBytes int
	// Global is asked for each name that the pickle looks up; its error ends
	// the reading. Nil allows all names, which is as safe: they stay names.
	Global func(Global) error
}

// Errors of Read, beside those of Limits.Global and *SyntaxError.
var (
	// ErrTooMany says that the pickle has more opcodes than Limits.MaxValues.
	ErrTooMany = errors.New("too many values")
	// ErrIntTooLong says that an integer is longer than Limits.MaxIntBytes.
	ErrIntTooLong = errors.New("integer is too long")
)

// SyntaxError reports bytes that Python's pickle.loads would refuse, or an
// opcode that reaches outside of the pickle.
type SyntaxError struct {
	Offset int // of the opcode
	Msg    string
}

func (e *SyntaxError) Error() string {
	return "pickle: " + e.Msg + " at byte " + strconv.Itoa(e.Offset)
}

// Pickle is what one pickle holds.
type Pickle struct {
	// Value is the outcome.
	Value any
	// Objects are all calls that the pickle would have made, those that Value
	// no longer refers to as well.
	Objects []*Object
}

// Read reads one pickle. As Python does, it ignores what follows the STOP.
func Read(data []byte, lim Limits) (*Pickle, error) {
	r := &reader{data: data, lim: lim}
	for ops := 0; ; ops++ {
		if ops >= lim.MaxValues {
			return nil, ErrTooMany
		}
		r.op = r.pos
		op, err := r.byte()
		if err != nil {
			return nil, err
		}
		if op == opStop {
			value, err := r.pop()
			if err != nil {
				return nil, err
			}
			return &Pickle{Value: value, Objects: r.objects}, nil
		}
		if err := r.run(op); err != nil {
			return nil, err
		}
	}
}

// reader is the stack machine.
type reader struct {
	data    []byte
	pos     int
	op      int // where the opcode stands, for errors
	frame   int // where the frame ends, which no opcode may cross
	lim     Limits
	stack   []any
	marks   []int // stack heights
	memo    []any
	objects []*Object
}

// nothing marks a place of the memo that was not set.
type nothing struct{}

func (r *reader) fail(format string, args ...any) error {
	return &SyntaxError{Offset: r.op, Msg: fmt.Sprintf(format, args...)}
}

func (r *reader) byte() (byte, error) {
	if r.pos >= len(r.data) {
		return 0, r.fail("unexpected end")
	}
	r.pos++
	return r.data[r.pos-1], nil
}

// take returns the next n bytes.
func (r *reader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.data)-r.pos) {
		return nil, r.fail("unexpected end")
	}
	return r.advance(int(n))
}

func (r *reader) advance(n int) ([]byte, error) {
	b := r.data[r.pos : r.pos+n]
	if r.op < r.frame && r.pos+n > r.frame {
		return nil, r.fail("opcode reaches out of its frame")
	}
	r.pos += n
	return b, nil
}

// counted returns the bytes after a length of width bytes.
func (r *reader) counted(width int) ([]byte, error) {
	n, err := r.uint(width)
	if err != nil {
		return nil, err
	}
	return r.take(n)
}

// uint reads a little-endian number of width bytes.
func (r *reader) uint(width int) (uint64, error) {
	b, err := r.take(uint64(width))
	if err != nil {
		return 0, err
	}
	var full [8]byte
	copy(full[:], b)
	return binary.LittleEndian.Uint64(full[:]), nil
}

// line returns the bytes up to the next newline, which is skipped.
func (r *reader) line() ([]byte, error) {
	n := bytes.IndexByte(r.data[r.pos:], '\n')
	if n < 0 {
		return nil, r.fail("unexpected end")
	}
	b, err := r.advance(n + 1)
	return bytes.TrimSuffix(b, []byte{'\n'}), err
}

func (r *reader) push(v any) error {
	r.stack = append(r.stack, v)
	return nil
}

// floor is how low the stack may be taken without touching a mark.
func (r *reader) floor() int {
	if len(r.marks) == 0 {
		return 0
	}
	return r.marks[len(r.marks)-1]
}

func (r *reader) pop() (any, error) {
	if len(r.stack) <= r.floor() {
		return nil, r.fail("stack underflow")
	}
	v := r.stack[len(r.stack)-1]
	r.stack = r.stack[:len(r.stack)-1]
	return v, nil
}

func (r *reader) top() (any, error) {
	if len(r.stack) <= r.floor() {
		return nil, r.fail("stack underflow")
	}
	return r.stack[len(r.stack)-1], nil
}

// popN takes n values in the order in which they were pushed.
func (r *reader) popN(n int) ([]any, error) {
	at := len(r.stack) - n
	if at < r.floor() {
		return nil, r.fail("stack underflow")
	}
	values := append([]any(nil), r.stack[at:]...)
	r.stack = r.stack[:at]
	return values, nil
}

// popMark takes what was pushed since the last mark, and the mark.
func (r *reader) popMark() ([]any, error) {
	if len(r.marks) == 0 {
		return nil, r.fail("no mark on the stack")
	}
	at := r.floor()
	r.marks = r.marks[:len(r.marks)-1]
	values := append([]any(nil), r.stack[at:]...)
	r.stack = r.stack[:at]
	return values, nil
}

// put remembers the top of the stack. A writer gives out the numbers one by
// one, so none is larger than the number of bytes that were read.
func (r *reader) put(at uint64) error {
	v, err := r.top()
	if err != nil {
		return err
	}
	if at > uint64(r.pos) || at > uint64(r.lim.MaxValues) {
		return r.fail("memo number out of range")
	}
	for uint64(len(r.memo)) <= at {
		r.memo = append(r.memo, nothing{})
	}
	r.memo[at] = v
	return nil
}

func (r *reader) get(at uint64) error {
	if at >= uint64(len(r.memo)) || r.memo[at] == any(nothing{}) {
		return r.fail("memo number without a value")
	}
	return r.push(r.memo[at])
}

// decimal reads a memo number that stands as text.
func (r *reader) decimal() (uint64, error) {
	b, err := r.line()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(b), 10, 32)
	if err != nil {
		return 0, r.fail("no memo number")
	}
	return n, nil
}

func (r *reader) proto() error {
	n, err := r.byte()
	if err == nil && n > highestProtocol {
		err = r.fail("protocol %d", n)
	}
	return err
}

// beginFrame reads how many bytes a reader of a file may read ahead.
func (r *reader) beginFrame() error {
	n, err := r.uint(8)
	if err != nil {
		return err
	}
	if n > uint64(len(r.data)-r.pos) {
		return r.fail("unexpected end")
	}
	r.frame = r.pos + int(n)
	return nil
}

func (r *reader) binFloat() error {
	b, err := r.take(8)
	if err != nil {
		return err
	}
	return r.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
}
