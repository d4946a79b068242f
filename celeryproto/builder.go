package celeryproto

import (
	"errors"
	"math"
	"math/big"
	"strconv"
)

// builder writes the JSON text of data that came in another serialization, as
// kombu's JSON encoder would write the Python objects that it stands for.
type builder struct {
	dst   []byte
	spent int64 // bytes that were written and taken back
	depth int
	lim   Limits
}

// newBuilder has room for the text of size bytes of data.
func newBuilder(lim Limits, size int) *builder {
	lim.JSON = lim.JSON.withDefaults()
	return &builder{dst: make([]byte, 0, min(int64(size)+int64(size)/2+16, lim.MaxDecompressed)), lim: lim}
}

func (b *builder) raw(s string) { b.dst = append(b.dst, s...) }

// enter begins a list or an object.
func (b *builder) enter(bracket byte) error {
	if b.depth++; b.depth > b.lim.JSON.MaxDepth {
		return ErrTooDeep
	}
	b.dst = append(b.dst, bracket)
	return b.fits()
}

func (b *builder) leave(bracket byte) {
	b.depth--
	b.dst = append(b.dst, bracket)
}

// fits checks the size: what refers to its parts more than once can grow without end.
func (b *builder) fits() error {
	if int64(len(b.dst))+b.spent > b.lim.MaxDecompressed {
		return ErrTooLarge
	}
	return nil
}

// aside runs write and takes back what it wrote, which still counts: else a value
// could cost much and never get large. What it returns is valid until the next byte.
func (b *builder) aside(write func() error) ([]byte, error) {
	start, depth := len(b.dst), b.depth
	err := write()
	written := b.dst[start:]
	b.spent += int64(len(written))
	b.dst, b.depth = b.dst[:start], depth
	return written, err
}

// comma separates the element with index i from the one before it.
func (b *builder) comma(i int) {
	if i > 0 {
		b.raw(", ")
	}
}

// scalar writes what has no parts: the types that DecodeValue returns for such.
func (b *builder) scalar(v any) error {
	switch n := v.(type) {
	case uint64:
		b.dst = strconv.AppendUint(b.dst, n, 10)
		return b.fits()
	case *big.Int:
		if err := b.lim.JSON.checkBig(n); err != nil {
			return err
		}
		b.dst = n.Append(b.dst, 10)
		return b.fits()
	}
	e := encoder{dst: b.dst}
	if err := e.encode(v); err != nil {
		return errorFact(err)
	}
	b.dst = e.dst
	return b.fits()
}

// errorFact is an EncodeError without its place, which means nothing to a reader.
func errorFact(err error) error {
	if e, ok := errors.AsType[*EncodeError](err); ok {
		return e.Err
	}
	return err
}

// checkBig refuses integers with too many digits before they are written out.
func (l JSONLimits) checkBig(n *big.Int) error {
	if l.MaxIntDigits > 0 && float64(n.BitLen()) > float64(l.MaxIntDigits)*math.Log2(10)+1 {
		return ErrIntTooLong
	}
	return nil
}

// object keeps book of the keys of an object that is being written.
type object struct {
	seen markerKeys
	n    int
}

// key writes a key.
func (b *builder) key(o *object, key string) error {
	b.comma(o.n)
	o.n++
	o.seen |= markerOf(key)
	b.dst = append(AppendString(b.dst, key), ": "...)
	return b.fits()
}

// end ends an object. A dict that would be read as a typed value has no JSON.
func (b *builder) end(o *object) error {
	if o.seen == markerBoth {
		return &UnsupportedError{What: "dict with the keys", Name: keyType + ", " + keyValue}
	}
	b.leave('}')
	return nil
}

// keyText is a key of a dict as json.dumps writes it.
func keyText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case nil:
		return "null", nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case *big.Int:
		if err := (JSONLimits{}).withDefaults().checkBig(v); err != nil {
			return "", err
		}
		return v.String(), nil
	case float64:
		return string(AppendFloat(nil, v)), nil
	default:
		return "", &UnsupportedError{What: "dict key of type", Name: typeName(v)}
	}
}

// sameKey is a text that is the same for keys that Python takes for equal: 1,
// 1.0 and True are one key. Not a number is equal to nothing.
func sameKey(v any, i int) string {
	switch v := v.(type) {
	case string:
		return "s" + v
	case bool:
		if v {
			return "n1"
		}
		return "n0"
	case int64:
		return "n" + strconv.FormatInt(v, 10)
	case float64:
		switch {
		case math.IsNaN(v):
			return "nan" + strconv.Itoa(i)
		case v == math.Trunc(v) && math.Abs(v) < 1<<53:
			return "n" + strconv.FormatInt(int64(v), 10)
		}
		return "f" + strconv.FormatFloat(v, 'g', -1, 64)
	case *big.Int:
		return "n" + v.Text(16) + "h"
	default:
		return "o" + strconv.Itoa(i)
	}
}

// uniqueKeys tells which of some entries of a dict stay, in order, and which
// entry each has its value from: the first key, the last value.
func uniqueKeys(n int, key func(i int) any) (keys, values []int) {
	at := make(map[string]int, n)
	for i := range n {
		same := sameKey(key(i), i)
		if j, seen := at[same]; seen {
			values[j] = i
			continue
		}
		at[same] = len(keys)
		keys, values = append(keys, i), append(values, i)
	}
	return keys, values
}
