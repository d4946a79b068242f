package canvas

import (
	"errors"

	"github.com/dfws/dfws/celeryproto"
)

// fromDict is Python's Signature.from_dict: an object of the right class from a
// dict. Arguments, options and members are shared with the dict.
func fromDict(d *dict) *Signature {
	if err := checkDict(d); err != nil {
		return broken(err)
	}
	// Taken apart before it is copied, so that both see what changes in it.
	d.openAt(keyKwargs)
	d.openAt(keyOptions)
	name := d.text(keySubtaskType)
	kind := subtaskTypes[name]
	if kind == KindTask && name != "" {
		return broken(errors.New("canvas: unknown subtask_type"))
	}
	s := &Signature{kind: kind, d: d}
	switch kind {
	case KindChain:
		return chainFromDict(s)
	case KindGroup:
		tasks := s.members()
		rebuilt := &list{items: make([]value, len(tasks.items)), tuple: tasks.tuple}
		for i := range rebuilt.items {
			rebuilt.items[i] = tasks.signature(i)
		}
		s.setTasks(rebuilt) // the dict's own: its members are signatures from now on
		return withErr(newGroup(rebuilt, s.options()), s.err)
	case KindChord:
		return chordFromDict(s)
	case KindMap, KindStarmap, KindChunks:
		kwargs := s.kwargs()
		return newMap(kind, kwargs.openAt(keyTask), kwargs.get(keyIt), kwargs.get(keyN), s.options())
	default:
		return &Signature{kind: KindTask, d: d.copy(1)}
	}
}

func withErr(s *Signature, err error) *Signature {
	s.failIf(err)
	return s
}

// checkDict tells whether a dict can be a signature.
func checkDict(d *dict) error {
	if d.open(); d.err != nil {
		return d.err
	}
	if _, ok := textOf(d.get(keyTask)); !ok {
		return errNoSignature
	}
	for _, part := range dictParts {
		if r, isRaw := d.get(part.key).(celeryproto.Raw); isRaw && !r.IsNull() && r.Kind() != part.kind {
			return errors.New("canvas: signature: " + part.key + ": expected " + part.kind.String() + ", got " + r.Kind().String())
		}
	}
	return nil
}

// dictParts are the members of a signature that have a kind, null or not there
// being empty.
var dictParts = []struct {
	key  string
	kind celeryproto.Kind
}{{keyArgs, celeryproto.KindArray}, {keyKwargs, celeryproto.KindObject}, {keyOptions, celeryproto.KindObject}}

// chainFromDict is _chain.from_dict: only the tasks and options survive.
func chainFromDict(s *Signature) *Signature {
	tasks := s.members()
	rebuilt := tasks
	if len(tasks.items) > 0 {
		rebuilt = &list{items: make([]value, len(tasks.items))}
		for i := range rebuilt.items {
			rebuilt.items[i] = tasks.signature(i)
		}
	}
	return withErr(newChain(rebuilt, s.options()), s.err)
}

// newChain is _chain.__init__ with one list.
func newChain(tasks *list, options *dict) *Signature {
	s := newComposition(KindChain, TaskChain, tasks, options)
	s.d.set(keySubtaskType, textValue("chain"))
	s.useLink = options.get(optUseLink)
	return s
}

// newGroup is group.__init__ with one list.
func newGroup(tasks *list, options *dict) *Signature {
	s := newComposition(KindGroup, TaskGroup, tasks, options)
	s.d.set(keySubtaskType, textValue("group"))
	return s
}

func newComposition(kind Kind, task string, tasks *list, options *dict) *Signature {
	kwargs := newDict(1)
	kwargs.set(keyTasks, tasks)
	s := newSignature(kind, task, arguments{raw: noArgs, tuple: true}, kwargs, nil)
	s.initOptions(options)
	return s
}

// initOptions is **options of the constructors: "immutable" is a parameter.
func (s *Signature) initOptions(options *dict) {
	options = options.copy(4)
	if immutable := options.pop(keyImmutable); immutable != nil {
		s.d.set(keyImmutable, immutable)
	}
	s.d.set(keyOptions, options)
}

// chordFromDict is _chord.from_dict: keys that are not a signature's become options.
func chordFromDict(s *Signature) *Signature {
	kwargs := s.kwargs().copy(0)
	header, body := kwargs.pop(keyHeader), kwargs.pop(keyBody)
	options := s.options().copy(4)
	s.d.open()
	for _, e := range s.d.entries {
		switch e.key {
		case keyTask, keyArgs, keyKwargs, keyOptions, keySubtaskType, keyImmutable, "type":
		default:
			options.set(e.key, e.val)
		}
	}
	c := newChord(opened(header), opened(body), s.args(), kwargs, options)
	c.d.set(keyTask, s.d.get(keyTask))
	if immutable := s.d.get(keyImmutable); immutable != nil {
		c.d.set(keyImmutable, immutable)
	}
	return c
}

// newChord is _chord.__init__.
func newChord(header, body value, args arguments, kwargs, options *dict) *Signature {
	if kwargs.len() == 0 {
		kwargs = newDict(3)
		kwargs.set(keyKwargs, newDict(0))
	}
	tasks, err := maybeGroup(header)
	kwargs.set(keyHeader, tasks)
	if isNone(body) {
		kwargs.set(keyBody, none)
	} else {
		kwargs.set(keyBody, maybeSignature(body))
	}
	s := newSignature(KindChord, TaskChord, arguments{raw: args.raw, tuple: true}, kwargs, options)
	s.d.set(keySubtaskType, textValue("chord"))
	return withErr(s, err)
}

// maybeGroup is _maybe_group: the tasks that a chord's header is given as.
func maybeGroup(header value) (*list, error) {
	switch v := header.(type) {
	case *Signature:
		return headerTasks(v.clone())
	case *dict:
		return headerTasks(fromDict(v))
	case *list:
		tasks := &list{items: make([]value, len(v.items))}
		for i := range v.items {
			tasks.items[i] = v.signature(i)
			if v.items[i] == tasks.items[i] { // it was one already
				tasks.items[i] = tasks.items[i].(*Signature).clone()
			}
		}
		return tasks, nil
	default:
		return &list{}, errNoTasks
	}
}

func headerTasks(s *Signature) (*list, error) {
	if s.kind == KindGroup || s.kind == KindChain {
		tasks := s.members()
		return tasks, s.err
	}
	return &list{items: []value{s}}, nil
}

// newMap is xmap, xstarmap and chunks: always immutable.
func newMap(kind Kind, task, it, n value, options *dict) *Signature {
	kwargs := newDict(3)
	kwargs.set(keyTask, orNone(task))
	kwargs.set(keyIt, orNone(it))
	if kind == KindChunks {
		kwargs.set(keyN, orNone(n))
	}
	s := newSignature(kind, mapTasks[kind], arguments{raw: noArgs, tuple: true}, kwargs, nil)
	s.initOptions(options)
	s.d.set(keyImmutable, rawTrue)
	return s
}

var mapTasks = map[Kind]string{KindMap: TaskMap, KindStarmap: TaskStarmap, KindChunks: TaskChunks}

func orNone(v value) value {
	if v == nil {
		return none
	}
	return v
}
