package canvas

import (
	"fmt"

	"github.com/dfws/dfws/celeryproto"
)

// Visitor says which stamps the parts of a composition get: Python's
// StampingVisitor. Every function may be nil. Headers are the stamps that are
// already there; what is returned is added to them, with its names in
// "stamped_headers" or, without that, all of it.
type Visitor struct {
	// OnSignature is called for each task.
	OnSignature func(sig *Signature, headers celeryproto.Members) celeryproto.Members
	// OnGroupStart and OnGroupEnd are called around the tasks of a group.
	OnGroupStart func(group *Signature, headers celeryproto.Members) celeryproto.Members
	OnGroupEnd   func(group *Signature, headers celeryproto.Members)
	// OnChainStart and OnChainEnd are called around the tasks of a chain.
	OnChainStart func(chain *Signature, headers celeryproto.Members) celeryproto.Members
	OnChainEnd   func(chain *Signature, headers celeryproto.Members)
	// OnChordHeaderStart and OnChordHeaderEnd are called around the header of a
	// chord; when nil, the functions for groups are, with the header as a group.
	OnChordHeaderStart func(chord *Signature, headers celeryproto.Members) celeryproto.Members
	OnChordHeaderEnd   func(chord *Signature, headers celeryproto.Members)
	// OnChordBody is called with the chord before its body.
	OnChordBody func(chord *Signature, headers celeryproto.Members) celeryproto.Members
	// OnCallback and OnErrback are called for what is linked.
	OnCallback func(callback *Signature, headers celeryproto.Members) celeryproto.Members
	OnErrback  func(errback *Signature, headers celeryproto.Members) celeryproto.Members
}

// Stamp puts stamps on all tasks of a composition and on what is linked to them.
// headers are stamps for all of them (nil for none), visitor (nil for none) adds
// its own. Where a stamp is there already the first one stays, or, with
// appendStamps, the values become a list. As in Python, the body of a chord gets
// stamps only with a visitor. The order of stamped_headers is that of their
// coming, where Python's is random.
func (s *Signature) Stamp(visitor *Visitor, appendStamps bool, headers map[string]any) *Signature {
	st, err := newStamper(visitor, appendStamps, headers)
	if err != nil {
		s.fail(err)
		return s
	}
	st.stamp(s, st.headers)
	s.failIf(st.err)
	return s
}

// StampLinks stamps what is linked to the signature, and not the signature.
func (s *Signature) StampLinks(visitor *Visitor, appendStamps bool, headers map[string]any) *Signature {
	st, err := newStamper(visitor, appendStamps, headers)
	if err != nil {
		s.fail(err)
		return s
	}
	st.links(s, st.headers)
	s.failIf(st.err)
	return s
}

// stamper carries out one call of Stamp.
type stamper struct {
	visitor *Visitor
	append  bool
	headers *dict
	depth   int
	err     error // of what it came across; it ends there
}

func newStamper(visitor *Visitor, appendStamps bool, headers map[string]any) (*stamper, error) {
	st := &stamper{visitor: visitor, append: appendStamps, headers: newDict(0), depth: maxNesting}
	if len(headers) > 0 {
		d, err := encodeDict(headers)
		if err != nil {
			return nil, fmt.Errorf("canvas: stamps: %w", err)
		}
		st.headers = d
		d.open()
		for _, e := range d.entries {
			d.openAt(e.key) // lists are shared from here on
		}
	}
	return st, nil
}

// stamp is the method stamp of each class.
func (st *stamper) stamp(s *Signature, headers *dict) {
	if st.depth == 0 {
		st.err = ErrTooDeep
	}
	if st.err == nil {
		st.err = s.err
	}
	if st.err != nil {
		return
	}
	st.depth--
	defer func() { st.depth++ }()
	switch s.kind {
	case KindChain:
		visited := st.visit(st.with().OnChainStart, s, headers)
		headers = stampHeaders(s, visited, st.append, true, headers)
		aggregate := st.append
		st.append = false // Python forgets append_stamps for the links of a chain
		st.links(s, headers)
		st.append = aggregate
		st.members(s, headers)
		st.leave(st.with().OnChainEnd, s, headers)
	case KindGroup:
		visited := st.visit(st.with().OnGroupStart, s, headers)
		headers = stampHeaders(s, visited, st.append, true, headers)
		st.links(s, headers)
		st.members(s, headers)
		st.leave(st.with().OnGroupEnd, s, headers)
	case KindChord:
		st.chord(s, headers)
	default:
		st.links(s, headers)
		visited := st.visit(st.with().OnSignature, s, headers)
		s.options().update(stampHeaders(s, visited, st.append, true, headers))
	}
}

func (st *stamper) with() *Visitor {
	if st.visitor == nil {
		return &Visitor{}
	}
	return st.visitor
}

// visit calls a function of the visitor; nil without a visitor.
func (st *stamper) visit(f func(*Signature, celeryproto.Members) celeryproto.Members, s *Signature, headers *dict) *dict {
	if st.visitor == nil {
		return nil
	}
	if f == nil {
		return newDict(1)
	}
	return dictOf(f(s, headerMembers(s, headers)))
}

func (st *stamper) leave(f func(*Signature, celeryproto.Members), s *Signature, headers *dict) {
	if f != nil {
		f(s, headerMembers(s, headers))
	}
}

func headerMembers(s *Signature, headers *dict) celeryproto.Members {
	headers.open()
	members := make(celeryproto.Members, len(headers.entries))
	for i, e := range headers.entries {
		v, err := encodeValue(e.val)
		if err != nil {
			s.fail(err)
		}
		members[i] = celeryproto.Member{Key: e.key, Value: v}
	}
	return members
}

func (st *stamper) members(s *Signature, headers *dict) {
	tasks := s.members()
	for i := range tasks.items {
		task := tasks.signature(i)
		if st.stamp(task, headers); st.err != nil {
			return
		}
		if s.kind == KindGroup {
			tasks.items[i] = task
		}
	}
}

// chord is _chord.stamp.
func (st *stamper) chord(s *Signature, headers *dict) {
	tasks := s.members()
	var visited *dict
	if v := st.visitor; v != nil {
		if v.OnChordHeaderStart != nil {
			visited = st.visit(v.OnChordHeaderStart, s, headers)
		} else {
			header := s.headerGroup()
			if header == nil {
				header = newGroup(tasks, newDict(2))
				s.kwargs().set(keyHeader, header)
			}
			visited = st.visit(v.OnGroupStart, header, headers)
		}
	}
	headers = stampHeaders(s, visited, st.append, true, headers)
	st.links(s, headers)
	for i := range tasks.items {
		if st.stamp(tasks.signature(i), headers); st.err != nil {
			return
		}
	}
	if st.visitor == nil {
		return
	}
	if v := st.visitor; v.OnChordHeaderEnd != nil {
		st.leave(v.OnChordHeaderEnd, s, headers)
	} else if header := s.headerGroup(); header != nil {
		st.leave(v.OnGroupEnd, header, headers)
	}
	if body := s.body(); body != nil {
		visited = st.visit(st.visitor.OnChordBody, s, headers)
		st.stamp(body, stampHeaders(s, visited, st.append, true, headers))
	}
}

// links is stamp_links.
func (st *stamper) links(s *Signature, headers *dict) {
	for _, linked := range []struct {
		option string
		visit  func(*Signature, celeryproto.Members) celeryproto.Members
	}{{optLink, st.with().OnCallback}, {optLinkError, st.with().OnErrback}} {
		own := openedHeaders(headers)
		l := links(s.options(), linked.option)
		for i := range l.items {
			sig := l.signature(i)
			own = stampHeaders(s, st.visit(linked.visit, sig, own), st.append, false, own)
			st.stamp(sig, own)
			if st.err != nil {
				return
			}
		}
	}
}

// openedHeaders is a deepcopy of stamps.
func openedHeaders(headers *dict) *dict {
	headers.open()
	c := newDict(headers.len() + 2)
	for _, e := range headers.entries {
		c.set(e.key, deepcopy(opened(e.val), nil))
	}
	return c
}

// stampHeaders is Signature._stamp_headers: the stamps of s are those given, then
// the visitor's (nil for no visitor), then, with own, those that s has.
func stampHeaders(s *Signature, visited *dict, aggregate, own bool, headers *dict) *dict {
	headers = headers.copy(4)
	if !headers.has(optStampedHeaders) {
		headers.set(optStampedHeaders, keysOf(headers))
	} else {
		// Python shares this list with the tasks beside s: they get the names of
		// stamps that they do not have, and cannot be sent (KeyError).
		names := links(headers, optStampedHeaders)
		headers.set(optStampedHeaders, &list{items: append([]value(nil), names.items...)})
	}
	if visited != nil {
		if !visited.has(optStampedHeaders) {
			visited.set(optStampedHeaders, keysOf(visited))
		}
		mergeStamps(headers, visited, aggregate)
		headers.set(optStampedHeaders, unique(links(headers, optStampedHeaders)))
	}
	if !own {
		return headers
	}
	names := &list{}
	names.items = append(names.items, links(headers, optStampedHeaders).items...)
	names.items = append(names.items, links(s.options(), optStampedHeaders).items...)
	names = unique(names)
	headers.set(optStampedHeaders, names)
	stamped := map[string]bool{}
	for _, name := range names.items {
		if text, ok := textOf(name); ok {
			stamped[text] = true
		}
	}
	redacted := newDict(len(stamped))
	options := s.options()
	options.open()
	for _, e := range options.entries {
		if stamped[e.key] {
			redacted.set(e.key, options.openAt(e.key))
		}
	}
	mergeStamps(headers, redacted, aggregate)
	headers.set(optStampedHeaders, unique(links(headers, optStampedHeaders)))
	return headers
}

func keysOf(d *dict) *list {
	d.open()
	l := &list{}
	for _, e := range d.entries {
		l.items = append(l.items, textValue(e.key))
	}
	return l
}

// unique is list(set(l)), in order.
func unique(l *list) *list {
	u := &list{}
	seen := map[string]bool{}
	for _, item := range l.items {
		raw, err := encodeValue(item)
		if err == nil && !seen[string(raw)] {
			seen[string(raw)] = true
			u.items = append(u.items, item)
		}
	}
	return u
}

// mergeStamps is _merge_dictionaries: it changes a, and lists in it that others
// see as well.
func mergeStamps(a, b *dict, aggregate bool) {
	if b.len() == 0 {
		return
	}
	a.open()
	for _, e := range a.entries {
		if b.has(e.key) {
			mergeStamp(a, b, e.key, aggregate)
		}
	}
	for _, e := range b.entries {
		if !a.has(e.key) {
			a.set(e.key, b.openAt(e.key))
		}
	}
}

func mergeStamp(a, b *dict, key string, aggregate bool) {
	mine, other := a.openAt(key), b.openAt(key)
	if d, isDict := mine.(*dict); isDict {
		if o, isDict := other.(*dict); isDict {
			mergeStamps(d, o, aggregate)
		}
		return
	}
	if raw, isRaw := mine.(celeryproto.Raw); isRaw && !raw.IsNull() && aggregate {
		mine = &list{items: []value{raw}}
		a.set(key, mine)
	}
	l, isList := mine.(*list)
	if o, both := other.(*list); both && isList {
		l.items = append(l.items, o.items...)
		return
	}
	if !aggregate {
		return
	}
	merged := &list{}
	if isList {
		merged.items = append(merged.items, l.items...)
	}
	merged.items = append(merged.items, other)
	a.set(key, merged)
}
