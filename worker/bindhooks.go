package worker

import (
	"encoding"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
)

// fact is an error that may be shown: it names kinds of values, never a value.
type fact string

func (f fact) Error() string { return string(f) }

var (
	timeType    = reflect.TypeFor[time.Time]()
	uuidType    = reflect.TypeFor[uuid.UUID]()
	bigIntType  = reflect.TypeFor[big.Int]()
	bytesType   = reflect.TypeFor[[]byte]()
	decimalType = reflect.TypeFor[celeryproto.Decimal]()
)

// convert is the decode hook: called by mapstructure for each value and each place in the target, it either converts
// the value or refuses it with a fact. mapstructure itself then only copies, and never meets a pair that it would
// convert by its own, laxer rules (it cuts 5.7 to 5) or describe with the value in the message.
func convert(from, to reflect.Value) (any, error) {
	t := to.Type()
	if from.Type() == t {
		if t == bytesType { // by reference: mapstructure copies lists element by element
			to.Set(from)
			return []byte(nil), nil
		}
		return from.Interface(), nil
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface:
		return from.Interface(), nil // the element's own call follows
	}
	if v, special, err := convertSpecial(from.Interface(), t); special {
		return v, err
	}
	switch t.Kind() {
	case reflect.Struct:
		return convertStruct(from.Interface(), t)
	case reflect.Map:
		return convertMap(from.Interface(), t)
	case reflect.Slice, reflect.Array:
		return convertList(from.Interface(), t)
	default:
		return convertScalar(from.Interface(), t)
	}
}

// convertSpecial handles types that are more than their kind.
func convertSpecial(v any, t reflect.Type) (converted any, special bool, err error) {
	switch t {
	case timeType:
		if s, ok := v.(string); ok { // browsers have no other way: Date.toISOString()
			at, err := time.Parse(time.RFC3339Nano, s)
			if err != nil {
				return nil, true, fact("a text that is not a time with offset (RFC 3339)")
			}
			return at, true, nil
		}
		return nil, true, mismatch(v, t)
	case uuidType:
		if s, ok := v.(string); ok {
			id, err := uuid.Parse(s)
			if err != nil {
				return nil, true, fact("a text that is not a UUID")
			}
			return id, true, nil
		}
		return nil, true, mismatch(v, t)
	case bigIntType:
		switch n := v.(type) {
		case *big.Int:
			return n, true, nil
		case int64:
			return big.NewInt(n), true, nil
		}
		return nil, true, mismatch(v, t)
	case bytesType:
		return nil, true, mismatch(v, t)
	case decimalType:
		switch n := v.(type) {
		case int64, *big.Int:
			return celeryproto.Decimal(fmt.Sprint(n)), true, nil
		case string:
			if !isDecimal(n) {
				return nil, true, fact("a text that is not a decimal number")
			}
			return celeryproto.Decimal(n), true, nil
		}
		return nil, true, mismatch(v, t)
	}
	if s, ok := v.(string); ok && reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		p := reflect.New(t)
		if p.Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)) != nil {
			return nil, true, fact("a text that is not a " + t.String())
		}
		return p.Elem().Interface(), true, nil
	}
	return nil, false, nil
}

// convertStruct checks an object against the plan of a nested struct, as bind does at the top.
func convertStruct(v any, t reflect.Type) (any, error) {
	m, ok := v.(map[string]any)
	if !ok {
		return nil, mismatch(v, t)
	}
	p, err := planFor(t)
	if err != nil {
		return nil, fact("cannot be decoded as " + t.String())
	}
	out := make(map[string]any, len(m))
	for key, value := range m {
		i, known := p.byName[key]
		if !known {
			if p.remain == nil {
				return nil, fact(fmt.Sprintf("unknown member %q", printable(key)))
			}
			out[key] = value
			continue
		}
		f := &p.fields[i]
		if value == nil && !nullable(f.typ) {
			return nil, fact(fmt.Sprintf("member %q is null, want %s", f.name, wanted(f.typ)))
		}
		if f.text {
			if value, err = parseNumber(value); err != nil {
				return nil, err
			}
		}
		out[f.key] = value
	}
	for i := range p.fields {
		if _, given := out[p.fields[i].key]; p.fields[i].required && !given {
			return nil, fact(fmt.Sprintf("member %q is missing", p.fields[i].name))
		}
	}
	return out, nil
}

func convertMap(v any, t reflect.Type) (any, error) {
	if m, ok := v.(map[any]any); ok { // mapstructure's own collection for a remain field
		return m, nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, mismatch(v, t)
	}
	if !nullable(t.Elem()) {
		for _, value := range m {
			if value == nil {
				return nil, fact("a member is null, want " + wanted(t.Elem()))
			}
		}
	}
	return m, nil
}

func convertList(v any, t reflect.Type) (any, error) {
	list, ok := v.([]any)
	if !ok {
		return nil, mismatch(v, t)
	}
	if t.Kind() == reflect.Array && len(list) != t.Len() {
		return nil, fact(fmt.Sprintf("a list of %d, want %d", len(list), t.Len()))
	}
	if !nullable(t.Elem()) {
		for i, value := range list {
			if value == nil {
				return nil, fact(fmt.Sprintf("element %d is null, want %s", i, wanted(t.Elem())))
			}
		}
	}
	return list, nil
}

func convertScalar(v any, t reflect.Type) (any, error) {
	switch {
	case t.Kind() == reflect.Bool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
	case t.Kind() == reflect.String:
		if s, ok := v.(string); ok {
			return s, nil
		}
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64:
		return toInt(v, t)
	case t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64:
		return toUint(v, t)
	case t.Kind() == reflect.Float32, t.Kind() == reflect.Float64:
		return toFloat(v, t)
	}
	return nil, mismatch(v, t)
}

func toInt(v any, t reflect.Type) (any, error) {
	if n, ok := v.(int64); ok && !reflect.Zero(t).OverflowInt(n) { // nearly always
		return v, nil
	}
	n, err := whole(v, t)
	if err != nil {
		return nil, err
	}
	if !n.IsInt64() || reflect.Zero(t).OverflowInt(n.Int64()) {
		return nil, fact("an integer out of range for " + t.String())
	}
	return n.Int64(), nil
}

func toUint(v any, t reflect.Type) (any, error) {
	n, err := whole(v, t)
	if err != nil {
		return nil, err
	}
	if !n.IsUint64() || reflect.Zero(t).OverflowUint(n.Uint64()) {
		return nil, fact("an integer out of range for " + t.String())
	}
	return n.Uint64(), nil
}

// whole takes integers, and floats without a fraction: Python writes 5.0 where JavaScript writes 5.
func whole(v any, t reflect.Type) (*big.Int, error) {
	switch n := v.(type) {
	case int64:
		return big.NewInt(n), nil
	case *big.Int:
		return n, nil
	case float64:
		if math.IsInf(n, 0) || math.IsNaN(n) || n != math.Trunc(n) {
			return nil, fact("a number with a fraction, want " + wanted(t))
		}
		i, _ := big.NewFloat(n).Int(nil)
		return i, nil
	}
	return nil, mismatch(v, t)
}

func toFloat(v any, t reflect.Type) (any, error) {
	var x float64
	switch n := v.(type) {
	case float64:
		x = n
	case int64:
		x = float64(n)
	case *big.Int:
		x, _ = new(big.Float).SetInt(n).Float64()
		if math.IsInf(x, 0) {
			return nil, fact("an integer out of range for " + t.String())
		}
	default:
		return nil, mismatch(v, t)
	}
	if t.Kind() == reflect.Float32 && !math.IsInf(x, 0) && !math.IsNaN(x) && math.Abs(x) > math.MaxFloat32 {
		return nil, fact("a number out of range for " + t.String())
	}
	return x, nil
}

// isDecimal tells whether Python's Decimal() takes a text, leaving out underscores and digits that are not ASCII.
func isDecimal(s string) bool {
	if s == "" || len(s) > 4300 {
		return false
	}
	switch strings.ToLower(strings.TrimLeft(s, "+-")) {
	case "nan", "snan", "inf", "infinity":
		return len(s)-len(strings.TrimLeft(s, "+-")) <= 1
	}
	digits := strings.TrimPrefix(strings.TrimPrefix(s, "-"), "+")
	mantissa, exponent, scientific := strings.Cut(strings.ToLower(digits), "e")
	if scientific {
		exponent = strings.TrimPrefix(strings.TrimPrefix(exponent, "-"), "+")
		if exponent == "" || strings.Trim(exponent, "0123456789") != "" {
			return false
		}
	}
	before, after, _ := strings.Cut(mantissa, ".")
	return before+after != "" && strings.Trim(before+after, "0123456789") == ""
}
