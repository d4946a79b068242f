package celeryproto

import (
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/google/uuid"
)

// dict is an object whose members are in order, for serializations that show it.
type dict []dictEntry

type dictEntry struct {
	key   string
	value any
}

// get is the value of a key, nil when it is not there.
func (d dict) get(key string) any {
	for _, entry := range d {
		if entry.key == key {
			return entry.value
		}
	}
	return nil
}

// merged removes duplicate keys as Python does: the first place, the last value.
func (d dict) merged() dict {
	at := make(map[string]int, len(d))
	out := d[:0]
	for _, entry := range d {
		if i, seen := at[entry.key]; seen {
			out[i].value = entry.value
			continue
		}
		at[entry.key] = len(out)
		out = append(out, entry)
	}
	return out
}

// treeOf is DecodeValue with a dict for each object.
func treeOf(r Raw) (any, error) {
	if err := CheckJSON(r, JSONLimits{}); err != nil {
		return nil, err
	}
	d := valueDecoder{scanner: newScanner(r, JSONLimits{}), ordered: true}
	d.space()
	return d.decode()
}

// typeName is what Python calls the type of a value.
func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case int64, uint64, *big.Int:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case []byte:
		return "bytes"
	case []any:
		return "list"
	case dict:
		return "dict"
	case time.Time, NaiveTime:
		return "datetime.datetime"
	case Date:
		return "datetime.date"
	case TimeOfDay:
		return "datetime.time"
	case Decimal:
		return "decimal.Decimal"
	case uuid.UUID:
		return "uuid.UUID"
	default:
		return fmt.Sprintf("%T", v)
	}
}

// errCannot says that a serializer has no counterpart for a value, as kombu's EncodeError does.
func errCannot(serializer string, v any) error {
	return &EncodeError{Err: errors.New(serializer + " cannot serialize " + typeName(v))}
}
