package channelslayer

import (
	"encoding/binary"
	"unicode/utf8"
	"unsafe"
)

// MaxDepth bounds the nesting of a message. msgpack-python stops at 1024 levels (unpack_template.h, MSGPACK_EMBED_STACK_SIZE);
// no message of Channels comes near.
const MaxDepth = 512

// scanner walks over one msgpack value without building anything. It accepts what msgpack.unpackb accepts with its defaults, except
// extension types: valid UTF-8 in texts, texts or byte strings as keys, nothing behind the value.
type scanner struct {
	s   string
	pos int
}

type kind uint8

const (
	kindNil kind = iota
	kindBool
	kindInt
	kindFloat
	kindText
	kindBytes
	kindArray
	kindMap
)

// token is the head of a value. For texts and bytes the content follows at pos for n bytes; for arrays and maps n elements or pairs follow.
type token struct {
	kind kind
	n    int
}

func (sc *scanner) fail(reason DropReason) error {
	return &DecodeError{Reason: reason, Offset: sc.pos}
}

// be reads a big-endian unsigned integer of width bytes.
func (sc *scanner) be(width int) (uint64, error) {
	if len(sc.s)-sc.pos < width {
		return 0, sc.fail(DropUndecodable)
	}
	b := sc.s[sc.pos : sc.pos+width]
	sc.pos += width
	switch width {
	case 1:
		return uint64(b[0]), nil
	case 2:
		return uint64(b[0])<<8 | uint64(b[1]), nil
	case 4:
		return uint64(binary.BigEndian.Uint32(unsafe.Slice(unsafe.StringData(b), 4))), nil
	default:
		return binary.BigEndian.Uint64(unsafe.Slice(unsafe.StringData(b), 8)), nil
	}
}

// next reads the head of the next value and, for scalars, all of it.
func (sc *scanner) next() (token, error) {
	if sc.pos >= len(sc.s) {
		return token{}, sc.fail(DropUndecodable)
	}
	c := sc.s[sc.pos]
	sc.pos++
	switch {
	case c <= 0x7f, c >= 0xe0: // fixint
		return token{kind: kindInt}, nil
	case c <= 0x8f:
		return sc.sized(kindMap, int(c&0x0f))
	case c <= 0x9f:
		return sc.sized(kindArray, int(c&0x0f))
	case c <= 0xbf:
		return sc.sized(kindText, int(c&0x1f))
	}
	switch c {
	case 0xc0:
		return token{kind: kindNil}, nil
	case 0xc2, 0xc3:
		return token{kind: kindBool}, nil
	case 0xc4, 0xc5, 0xc6:
		return sc.counted(kindBytes, 1<<(c-0xc4))
	case 0xca, 0xcb:
		return sc.fixed(kindFloat, 4<<(c-0xca))
	case 0xcc, 0xcd, 0xce, 0xcf:
		return sc.fixed(kindInt, 1<<(c-0xcc))
	case 0xd0, 0xd1, 0xd2, 0xd3:
		return sc.fixed(kindInt, 1<<(c-0xd0))
	case 0xd9, 0xda, 0xdb:
		return sc.counted(kindText, 1<<(c-0xd9))
	case 0xdc, 0xdd:
		return sc.counted(kindArray, 2<<(c-0xdc))
	case 0xde, 0xdf:
		return sc.counted(kindMap, 2<<(c-0xde))
	case 0xc1:
		return token{}, sc.fail(DropUndecodable)
	default: // 0xc7-0xc9, 0xd4-0xd8
		return token{}, sc.fail(DropExtension)
	}
}

func (sc *scanner) fixed(k kind, width int) (token, error) {
	_, err := sc.be(width)
	return token{kind: k}, err
}

func (sc *scanner) counted(k kind, width int) (token, error) {
	n, err := sc.be(width)
	if err != nil {
		return token{}, err
	}
	if n > uint64(len(sc.s)) { // also keeps the conversion safe
		return token{}, sc.fail(DropUndecodable)
	}
	return sc.sized(k, int(n))
}

// sized checks that n bytes, elements or pairs can follow: each takes at least one byte.
func (sc *scanner) sized(k kind, n int) (token, error) {
	need := n
	if k == kindMap {
		need = 2 * n
	}
	if need > len(sc.s)-sc.pos {
		return token{}, sc.fail(DropUndecodable)
	}
	return token{kind: k, n: n}, nil
}

// content takes the bytes of a text or byte string. It shares memory with the input.
func (sc *scanner) content(t token) (string, error) {
	body := sc.s[sc.pos : sc.pos+t.n]
	if t.kind == kindText && !utf8.ValidString(body) {
		return "", sc.fail(DropUndecodable)
	}
	sc.pos += t.n
	return body, nil
}

// key reads a map's key: a text or a byte string, as unpackb's strict_map_key asks.
func (sc *scanner) key() (name string, isText bool, err error) {
	t, err := sc.next()
	if err != nil {
		return "", false, err
	}
	if t.kind != kindText && t.kind != kindBytes {
		return "", false, sc.fail(DropUndecodable)
	}
	name, err = sc.content(t)
	return name, t.kind == kindText, err
}

// skip walks over the rest of a value whose head was t, nested at depth.
func (sc *scanner) skip(t token, depth int) error {
	switch t.kind {
	case kindText, kindBytes:
		_, err := sc.content(t)
		return err
	case kindArray, kindMap:
		if depth >= MaxDepth {
			return sc.fail(DropTooDeep)
		}
		for range t.n {
			if t.kind == kindMap {
				if _, _, err := sc.key(); err != nil {
					return err
				}
			}
			if err := sc.skipNext(depth + 1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (sc *scanner) skipNext(depth int) error {
	t, err := sc.next()
	if err != nil {
		return err
	}
	return sc.skip(t, depth)
}

// end reports anything behind the value.
func (sc *scanner) end() error {
	if sc.pos != len(sc.s) {
		return sc.fail(DropUndecodable)
	}
	return nil
}
