package canvas

import (
	"errors"
	"math"

	"github.com/dfws/dfws/celeryproto"
)

// apply is apply_async of each class.
func (r *runner) apply(s *Signature, args arguments, kwargs, options *dict) *result {
	r.fail(s.err)
	if r.err != nil {
		return nil
	}
	if kwargs == nil {
		kwargs = newDict(0)
	}
	if options == nil {
		options = newDict(0)
	}
	switch s.kind {
	case KindChain:
		return r.runChain(s, args, kwargs, options)
	case KindGroup:
		return r.applyGroup(s, args, kwargs, options)
	case KindChord:
		return r.applyChord(s, args, kwargs, options)
	case KindMap, KindStarmap:
		return r.applyMap(s, options)
	case KindChunks:
		group := s.chunksGroup()
		options = options.copy(1)
		options.set(optRouteName, taskOf(s.kwargs()))
		return r.applyGroup(group, args, kwargs, options)
	}
	options = options.without(func(key string) bool { return key == optRouteName }).withoutNone()
	callArgs, callKwargs, callOptions := s.args(), s.kwargs(), s.options()
	if !args.empty() || kwargs.len() > 0 || options.len() > 0 {
		callArgs, callKwargs, callOptions = s.merge(args, kwargs, options, false)
	}
	return r.send(s.Task(), callArgs, callKwargs, callOptions)
}

// processOption tells whether an argument of apply_async means an object of the
// process.
func processOption(key string) bool {
	switch key {
	case "producer", "publisher", "connection", "router", "result_cls", "app", "event_dispatcher":
		return true
	}
	return false
}

// send plans one message, as Task.apply_async and app.send_task do it.
func (r *runner) send(name string, args arguments, kwargs, options *dict) *result {
	if r.err != nil {
		return nil
	}
	if len(r.plan.Steps) >= r.limits.MaxMessages {
		r.fail(ErrTooManyMessages)
		return nil
	}
	options = options.without(processOption)
	id := options.text(optTaskID)
	if v := options.get(optTaskID); truth(v) && id == "" {
		r.fail(errID)
	}
	if id == "" {
		id = r.newID()
	}
	options.setText(optTaskID, id)
	s := &Send{Task: name, ArgsList: !args.tuple}
	if r.inherit(options) && r.env.InheritParentPriority {
		s.ParentPriority = r.parent.Priority
	}
	res := &result{id: id}
	if v := options.get(optAddToParent); r.parent != nil && (v == nil || truth(v)) {
		r.trail = append(r.trail, res)
	}
	r.emit(s, args, kwargs, options)
	return res
}

// emit encodes the parts of a message.
func (r *runner) emit(s *Send, args arguments, kwargs, options *dict) {
	var err error
	if s.Args, err = args.raw.Array(); err != nil {
		r.fail(err)
	}
	s.Kwargs = r.members(kwargs)
	s.Options = r.members(options)
	r.plan.Steps = append(r.plan.Steps, Step{Send: s})
}

// members encodes the values of a dict.
func (r *runner) members(d *dict) celeryproto.Members {
	if d.len() == 0 {
		r.fail(d.err)
		return nil
	}
	members := make(celeryproto.Members, len(d.entries))
	for i, e := range d.entries {
		members[i] = celeryproto.Member{Key: e.key, Value: r.encode(e.val)}
	}
	return members
}

// encode is the JSON of a value; what is not yet JSON counts against the limit.
func (r *runner) encode(v value) celeryproto.Raw {
	switch v := v.(type) {
	case celeryproto.Raw:
		return v
	case *sealed:
		return v.raw
	}
	raw, err := encodeValue(v)
	r.fail(err)
	if r.bytes += int64(len(raw)); r.bytes > r.limits.MaxBytes {
		r.fail(ErrTooLarge)
	}
	return raw
}

// inherit fills in what a message has from the task that sends it, and tells
// whether it had to (celery 5.7, app/base.py, send_task).
func (r *runner) inherit(options *dict) bool {
	hasRoot, hasParent := truth(options.get(optRootID)), truth(options.get(optParentID))
	if r.parent == nil || hasRoot && hasParent {
		return false
	}
	if !hasRoot {
		root := r.parent.RootID
		if root == "" {
			root = r.parent.ID
		}
		options.setText(optRootID, root)
	}
	if !hasParent {
		options.setText(optParentID, r.parent.ID)
	}
	return true
}

func (p *Parent) priority() celeryproto.Raw {
	if p.Priority == nil {
		return none
	}
	return intValue(*p.Priority)
}

// index is an option that is a number, nil for None.
func (r *runner) index(v value) *int {
	n, ok := smallInt(v)
	if !ok {
		r.fail(errors.New("canvas: option group_index is no small integer"))
	}
	return n
}

// smallInt is a number in a message, nil for None; ok is false for anything else.
func smallInt(v value) (n *int, ok bool) {
	if isNone(v) {
		return nil, true
	}
	raw, isRaw := v.(celeryproto.Raw)
	if !isRaw {
		return nil, false
	}
	number, err := raw.Number()
	if i, isInt := number.(int64); err == nil && isInt && i >= math.MinInt32 && i <= math.MaxInt32 {
		small := int(i)
		return &small, true
	}
	return nil, false
}

// seal is a deepcopy of a value for several messages, which encode it once.
func (r *runner) seal(v value) value {
	switch v.(type) {
	case *list, *dict, *Signature:
		v = deepcopy(v, nil)
		return &sealed{v: v, raw: r.encode(v)}
	}
	return v
}

// sealAll seals the values of a dict.
func (r *runner) sealAll(d *dict) *dict {
	d = d.copy(4)
	for i, e := range d.entries {
		d.entries[i].val = r.seal(e.val)
	}
	return d
}

// applyMap is _basemap.apply_async.
func (r *runner) applyMap(s *Signature, options *dict) *result {
	_, _, options = s.merge(arguments{}, nil, options.withoutNone(), false)
	options = options.copy(1)
	if route := options.pop(optRouteName); truth(route) {
		options.set(optRouteName, route)
	} else {
		options.set(optRouteName, taskOf(s.kwargs()))
	}
	kwargs := newDict(2)
	kwargs.set(keyTask, s.kwargs().get(keyTask))
	kwargs.set(keyIt, s.kwargs().get(keyIt))
	return r.send(s.Task(), arguments{raw: noArgs, tuple: true}, kwargs, options)
}

// taskOf is task_name_from: the name of the task that a map calls.
func taskOf(kwargs *dict) value {
	switch task := kwargs.openAt(keyTask).(type) {
	case *Signature:
		return orNone(task.d.get(keyTask))
	case *dict: // Python finds no attribute "name", and routes by the dict
		return orNone(task.get(keyTask))
	default:
		return orNone(task)
	}
}

// chunksGroup is chunks.group.
func (s *Signature) chunksGroup() *Signature {
	kwargs := s.kwargs()
	task := kwargs.openAt(keyTask)
	elements, ok := kwargs.openAt(keyIt).(*list)
	raw, _ := kwargs.get(keyN).(celeryproto.Raw)
	number, err := raw.Number()
	n, isInt := number.(int64)
	if !ok || err != nil || !isInt || n < 1 {
		return broken(errors.New("canvas: chunks without a list or a positive number"))
	}
	group := &list{}
	for start := 0; start < len(elements.items); start += int(n) {
		part := elements.items[start:min(start+int(n), len(elements.items))]
		group.items = append(group.items, newMap(KindStarmap, task, &list{items: part}, nil, newDict(0)))
	}
	return newGroup(group, newDict(2))
}
