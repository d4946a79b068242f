package canvas

import (
	"fmt"

	"github.com/dfws/dfws/celeryproto"
)

// maxNesting is how deep objects may be nested when they are written. JSON has
// its own limit (celeryproto.DefaultMaxDepth), which is reached first by what is
// not a circle.
const maxNesting = celeryproto.DefaultMaxDepth

// Encode is the signature as Python's JSON writes it. What came from the wire
// and was not changed keeps its text, its order and what this package does not
// know. The error is Err, or that of the parts.
func (s *Signature) Encode() (celeryproto.Raw, error) { return encodeValue(s) }

// MarshalJSON is Encode, so that a signature can be an argument of a task.
func (s *Signature) MarshalJSON() ([]byte, error) { return s.Encode() }

// Decode reads a signature as Python's signature(d) does: a signature without
// subtask_type keeps all that it has; of the others, what their classes keep.
// The error is a *celeryproto.SyntaxError or says that r is no signature. Parts
// are taken apart when they are needed: a fault in them is found then.
func Decode(r celeryproto.Raw) (*Signature, error) {
	if err := celeryproto.CheckJSON(r, celeryproto.JSONLimits{}); err != nil {
		return nil, fmt.Errorf("canvas: decode: %w", err)
	}
	if r.Kind() != celeryproto.KindObject {
		return nil, errNoSignature
	}
	s := fromDict(&dict{raw: r})
	return s, s.err
}

// encodeValue is a value as Python's JSON writes it; what is Raw is not copied.
func encodeValue(v value) (celeryproto.Raw, error) {
	switch v := v.(type) {
	case celeryproto.Raw:
		return v, nil
	case arguments:
		return v.raw, nil
	case *sealed:
		return v.raw, nil
	case *dict:
		if v.raw != nil {
			return v.raw, nil
		}
	}
	return appendValue(nil, v, maxNesting)
}

func appendValue(dst []byte, v value, depth int) ([]byte, error) {
	if depth == 0 {
		return dst, ErrTooDeep
	}
	switch v := v.(type) {
	case celeryproto.Raw:
		return append(dst, v...), nil
	case arguments:
		return append(dst, v.raw...), nil
	case *sealed:
		return append(dst, v.raw...), nil
	case *list:
		return v.append(dst, depth)
	case *dict:
		return v.append(dst, depth)
	case *Signature:
		if v.err != nil {
			return dst, v.err
		}
		return v.d.append(dst, depth)
	default:
		return append(dst, none...), nil
	}
}

func (l *list) append(dst []byte, depth int) ([]byte, error) {
	dst = append(dst, '[')
	var err error
	for i, item := range l.items {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		if dst, err = appendValue(dst, item, depth-1); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

func (d *dict) append(dst []byte, depth int) ([]byte, error) {
	if d.raw != nil {
		return append(dst, d.raw...), nil
	}
	if d.err != nil {
		return dst, d.err
	}
	dst = append(dst, '{')
	var err error
	for i, e := range d.entries {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = celeryproto.AppendString(dst, e.key)
		dst = append(dst, ": "...)
		if dst, err = appendValue(dst, e.val, depth-1); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}
