package celeryproto

import (
	"encoding/binary"
	"errors"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"
)

// readMsgpack reads msgpack as kombu does: msgpack.unpackb(s, raw=False). Text is
// strict UTF-8, bin is bytes, keys of maps are texts (strict_map_key). What
// Python makes a Timestamp or an ExtType of has no JSON.
func readMsgpack(data []byte, lim Limits) (Raw, error) {
	r := msgpackReader{b: data, out: newBuilder(lim, len(data))}
	if err := r.value(); err != nil {
		return nil, err
	}
	if r.pos != len(data) {
		return nil, r.fail("extra data after the value")
	}
	return r.out.dst, nil
}

type msgpackReader struct {
	b   []byte
	pos int
	out *builder
}

func (r *msgpackReader) fail(msg string) error {
	return &DecodeError{Part: PartContent, Offset: int64(r.pos), Err: errors.New("msgpack: " + msg)}
}

func (r *msgpackReader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.b)-r.pos) {
		return nil, r.fail("unexpected end")
	}
	b := r.b[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b, nil
}

// uint reads a number of width bytes.
func (r *msgpackReader) uint(width int) (uint64, error) {
	b, err := r.take(uint64(width))
	if err != nil {
		return 0, err
	}
	var full [8]byte
	copy(full[8-width:], b)
	return binary.BigEndian.Uint64(full[:]), nil
}

// head is the first byte of a value, and the length or number in it.
type head struct {
	kind msgpackKind
	n    uint64
	ext  int8
}

type msgpackKind uint8

const (
	msgpackNil msgpackKind = iota
	msgpackBool
	msgpackUint
	msgpackInt
	msgpackFloat32
	msgpackFloat64
	msgpackStr
	msgpackBin
	msgpackArray
	msgpackMap
	msgpackExt
)

// msgpackTypes are the first bytes from 0xc4 on whose number follows in some bytes.
var msgpackTypes = map[byte]struct {
	kind  msgpackKind
	width int
}{
	0xc4: {msgpackBin, 1}, 0xc5: {msgpackBin, 2}, 0xc6: {msgpackBin, 4},
	0xc7: {msgpackExt, 1}, 0xc8: {msgpackExt, 2}, 0xc9: {msgpackExt, 4},
	0xca: {msgpackFloat32, 4}, 0xcb: {msgpackFloat64, 8},
	0xcc: {msgpackUint, 1}, 0xcd: {msgpackUint, 2}, 0xce: {msgpackUint, 4}, 0xcf: {msgpackUint, 8},
	0xd0: {msgpackInt, 1}, 0xd1: {msgpackInt, 2}, 0xd2: {msgpackInt, 4}, 0xd3: {msgpackInt, 8},
	0xd9: {msgpackStr, 1}, 0xda: {msgpackStr, 2}, 0xdb: {msgpackStr, 4},
	0xdc: {msgpackArray, 2}, 0xdd: {msgpackArray, 4},
	0xde: {msgpackMap, 2}, 0xdf: {msgpackMap, 4},
}

func (r *msgpackReader) head() (head, error) {
	first, err := r.take(1)
	if err != nil {
		return head{}, err
	}
	switch c := first[0]; {
	case c < 0x80:
		return head{kind: msgpackUint, n: uint64(c)}, nil
	case c < 0x90:
		return head{kind: msgpackMap, n: uint64(c & 0xf)}, nil
	case c < 0xa0:
		return head{kind: msgpackArray, n: uint64(c & 0xf)}, nil
	case c < 0xc0:
		return head{kind: msgpackStr, n: uint64(c & 0x1f)}, nil
	case c == 0xc0:
		return head{kind: msgpackNil}, nil
	case c == 0xc2, c == 0xc3:
		return head{kind: msgpackBool, n: uint64(c & 1)}, nil
	case c >= 0xe0:
		return head{kind: msgpackInt, n: uint64(int64(int8(c)))}, nil
	case c >= 0xd4 && c <= 0xd8:
		return r.ext(head{kind: msgpackExt, n: 1 << (c - 0xd4)})
	default:
		t, known := msgpackTypes[c]
		if !known {
			return head{}, r.fail("unknown type")
		}
		h := head{kind: t.kind}
		if h.n, err = r.uint(t.width); err != nil {
			return head{}, err
		}
		if shift := 64 - 8*t.width; h.kind == msgpackInt {
			h.n = uint64(int64(h.n<<shift) >> shift)
		}
		if h.kind == msgpackExt {
			return r.ext(h)
		}
		return h, nil
	}
}

// ext reads the number of an extension type.
func (r *msgpackReader) ext(h head) (head, error) {
	b, err := r.take(1)
	if err == nil {
		h.ext = int8(b[0])
	}
	return h, err
}

// msgpackTimestamp is the extension type of the format's own Timestamp.
const msgpackTimestamp = -1

func (r *msgpackReader) value() error {
	h, err := r.head()
	if err != nil {
		return err
	}
	switch h.kind {
	case msgpackNil:
		return r.out.scalar(nil)
	case msgpackBool:
		return r.out.scalar(h.n == 1)
	case msgpackUint:
		return r.out.scalar(h.n)
	case msgpackInt:
		return r.out.scalar(int64(h.n))
	case msgpackFloat32:
		return r.out.scalar(float64(math.Float32frombits(uint32(h.n))))
	case msgpackFloat64:
		return r.out.scalar(math.Float64frombits(h.n))
	case msgpackStr:
		s, err := r.text(h)
		if err != nil {
			return err
		}
		return r.out.scalar(s)
	case msgpackBin:
		b, err := r.take(h.n)
		if err != nil {
			return err
		}
		return r.out.scalar(b)
	case msgpackArray:
		return r.array(h.n)
	case msgpackMap:
		return r.object(h.n)
	default:
		name := strconv.Itoa(int(h.ext))
		if h.ext == msgpackTimestamp {
			name += " (Timestamp)"
		}
		return &UnsupportedError{What: "msgpack extension type", Name: name}
	}
}

func (r *msgpackReader) text(h head) (string, error) {
	b, err := r.take(h.n)
	if err == nil && !utf8.Valid(b) {
		err = r.fail("text is not UTF-8")
	}
	return string(b), err
}

// array reads n values; none takes less than a byte.
func (r *msgpackReader) array(n uint64) error {
	if n > uint64(len(r.b)-r.pos) {
		return r.fail("unexpected end")
	}
	if err := r.out.enter('['); err != nil {
		return err
	}
	for i := range int(n) {
		r.out.comma(i)
		if err := r.value(); err != nil {
			return err
		}
	}
	r.out.leave(']')
	return nil
}

func (r *msgpackReader) object(n uint64) error {
	if n > uint64(len(r.b)-r.pos) {
		return r.fail("unexpected end")
	}
	if err := r.out.enter('{'); err != nil {
		return err
	}
	var o object
	for range n {
		h, err := r.head()
		if err != nil {
			return err
		}
		switch h.kind {
		case msgpackStr:
		case msgpackBin: // Python takes it, and json.dumps would not
			return &UnsupportedError{What: "dict key of type", Name: "bytes"}
		default:
			return r.fail("key of a map is no text")
		}
		key, err := r.text(h)
		if err == nil {
			err = r.out.key(&o, key)
		}
		if err == nil {
			err = r.value()
		}
		if err != nil {
			return err
		}
	}
	return r.out.end(&o)
}

// writeMsgpack writes msgpack as kombu does: msgpack.packb(s, use_bin_type=True).
func writeMsgpack(tree any) ([]byte, error) { return appendMsgpack(nil, tree) }

func appendMsgpack(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, 0xc0), nil
	case bool:
		if v {
			return append(dst, 0xc3), nil
		}
		return append(dst, 0xc2), nil
	case int64:
		return appendMsgpackInt(dst, v), nil
	case *big.Int:
		if !v.IsUint64() {
			return dst, &EncodeError{Err: errors.New("msgpack: integer out of range")}
		}
		return binary.BigEndian.AppendUint64(append(dst, 0xcf), v.Uint64()), nil
	case float64:
		return binary.BigEndian.AppendUint64(append(dst, 0xcb), floatBits(v)), nil
	case string:
		return appendMsgpackText(dst, v)
	case []byte:
		dst, err := appendMsgpackHead(dst, len(v), 0, 0, 0xc4, 0xc5, 0xc6)
		return append(dst, v...), err
	case []any:
		dst, err := appendMsgpackHead(dst, len(v), 0x90, 16, 0, 0xdc, 0xdd)
		for i := 0; i < len(v) && err == nil; i++ {
			dst, err = appendMsgpack(dst, v[i])
		}
		return dst, err
	case dict:
		dst, err := appendMsgpackHead(dst, len(v), 0x80, 16, 0, 0xde, 0xdf)
		for i := 0; i < len(v) && err == nil; i++ {
			if dst, err = appendMsgpackText(dst, v[i].key); err == nil {
				dst, err = appendMsgpack(dst, v[i].value)
			}
		}
		return dst, err
	default:
		return dst, errCannot(SerializerMsgpack, v)
	}
}

func appendMsgpackText(dst []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return dst, &EncodeError{Err: errLoneSurrogate}
	}
	dst, err := appendMsgpackHead(dst, len(s), 0xa0, 32, 0xd9, 0xda, 0xdb)
	return append(dst, s...), err
}

// appendMsgpackHead writes a length below few into the first byte, else after
// it with 8, 16 or 32 bits; a first byte of 0 says that there is no such form.
func appendMsgpackHead(dst []byte, n int, fix byte, few int, first8, first16, first32 byte) ([]byte, error) {
	switch {
	case n < few:
		return append(dst, fix|byte(n)), nil
	case n <= math.MaxUint8 && first8 != 0:
		return append(dst, first8, byte(n)), nil
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, first16), uint16(n)), nil
	case uint64(n) <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, first32), uint32(n)), nil
	default:
		return dst, &EncodeError{Err: ErrTooLarge}
	}
}

func appendMsgpackInt(dst []byte, n int64) []byte {
	switch {
	case n >= 0 && n < 0x80, n < 0 && n >= -0x20:
		return append(dst, byte(n))
	case n >= 0 && n <= math.MaxUint8:
		return append(dst, 0xcc, byte(n))
	case n >= 0 && n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, 0xcd), uint16(n))
	case n >= 0 && n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0xce), uint32(n))
	case n >= 0:
		return binary.BigEndian.AppendUint64(append(dst, 0xcf), uint64(n))
	case n >= math.MinInt8:
		return append(dst, 0xd0, byte(n))
	case n >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(dst, 0xd1), uint16(n))
	case n >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(dst, 0xd2), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, 0xd3), uint64(n))
	}
}
