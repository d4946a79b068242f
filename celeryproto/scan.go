package celeryproto

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// scanner walks one JSON text. Its methods return false after setting err.
type scanner struct {
	b      []byte
	pos    int
	depth  int
	lim    JSONLimits
	marker bool // an object with exactly the keys of a typed value was seen
	err    *SyntaxError
}

func newScanner(b []byte, lim JSONLimits) scanner {
	return scanner{b: b, lim: lim.withDefaults()}
}

func (s *scanner) fail(at int, msg string) bool {
	s.err = &SyntaxError{Offset: int64(at), Msg: msg}
	return false
}

// space skips what Python's scanner calls whitespace.
func (s *scanner) space() {
	for s.pos < len(s.b) {
		switch s.b[s.pos] {
		case ' ', '\n', '\t', '\r':
			s.pos++
		default:
			return
		}
	}
}

// value scans the value that starts at pos.
func (s *scanner) value() bool {
	if s.pos >= len(s.b) {
		return s.fail(s.pos, "unexpected end, expected a value")
	}
	switch c := s.b[s.pos]; c {
	case '{':
		return s.object(nil)
	case '[':
		return s.array(nil)
	case '"':
		_, ok := s.text()
		return ok
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	case 'N':
		return s.word("NaN")
	case 'I':
		return s.word("Infinity")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return s.number()
	default:
		return s.fail(s.pos, "expected a value")
	}
}

func (s *scanner) word(w string) bool {
	if len(s.b)-s.pos < len(w) || string(s.b[s.pos:s.pos+len(w)]) != w {
		return s.fail(s.pos, "expected a value")
	}
	s.pos += len(w)
	return true
}

func (s *scanner) number() bool {
	start := s.pos
	if s.b[s.pos] == '-' {
		s.pos++
		if s.pos < len(s.b) && s.b[s.pos] == 'I' {
			return s.word("Infinity")
		}
	}
	first := s.pos
	s.digits()
	switch n := s.pos - first; {
	case n == 0:
		return s.fail(start, "expected a value")
	case n > 1 && s.b[first] == '0':
		return s.fail(first+1, "number with a leading zero")
	}
	intDigits, isInt := s.pos-first, true
	if s.pos < len(s.b) && s.b[s.pos] == '.' {
		isInt = false
		s.pos++
		if !s.someDigits() {
			return false
		}
	}
	if s.pos < len(s.b) && s.b[s.pos]|0x20 == 'e' {
		isInt = false
		s.pos++
		if s.pos < len(s.b) && (s.b[s.pos] == '+' || s.b[s.pos] == '-') {
			s.pos++
		}
		if !s.someDigits() {
			return false
		}
	}
	if isInt && intDigits > s.lim.MaxIntDigits && s.lim.MaxIntDigits > 0 {
		s.err = &SyntaxError{Offset: int64(start), Msg: ErrIntTooLong.Error(), Err: ErrIntTooLong}
		return false
	}
	return true
}

func (s *scanner) digits() {
	for s.pos < len(s.b) && s.b[s.pos]-'0' <= 9 {
		s.pos++
	}
}

func (s *scanner) someDigits() bool {
	start := s.pos
	s.digits()
	if s.pos == start {
		return s.fail(s.pos, "expected a digit")
	}
	return true
}

// Masks for looking at eight bytes at once.
const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// text scans the string that starts at pos and tells whether it has escapes.
func (s *scanner) text() (escaped, ok bool) {
	start := s.pos
	b := s.b
	i := s.pos + 1
	for {
		// Skip plain ASCII, eight bytes at a time: stop at a quote, a
		// backslash, a control character or anything outside of ASCII.
		for i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			quote := x ^ (ones * '"')
			slash := x ^ (ones * '\\')
			stop := (quote - ones) &^ quote & highs
			stop |= (slash - ones) &^ slash & highs
			stop |= (x - ones*0x20) &^ x & highs
			stop |= x & highs
			if stop != 0 {
				i += bits.TrailingZeros64(stop) / 8
				break
			}
			i += 8
		}
		if i >= len(b) {
			return false, s.fail(start, "string without an end")
		}
		switch c := b[i]; {
		case c == '"':
			s.pos = i + 1
			return escaped, true
		case c == '\\':
			escaped = true
			n := escapeLen(b[i:])
			if n == 0 {
				return false, s.fail(i, "invalid escape in a string")
			}
			i += n
		case c < 0x20:
			return false, s.fail(i, "control character in a string")
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 {
				return false, s.fail(i, "string is not UTF-8")
			}
			i += n
		}
	}
}

// escapeLen is the length of the escape that b starts with, 0 when it is none.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) >= 6 && hexValue(b[2:6]) >= 0 {
			return 6
		}
	}
	return 0
}

// array scans an array; element, when not nil, is called with each element.
func (s *scanner) array(element func(start, end int)) bool {
	if !s.enter() {
		return false
	}
	s.pos++
	s.space()
	if s.pos < len(s.b) && s.b[s.pos] == ']' {
		s.pos++
		s.depth--
		return true
	}
	for {
		start := s.pos
		if !s.value() {
			return false
		}
		if element != nil {
			element(start, s.pos)
		}
		s.space()
		if s.pos >= len(s.b) {
			return s.fail(s.pos, "array without an end")
		}
		switch s.b[s.pos] {
		case ',':
			s.pos++
			s.space()
		case ']':
			s.pos++
			s.depth--
			return true
		default:
			return s.fail(s.pos, "expected , or ] in an array")
		}
	}
}

// member is where a member of an object stands: the key with its quotes, and
// the value.
type member struct {
	keyStart, keyEnd, start, end int
	escaped                      bool // the key has escapes
}

// object scans an object; each, when not nil, is called with each member. It
// also keeps book of the keys of a typed value: see HasTypedMarker.
func (s *scanner) object(each func(member)) bool {
	return s.objectWith(each, nil)
}

// objectWith is object that lets inner, when not nil, scan the value of a key,
// which is given with its quotes, instead of value.
func (s *scanner) objectWith(each func(member), inner func(key []byte) bool) bool {
	if !s.enter() {
		return false
	}
	var seen markerKeys
	s.pos++
	s.space()
	if s.pos < len(s.b) && s.b[s.pos] == '}' {
		s.pos++
		s.depth--
		return true
	}
	for {
		var m member
		if m.keyStart = s.pos; m.keyStart >= len(s.b) || s.b[m.keyStart] != '"' {
			return s.fail(s.pos, "expected a key in double quotes")
		}
		var ok bool
		if m.escaped, ok = s.text(); !ok {
			return false
		}
		m.keyEnd = s.pos
		seen |= markerKey(s.b[m.keyStart:m.keyEnd], m.escaped)
		s.space()
		if s.pos >= len(s.b) || s.b[s.pos] != ':' {
			return s.fail(s.pos, "expected : after a key")
		}
		s.pos++
		s.space()
		m.start = s.pos
		if inner == nil {
			ok = s.value()
		} else {
			ok = inner(s.b[m.keyStart:m.keyEnd])
		}
		if !ok {
			return false
		}
		m.end = s.pos
		if each != nil {
			each(m)
		}
		s.space()
		if s.pos >= len(s.b) {
			return s.fail(s.pos, "object without an end")
		}
		switch s.b[s.pos] {
		case ',':
			s.pos++
			s.space()
		case '}':
			s.pos++
			s.depth--
			s.marker = s.marker || seen == markerBoth
			return true
		default:
			return s.fail(s.pos, "expected , or } in an object")
		}
	}
}

func (s *scanner) enter() bool {
	s.depth++
	if s.depth > s.lim.MaxDepth {
		s.err = &SyntaxError{Offset: int64(s.pos), Msg: ErrTooDeep.Error(), Err: ErrTooDeep}
		return false
	}
	return true
}
