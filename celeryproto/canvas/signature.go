package canvas

import (
	"errors"
	"strconv"

	"github.com/dfws/dfws/celeryproto"
)

// Kind is what a signature stands for.
type Kind uint8

// The kinds of signatures: a call of one task, or a composition. The last three
// exist only until they are written or copied: then they are calls of the tasks
// celery.map, celery.starmap and celery.chunks.
const (
	KindTask Kind = iota
	KindChain
	KindGroup
	KindChord
	KindMap
	KindStarmap
	KindChunks
)

var kindNames = [...]string{"task", "chain", "group", "chord", "map", "starmap", "chunks"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// Names of the tasks that stand for compositions (celery 5.7, canvas.py), and of
// the built-in ones that every Python worker has (app/builtins.py).
const (
	TaskChain      = "celery.chain"
	TaskGroup      = "celery.group"
	TaskChord      = "celery.chord"
	TaskMap        = "celery.map"
	TaskStarmap    = "celery.starmap"
	TaskChunks     = "celery.chunks"
	TaskAccumulate = "celery.accumulate"
)

// The values of "subtask_type" (celery 5.7, canvas.py, Signature.TYPES).
var subtaskTypes = map[string]Kind{
	"chain": KindChain, "group": KindGroup, "chord": KindChord,
	"xmap": KindMap, "xstarmap": KindStarmap, "chunks": KindChunks,
}

// Keys of a signature, in the order in which Python writes them.
const (
	keyTask        = "task"
	keyArgs        = "args"
	keyKwargs      = "kwargs"
	keyOptions     = "options"
	keySubtaskType = "subtask_type"
	keyImmutable   = "immutable"
)

// Keys of the kwargs of compositions.
const (
	keyTasks  = "tasks"
	keyHeader = "header"
	keyBody   = "body"
	keyIt     = "it"
	keyN      = "n"
)

// Options that this package reads or writes (celery 5.7, canvas.py and app/base.py).
const (
	optTaskID         = "task_id"
	optRootID         = "root_id"
	optParentID       = "parent_id"
	optGroupID        = "group_id"
	optGroupIndex     = "group_index"
	optChord          = "chord"
	optChain          = "chain"
	optLink           = "link"
	optLinkError      = "link_error"
	optReplyTo        = "reply_to"
	optCountdown      = "countdown"
	optETA            = "eta"
	optStampedHeaders = "stamped_headers"
	optUseLink        = "use_link"
	optAddToParent    = "add_to_parent"
	optPriority       = "priority"
	optRouteName      = "route_name"
	optNesting        = "replaced_task_nesting"
)

// Signature is Celery's: a call that is not made yet, or a composition of such
// calls. Its methods and functions do what those of celery 5.7, canvas.py do,
// also where two signatures share parts: what the link of one changes, the other
// sees. It is not safe for concurrent use, except that Apply leaves it as it is.
//
// Methods that build return a signature, and keep the first fault for Err,
// Encode and Apply.
type Signature struct {
	kind    Kind
	d       *dict
	useLink value // a chain's option use_link when it was made
	err     error
}

// Kind tells what the signature stands for.
func (s *Signature) Kind() Kind { return s.kind }

// Task is the name of the task.
func (s *Signature) Task() string { return s.d.text(keyTask) }

// ID is the task's ID once it has one (Freeze, or the option task_id), else "".
func (s *Signature) ID() string { return s.options().text(optTaskID) }

// IsImmutable tells whether results of earlier tasks are kept out of the arguments.
func (s *Signature) IsImmutable() bool { return truth(s.d.get(keyImmutable)) }

// Err is the first fault of what the signature was made from, or of what was
// done to it; nil for none.
func (s *Signature) Err() error { return s.err }

// Option is an execution option as JSON; ok is false when it is not set.
func (s *Signature) Option(name string) (option celeryproto.Raw, ok bool) {
	v := s.options().get(name)
	if v == nil {
		return nil, false
	}
	r, err := encodeValue(v)
	if err != nil {
		s.fail(err)
	}
	return r, err == nil
}

// Tasks are the members of a chain or group, or of a chord's header. They are
// the signature's own.
func (s *Signature) Tasks() []*Signature {
	l := s.members()
	tasks := make([]*Signature, len(l.items))
	for i := range tasks {
		tasks[i] = l.signature(i)
		l.items[i] = tasks[i]
	}
	return tasks
}

// Body is the body of a chord, nil for none and for other kinds. It is the
// signature's own.
func (s *Signature) Body() *Signature {
	if s.kind != KindChord {
		return nil
	}
	return s.body()
}

// fail keeps the first fault.
func (s *Signature) fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

func (s *Signature) failIf(err error) {
	if err != nil {
		s.fail(err)
	}
}

var (
	errNoSignature = errors.New("canvas: not a signature")
	errNoTasks     = errors.New("canvas: composition without a list of tasks")
)

// broken stands for what is no signature, so that only what reads it fails.
func broken(err error) *Signature {
	s := newSignature(KindTask, "", arguments{raw: noArgs}, newDict(0), newDict(0))
	s.err = err
	return s
}

// newSignature is Python's Signature.__init__.
func newSignature(kind Kind, task string, args arguments, kwargs, options *dict) *Signature {
	d := newDict(6)
	d.setText(keyTask, task)
	d.set(keyArgs, args)
	d.set(keyKwargs, kwargs)
	d.set(keyOptions, options)
	d.set(keySubtaskType, none)
	d.set(keyImmutable, rawFalse)
	return &Signature{kind: kind, d: d}
}

// args are the positional arguments.
func (s *Signature) args() arguments {
	switch v := s.d.get(keyArgs).(type) {
	case arguments:
		return v
	case celeryproto.Raw:
		if v.Kind() == celeryproto.KindArray {
			return arguments{raw: v}
		}
	}
	return arguments{raw: noArgs, tuple: true}
}

func (s *Signature) kwargs() *dict  { return s.part(keyKwargs) }
func (s *Signature) options() *dict { return s.part(keyOptions) }

// part is a dict of the signature; where there is none, it gets one.
func (s *Signature) part(key string) *dict {
	if d, ok := s.d.openAt(key).(*dict); ok {
		return d
	}
	d := newDict(1)
	s.d.set(key, d)
	return d
}

// members are the tasks of a chain, a group, or a chord's header.
func (s *Signature) members() *list {
	key := keyTasks
	switch s.kind {
	case KindChord:
		key = keyHeader
	case KindChain, KindGroup:
	default:
		return &list{}
	}
	switch v := s.kwargs().openAt(key).(type) {
	case *list:
		return v
	case *Signature: // a stamped chord's header
		return v.members()
	default:
		s.fail(errNoTasks)
		l := &list{}
		s.kwargs().set(key, l)
		return l
	}
}

func (s *Signature) setTasks(l *list) { s.kwargs().set(keyTasks, l) }

// body is a chord's body, nil for None.
func (s *Signature) body() *Signature {
	v := s.kwargs().openAt(keyBody)
	if isNone(v) {
		return nil
	}
	sig, isSig := v.(*Signature)
	if !isSig {
		sig = maybeSignature(v)
		s.kwargs().set(keyBody, sig)
	}
	return sig
}

func (s *Signature) setBody(body *Signature) { s.kwargs().set(keyBody, body) }

// headerGroup is a chord's header when it is a group, nil when it is a list.
func (s *Signature) headerGroup() *Signature {
	g, _ := s.kwargs().openAt(keyHeader).(*Signature)
	return g
}

// signature is Python's maybe_signature(l[i]). A dict from the wire stays in its
// place, and shares its parts with the signature made from it.
func (l *list) signature(i int) *Signature {
	v := opened(l.items[i])
	l.items[i] = v
	return maybeSignature(v)
}

// maybeSignature is Python's function of that name, for an opened value.
func maybeSignature(v value) *Signature {
	switch v := v.(type) {
	case *Signature:
		return v
	case *dict:
		return fromDict(v)
	default:
		return broken(errNoSignature)
	}
}

// links is maybe_list(options.get(key)) or []: one signature or several.
func links(options *dict, key string) *list {
	switch v := options.openAt(key).(type) {
	case *list:
		return v
	case *dict, *Signature:
		return &list{items: []value{v}}
	case nil:
		return &list{}
	default:
		if isNone(v) {
			return &list{}
		}
		return &list{items: []value{v}}
	}
}
