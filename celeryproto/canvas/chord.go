package canvas

import (
	"github.com/dfws/dfws/celeryproto"
)

// applyChord is _chord.apply_async.
func (r *runner) applyChord(s *Signature, args arguments, kwargs, options *dict) *result {
	if !args.empty() && !s.IsImmutable() {
		args = args.concat(s.args())
	} else {
		args = s.args()
	}
	kwargs = kwargs.copy(0)
	body := s.body()
	if given := opened(kwargs.pop(keyBody)); truth(given) {
		body = maybeSignature(given)
	}
	if body == nil {
		r.fail(errNoBody)
		return nil
	}
	inner, _ := s.kwargs().openAt(keyKwargs).(*dict)
	if inner != nil {
		kwargs = inner.merged(kwargs)
	}
	options = options.without(processOption)
	taskID := options.pop(optTaskID)
	delay := newDict(2)
	for _, key := range []string{optCountdown, optETA} {
		if !isNone(options.get(key)) {
			delay.set(key, options.pop(key))
		}
	}
	callbacks := newDict(2)
	for _, key := range []string{optLink, optLinkError} {
		if v := options.pop(key); v != nil {
			callbacks.set(key, v)
		}
	}
	body = body.cloneWith(arguments{}, nil, bodyOptions(options))
	header := r.chordHeader(s)
	merged := s.options().merged(options)
	merged.update(callbacks)
	merged.pop(optCountdown)
	merged.pop(optETA)
	if own := merged.pop(optTaskID); isNone(taskID) {
		taskID = own
	}
	for _, key := range []string{"interval", "max_retries", "eager"} {
		merged.pop(key) // arguments of run, for backends that poll
	}
	return r.runChord(s, chordRun{header, body, args, taskID, kwargs, delay, merged})
}

// chordHeader is the group that a chord's header is applied as.
func (r *runner) chordHeader(s *Signature) *Signature {
	if group := s.headerGroup(); group != nil {
		return group.clone()
	}
	tasks := s.members()
	r.fail(s.err)
	if !tasks.tuple {
		tasks = &list{items: append([]value(nil), tasks.items...)}
	}
	options := newDict(6)
	if id := s.options().get(optTaskID); truth(id) {
		options.set(optTaskID, id)
	} else {
		options.setText(optTaskID, r.newID())
	}
	return newGroup(tasks, options)
}

// bodyOptions is _chord._body_options.
func bodyOptions(options *dict) *dict {
	return options.without(func(key string) bool { return key == optParentID })
}

// chordRun are the arguments of _chord.run.
type chordRun struct {
	header, body           *Signature
	args                   arguments
	taskID                 value
	kwargs, delay, options *dict
}

// runChord is _chord.run.
func (r *runner) runChord(s *Signature, c chordRun) *result {
	body := c.body
	groupID := c.header.options().text(optTaskID)
	if groupID == "" {
		groupID = r.newID()
	}
	rootID := body.options().text(optRootID)
	options := s.options().merged(c.options)
	for _, key := range []string{optCountdown, optETA} {
		if v := options.pop(key); !c.delay.has(key) && !isNone(v) {
			c.delay.set(key, v)
		}
	}
	if options.len() > 0 {
		options.pop(optTaskID)
		body = addBodyCallbacks(body, options, r.env.AllowErrorCallbackOnChordHeader)
		body.options().update(bodyOptions(options))
	}
	if body.kind == KindChain {
		r.unrollChords(body)
	}
	bodyID, _ := textOf(c.taskID)
	if bodyID == "" {
		bodyID = r.newID()
	}
	bodyResult := r.freeze(body, freezing{id: bodyID, groupID: groupID, rootID: rootID})
	stripChordHeaderLinks(body)
	for _, key := range []string{optChain, optChord, optTaskID} {
		options.pop(key)
	}
	c.header.options().setText(optTaskID, groupID)
	id, results := r.freezeGroup(c.header, freezing{groupID: groupID, chord: body, rootID: rootID})
	headerResult := &result{id: id, group: true, children: results}
	if r.err != nil {
		return nil
	}
	if len(c.header.members().items) > 0 {
		tree := headerResult.tree()
		r.plan.Steps = append(r.plan.Steps, Step{Chord: &celeryproto.ChordStart{
			GroupID: id, Header: tree, Complex: tree.Complex(),
		}})
		options.setText(optTaskID, groupID)
		options.update(c.delay)
		headerResult = r.apply(c.header, c.args, c.kwargs, options)
	} else {
		r.apply(body, arguments{raw: celeryproto.Raw("[[]]"), tuple: true}, nil, nil)
	}
	if r.err != nil {
		return nil
	}
	bodyResult.parent = headerResult
	return bodyResult
}

// addBodyCallbacks is _chord._add_body_callbacks.
func addBodyCallbacks(body *Signature, options *dict, headerErrbacks bool) *Signature {
	callbacks, errbacks := links(options, optLink), links(options, optLinkError)
	options.pop(optLink)
	options.pop(optLinkError)
	if len(callbacks.items) > 0 || len(errbacks.items) > 0 {
		body = cloneWithMembers(body)
	}
	for i := range callbacks.items {
		callback := cloneWithMembers(callbacks.signature(i))
		if body.isEmptyGroup() {
			body.appendLink(optLink, callback)
		} else {
			body.link(callback)
		}
	}
	for i := range errbacks.items {
		errback := opened(errbacks.items[i])
		if body.kind == KindGroup {
			linkErrorToBodyTasks(body, maybeSignature(errback), true, headerErrbacks)
		} else {
			body.appendLink(optLinkError, errback)
		}
	}
	return body
}

// cloneWithMembers is _clone_with_members: a clone that shares no member.
func cloneWithMembers(s *Signature) *Signature {
	s = s.clone()
	switch s.kind {
	case KindGroup:
		tasks := s.members()
		cloned := &list{items: make([]value, len(tasks.items))}
		for i := range cloned.items {
			cloned.items[i] = cloneWithMembers(tasks.signature(i))
		}
		s.setTasks(cloned)
	case KindChord:
		if body := s.body(); body != nil {
			s.setBody(cloneWithMembers(body))
		}
	}
	return s
}

// linkErrorToBodyTasks is _link_error_to_body_tasks.
func linkErrorToBodyTasks(s, errback *Signature, runsAsGroup, headerErrbacks bool) {
	switch {
	case s.kind == KindGroup && runsAsGroup && !isNone(s.options().get(optLinkError)):
		s.appendLink(optLinkError, errback.clone())
	case s.kind == KindGroup:
		tasks := s.members()
		for i := range tasks.items {
			linkErrorToBodyTasks(tasks.signature(i), errback, false, headerErrbacks)
		}
	case s.kind == KindChord && s.body() != nil:
		linkErrorToBodyTasks(s.body(), errback, true, headerErrbacks)
	default:
		s.linkError(errback.clone(), headerErrbacks)
	}
}

// clearChordOption is _clear_chord_option.
func clearChordOption(s *Signature) {
	s.options().pop(optChord)
	switch tasks := s.members(); {
	case s.kind == KindGroup:
		for i := range tasks.items {
			clearChordOption(tasks.signature(i))
		}
	case s.kind == KindChain && len(tasks.items) > 0:
		clearChordOption(tasks.signature(len(tasks.items) - 1))
	case s.kind == KindChord && s.body() != nil:
		clearChordOption(s.body())
	}
}

// stripChordHeaderLinks is _strip_chord_header_links: what is in the header of a
// chord gets its chord when that is applied.
func stripChordHeaderLinks(s *Signature) {
	if s.kind == KindChord {
		if group := s.headerGroup(); group != nil {
			clearChordOption(group)
		}
	}
	switch s.kind {
	case KindChord, KindGroup, KindChain:
		tasks := s.members()
		for i := range tasks.items {
			stripChordHeaderLinks(tasks.signature(i))
		}
	}
	if s.kind == KindChord && s.body() != nil {
		stripChordHeaderLinks(s.body())
	}
}

// descend is _chord._descend: how many parts a member of a header returns.
func (r *runner) descend(s *Signature) int {
	switch s.kind {
	case KindGroup:
		size := 0
		tasks := s.members()
		for i := range tasks.items {
			size += r.descend(tasks.signature(i))
		}
		return size
	case KindChain:
		tasks := s.members()
		for i := len(tasks.items) - 1; i >= 0; i-- {
			if size := r.descend(tasks.signature(i)); size > 0 {
				return size
			}
		}
		return 0
	case KindChord:
		if body := s.body(); body != nil {
			return r.descend(body)
		}
		r.fail(errNoBody)
		return 0
	}
	return 1
}
