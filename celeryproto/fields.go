package celeryproto

import (
	"errors"
	"strconv"
)

// fieldSet is a JSON object under construction: fields in the order in which
// Python writes them. The values share one buffer.
type fieldSet struct {
	buf    []byte
	fields []fieldSpan
	// stream writes the object to buf at once instead of noting fields, for one
	// that is not compared with what it was.
	stream bool
	open   bool // stream: the first field was written
}

// begin comes before a value is appended to buf, end after it.
func (f *fieldSet) begin(key string) (start int) {
	if f.stream {
		separator := byte('{')
		if f.open {
			f.buf, separator = append(f.buf, ','), ' '
		}
		f.buf, f.open = append(f.buf, separator), true
		f.buf = append(AppendString(f.buf, key), ": "...)
	}
	return len(f.buf)
}

func (f *fieldSet) end(key string, start int) {
	if !f.stream {
		f.fields = append(f.fields, fieldSpan{key: key, start: start, end: len(f.buf)})
	}
}

// streamed ends an object that was written at once.
func (f *fieldSet) streamed() []byte {
	if !f.open {
		f.buf = append(f.buf, '{')
	}
	return append(f.buf, '}')
}

type fieldSpan struct {
	key        string
	start, end int // in buf
	raw        Raw // instead of start and end
}

func (f *fieldSet) value(i int) Raw {
	if span := f.fields[i]; span.raw == nil {
		return Raw(f.buf[span.start:span.end:span.end])
	}
	return f.fields[i].raw
}

// raw adds a value that exists already; nil is null.
func (f *fieldSet) raw(key string, r Raw) {
	if len(r) == 0 {
		r = rawNull
	}
	if f.stream {
		f.begin(key)
		f.buf = appendRaw(f.buf, r)
		return
	}
	f.fields = append(f.fields, fieldSpan{key: key, raw: r})
}

// rawOr adds a value that exists already, or what stands for nil.
func (f *fieldSet) rawOr(key string, r Raw, empty string) {
	if len(r) == 0 {
		r = Raw(empty)
	}
	f.raw(key, r)
}

// append adds the value that the function appends.
func (f *fieldSet) append(key string, value func(dst []byte) []byte) {
	start := f.begin(key)
	f.buf = value(f.buf)
	f.end(key, start)
}

func (f *fieldSet) text(key, s string) {
	start := f.begin(key)
	f.buf = AppendString(f.buf, s)
	f.end(key, start)
}

// textOrNull adds a text, null when it is empty.
func (f *fieldSet) textOrNull(key, s string) {
	if s == "" {
		f.raw(key, rawNull)
		return
	}
	f.text(key, s)
}

func (f *fieldSet) int(key string, n int) { f.int64(key, int64(n)) }

func (f *fieldSet) int64(key string, n int64) {
	start := f.begin(key)
	f.buf = strconv.AppendInt(f.buf, n, 10)
	f.end(key, start)
}

func (f *fieldSet) float(key string, v float64) {
	start := f.begin(key)
	f.buf = AppendFloat(f.buf, v)
	f.end(key, start)
}

func (f *fieldSet) intOrNull(key string, n *int) {
	if n == nil {
		f.raw(key, rawNull)
		return
	}
	f.int(key, *n)
}

var (
	rawTrue  = Raw("true")
	rawFalse = Raw("false")
)

func (f *fieldSet) bool(key string, v bool) {
	if v {
		f.raw(key, rawTrue)
		return
	}
	f.raw(key, rawFalse)
}

func (f *fieldSet) boolOrNull(key string, v *bool) {
	if v == nil {
		f.raw(key, rawNull)
		return
	}
	f.bool(key, *v)
}

// extra adds members that are not fields of their own; known are those that are.
func (f *fieldSet) extra(path string, members Members, known *keySet) error {
	for _, m := range members {
		if known.has(m.Key) {
			return &EncodeError{Path: path + "." + m.Key, Err: errors.New("has a field of its own")}
		}
		f.raw(m.Key, m.Value)
	}
	return nil
}

// members are the fields as a finished object.
func (f *fieldSet) members() Members {
	members := make(Members, len(f.fields))
	for i, field := range f.fields {
		members[i] = Member{Key: field.key, Value: f.value(i)}
	}
	return members
}

// appendObject appends what members().Append would.
func (f *fieldSet) appendObject(dst []byte) []byte {
	dst = append(dst, '{')
	for i, field := range f.fields {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = AppendString(dst, field.key)
		dst = append(dst, ": "...)
		dst = append(dst, f.value(i)...)
	}
	return append(dst, '}')
}

// newFieldSet has room for n fields with size bytes of values.
func newFieldSet(n, size int) *fieldSet {
	return &fieldSet{buf: make([]byte, 0, size), fields: make([]fieldSpan, 0, n)}
}

// index finds fields by key; of duplicates the last.
func (f *fieldSet) index() map[string]int {
	at := make(map[string]int, len(f.fields))
	for i, field := range f.fields {
		at[field.key] = i
	}
	return at
}

// merge is what makes decoding and encoding lose nothing. wire is the object
// as it was received, orig the fields that it decodes to, now the fields as
// they are: what did not change keeps the form of the wire (absent, null, a
// number as text), what did is written anew.
func mergeFields(wire Members, orig, now *fieldSet) Members {
	if wire == nil {
		return now.members()
	}
	origAt, nowAt := orig.index(), now.index()
	unchanged := func(key string) bool {
		i, was := origAt[key]
		j, is := nowAt[key]
		return was == is && (!was || string(orig.value(i)) == string(now.value(j)))
	}
	merged := make(Members, 0, len(wire))
	done := make(map[string]bool, len(wire))
	for _, m := range wire {
		if done[m.Key] {
			continue
		}
		done[m.Key] = true
		if !unchanged(m.Key) {
			i, is := nowAt[m.Key]
			if !is {
				continue // removed
			}
			m.Value = now.value(i)
		}
		merged = append(merged, m)
	}
	for i, field := range now.fields {
		if done[field.key] || unchanged(field.key) {
			continue
		}
		done[field.key] = true
		merged = append(merged, Member{Key: field.key, Value: now.value(i)})
	}
	return merged
}

// keySet are the keys of an object that have a field of their own.
type keySet struct {
	keys  []string
	slots [256]string       // most keys, each where slotOf says
	more  map[string]string // those whose slot was taken, each its own value
}

func newKeySet(keys ...string) *keySet {
	set := &keySet{more: map[string]string{}}
	for _, key := range keys {
		set.add(key)
	}
	return set
}

func (k *keySet) add(key string) {
	if k.has(key) {
		return
	}
	k.keys = append(k.keys, key)
	if slot := &k.slots[slotOf(key)]; *slot == "" {
		*slot = key
	} else {
		k.more[key] = key
	}
}

// slotOf spreads keys by what is cheap to look at.
func slotOf[T string | []byte](key T) uint8 {
	if len(key) == 0 {
		return 0
	}
	return uint8(len(key))*7 + key[0]*31 + key[len(key)-1]*3 + key[len(key)/2]
}

func (k *keySet) has(key string) bool {
	if k.slots[slotOf(key)] == key {
		return key != ""
	}
	_, there := k.more[key]
	return there
}

// find is the key that b spells, "" when there is none.
func (k *keySet) find(b []byte) string {
	if key := k.slots[slotOf(b)]; key == string(b) {
		return key
	}
	return k.more[string(b)]
}

func (k *keySet) len() int { return len(k.keys) }

// knownKeys are the keys of all objects.
var knownKeys = func() *keySet {
	known := newKeySet()
	for _, set := range []*keySet{envelopeKeys, headerKeys, propertyKeys, deliveryInfoKeys, embedKeys, bodyV1Keys, resultKeys} {
		for _, key := range set.keys {
			known.add(key)
		}
	}
	return known
}()

// rest are the members whose keys are not known.
func (k *keySet) rest(members Members) Members {
	var rest Members
	for _, m := range members {
		if !k.has(m.Key) {
			rest = append(rest, m)
		}
	}
	return rest
}

// fewMembers is up to where comparing each with each is faster than a map.
const fewMembers = 32

// merged removes duplicate keys as Python does: the first place, the last value.
func (m Members) merged() Members {
	if !m.hasDuplicates() {
		return m
	}
	at := make(map[string]int, len(m))
	merged := make(Members, 0, len(m))
	for _, member := range m {
		if i, seen := at[member.Key]; seen {
			merged[i].Value = member.Value
			continue
		}
		at[member.Key] = len(merged)
		merged = append(merged, member)
	}
	return merged
}

func (m Members) hasDuplicates() bool {
	if len(m) > fewMembers {
		return true // perhaps
	}
	for i := range m {
		for j := range i {
			if m[i].Key == m[j].Key {
				return true
			}
		}
	}
	return false
}
