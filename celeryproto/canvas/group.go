package canvas

import "github.com/dfws/dfws/celeryproto"

// applyGroup is group.apply_async.
func (r *runner) applyGroup(s *Signature, args arguments, kwargs, options *dict) *result {
	options = options.copy(2)
	addToParent := options.pop(optAddToParent)
	for _, option := range []string{optLink, optLinkError} {
		if !isNone(options.pop(option)) {
			r.fail(ErrGroupLink)
		}
	}
	tasks := s.members()
	r.fail(s.err)
	if len(tasks.items) == 0 {
		return r.freeze(s, freezing{})
	}
	options = s.groupOptions(options)
	id, isText := textOf(options.pop(optTaskID))
	if !isText || id == "" {
		id = r.newID()
	}
	options.setText(optGroupID, id)
	res := &result{id: id, group: true, children: r.applyTasks(tasks, id, args, kwargs, options)}
	if len(res.children) == 1 && res.children[0].group {
		res = res.children[0]
	}
	if r.parent != nil && (addToParent == nil || truth(addToParent)) {
		r.trail = append(r.trail, res)
	}
	return res
}

// groupOptions is the first half of group._freeze_gid.
func (s *Signature) groupOptions(options *dict) *dict {
	own := s.options()
	merged := own.copy(options.len() + 1)
	for _, e := range options.entries {
		if !immutableOption(e.key) || !own.has(e.key) {
			merged.set(e.key, e.val)
		}
	}
	return merged
}

// prepared is one task of a group that is about to be sent.
type prepared struct {
	sig *Signature
	res *result
}

// applyTasks is group._apply_tasks over group._prepared: the tasks of the group,
// and of groups in it, one after the other. The size of a chord is told before
// the last of them.
func (r *runner) applyTasks(tasks *list, groupID string, args arguments, kwargs, options *dict) []*result {
	chord := options.pop(optChord)
	options.pop(optGroupIndex)
	options.pop(optAddToParent)
	options, chord = r.sealAll(options), r.seal(chord)
	p := preparer{runner: r, groupID: groupID, rootID: options.text(optRootID), chords: map[*Signature]value{}}
	results := make([]*result, 0, len(tasks.items))
	size := 0
	var held *prepared // what is sent when it is known whether something follows
	send := func(last bool) {
		of := chord
		if isNone(of) {
			of = held.sig.options().get(optChord)
		}
		size += r.descend(held.sig)
		if !isNone(of) && last {
			r.plan.Steps = append(r.plan.Steps, Step{Chord: &celeryproto.ChordStart{GroupID: groupID, Size: size}})
		}
		call := newDict(2 + options.len())
		call.set(optAddToParent, rawFalse)
		call.set(optChord, orNone(of))
		call.update(options)
		r.apply(held.sig, args, kwargs, call)
		results = append(results, held.res)
	}
	p.each(tasks, func(next *prepared) {
		if held != nil {
			send(false)
		}
		held = next
	})
	if held != nil {
		send(true)
	}
	return results
}

// preparer is group._prepared: clones of the tasks, with their IDs.
type preparer struct {
	*runner
	groupID, rootID string
	chords          map[*Signature]value // bodies that clones have, sealed
}

func (p *preparer) each(tasks *list, yield func(*prepared)) {
	for i := range tasks.items {
		task := p.clone(tasks.signature(i))
		p.fail(task.err)
		if p.err != nil {
			return
		}
		switch {
		case task.kind == KindGroup:
			p.each(task.members(), yield)
		case task.isEmptyChain():
		default:
			at := i
			res := p.freeze(task, freezing{groupID: p.groupID, rootID: p.rootID, groupIndex: &at})
			yield(&prepared{task, res})
		}
	}
}

// clone is sig.clone(); the body of the chord that all tasks belong to is copied
// once.
func (p *preparer) clone(sig *Signature) *Signature {
	body, isSig := sig.options().get(optChord).(*Signature)
	if !isSig {
		return sig.clone()
	}
	copied, known := p.chords[body]
	if !known {
		copied = p.seal(body)
		p.chords[body] = copied
	}
	light := &Signature{kind: sig.kind, d: sig.d.copy(0), useLink: sig.useLink, err: sig.err}
	options := sig.options().copy(0)
	options.set(optChord, copied)
	light.d.set(keyOptions, options)
	return light.clone()
}
