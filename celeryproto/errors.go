package celeryproto

import (
	"errors"
	"fmt"
	"strconv"
)

// Conditions that a *SyntaxError or *DecodeError wraps, for errors.Is.
var (
	// ErrTooDeep says that arrays and objects are nested deeper than
	// JSONLimits.MaxDepth. Every function that scans JSON returns it.
	ErrTooDeep = errors.New("nested too deeply")
	// ErrIntTooLong says that an integer has more digits than
	// JSONLimits.MaxIntDigits. Every function that scans JSON returns it.
	ErrIntTooLong = errors.New("integer has too many digits")
	// ErrTooLarge says that a body or result is larger, once decompressed or
	// converted to JSON, than Limits.MaxDecompressed. DecodeTask, DecodeContent
	// and DecodeResult return it.
	ErrTooLarge = errors.New("decompressed data exceeds the limit")
	// ErrTooMany says that a pickle or a YAML document has more values than
	// Limits.MaxValues. DecodeTask, DecodeContent and ResultCodec.Decode return it.
	ErrTooMany = errors.New("too many values")
	// ErrMissing says that a field that a message cannot do without is absent.
	ErrMissing = errors.New("missing")
)

// DecodeError reports bytes that are not what Celery writes. It never contains
// the offending value, which may be a secret.
type DecodeError struct {
	// Part of the message: one of the Part… constants.
	Part string
	// Field is the path inside Part, "properties.delivery_tag"; "" when the
	// part as a whole is meant.
	Field string
	// Offset is the byte offset in the serialized text of Part, -1 when not known.
	Offset int64
	// Err says what is wrong.
	Err error
}

// Parts of a message, for DecodeError.Part.
const (
	PartEnvelope = "envelope"
	PartHeaders  = "headers"
	PartBody     = "body"
	PartResult   = "result"
	PartValue    = "value"
	PartContent  = "content" // DecodeContent's data
)

func (e *DecodeError) Error() string {
	s := "celeryproto: " + e.Part + ": "
	if e.Field != "" {
		s += e.Field + ": "
	}
	s += e.Err.Error()
	if e.Offset >= 0 {
		if _, isSyntax := errors.AsType[*SyntaxError](e.Err); !isSyntax {
			s += " (at byte " + strconv.FormatInt(e.Offset, 10) + ")"
		}
	}
	return s
}

// Unwrap gives the fact without its place.
func (e *DecodeError) Unwrap() error { return e.Err }

// UnsupportedError reports something that Celery knows, or a Python worker may
// be able to read, and this package refuses: it names it, so that an operator
// can change the setting.
type UnsupportedError struct {
	// What kind of thing: "serializer", "compression", "body encoding",
	// "content encoding", "dict key of type", "dict with the keys", "value",
	// "msgpack extension type", or "pickle" or "yaml" for a Python object that one
	// of them would construct.
	What string
	// Name as it stands in the message, for instance
	// "application/x-python-serialize" or "os.system"; shortened when absurdly long.
	Name string
}

// What in an UnsupportedError of an object that is no plain data.
const (
	whatPickle = "pickle"
	whatYAML   = "yaml"
)

func (e *UnsupportedError) Error() string {
	if e.What == whatPickle || e.What == whatYAML {
		return fmt.Sprintf("celeryproto: %s: would construct %q, which is not supported", e.What, e.Name)
	}
	return fmt.Sprintf("celeryproto: %s %q is not supported", e.What, e.Name)
}

// UnknownTypeError reports a kombu typed value ({"__type__": …, "__value__": …})
// of a type that kombu does not know by itself. Applications can register
// their own (kombu.utils.json.register_type); such values can only be relayed.
type UnknownTypeError struct {
	// Type is the text of "__type__", shortened; "" when it is no text.
	Type string
}

func (e *UnknownTypeError) Error() string {
	return fmt.Sprintf("unknown __type__ %q", e.Type)
}

// EncodeError reports a Go value that has no counterpart in Python's JSON.
type EncodeError struct {
	// Path to the value, "args[2].price"; "" for the value itself. The beginning of a long one.
	Path string
	// Err says what is wrong; it names the Go type, never the value.
	Err error
}

func (e *EncodeError) Error() string {
	if e.Path == "" {
		return "celeryproto: encode: " + e.Err.Error()
	}
	return "celeryproto: encode: " + e.Path + ": " + e.Err.Error()
}

// Unwrap gives the fact without its place.
func (e *EncodeError) Unwrap() error { return e.Err }
