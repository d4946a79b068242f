package celeryproto

import (
	"math"
	"math/big"
	"time"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto/internal/pickle"
)

// writePickle writes a pickle of protocol 4, as kombu does.
func writePickle(tree any) ([]byte, error) {
	w := pickleWriter{pickle.NewWriter(256)}
	if err := w.value(tree); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

type pickleWriter struct{ *pickle.Writer }

func (w pickleWriter) value(v any) error {
	switch v := v.(type) {
	case nil:
		w.None()
	case bool:
		w.Bool(v)
	case int64:
		w.Int(v)
	case *big.Int:
		w.BigInt(v)
	case float64:
		w.Float(math.Float64frombits(floatBits(v)))
	case string:
		w.Text(v)
	case []byte:
		w.Binary(v)
	case []any:
		return w.List(len(v), func(i int) error { return w.value(v[i]) })
	case dict:
		return w.dict(v, func(_ string, member any) error { return w.value(member) })
	case Decimal:
		return w.call("decimal", "Decimal", string(v))
	case uuid.UUID:
		w.New(pickle.Global{Module: "uuid", Name: "UUID"}, func() {
			// UUID.__getstate__
			_ = w.Dict(1, func(int) error {
				w.Text("int")
				w.BigInt(new(big.Int).SetBytes(v[:]))
				return nil
			})
		})
	default:
		return w.time(v)
	}
	return nil
}

// dict writes an object, each value by a function that gets its key.
func (w pickleWriter) dict(v dict, value func(key string, v any) error) error {
	return w.Dict(len(v), func(i int) error {
		w.Text(v[i].key)
		return value(v[i].key, v[i].value)
	})
}

// call writes the call of a global with plain arguments; pickleZone and pickleDelta are written as such.
func (w pickleWriter) call(module, name string, args ...any) error {
	return w.Call(pickle.Global{Module: module, Name: name}, len(args), func(i int) error {
		switch arg := args[i].(type) {
		case pickleZone:
			return w.call("datetime", "timezone", pickleDelta{arg.offset})
		case pickleDelta:
			return w.delta(arg.d)
		default:
			return w.value(arg)
		}
	})
}

// delta writes a timedelta, whose seconds and microseconds are not negative.
func (w pickleWriter) delta(d time.Duration) error {
	days := int64(0)
	for ; d < 0; d += 24 * time.Hour {
		days--
	}
	return w.call("datetime", "timedelta", days, int64(d/time.Second), int64(d%time.Second/time.Microsecond))
}

// time writes dates and times as the bytes that Python packs them into
// (CPython 3.11, Lib/datetime.py, _getstate).
func (w pickleWriter) time(v any) error {
	switch v := v.(type) {
	case Date:
		return w.call("datetime", "date", packDate(nil, v))
	case TimeOfDay:
		return w.packed("time", packClock(nil, v), v.Aware, v.Offset)
	case NaiveTime:
		return w.packed("datetime", packClock(packDate(nil, v.date()), v.clock()), false, 0)
	case time.Time:
		_, offset := v.Zone()
		n := NaiveTimeOf(v)
		return w.packed("datetime", packClock(packDate(nil, n.date()), n.clock()), true, time.Duration(offset)*time.Second)
	default:
		return errCannot(SerializerPickle, v)
	}
}

func (w pickleWriter) packed(name string, b []byte, aware bool, offset time.Duration) error {
	if !aware {
		return w.call("datetime", name, b)
	}
	return w.call("datetime", name, b, pickleZone{offset})
}

func packDate(dst []byte, d Date) []byte {
	return append(dst, byte(d.Year>>8), byte(d.Year), byte(d.Month), byte(d.Day))
}

func packClock(dst []byte, t TimeOfDay) []byte {
	micro := t.Microsecond
	return append(dst, byte(t.Hour), byte(t.Minute), byte(t.Second), byte(micro>>16), byte(micro>>8), byte(micro))
}
