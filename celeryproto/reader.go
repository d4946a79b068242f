package celeryproto

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// fieldReader reads the fields of a decoded object and keeps the first fault.
// Absent and null are the same to it.
type fieldReader struct {
	part    string
	prefix  string  // in front of the key in DecodeError.Field
	members Members // without duplicates
	next    int     // in members: where the next key is, if they are asked for in the order of the wire
	err     error
}

func (r *fieldReader) fail(key string, err error) {
	if r.err == nil {
		r.err = &DecodeError{Part: r.part, Field: r.prefix + key, Offset: -1, Err: err}
	}
}

// raw is the value of a key, nil when absent or null.
func (r *fieldReader) raw(key string) Raw {
	value, _ := r.get(key)
	if value.IsNull() {
		return nil
	}
	return value
}

// get is Members.Get for members without duplicates.
func (r *fieldReader) get(key string) (Raw, bool) {
	for i := r.next; i < len(r.members); i++ {
		if r.members[i].Key == key {
			r.next = i + 1
			return r.members[i].Value, true
		}
	}
	for i := range min(r.next, len(r.members)) {
		if r.members[i].Key == key {
			r.next = i + 1
			return r.members[i].Value, true
		}
	}
	return nil, false
}

func (r *fieldReader) text(key string) string {
	value := r.raw(key)
	if value == nil {
		return ""
	}
	s, err := value.Text()
	if err != nil {
		r.fail(key, err)
	}
	return s
}

// textLike is text that often is the same as one that was read before.
func (r *fieldReader) textLike(key, before string) string {
	value := r.raw(key)
	if len(value) == len(before)+2 && value[0] == '"' && string(value[1:len(value)-1]) == before && isPlain(before) {
		return before
	}
	return r.text(key)
}

// isPlain tells whether a JSON string with these characters stands for them.
func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] == '\\' || s[i] == '"' || s[i] < ' ' || s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// needText is text that may not be absent, null or empty.
func (r *fieldReader) needText(key string) string {
	s := r.text(key)
	if s != "" {
		return s
	}
	switch value, there := r.members.Get(key); {
	case !there:
		r.fail(key, ErrMissing)
	case value.IsNull():
		r.fail(key, errKind(KindString, KindNull))
	default:
		r.fail(key, errors.New("empty"))
	}
	return ""
}

// object is the value of a key that may be absent, null or an object.
func (r *fieldReader) object(key string) Members { return r.objectOf(key, usualMembers) }

// objectOf is object with room for n members.
func (r *fieldReader) objectOf(key string, n int) Members {
	value := r.raw(key)
	if value == nil {
		return nil
	}
	members, err := value.object(n)
	if err != nil {
		r.fail(key, err)
	}
	return members.merged()
}

func (r *fieldReader) ofKind(key string, kind Kind) Raw {
	value := r.raw(key)
	if value != nil && value.Kind() != kind {
		r.fail(key, errKind(kind, value.Kind()))
		return nil
	}
	return value
}

// int is a number, or a text with one, as Python workers take it.
func (r *fieldReader) int(key string) int {
	n, _ := r.someInt(key)
	return n
}

func (r *fieldReader) optionalInt(key string) *int {
	n, ok := r.someInt(key)
	if !ok {
		return nil
	}
	return &n
}

// someInt is not ok for what is absent, null or no number.
func (r *fieldReader) someInt(key string) (n int, ok bool) {
	value := r.raw(key)
	if value == nil {
		return 0, false
	}
	n, err := lenientInt(value)
	if err != nil {
		r.fail(key, err)
		return 0, false
	}
	return n, true
}

func lenientInt(value Raw) (int, error) {
	text := string(value)
	switch value.Kind() {
	case KindString:
		s, err := value.Text()
		if err != nil {
			return 0, err
		}
		text = strings.TrimSpace(s)
	case KindNumber:
	default:
		return 0, errKind(KindNumber, value.Kind())
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, errNotInt32
	}
	return int(n), nil
}

func (r *fieldReader) optionalBool(key string) *bool {
	value := r.raw(key)
	if value == nil {
		return nil
	}
	v, err := value.Bool()
	if err != nil {
		r.fail(key, err)
		return nil
	}
	return &v
}

// noTimeLimit is how Python and we write that there is none.
const noTimeLimit = "[null, null]"

// timeLimit reads "timelimit": null, or the hard and the soft limit.
func (r *fieldReader) timeLimit(key string) (limits [2]*float64) {
	value := r.raw(key)
	if value == nil || string(value) == noTimeLimit {
		return limits
	}
	elements, err := value.Array()
	if err == nil && len(elements) != len(limits) {
		err = errors.New("expected two elements, got " + strconv.Itoa(len(elements)))
	}
	if err != nil {
		r.fail(key, err)
		return limits
	}
	for i, element := range elements {
		if element.IsNull() {
			continue
		}
		seconds, err := element.seconds()
		if err != nil {
			r.fail(key+"["+strconv.Itoa(i)+"]", err)
			continue
		}
		limits[i] = &seconds
	}
	return limits
}

// seconds is a finite number as a float.
func (r Raw) seconds() (float64, error) {
	if r.Kind() != KindNumber {
		return 0, errKind(KindNumber, r.Kind())
	}
	f, err := strconv.ParseFloat(string(r), 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return 0, errors.New("not a finite number")
	}
	return f, nil
}
