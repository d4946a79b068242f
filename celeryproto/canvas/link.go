package canvas

import (
	"bytes"
	"math/big"

	"github.com/dfws/dfws/celeryproto"
)

// Link adds a callback: it is called with the result when the task succeeds. A
// chord's callback goes to its body; a group's, made immutable, to its first
// task.
func (s *Signature) Link(callback *Signature) *Signature {
	s.link(callback)
	return s
}

// LinkError adds an errback: it is called when the task fails. A group's goes to
// each of its tasks, a chord's to its body.
func (s *Signature) LinkError(errback *Signature) *Signature {
	s.linkError(errback, false)
	return s
}

// LinkErrorHeader is LinkError with Celery's setting
// task_allow_error_cb_on_chord_header: a chord's errback goes to the tasks of
// its header too.
func (s *Signature) LinkErrorHeader(errback *Signature) *Signature {
	s.linkError(errback, true)
	return s
}

// FlattenLinks is the signature, its callbacks, theirs, and so on.
func (s *Signature) FlattenLinks() []*Signature { return s.flattenLinks(maxNesting) }

func (s *Signature) flattenLinks(depth int) []*Signature {
	if depth == 0 {
		s.fail(ErrTooDeep)
		return nil
	}
	all := []*Signature{s}
	callbacks := links(s.options(), optLink)
	for i := range callbacks.items {
		all = append(all, callbacks.signature(i).flattenLinks(depth-1)...)
	}
	return all
}

// link adds a callback, a signature or a dict.
func (s *Signature) link(callback value) {
	switch s.kind {
	case KindChord:
		if body := s.body(); body != nil {
			body.link(callback)
		} else {
			s.fail(errNoBody)
		}
	case KindGroup:
		if s.isEmptyGroup() {
			s.fail(errNoTasks)
			return
		}
		s.members().signature(0).link(maybeSignature(opened(callback)).clone().Immutable(true))
	default:
		s.appendLink(optLink, callback)
	}
}

// linkError adds an errback, a signature or a dict.
func (s *Signature) linkError(errback value, header bool) {
	switch s.kind {
	case KindGroup:
		sig := maybeSignature(opened(errback))
		tasks := s.members()
		for i := range tasks.items {
			tasks.signature(i).linkError(sig.clone(), header)
		}
	case KindChord:
		s.linkErrorChord(maybeSignature(opened(errback)), header)
	default:
		s.appendLink(optLinkError, errback)
	}
}

// linkErrorChord is _chord.link_error. A header that is a group by now counts as
// one task there, which is no chord.
func (s *Signature) linkErrorChord(errback *Signature, header bool) {
	tasks := s.members()
	if group := s.headerGroup(); group != nil {
		tasks = &list{items: []value{group}}
	}
	if header {
		// As in Python, what is set is an option of that name, not the flag.
		immutable := newDict(1)
		immutable.set(keyImmutable, rawTrue)
		for i := range tasks.items {
			tasks.signature(i).linkError(errback.cloneWith(arguments{}, nil, immutable), header)
		}
	}
	for i := range tasks.items {
		if task := tasks.signature(i); task.kind == KindChord {
			task.linkError(errback, header)
		}
	}
	if body := s.body(); body != nil {
		body.linkError(errback, header)
	} else {
		s.fail(errNoBody)
	}
}

// linkList is _with_list_option: the list of an option, made where there is none.
func (s *Signature) linkList(option string) *list {
	options := s.options()
	l, isList := options.openAt(option).(*list)
	switch {
	case isList && !l.tuple:
		return l
	case !options.has(option):
		l = &list{}
	default:
		l = &list{items: []value{options.get(option)}}
	}
	options.set(option, l)
	return l
}

// appendLink is append_to_list_option.
func (s *Signature) appendLink(option string, v value) {
	l := s.linkList(option)
	for _, item := range l.items {
		if equal(item, v) {
			return
		}
	}
	l.items = append(l.items, v)
}

// extendLinks is extend_list_option.
func (s *Signature) extendLinks(option string, more value) {
	l := s.linkList(option)
	switch v := opened(more).(type) {
	case *list:
		l.items = append(l.items, v.items...)
	default:
		l.items = append(l.items, v)
	}
}

// equal is Python's a == b.
func equal(a, b value) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	a, b = comparable(a), comparable(b)
	switch a := a.(type) {
	case *list:
		other, ok := b.(*list)
		return ok && a.equal(other)
	case *dict:
		other, ok := b.(*dict)
		return ok && a.equal(other)
	case celeryproto.Raw:
		other, ok := b.(celeryproto.Raw)
		return ok && equalScalar(a, other)
	}
	return false
}

// comparable reduces a value to a list, a dict or a scalar.
func comparable(v value) value {
	switch v := v.(type) {
	case *Signature:
		return v.d
	case arguments:
		l, ok := opened(v.raw).(*list)
		if !ok {
			return v.raw
		}
		l.tuple = v.tuple
		return l
	default:
		return opened(v)
	}
}

func (l *list) equal(other *list) bool {
	if l == other {
		return true
	}
	if len(l.items) != len(other.items) || l.tuple != other.tuple {
		return false
	}
	for i := range l.items {
		if !equal(l.items[i], other.items[i]) {
			return false
		}
	}
	return true
}

func (d *dict) equal(other *dict) bool {
	if d == other || d.raw != nil && bytes.Equal(d.raw, other.raw) {
		return true
	}
	if d.len() != other.len() {
		return false
	}
	for _, e := range d.entries {
		if !equal(e.val, other.get(e.key)) {
			return false
		}
	}
	return true
}

// equalScalar compares texts, numbers, booleans and None. As in Python, True is 1.
func equalScalar(a, b celeryproto.Raw) bool {
	if a.Kind() == celeryproto.KindString || b.Kind() == celeryproto.KindString {
		x, okX := textOf(a)
		y, okY := textOf(b)
		return okX && okY && x == y
	}
	if bytes.Equal(bytes.Trim(a, " \t\r\n"), bytes.Trim(b, " \t\r\n")) {
		return true
	}
	x, okX := numberOf(a)
	y, okY := numberOf(b)
	return okX && okY && x.Cmp(y) == 0
}

// numberOf is a number or boolean as a rational; ok is false for others, for NaN
// and for the infinities.
func numberOf(r celeryproto.Raw) (n *big.Rat, ok bool) {
	if b, err := r.Bool(); err == nil {
		if b {
			return big.NewRat(1, 1), true
		}
		return new(big.Rat), true
	}
	v, err := r.Number()
	if err != nil {
		return nil, false
	}
	switch v := v.(type) {
	case int64:
		return new(big.Rat).SetInt64(v), true
	case *big.Int:
		return new(big.Rat).SetInt(v), true
	case float64:
		n = new(big.Rat).SetFloat64(v)
		return n, n != nil
	}
	return nil, false
}
