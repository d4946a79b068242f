package channelslayer

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// packer writes what msgpack.packb (msgpack-python 1.x, defaults) writes: the smallest form of each integer, texts and byte strings
// apart, floats as 64 bits, no extensions. It uses the library's primitives only: its Encode would turn a time into an extension and a
// float32 into 32 bits, and it has no say in the order of keys.
type packer struct {
	buf bytes.Buffer
	enc *msgpack.Encoder
}

var packers = sync.Pool{New: func() any {
	p := &packer{}
	p.enc = msgpack.NewEncoder(&p.buf)
	return p
}}

// maxPooledPacker keeps one huge message from being remembered for ever.
const maxPooledPacker = 1 << 20

func newPacker() *packer {
	p := packers.Get().(*packer)
	p.buf.Reset()
	return p
}

func (p *packer) release() {
	if p.buf.Cap() <= maxPooledPacker {
		packers.Put(p)
	}
}

// message writes the head of a map with extra entries more than m has, then m's entries: type, message, the others by name.
// Python keeps the order of insertion, and readers must not depend on it; ours is the order that consumers' code has.
// An entry __asgi_channel__ is left out: group_send overwrites it, and send refuses it earlier.
func (p *packer) message(m Message, extra int) error {
	n := len(m) + extra
	if _, reserved := m[channelKeyName]; reserved {
		n--
	}
	if err := p.enc.EncodeMapLen(n); err != nil {
		return err
	}
	for _, key := range orderedKeys(m) {
		if err := p.text(key, key); err != nil {
			return err
		}
		if err := p.value(m[key], key, 1); err != nil {
			return err
		}
	}
	return nil
}

func orderedKeys(m Message) []string {
	keys := make([]string, 0, len(m))
	for _, key := range []string{typeKeyName, messageKeyName} {
		if _, ok := m[key]; ok {
			keys = append(keys, key)
		}
	}
	first := len(keys)
	for key := range m {
		if key != typeKeyName && key != messageKeyName && key != channelKeyName {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys[first:])
	return keys
}

// text writes s, which must be UTF-8: Python refuses lone surrogates when it writes and anything invalid when it reads.
func (p *packer) text(s, path string) error {
	if !utf8.ValidString(s) {
		return &ValueError{Path: strings.ToValidUTF8(path, "�"), Reason: "text is not valid UTF-8"}
	}
	return p.enc.EncodeString(s)
}

func (p *packer) value(v any, path string, depth int) error {
	switch v := v.(type) {
	case nil:
		return p.enc.EncodeNil()
	case bool:
		return p.enc.EncodeBool(v)
	case string:
		return p.text(v, path)
	case []byte:
		if v == nil {
			v = []byte{} // the library would write nil
		}
		return p.enc.EncodeBytes(v)
	case float64:
		return p.enc.EncodeFloat64(v)
	case float32:
		return p.enc.EncodeFloat64(float64(v))
	}
	if n, ok := signed(v); ok {
		return p.enc.EncodeInt(n)
	}
	if n, ok := unsigned(v); ok {
		return p.enc.EncodeUint(n)
	}
	if depth >= MaxDepth {
		return &ValueError{Path: path, Reason: "nested too deep"}
	}
	return p.container(v, path, depth)
}

func (p *packer) container(v any, path string, depth int) error {
	switch v := v.(type) {
	case []any:
		return packArray(p, v, path, depth)
	case []string:
		return packArray(p, v, path, depth)
	case []map[string]any:
		return packArray(p, v, path, depth)
	case []int:
		return packArray(p, v, path, depth)
	case map[string]any:
		return packMap(p, v, path, depth)
	case Message:
		return packMap(p, v, path, depth)
	case map[string]string:
		return packMap(p, v, path, depth)
	default:
		return &ValueError{Path: path, Reason: fmt.Sprintf("type %T has no msgpack form in Python's defaults", v)}
	}
}

func packArray[E any](p *packer, list []E, path string, depth int) error {
	if err := p.enc.EncodeArrayLen(len(list)); err != nil {
		return err
	}
	for i, e := range list {
		if err := p.value(e, path+"["+strconv.Itoa(i)+"]", depth+1); err != nil {
			return err
		}
	}
	return nil
}

// packMap writes the entries by name, so that equal messages have equal bytes.
func packMap[M ~map[string]E, E any](p *packer, m M, path string, depth int) error {
	if err := p.enc.EncodeMapLen(len(m)); err != nil {
		return err
	}
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if err := p.text(key, path+"."+key); err != nil {
			return err
		}
		if err := p.value(m[key], path+"."+key, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func signed(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int8:
		return int64(v), true
	case int16:
		return int64(v), true
	case int32:
		return int64(v), true
	case int64:
		return v, true
	}
	return 0, false
}

func unsigned(v any) (uint64, bool) {
	switch v := v.(type) {
	case uint:
		return uint64(v), true
	case uint8:
		return uint64(v), true
	case uint16:
		return uint64(v), true
	case uint32:
		return uint64(v), true
	case uint64:
		return v, true
	}
	return 0, false
}

// decodeMap builds a message. body has been through scanMessage, so lengths and nesting are known to be sound.
func decodeMap(body string) (Message, error) {
	d := msgpack.GetDecoder()
	defer msgpack.PutDecoder(d)
	d.Reset(strings.NewReader(body))
	v, err := unpackValue(d)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, &DecodeError{Reason: DropUndecodable, Offset: 0}
	}
	return m, nil
}

// unpackValue builds one value with the few types that Message names. Integers are int64 unless they only fit a uint64.
func unpackValue(d *msgpack.Decoder) (any, error) {
	c, err := d.PeekCode()
	if err != nil {
		return nil, err
	}
	switch {
	case c == msgpcode.Nil:
		return nil, d.DecodeNil()
	case c == msgpcode.True, c == msgpcode.False:
		return d.DecodeBool()
	case c == msgpcode.Float, c == msgpcode.Double:
		return d.DecodeFloat64()
	case msgpcode.IsString(c):
		return d.DecodeString()
	case msgpcode.IsBin(c):
		return d.DecodeBytes()
	case c == msgpcode.Uint64:
		n, err := d.DecodeUint64()
		if int64(n) >= 0 {
			return int64(n), err
		}
		return n, err
	case msgpcode.IsFixedArray(c), c == msgpcode.Array16, c == msgpcode.Array32:
		return unpackArray(d)
	case msgpcode.IsFixedMap(c), c == msgpcode.Map16, c == msgpcode.Map32:
		return unpackMap(d)
	default:
		return d.DecodeInt64()
	}
}

func unpackArray(d *msgpack.Decoder) (any, error) {
	n, err := d.DecodeArrayLen()
	if err != nil {
		return nil, err
	}
	list := make([]any, n)
	for i := range list {
		if list[i], err = unpackValue(d); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func unpackMap(d *msgpack.Decoder) (any, error) {
	n, err := d.DecodeMapLen()
	if err != nil {
		return nil, err
	}
	m := make(map[string]any, n)
	for range n {
		key, err := d.DecodeString()
		if err != nil {
			return nil, err
		}
		if m[key], err = unpackValue(d); err != nil {
			return nil, err
		}
	}
	return m, nil
}
