package canvas

import (
	"strconv"

	"github.com/dfws/dfws/celeryproto"
)

// freezing are the arguments of freeze; "" and nil are None.
type freezing struct {
	id, groupID, rootID, parentID string
	groupIndex                    *int
	chord                         value // a signature or its JSON
}

// freeze gives a signature its ID, as each class of Python does.
func (r *runner) freeze(s *Signature, f freezing) *result {
	r.fail(s.err)
	switch s.kind {
	case KindChain:
		return r.freezeChain(s, f)
	case KindGroup:
		res := &result{group: true}
		res.id, res.children = r.freezeGroup(s, f)
		return res
	case KindChord:
		return r.freezeChord(s, f)
	}
	opts := s.options()
	id := r.ownID(opts, f.id)
	if f.rootID != "" {
		opts.setText(optRootID, f.rootID)
	}
	if f.parentID != "" {
		opts.setText(optParentID, f.parentID)
	}
	if !opts.has(optReplyTo) {
		opts.setText(optReplyTo, r.env.ReplyTo)
	}
	if f.groupID != "" && !opts.has(optGroupID) {
		opts.setText(optGroupID, f.groupID)
	}
	if truth(f.chord) {
		opts.set(optChord, f.chord)
	}
	if f.groupIndex != nil {
		opts.set(optGroupIndex, intValue(*f.groupIndex))
	}
	return &result{id: id}
}

func intValue(n int) celeryproto.Raw { return strconv.AppendInt(nil, int64(n), 10) }

// ownID is the option task_id, which gets the proposed one or a new one where
// there is none.
func (r *runner) ownID(opts *dict, proposed string) string {
	v := opts.get(optTaskID)
	if v == nil {
		if proposed == "" {
			proposed = r.newID()
		}
		opts.setText(optTaskID, proposed)
		return proposed
	}
	id, ok := textOf(v)
	if !ok || id == "" {
		r.fail(errID)
	}
	return id
}

// freezeGroup is group._freeze_group_tasks: nested groups are flattened.
func (r *runner) freezeGroup(s *Signature, f freezing) (id string, results []*result) {
	opts := s.options()
	id = r.ownID(opts, "")
	if f.groupID != "" {
		opts.setText(optGroupID, f.groupID)
	}
	if truth(f.chord) {
		opts.set(optChord, f.chord)
	}
	if f.groupIndex != nil {
		opts.set(optGroupIndex, intValue(*f.groupIndex))
	}
	f.rootID = inherit(opts, optRootID, f.rootID)
	f.parentID = inherit(opts, optParentID, f.parentID)
	tasks := s.members()
	r.fail(s.err)
	frozen, results := r.freezeMembers(tasks, f)
	if tasks.tuple {
		s.setTasks(&list{items: frozen})
	} else {
		tasks.items = frozen
	}
	return id, results
}

// inherit is opts.setdefault(option, text).
func inherit(opts *dict, option, text string) string {
	if opts.has(option) {
		return opts.text(option)
	}
	opts.setOr(option, text)
	return text
}

// freezeMembers is group._freeze_unroll: clones of the tasks, with groups among
// them replaced by their tasks, in reverse order as in Python.
func (r *runner) freezeMembers(tasks *list, f freezing) (frozen []value, results []*result) {
	stack := make([]*Signature, 0, len(tasks.items))
	for i := len(tasks.items) - 1; i >= 0; i-- {
		stack = append(stack, tasks.signature(i))
	}
	frozen = make([]value, 0, len(stack))
	results = make([]*result, 0, len(stack))
	for index := 0; len(stack) > 0 && r.err == nil; {
		task := stack[len(stack)-1].clone()
		stack = stack[:len(stack)-1]
		r.fail(task.err)
		switch {
		case task.kind == KindGroup:
			inner := task.members()
			for i := range inner.items {
				stack = append(stack, inner.signature(i)) // extendleft turns them round
			}
		case task.isEmptyChain():
		default:
			at := index
			frozen = append(frozen, task)
			results = append(results, r.freeze(task, freezing{
				groupID: f.groupID, chord: f.chord, rootID: f.rootID, parentID: f.parentID, groupIndex: &at,
			}))
			index++
		}
	}
	return frozen, results
}

func (s *Signature) isEmptyChain() bool { return s.kind == KindChain && len(s.members().items) == 0 }

// freezeChord is _chord.freeze: the header becomes a group, whose result comes
// before the first result of the body.
func (r *runner) freezeChord(s *Signature, f freezing) *result {
	header := s.headerGroup()
	if header == nil {
		header = newGroup(s.members(), newDict(4))
		s.kwargs().set(keyHeader, header)
	}
	body := s.body()
	headerFreezing := freezing{parentID: f.parentID, rootID: f.rootID}
	if body != nil {
		headerFreezing.chord = body
	}
	headerResult := r.freeze(header, headerFreezing)
	s.options().setText(optTaskID, headerResult.id)
	if body == nil {
		r.fail(errNoBody)
		return headerResult
	}
	bodyResult := r.freeze(body, freezing{
		id: f.id, rootID: f.rootID, chord: f.chord, groupID: f.groupID, groupIndex: f.groupIndex,
	})
	seen := map[string]bool{}
	for node := bodyResult; node != nil; node = node.parent {
		if seen[node.id] {
			r.fail(ErrSameID)
			return bodyResult
		}
		seen[node.id] = true
	}
	bodyResult.first().parent = headerResult
	return bodyResult
}

// first is the first of the results that come before r.
func (r *result) first() *result {
	for r.parent != nil {
		r = r.parent
	}
	return r
}

// freezeChain is _chain.freeze.
func (r *runner) freezeChain(s *Signature, f freezing) *result {
	_, results := r.prepare(s, preparing{
		args: s.args(), tasks: s.members(), rootID: f.rootID, lastID: f.id,
		groupID: f.groupID, chord: f.chord, groupIndex: f.groupIndex,
	})
	if len(results) == 0 {
		r.fail(ErrEmptyChain)
		return &result{}
	}
	return results[0]
}
