package celeryproto

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// EncodeValue writes a Go value as kombu's JSON encoder writes its Python
// counterpart, byte for byte: ", " and ": " as separators, everything outside
// of ASCII escaped, floats as Python's repr, typed values where JSON has no
// type of its own. Beside the types that DecodeValue returns it takes
//
//   - integers, floats, strings and booleans of any named type;
//   - slices, arrays and maps (keys sorted; integer and boolean keys as Python
//     writes them), pointers and interfaces, nil being null;
//   - structs with encoding/json's tags (name, omitempty, omitzero, "-",
//     embedding);
//   - Raw, which is checked and passed through, and json.Number;
//   - json.Marshaler, whose output is checked and passed through, and
//     encoding.TextMarshaler, as a string.
//
// A time.Duration is refused, as Python's timedelta is: say seconds. So is what
// would be a typed value that kombu cannot read, an object with nothing but
// "__type__" and "__value__" in it: a Python worker drops such a task, and
// exits when it is in a header. The error is an *EncodeError.
func EncodeValue(v any) (Raw, error) {
	return AppendValue(nil, v)
}

// AppendValue appends what EncodeValue returns; dst comes back unchanged with
// an error.
func AppendValue(dst []byte, v any) ([]byte, error) {
	e := encoder{dst: dst}
	if err := e.encode(v); err != nil {
		return dst, err
	}
	return e.dst, nil
}

// encoder appends to dst and counts the depth, which also ends cycles.
type encoder struct {
	dst   []byte
	depth int
}

func (e *encoder) raw(s string) { e.dst = append(e.dst, s...) }

// encode writes the types that need no reflection.
func (e *encoder) encode(v any) error {
	switch v := v.(type) {
	case nil:
		e.raw("null")
	case string:
		e.dst = AppendString(e.dst, v)
	case bool:
		e.bool(v)
	case int:
		e.dst = strconv.AppendInt(e.dst, int64(v), 10)
	case int64:
		e.dst = strconv.AppendInt(e.dst, v, 10)
	case float64:
		e.dst = AppendFloat(e.dst, v)
	case Raw:
		return e.checked(v)
	case []any:
		return e.array(reflect.ValueOf(v))
	case map[string]any:
		return e.object(reflect.ValueOf(v))
	case []byte:
		e.bytes(v)
	default:
		return e.encodeTyped(v)
	}
	return nil
}

// encodeTyped writes kombu's typed values and whatever else has a type of its own.
func (e *encoder) encodeTyped(v any) error {
	switch v := v.(type) {
	case time.Time:
		if err := validateTime(v); err != nil {
			return errValue(v, err)
		}
		e.typed(typeDatetime, FormatISOTime(v))
	case NaiveTime:
		return e.iso(typeDatetime, v)
	case Date:
		return e.iso(typeDate, v)
	case TimeOfDay:
		return e.iso(typeTime, v)
	case Decimal:
		if err := v.validate(); err != nil {
			return errValue(v, err)
		}
		e.typed(typeDecimal, string(v))
	case uuid.UUID:
		e.raw(`{"__type__": "uuid", "__value__": {"hex": "`)
		for _, b := range v {
			e.dst = append(e.dst, hexDigits[b>>4], hexDigits[b&0xf])
		}
		e.raw(`"}}`)
	case *big.Int:
		if v == nil {
			e.raw("null")
			return nil
		}
		return e.bigInt(v)
	case big.Int:
		return e.bigInt(&v)
	case json.Number:
		if Raw(v).Kind() != KindNumber {
			return errValue(v, errors.New("not a number"))
		}
		return e.checked(Raw(v))
	case time.Duration:
		return errValue(v, errors.New("no duration in Python's JSON; say seconds"))
	default:
		return e.reflected(reflect.ValueOf(v))
	}
	return nil
}

func errValue(v any, err error) error {
	return &EncodeError{Err: fmt.Errorf("%T: %w", v, err)}
}

func (e *encoder) bool(v bool) {
	e.dst = strconv.AppendBool(e.dst, v)
}

func (e *encoder) bigInt(v *big.Int) error {
	start := len(e.dst)
	e.dst = v.Append(e.dst, 10)
	if v.Sign() < 0 {
		start++
	}
	if len(e.dst)-start > DefaultMaxIntDigits {
		return errValue(v, ErrIntTooLong)
	}
	return nil
}

func (e *encoder) bytes(v []byte) {
	if v == nil {
		e.raw("null")
		return
	}
	if utf8.Valid(v) {
		e.typed(typeBytes, string(v))
		return
	}
	e.typed(typeBase64, base64.StdEncoding.EncodeToString(v))
}

func (e *encoder) typed(name, text string) {
	e.raw(`{"__type__": "` + name + `", "__value__": `)
	e.dst = append(AppendString(e.dst, text), '}')
}

func (e *encoder) iso(name string, v interface {
	validate() error
	String() string
}) error {
	if err := v.validate(); err != nil {
		return errValue(v, err)
	}
	e.typed(name, v.String())
	return nil
}

// limits are those of a text at the present depth; 0 would be the default.
func (e *encoder) limits() JSONLimits {
	return JSONLimits{MaxDepth: max(1, DefaultMaxDepth-e.depth)}
}

// checked passes a JSON text through.
func (e *encoder) checked(r Raw) error {
	if r == nil {
		e.raw("null")
		return nil
	}
	if err := checkRaw(r, e.limits()); err != nil {
		return &EncodeError{Err: err}
	}
	e.dst = append(e.dst, r...)
	return nil
}

// checkRaw is CheckJSON for a text that others will read: kombu must know the typed values in it too.
func checkRaw(r Raw, lim JSONLimits) error {
	facts, err := Inspect(r, lim)
	if err == nil && facts.TypedMarker {
		err = checkTyped(r)
	}
	return err
}

// guarded calls a method of a value's own, whose panic is an error.
func guarded(v any, method string, call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%T.%s panicked with a %T", v, method, p)
		}
	}()
	return call()
}
