package canvas

import (
	"github.com/dfws/dfws/celeryproto"
)

// value is a Python value in a signature. Canvas functions of Celery share and
// change their objects, and what comes out depends on it; so this package has
// the same objects:
//
//	celeryproto.Raw  any value that nobody has looked into; never changed
//	arguments        the "args" of a signature; never changed
//	*dict, *list     Python's, shared by reference
//	*Signature       Python's class of that name, a dict with methods
//	*sealed          one of these that many messages have, with its JSON;
//	                 never changed: who looks into it gets a copy
//
// nil is the absence of a value, Raw("null") is None.
type value any

var (
	none     = celeryproto.Raw("null")
	rawTrue  = celeryproto.Raw("true")
	rawFalse = celeryproto.Raw("false")
	noArgs   = celeryproto.Raw("[]")
)

// arguments are positional arguments: a JSON array, and whether Python has it as
// a tuple, which its repr shows.
type arguments struct {
	raw   celeryproto.Raw
	tuple bool
}

// list is a Python list, or a tuple, whose items do not change.
type list struct {
	items []value
	tuple bool
	keys  map[string]bool // of the items, in a long list that only add has changed
}

// dict is a Python dict with texts as keys, in order of insertion. What comes
// from the wire is taken apart when it is looked at.
type dict struct {
	raw     celeryproto.Raw // not yet taken apart
	entries []entry
	index   map[string]int // of large ones
	err     error          // why raw is no dict
}

type entry struct {
	key string
	val value
}

// sealed is a value that does not change any more.
type sealed struct {
	v   value
	raw celeryproto.Raw
}

// manyEntries is from where on a dict has an index.
const manyEntries = 24

func newDict(n int) *dict { return &dict{entries: make([]entry, 0, n)} }

// open takes apart what came from the wire.
func (d *dict) open() {
	if d.raw == nil {
		return
	}
	members, err := d.raw.Object()
	d.raw, d.err = nil, err
	d.entries = make([]entry, 0, len(members)+2)
	for _, m := range members {
		d.set(m.Key, m.Value)
	}
}

func (d *dict) find(key string) int {
	if d.index != nil {
		if i, ok := d.index[key]; ok {
			return i
		}
		return -1
	}
	for i := range d.entries {
		if d.entries[i].key == key {
			return i
		}
	}
	return -1
}

// get is the value of a key, nil when there is none.
func (d *dict) get(key string) value {
	d.open()
	if i := d.find(key); i >= 0 {
		return d.entries[i].val
	}
	return nil
}

func (d *dict) has(key string) bool { return d.get(key) != nil }

// set gives a key a value, in its old place or at the end.
func (d *dict) set(key string, v value) {
	d.open()
	if i := d.find(key); i >= 0 {
		d.entries[i].val = v
		return
	}
	d.entries = append(d.entries, entry{key, v})
	if d.index != nil {
		d.index[key] = len(d.entries) - 1
	} else if len(d.entries) > manyEntries {
		d.index = make(map[string]int, 2*len(d.entries))
		for i := range d.entries {
			d.index[d.entries[i].key] = i
		}
	}
}

// pop removes a key and returns its value, nil when there is none.
func (d *dict) pop(key string) value {
	d.open()
	i := d.find(key)
	if i < 0 {
		return nil
	}
	v := d.entries[i].val
	d.entries = append(d.entries[:i], d.entries[i+1:]...)
	if d.index != nil {
		delete(d.index, key)
		for ; i < len(d.entries); i++ {
			d.index[d.entries[i].key] = i
		}
	}
	return v
}

// update is Python's: the values of other win.
func (d *dict) update(other *dict) {
	other.open()
	for _, e := range other.entries {
		d.set(e.key, e.val)
	}
}

// copy is Python's shallow copy, with room for more.
func (d *dict) copy(more int) *dict {
	d.open()
	c := newDict(len(d.entries) + more)
	c.err = d.err
	for _, e := range d.entries {
		c.set(e.key, e.val)
	}
	return c
}

// merged is {**d, **other}.
func (d *dict) merged(other *dict) *dict {
	other.open()
	c := d.copy(len(other.entries))
	c.update(other)
	return c
}

func (d *dict) len() int {
	d.open()
	return len(d.entries)
}

// without is a copy that lacks some keys.
func (d *dict) without(drop func(key string) bool) *dict {
	d.open()
	c := newDict(len(d.entries))
	for _, e := range d.entries {
		if !drop(e.key) {
			c.set(e.key, e.val)
		}
	}
	return c
}

// withoutNone is {k: v for k, v in d.items() if v is not None}.
func (d *dict) withoutNone() *dict {
	d.open()
	c := newDict(len(d.entries))
	for _, e := range d.entries {
		if !isNone(e.val) {
			c.set(e.key, e.val)
		}
	}
	return c
}

// text is the value of a key that has a text, "" for None, absence, or anything else.
func (d *dict) text(key string) string {
	s, _ := textOf(d.get(key))
	return s
}

func (d *dict) setText(key, text string) { d.set(key, textValue(text)) }

// setOr gives a key a text, None when it is empty.
func (d *dict) setOr(key, text string) {
	if text == "" {
		d.set(key, none)
		return
	}
	d.setText(key, text)
}

func textValue(text string) celeryproto.Raw { return celeryproto.AppendString(nil, text) }

// textOf is the text that a value is; ok is false for other kinds than text.
func textOf(v value) (text string, ok bool) {
	r, isRaw := v.(celeryproto.Raw)
	if !isRaw || r.Kind() != celeryproto.KindString {
		return "", false
	}
	text, err := r.Text()
	return text, err == nil
}

func isNone(v value) bool {
	r, isRaw := v.(celeryproto.Raw)
	return v == nil || isRaw && r.IsNull()
}

// truth is Python's bool(v); absence is false.
func truth(v value) bool {
	switch v := v.(type) {
	case nil:
		return false
	case arguments:
		return !isEmptyContainer(v.raw)
	case *list:
		return len(v.items) > 0
	case *dict:
		return v.len() > 0
	case *sealed:
		return truth(v.v)
	case *Signature: // of Python's classes, only group has a length
		return v != nil && !v.isEmptyGroup()
	case celeryproto.Raw:
		return rawTruth(v)
	default:
		return true
	}
}

func rawTruth(r celeryproto.Raw) bool {
	switch r.Kind() {
	case celeryproto.KindBool:
		b, _ := r.Bool()
		return b
	case celeryproto.KindNumber:
		n, _ := r.Number()
		return n != int64(0) && n != float64(0)
	case celeryproto.KindString:
		s, err := r.Text()
		return err != nil || s != ""
	case celeryproto.KindArray, celeryproto.KindObject:
		return !isEmptyContainer(r)
	default:
		return false
	}
}

// isEmptyContainer tells whether an array or object has nothing in it, by its
// first characters.
func isEmptyContainer(r celeryproto.Raw) bool {
	opened := false
	for _, c := range r {
		switch c {
		case ' ', '\t', '\n', '\r':
		case '[', '{':
			if opened {
				return false
			}
			opened = true
		default:
			return opened && (c == ']' || c == '}')
		}
	}
	return true
}

// opened looks into a value from the wire, or a sealed one, so that it can be
// shared and changed: arrays and objects become a *list or *dict with Raw items,
// all else is itself.
func opened(v value) value {
	if s, isSealed := v.(*sealed); isSealed {
		return deepcopy(s.v, nil)
	}
	r, isRaw := v.(celeryproto.Raw)
	if !isRaw {
		return v
	}
	switch r.Kind() {
	case celeryproto.KindObject:
		return &dict{raw: r}
	case celeryproto.KindArray:
		elements, err := r.Array()
		if err != nil {
			return v
		}
		l := &list{items: make([]value, len(elements), len(elements)+1)}
		for i, element := range elements {
			l.items[i] = element
		}
		return l
	default:
		return v
	}
}

// open is get that leaves the opened value in its place, where others see what
// is changed in it.
func (d *dict) openAt(key string) value {
	d.open()
	i := d.find(key)
	if i < 0 {
		return nil
	}
	v := opened(d.entries[i].val)
	d.entries[i].val = v
	return v
}
