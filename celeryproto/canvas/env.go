package canvas

import (
	"errors"

	"github.com/google/uuid"

	"github.com/dfws/dfws/celeryproto"
)

// Env is what applying depends on beside the signature. The zero value is what
// Python has by default, without a reply queue. It is read only.
type Env struct {
	// NewID makes the IDs of tasks and groups; random UUIDs when nil.
	NewID func() string
	// ReplyTo is written into every message; Python's is a UUID per thread
	// (celery 5.7, app/base.py, thread_oid).
	ReplyTo string
	// Protocol is Celery's setting task_protocol, 1 or 2; 0 is 2. With 1, chains
	// are made of links.
	Protocol int
	// AllowErrorCallbackOnChordHeader is Celery's setting
	// task_allow_error_cb_on_chord_header.
	AllowErrorCallbackOnChordHeader bool
	// InheritParentPriority is Celery's setting task_inherit_parent_priority.
	InheritParentPriority bool
	// Limits bounds what a composition may cost.
	Limits Limits
}

// Default limits, for the zero values of Limits.
const (
	DefaultMaxDepth          = 200
	DefaultMaxMessages       = 4 << 20
	DefaultMaxBytes    int64 = 1 << 30
)

// Limits bounds what one call of Apply, or of what follows a task, may cost.
type Limits struct {
	// MaxDepth is how deep compositions may be nested: 0 means DefaultMaxDepth.
	// What fits into a message of celeryproto's default limits is not deeper.
	MaxDepth int
	// MaxMessages is how many messages there may be: 0 means DefaultMaxMessages.
	MaxMessages int
	// MaxBytes is how large the signatures in their options may be, taken
	// together: 0 means DefaultMaxBytes. What messages share counts once.
	MaxBytes int64
}

func (l Limits) withDefaults() Limits {
	if l.MaxDepth <= 0 {
		l.MaxDepth = DefaultMaxDepth
	}
	if l.MaxMessages <= 0 {
		l.MaxMessages = DefaultMaxMessages
	}
	if l.MaxBytes <= 0 {
		l.MaxBytes = DefaultMaxBytes
	}
	return l
}

// Parent is the task that applies a signature while it runs in a worker, or
// whose end does.
type Parent struct {
	ID string
	// RootID of its workflow; "" is its own ID.
	RootID string
	// Priority with which it came, for Env.InheritParentPriority; nil for none.
	Priority *int
}

// ParentOf is the running task as the parent of what it sends.
func ParentOf(req *celeryproto.Task) *Parent {
	priority := req.Properties.Priority
	return &Parent{ID: req.ID, RootID: req.RootID, Priority: &priority}
}

// Call are the arguments of apply_async. The zero value has none.
type Call struct {
	// Args go in front of the signature's own, unless that is immutable.
	Args []celeryproto.Raw
	// Kwargs go over the signature's own, unless that is immutable.
	Kwargs celeryproto.Members
	// Options of Python's apply_async: they win over the signature's.
	Options celeryproto.Members
	// Parent is the running task, nil outside of one.
	Parent *Parent
}

// Plan is what applying a signature has to do, and what can be waited for.
type Plan struct {
	// Steps in Python's order of effects.
	Steps []Step
	// Result is what Python's apply_async returns, with its parents; nil for an
	// empty chain, where Python returns None.
	Result *celeryproto.ResultTree
	// Children are what the parent's result has to list as its children, in
	// addition to those it has. Empty without Call.Parent.
	Children []celeryproto.ResultTree
}

// Step is one effect: exactly one of its fields is set.
type Step struct {
	// Send is a message to be sent.
	Send *Send
	// Chord is a header to be announced to the result backend (Backend.StartChord).
	Chord *celeryproto.ChordStart
}

// Send is one call of Python's task.apply_async, with everything but routing
// decided: Message makes the message.
type Send struct {
	// Task is the name of the task.
	Task string
	// Args are the positional arguments.
	Args []celeryproto.Raw
	// ArgsList says that Python has the arguments as a list and not as a tuple,
	// which argsrepr shows.
	ArgsList bool
	// Kwargs are the keyword arguments.
	Kwargs celeryproto.Members
	// Options of apply_async, in Python's order, task_id among them. JSON nulls
	// are Python's None.
	Options celeryproto.Members
	// ParentPriority is the priority of the task that sends this, with the
	// setting task_inherit_parent_priority: for a message without the option
	// priority (callbacks and chains have it among their Options).
	ParentPriority *int
}

// ID is the ID of the task.
func (s *Send) ID() string {
	id, _ := s.Options.Get(optTaskID)
	text, err := id.Text()
	if err != nil {
		return ""
	}
	return text
}

// result is an AsyncResult or GroupResult: parents are found later than results
// are shared, so these are pointers, unlike in celeryproto.ResultTree.
type result struct {
	id       string
	parent   *result
	group    bool
	children []*result
}

// tree copies the result, without recursion for its parents: a chain may have
// many.
func (r *result) tree() *celeryproto.ResultTree {
	var first *celeryproto.ResultTree
	for at := &first; r != nil; r = r.parent {
		t := &celeryproto.ResultTree{ID: r.id, IsGroup: r.group}
		for _, child := range r.children {
			t.Children = append(t.Children, *child.tree())
		}
		*at, at = t, &t.Parent
	}
	return first
}

// runner carries out one application of a signature.
type runner struct {
	env    *Env
	limits Limits
	parent *Parent
	plan   Plan
	trail  []*result
	bytes  int64
	err    error
}

func newRunner(env *Env, parent *Parent) *runner {
	if env == nil {
		env = &Env{}
	}
	return &runner{env: env, limits: env.Limits.withDefaults(), parent: parent}
}

func (r *runner) fail(err error) {
	if r.err == nil && err != nil {
		r.err = err
	}
}

func (r *runner) newID() string {
	if r.env.NewID != nil {
		return r.env.NewID()
	}
	id, err := uuid.NewRandom()
	if err != nil {
		r.fail(err)
	}
	return id.String()
}

func (r *runner) protocol1() bool { return r.env.Protocol == 1 }

// finish is the plan, with what results have become in the meantime.
func (r *runner) finish(res *result) (*Plan, error) {
	if r.err != nil {
		return nil, r.err
	}
	r.plan.Result = res.tree()
	for _, child := range r.trail {
		r.plan.Children = append(r.plan.Children, *child.tree())
	}
	return &r.plan, nil
}

var errID = errors.New("canvas: option task_id is no text")

// Apply is Python's s.apply_async(args, kwargs, **options). It leaves s as it
// is, so that s can be applied again, and by several goroutines; the second time
// there are new IDs where s has none.
func (s *Signature) Apply(env *Env, call Call) (*Plan, error) {
	r := newRunner(env, call.Parent)
	own, err := private(s, r.limits.MaxDepth)
	if err != nil {
		return nil, err
	}
	return r.finish(r.apply(own, tupleOf(call.Args), dictOf(call.Kwargs), dictOf(call.Options)))
}

// FreezeOptions are the arguments of Python's freeze.
type FreezeOptions struct {
	// TaskID becomes the ID where s has none yet; "" makes one.
	TaskID, GroupID, RootID, ParentID string
	GroupIndex                        *int
	Chord                             *Signature
}

// Freeze gives the tasks in s their IDs, as Python's s.freeze(), and tells what
// can be waited for.
func (s *Signature) Freeze(env *Env, opts FreezeOptions) (*celeryproto.ResultTree, error) {
	if err := checkNesting(s, newRunner(env, nil).limits.MaxDepth); err != nil {
		return nil, err
	}
	r := newRunner(env, nil)
	f := freezing{id: opts.TaskID, groupID: opts.GroupID, rootID: opts.RootID, parentID: opts.ParentID, groupIndex: opts.GroupIndex}
	if opts.Chord != nil {
		f.chord = opts.Chord
	}
	res := r.freeze(s, f)
	if r.err != nil {
		return nil, r.err
	}
	return res.tree(), nil
}

func tupleOf(args []celeryproto.Raw) arguments {
	raw := make(celeryproto.Raw, 0, 64)
	raw = append(raw, '[')
	for i, arg := range args {
		if i > 0 {
			raw = append(raw, ", "...)
		}
		if len(arg) == 0 {
			arg = none
		}
		raw = append(raw, arg...)
	}
	return arguments{raw: append(raw, ']'), tuple: true}
}

func dictOf(members celeryproto.Members) *dict {
	d := newDict(len(members))
	for _, m := range members {
		if len(m.Value) == 0 {
			m.Value = none
		}
		d.set(m.Key, m.Value)
	}
	return d
}
