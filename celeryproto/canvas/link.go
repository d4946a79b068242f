package canvas

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

// FlattenLinks is the signature, its callbacks, theirs, and so on. Callbacks that
// lead back to themselves are an error in Err.
func (s *Signature) FlattenLinks() []*Signature {
	all, err := s.flattenLinks(nil, maxNesting)
	s.failIf(err)
	return all
}

func (s *Signature) flattenLinks(all []*Signature, depth int) ([]*Signature, error) {
	if depth == 0 {
		return all, ErrTooDeep
	}
	all = append(all, s)
	callbacks := links(s.options(), optLink)
	for i := range callbacks.items {
		var err error
		if all, err = callbacks.signature(i).flattenLinks(all, depth-1); err != nil {
			return all, err
		}
	}
	return all, nil
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
func (s *Signature) appendLink(option string, v value) { s.linkList(option).add(v) }

// extendLinks is extend_list_option.
func (s *Signature) extendLinks(option string, more value) {
	l := s.linkList(option)
	l.keys = nil
	switch v := opened(more).(type) {
	case *list:
		l.items = append(l.items, v.items...)
	default:
		l.items = append(l.items, v)
	}
}
