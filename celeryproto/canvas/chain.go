package canvas

// preparing are the arguments of prepare_steps; "" and nil are None.
type preparing struct {
	args                    arguments
	kwargs                  *dict
	tasks                   *list
	rootID, lastID, groupID string
	linkError               *list
	chord                   value
	groupIndex              *int
	clone                   bool
}

// usesLinks tells whether the steps of a chain are links of each other.
func (r *runner) usesLinks(s *Signature) bool {
	if isNone(s.useLink) {
		return r.protocol1()
	}
	return truth(s.useLink)
}

// prepare is _chain.prepare_steps: the steps of a chain, last first, with their
// IDs, and what can be waited for. Chains in the chain are taken apart, and a
// group before a task becomes a chord.
func (r *runner) prepare(s *Signature, p preparing) (tasks []*Signature, results []*result) {
	r.fail(s.err)
	steps := r.chainHead(p)
	st := stepper{runner: r, preparing: p, useLink: r.usesLinks(s)}
	for n := 0; len(steps) > 0 && r.err == nil; {
		task := steps[len(steps)-1]
		steps = steps[:len(steps)-1]
		first := len(steps) == 0
		r.fail(task.err)
		if task.kind == KindGroup {
			task = task.unrolled()
			if task.isEmptyGroup() && (!first || truth(st.prev)) {
				continue
			}
		}
		if p.clone && task.kind == KindChord && leadsWithTask(task.body()) {
			steps = append(steps, r.unrollBody(task)...)
			continue
		}
		switch {
		case p.clone && first:
			task = task.cloneWith(p.args, p.kwargs, nil)
		case p.clone:
			task = task.clone()
		case first:
			task.d.set(keyArgs, p.args.concat(task.args()))
		}
		if task.kind == KindChain {
			inner := task.members()
			for i := range inner.items {
				steps = append(steps, inner.signature(i))
			}
			continue
		}
		st.add(task, n == 0)
		n++
	}
	st.end(s)
	return st.tasks, st.results
}

// chainHead is the beginning of prepare_steps: chains at the head are taken
// apart, and empty groups there dropped, unless nothing else is there.
func (r *runner) chainHead(p preparing) []*Signature {
	// Turned round: what comes first is at the end, where it is cheap to put
	// something before it.
	steps := p.tasks.reversed(nil)
	var emptyGroup *Signature
	for len(steps) > 0 {
		n := len(steps) - 1
		head := steps[n]
		r.fail(head.err)
		if head.kind == KindChain {
			if p.clone {
				head = head.clone()
			}
			steps = head.members().reversed(steps[:n])
			continue
		}
		if head.kind == KindGroup {
			head = head.unrolled()
			steps[n] = head
			if n > 0 && head.isEmptyGroup() {
				emptyGroup, steps = head, steps[:n]
				continue
			}
		}
		break
	}
	if emptyGroup != nil && len(steps) == 0 {
		steps = append(steps, emptyGroup)
	}
	for i, j := 0, len(steps)-1; i < j; i, j = i+1, j-1 {
		steps[i], steps[j] = steps[j], steps[i]
	}
	return steps
}

// reversed appends the signatures of a list, last first.
func (l *list) reversed(to []*Signature) []*Signature {
	for i := len(l.items) - 1; i >= 0; i-- {
		to = append(to, l.signature(i))
	}
	return to
}

// stepper collects the steps of a chain from its end to its beginning.
type stepper struct {
	*runner
	preparing
	useLink bool
	tasks   []*Signature
	results []*result
	prev    *Signature // the step that comes after the one in hand
	prevRes *result    // the first result of what comes after it
}

func (st *stepper) add(task *Signature, last bool) {
	if task.kind == KindGroup && truth(st.prev) {
		task = st.upgrade(task)
	}
	f := freezing{rootID: st.rootID}
	if last {
		f.id, f.groupID, f.chord, f.groupIndex = st.lastID, st.groupID, st.chord, st.groupIndex
	}
	res := st.freeze(task, f)
	if truth(st.prev) {
		if st.useLink {
			task.link(st.prev)
		}
		if st.prevRes != nil && st.prevRes.parent == nil {
			st.prevRes.parent = res
		}
	}
	if st.linkError != nil {
		st.addErrbacks(task)
	}
	st.tasks, st.results = append(st.tasks, task), append(st.results, res)
	st.prev, st.prevRes = task, res
	if task.kind == KindChord {
		st.prevRes = res.first()
	}
}

// upgrade makes a chord of a group and the step after it.
func (st *stepper) upgrade(group *Signature) *Signature {
	n := len(st.tasks) - 1
	bodyResult := st.results[n]
	st.tasks, st.results = st.tasks[:n], st.results[:n]
	options := newDict(4)
	if st.prevRes != nil && !st.prevRes.group { // Python's GroupResult has no task_id
		options.setText(optTaskID, st.prevRes.id)
	}
	options.setOr(optRootID, st.rootID)
	chord := newChord(group, st.prev, arguments{raw: noArgs, tuple: true}, newDict(3), options)
	st.prev = nil
	var node *result
	if n > 0 {
		st.prev, node = st.tasks[n-1], st.results[n-1]
	}
	for node != nil && node.parent != bodyResult {
		node = node.parent
	}
	if node != nil {
		node.parent = nil
		st.prevRes = node
	}
	return chord
}

// addErrbacks gives a step the errbacks of the chain.
func (st *stepper) addErrbacks(task *Signature) {
	header := st.env.AllowErrorCallbackOnChordHeader
	for i := range st.linkError.items {
		errback := opened(st.linkError.items[i])
		st.linkError.items[i] = errback
		task.linkError(errback, header)
		if task.kind == KindChord && truth(task.body()) {
			task.body().linkError(errback, header)
		}
	}
}

// end gives the chain the ID of its last step, and takes away the links to outer
// chords that chords have instead.
func (st *stepper) end(s *Signature) {
	id := st.lastID
	if len(st.results) > 0 {
		id = st.results[0].id
	}
	s.options().setOr(optTaskID, id)
	if st.clone {
		for _, task := range st.tasks {
			stripChordHeaderLinks(task)
		}
	}
}

// leadsWithTask is _is_chain_led_by_task.
func leadsWithTask(body *Signature) bool {
	if body == nil || body.kind != KindChain {
		return false
	}
	tasks := body.members()
	return len(tasks.items) > 0 && tasks.signature(0).kind != KindGroup
}

// chainRunOption tells whether an option of a chain is meant for it as a whole
// (celery 5.7, canvas.py, _CHAIN_RUN_OPTIONS).
func chainRunOption(key string) bool {
	switch key {
	case optChord, optGroupID, optGroupIndex, optLink, optLinkError, optParentID, optRootID, optTaskID:
		return true
	}
	return false
}

// unrollBody is _chord._unroll_body: the chord with the first task of its body,
// and the other tasks of the body.
func (r *runner) unrollBody(s *Signature) []*Signature {
	j := r.joiner()
	chord := s.clone()
	body := chord.body()
	tasks := j.unchained(body)
	chord.setBody(tasks[0].cloneWith(arguments{}, nil, body.options().without(chainRunOption)))
	r.fail(j.err)
	return append([]*Signature{chord}, tasks[1:]...)
}

func (r *runner) joiner() joiner {
	return joiner{headerErrbacks: r.env.AllowErrorCallbackOnChordHeader}
}

// unrollChords is _chain._unroll_chords: the bodies of chords become steps.
func (r *runner) unrollChords(s *Signature) {
	if r.usesLinks(s) {
		return
	}
	pending := s.members().reversed(nil)
	tasks := &list{}
	for len(pending) > 0 {
		task := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		if task.kind == KindChain {
			task = task.clone()
			r.unrollChords(task)
		}
		if task.kind == KindChord && leadsWithTask(task.body()) {
			unrolled := r.unrollBody(task)
			for i := len(unrolled) - 1; i >= 0; i-- {
				pending = append(pending, unrolled[i])
			}
		} else {
			tasks.items = append(tasks.items, task)
		}
	}
	s.setTasks(tasks)
}

// runChain is _chain.run with what apply_async merges.
func (r *runner) runChain(s *Signature, args arguments, kwargs, options *dict) *result {
	if options.len() > 0 {
		options = s.options().merged(options)
	} else {
		options = s.options().copy(2)
	}
	if !args.empty() && !s.IsImmutable() {
		args = args.concat(s.args())
	} else {
		args = s.args()
	}
	p := preparing{
		args: args, kwargs: kwargs, tasks: s.members(), rootID: options.text(optRootID), lastID: options.text(optTaskID),
		groupID: options.text(optGroupID), chord: options.get(optChord), groupIndex: r.index(options.get(optGroupIndex)), clone: true,
	}
	if options.has(optLinkError) {
		p.linkError = links(options, optLinkError)
	}
	link := options.openAt(optLink)
	options = options.without(func(key string) bool {
		return chainRunOption(key) || key == "app" || key == "producer" || key == "publisher"
	})
	tasks, results := r.prepare(s, p)
	if len(results) == 0 || r.err != nil {
		return nil
	}
	if truth(link) {
		tasks[0].extendLinks(optLink, link)
	}
	first := tasks[len(tasks)-1]
	rest := signatures(tasks[:len(tasks)-1])
	if r.usesLinks(s) {
		options.set(optChain, none)
	} else {
		outer := links(options, optChain)
		options.set(optChain, &list{items: append(append(make([]value, 0, len(outer.items)+len(rest)), outer.items...), rest...)})
	}
	applied := r.apply(first, arguments{}, nil, options)
	if len(rest) == 0 {
		return applied
	}
	return results[0]
}
