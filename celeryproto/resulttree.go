package celeryproto

import "errors"

// ResultTree is a result without its value, as Celery passes it on: who can be
// waited for, what came before it, and for a group its members. On the wire it
// is the tuple of celery 5.7, result.py (as_tuple, result_from_tuple):
//
//	[["<id>", <parent or null>], null]                  a task
//	[["<group id>", <parent or null>], [<member>, …]]   a group
type ResultTree struct {
	// ID of the task or group.
	ID string
	// Parent is what has to end before this one begins, nil for nothing.
	Parent *ResultTree
	// IsGroup says that this is a group, which may be empty.
	IsGroup bool
	// Children are the members of a group.
	Children []ResultTree
}

// Append appends the tuple as Python's JSON writes it. Depth is not limited:
// what is too deep for a reader is refused where it is put into a message.
func (t *ResultTree) Append(dst []byte) []byte {
	// A chain of ten thousand steps is as many parents: no recursion for them.
	var closing []string
	for ; ; t = t.Parent {
		dst = AppendString(append(dst, "[["...), t.ID)
		dst = append(dst, ", "...)
		closing = append(closing, string(t.appendMembers([]byte("], "))))
		if t.Parent == nil {
			break
		}
	}
	dst = append(dst, rawNull...)
	for i := len(closing) - 1; i >= 0; i-- {
		dst = append(dst, closing[i]...)
	}
	return dst
}

// appendMembers appends the second half of the tuple.
func (t *ResultTree) appendMembers(dst []byte) []byte {
	if !t.IsGroup {
		return append(append(dst, rawNull...), ']')
	}
	dst = append(dst, '[')
	for i := range t.Children {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = t.Children[i].Append(dst)
	}
	return append(dst, "]]"...)
}

// Raw is the tuple as a JSON value.
func (t *ResultTree) Raw() Raw { return t.Append(nil) }

// Complex tells whether a member of a group is itself a group: then the results
// of a chord's header are to be gathered by their IDs (celery 5.7,
// backends/redis.py, apply_chord).
func (t *ResultTree) Complex() bool {
	for i := range t.Children {
		if t.Children[i].IsGroup {
			return true
		}
	}
	return false
}

// TaskIDs appends the IDs of the tasks whose values make up the value of t: its
// own or, for a group, those of its members, at any depth.
func (t *ResultTree) TaskIDs(dst []string) []string {
	if !t.IsGroup {
		return append(dst, t.ID)
	}
	for i := range t.Children {
		dst = t.Children[i].TaskIDs(dst)
	}
	return dst
}

// DecodeResultTree reads a result tuple. Beside what Append writes it takes an
// ID in the place of the pair, as Python does. The error is a *DecodeError.
func DecodeResultTree(r Raw) (*ResultTree, error) {
	if err := CheckJSON(r, JSONLimits{}); err != nil {
		return nil, decodeError(PartResult, err)
	}
	t, err := resultTree(r)
	if err != nil {
		return nil, decodeError(PartResult, err)
	}
	return t, nil
}

// resultTree recurses as deep as the JSON text, which has been checked.
func resultTree(r Raw) (*ResultTree, error) {
	pair, err := pairOf(r)
	if err != nil {
		return nil, err
	}
	t := &ResultTree{}
	if pair[0].Kind() == KindArray {
		var res [2]Raw
		if res, err = pairOf(pair[0]); err != nil {
			return nil, err
		}
		if t.ID, err = res[0].Text(); err == nil && !res[1].IsNull() {
			t.Parent, err = resultTree(res[1])
		}
	} else {
		t.ID, err = pair[0].Text()
	}
	if err == nil && t.ID == "" {
		err = errors.New("result without an ID")
	}
	if err != nil || pair[1].IsNull() {
		return t, err
	}
	t.IsGroup = true
	members, err := pair[1].Array()
	if err != nil {
		return nil, err
	}
	t.Children = make([]ResultTree, len(members))
	for i, member := range members {
		child, err := resultTree(member)
		if err != nil {
			return nil, err
		}
		t.Children[i] = *child
	}
	return t, nil
}

func pairOf(r Raw) (pair [2]Raw, err error) {
	elements, err := r.Array()
	if err == nil && len(elements) != len(pair) {
		err = errors.New("result tuple without exactly two elements")
	}
	copy(pair[:], elements)
	return pair, err
}
