package canvas

import "errors"

var errNoBody = errors.New("canvas: chord without a body")

// Then is Python's s | other: other is called with the result of s. Depending on
// the two it gives a chain, a longer chain, a chord, or a chord with a longer
// body (celery 5.7, canvas.py, __or__).
func (s *Signature) Then(other *Signature) *Signature {
	return withErr(s.or(other, false), other.err)
}

// or is Then. headerErrbacks is the setting task_allow_error_cb_on_chord_header,
// for the errbacks of chains that are taken apart.
func (s *Signature) or(other *Signature, headerErrbacks bool) *Signature {
	switch s.kind {
	case KindGroup:
		if other.isEmptyGroup() {
			return s
		}
		return chordOf(s, other)
	case KindChain:
		return s.chainOr(other, headerErrbacks)
	case KindChord:
		if other.kind == KindGroup && len(other.members().items) == 1 {
			other = other.unrolled()
		} else if other.kind == KindGroup || other.kind == KindChain {
			break
		}
		c := s.clone()
		c.extendBody(other, headerErrbacks)
		return c
	}
	switch other.kind {
	case KindChain:
		rest := other.unchained(headerErrbacks)
		tasks := make([]value, 1, 1+len(rest))
		tasks[0] = s
		return newChain(listOf(append(tasks, signatures(rest)...), len(rest) <= 1), newDict(2))
	case KindGroup:
		other = other.unrolled()
	}
	return newChain(&list{items: []value{s, other}, tuple: true}, newDict(2))
}

// chainOr is _chain.__or__.
func (s *Signature) chainOr(other *Signature, headerErrbacks bool) *Signature {
	if other.isEmptyGroup() {
		return s
	}
	if other.kind == KindGroup {
		if other = other.unrolled(); other.kind != KindGroup {
			return s.or(other, headerErrbacks)
		}
		tasks := s.unchained(headerErrbacks)
		if len(tasks) == 0 {
			return other
		}
		if last := tasks[len(tasks)-1]; last.kind == KindChord {
			last.extendBody(other, headerErrbacks)
			return newChain(listOf(signatures(tasks), false), newDict(2))
		}
		return newChain(listOf(signatures(append(tasks, other)), false), newDict(2))
	}
	if other.kind == KindChain {
		return orAll(headerErrbacks, s, other.unchained(headerErrbacks))
	}
	tasks := s.members()
	if n := len(tasks.items); n > 0 {
		switch last := tasks.signature(n - 1); {
		case last.kind == KindGroup:
			return s.chordAtEnd(other, headerErrbacks)
		case last.kind == KindChord && other.kind != KindChord:
			c := s.clone()
			c.members().signature(n-1).extendBody(other, headerErrbacks)
			return c
		}
	}
	return newChain(listOf(signatures(append(s.unchained(headerErrbacks), other)), false), newDict(2))
}

// chordAtEnd makes a chord of the group that a chain ends in and what follows.
func (s *Signature) chordAtEnd(body *Signature, headerErrbacks bool) *Signature {
	c := s.clone()
	tasks := c.members()
	n := len(tasks.items)
	end := chordOf(tasks.signature(n-1), body)
	tasks.items[n-1] = end
	if n > 1 {
		if before := tasks.signature(n - 2); before.kind == KindChord {
			before.extendBody(end, headerErrbacks)
			c.setTasks(&list{items: tasks.items[: n-1 : n-1]})
		}
	}
	return c
}

// extendBody is s.body = s.body | other.
func (s *Signature) extendBody(other *Signature, headerErrbacks bool) {
	body := s.body()
	if body == nil {
		s.fail(errNoBody)
		return
	}
	s.setBody(body.or(other, headerErrbacks))
}

// orAll is reduce(or, rest, s).
func orAll(headerErrbacks bool, s *Signature, rest []*Signature) *Signature {
	for _, other := range rest {
		s = s.or(other, headerErrbacks)
	}
	return s
}

func chordOf(header, body *Signature) *Signature {
	return newChord(header, body, arguments{raw: noArgs, tuple: true}, newDict(3), newDict(4))
}

// foldChain is _fold_chain: reduce(or, tasks) in one pass.
func foldChain(tasks []*Signature, headerErrbacks bool) *Signature {
	steps := make([]*Signature, 0, len(tasks))
	for i, task := range tasks {
		if instead := mergeStep(headerErrbacks, &steps, task, i != len(tasks)-1); instead != nil {
			return orAll(headerErrbacks, instead, tasks[i+1:])
		}
	}
	items := make([]value, len(steps))
	for i, step := range steps {
		if i < len(steps)-1 {
			step = step.clone()
		}
		items[i] = step
	}
	return newChain(&list{items: items}, newDict(2))
}

// mergeStep is _merge_chain_step: it adds a task to the steps of a chain. What
// it returns, when not nil, takes the place of the chain.
func mergeStep(headerErrbacks bool, steps *[]*Signature, other *Signature, clone bool) *Signature {
	if other.isEmptyGroup() {
		return nil
	}
	if other.kind == KindGroup {
		if other = other.unrolled(); other.kind != KindGroup {
			return mergeStep(headerErrbacks, steps, other, clone)
		}
		if len(*steps) == 0 {
			return other
		}
	}
	if other.kind == KindChain {
		inner := other.unchained(headerErrbacks)
		for i, task := range inner {
			if instead := mergeStep(headerErrbacks, steps, task, clone || i != len(inner)-1); instead != nil {
				return orAll(headerErrbacks, instead, inner[i+1:])
			}
		}
		return nil
	}
	if n := len(*steps); n > 0 {
		switch last := (*steps)[n-1]; {
		case last.kind == KindGroup && other.kind != KindGroup:
			(*steps)[n-1] = chordOf(last, other.clonedIf(clone))
			return nil
		case last.kind == KindChord && other.kind != KindChord:
			last.extendBody(other, headerErrbacks)
			return nil
		}
	}
	*steps = append(*steps, other.clonedIf(clone))
	return nil
}

func (s *Signature) clonedIf(clone bool) *Signature {
	if clone {
		return s.clone()
	}
	return s
}

func (s *Signature) isEmptyGroup() bool { return s.kind == KindGroup && len(s.members().items) == 0 }

// unrolled is maybe_unroll_group: a group of one is that one.
func (s *Signature) unrolled() *Signature {
	if tasks := s.members(); len(tasks.items) == 1 {
		return tasks.signature(0)
	}
	return s
}

// unchained is unchain_tasks: copies of the tasks, with the chain's own links.
func (s *Signature) unchained(headerErrbacks bool) []*Signature {
	tasks := s.members()
	clones := make([]*Signature, len(tasks.items))
	for i := range clones {
		clones[i] = tasks.signature(i).clone()
	}
	if len(clones) == 0 {
		return clones
	}
	callbacks, errbacks := links(s.options(), optLink), links(s.options(), optLinkError)
	for i := range callbacks.items {
		clones[len(clones)-1].link(callbacks.items[i])
	}
	for i := range errbacks.items {
		for _, clone := range clones {
			clone.linkError(errbacks.items[i], headerErrbacks)
		}
	}
	return clones
}

func signatures(tasks []*Signature) []value {
	items := make([]value, len(tasks))
	for i, task := range tasks {
		items[i] = task
	}
	return items
}

func listOf(items []value, tuple bool) *list { return &list{items: items, tuple: tuple} }
