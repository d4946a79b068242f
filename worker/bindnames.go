package worker

import (
	"math/big"
	"reflect"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
)

// mismatch says which kind of value came and which was wanted.
func mismatch(v any, t reflect.Type) error {
	return fact(describe(v) + ", want " + wanted(t))
}

// describe names the kind of a decoded value.
func describe(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case int64, *big.Int:
		return "an integer"
	case float64:
		return "a number"
	case string:
		return "a text"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	case []byte:
		return "bytes"
	case time.Time:
		return "a datetime with offset"
	case celeryproto.NaiveTime:
		return "a datetime without offset"
	case celeryproto.Date:
		return "a date"
	case celeryproto.TimeOfDay:
		return "a time of day"
	case celeryproto.Decimal:
		return "a decimal"
	case uuid.UUID:
		return "a UUID"
	default:
		return "a value of another kind"
	}
}

// wanted names what a Go type takes.
func wanted(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case timeType:
		return "a datetime with offset"
	case uuidType:
		return "a UUID"
	case bigIntType:
		return "an integer"
	case bytesType:
		return "bytes"
	case decimalType:
		return "a decimal"
	case reflect.TypeFor[celeryproto.NaiveTime]():
		return "a datetime without offset"
	case reflect.TypeFor[celeryproto.Date]():
		return "a date"
	case reflect.TypeFor[celeryproto.TimeOfDay]():
		return "a time of day"
	}
	switch k := t.Kind(); {
	case k == reflect.Bool:
		return "a boolean"
	case k == reflect.String:
		return "a text"
	case k >= reflect.Int && k <= reflect.Uint64:
		return "an integer"
	case k == reflect.Float32, k == reflect.Float64:
		return "a number"
	case k == reflect.Slice, k == reflect.Array:
		return "a list"
	case k == reflect.Map, k == reflect.Struct:
		return "an object"
	default:
		return t.String()
	}
}
