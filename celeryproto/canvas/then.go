package canvas

import "errors"

var errNoBody = errors.New("canvas: chord without a body")

// Then is Python's s | other: other is called with the result of s. Depending on
// the two it gives a chain, a longer chain, a chord, or a chord with a longer
// body (celery 5.7, canvas.py, __or__).
func (s *Signature) Then(other *Signature) *Signature {
	j := joiner{}
	return withErr(j.or(s, other), j.err)
}

// joiner joins signatures. It keeps the first fault of those that it takes apart.
type joiner struct {
	// headerErrbacks is the setting task_allow_error_cb_on_chord_header, for the
	// errbacks of chains that are taken apart.
	headerErrbacks bool
	err            error
}

func (j *joiner) see(s *Signature) {
	if j.err == nil {
		j.err = s.err
	}
}

// or is s | other.
func (j *joiner) or(s, other *Signature) *Signature {
	j.see(s)
	j.see(other)
	switch s.kind {
	case KindGroup:
		if other.isEmptyGroup() {
			return s
		}
		return chordOf(s, other)
	case KindChain:
		return j.chainOr(s, other)
	case KindChord:
		if other.kind == KindGroup && len(other.members().items) == 1 {
			other = other.unrolled()
		} else if other.kind == KindGroup || other.kind == KindChain {
			break
		}
		c := s.clone()
		j.extendBody(c, other)
		return c
	}
	switch other.kind {
	case KindChain:
		rest := j.unchained(other)
		tasks := make([]value, 1, 1+len(rest))
		tasks[0] = s
		return newChain(&list{items: append(tasks, signatures(rest)...), tuple: len(rest) <= 1}, newDict(2))
	case KindGroup:
		other = other.unrolled()
	}
	return newChain(&list{items: []value{s, other}, tuple: true}, newDict(2))
}

// chainOr is _chain.__or__.
func (j *joiner) chainOr(s, other *Signature) *Signature {
	if other.isEmptyGroup() {
		return s
	}
	if other.kind == KindGroup {
		if other = other.unrolled(); other.kind != KindGroup {
			return j.or(s, other)
		}
		tasks := j.unchained(s)
		if len(tasks) == 0 {
			return other
		}
		if last := tasks[len(tasks)-1]; last.kind == KindChord {
			j.extendBody(last, other)
			return chainOf(tasks)
		}
		return chainOf(append(tasks, other))
	}
	if other.kind == KindChain {
		return j.orAll(s, j.unchained(other))
	}
	tasks := s.members()
	if n := len(tasks.items); n > 0 {
		switch last := tasks.signature(n - 1); {
		case last.kind == KindGroup:
			return j.chordAtEnd(s, other)
		case last.kind == KindChord && other.kind != KindChord:
			c := s.clone()
			j.extendBody(c.members().signature(n-1), other)
			return c
		}
	}
	return chainOf(append(j.unchained(s), other))
}

func chainOf(tasks []*Signature) *Signature {
	return newChain(&list{items: signatures(tasks)}, newDict(2))
}

// chordAtEnd makes a chord of the group that a chain ends in and what follows.
func (j *joiner) chordAtEnd(s, body *Signature) *Signature {
	c := s.clone()
	tasks := c.members()
	n := len(tasks.items)
	end := chordOf(tasks.signature(n-1), body)
	tasks.items[n-1] = end
	if n > 1 {
		if before := tasks.signature(n - 2); before.kind == KindChord {
			j.extendBody(before, end)
			c.setTasks(&list{items: tasks.items[: n-1 : n-1]})
		}
	}
	return c
}

// extendBody is chord.body = chord.body | other.
func (j *joiner) extendBody(chord, other *Signature) {
	body := chord.body()
	if body == nil {
		chord.fail(errNoBody)
		j.see(chord)
		return
	}
	chord.setBody(j.or(body, other))
}

// orAll is reduce(or, rest, s).
func (j *joiner) orAll(s *Signature, rest []*Signature) *Signature {
	for _, other := range rest {
		s = j.or(s, other)
	}
	return s
}

func chordOf(header, body *Signature) *Signature {
	return newChord(header, body, arguments{raw: noArgs, tuple: true}, newDict(3), newDict(4))
}

// fold is _fold_chain: reduce(or, tasks) in one pass.
func (j *joiner) fold(tasks []*Signature) *Signature {
	steps := make([]*Signature, 0, len(tasks))
	for i, task := range tasks {
		if instead := j.merge(&steps, task, i != len(tasks)-1); instead != nil {
			return j.orAll(instead, tasks[i+1:])
		}
	}
	for i := range len(steps) - 1 {
		steps[i] = steps[i].clone()
	}
	return chainOf(steps)
}

// merge is _merge_chain_step: it adds a task to the steps of a chain. What it
// returns, when not nil, takes the place of the chain.
func (j *joiner) merge(steps *[]*Signature, other *Signature, clone bool) *Signature {
	j.see(other)
	if other.isEmptyGroup() {
		return nil
	}
	if other.kind == KindGroup {
		if other = other.unrolled(); other.kind != KindGroup {
			return j.merge(steps, other, clone)
		}
		if len(*steps) == 0 {
			return other
		}
	}
	if other.kind == KindChain {
		inner := j.unchained(other)
		for i, task := range inner {
			if instead := j.merge(steps, task, clone || i != len(inner)-1); instead != nil {
				return j.orAll(instead, inner[i+1:])
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
			j.extendBody(last, other)
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

// unchained is unchain_tasks: copies of a chain's tasks, with the chain's own
// links.
func (j *joiner) unchained(s *Signature) []*Signature {
	tasks := s.members()
	clones := make([]*Signature, len(tasks.items))
	for i := range clones {
		clones[i] = tasks.signature(i).clone()
	}
	callbacks, errbacks := links(s.options(), optLink), links(s.options(), optLinkError)
	if n := len(clones); n > 0 {
		for i := range callbacks.items {
			clones[n-1].link(callbacks.items[i])
		}
	} else if len(callbacks.items) > 0 {
		s.fail(ErrEmptyChain) // nobody would call them
	}
	for i := range errbacks.items {
		for _, clone := range clones {
			clone.linkError(errbacks.items[i], j.headerErrbacks)
		}
	}
	j.see(s)
	return clones
}

func signatures(tasks []*Signature) []value {
	items := make([]value, len(tasks))
	for i, task := range tasks {
		items[i] = task
	}
	return items
}
