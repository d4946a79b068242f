package canvas

import (
	"github.com/dfws/dfws/celeryproto"
)

// NewStyle tells whether the function of an errback takes more than one
// positional argument: then it is called in the worker with request, exception
// and traceback. Python looks at the function, so a worker knows it only of the
// tasks that it has; for all others the answer is false.
type NewStyle func(errback *Signature) bool

// Failure is what a worker does after a failed task, or for a failed chord.
type Failure struct {
	// Tasks fail with it, in this order.
	Tasks []FailedTask
	// Errbacks of the failed task itself, after Tasks. Not for chords.
	Errbacks Errbacks
}

// FailedTask is one task that will not run.
type FailedTask struct {
	// Errbacks to be called before anything else is done for the task.
	Errbacks Errbacks
	// Result to be stored, with all but traceback and time; nil when the task
	// has no ID. Extended is set whatever result_extended says.
	Result *celeryproto.ResultMeta
	// Part to be returned to the chord that the task belongs to, and the body of
	// that chord; nil for none.
	Part *celeryproto.ChordPart
	Body celeryproto.Raw
	// PartOnce says that the part is to be returned only if the task's result
	// was not FAILURE or REVOKED before Result is stored.
	PartOnce bool
	// Revoke are IDs to be revoked after that, by a broadcast as Celery's
	// control.revoke sends it: the members of a group as body of a chord.
	Revoke []string
}

// Errbacks are to be called with the ID of a failed task.
type Errbacks struct {
	// TaskID of the failed task.
	TaskID string
	// Call are those that are to be called in this process, first.
	Call []*Signature
	// Plan are the messages for all others; nil when there are none.
	Plan *Plan
}

// OnFailure is what a worker does after a task has failed, after it has stored
// the FAILURE and has returned the part of the task's own chord (celery 5.7,
// backends/base.py, mark_as_failure): the rest of the chain fails with the same
// exception, then errbacks are called. exc is the stored exception.
func OnFailure(env *Env, req *celeryproto.Task, exc celeryproto.Raw, newStyle NewStyle) (*Failure, error) {
	chain, err := signatureList(req.Embed.Chain, "chain")
	if err != nil {
		return nil, err
	}
	f := &Failure{Tasks: failChain(chain, exc)}
	errbacks, err := signatureList(req.Embed.Errbacks, "errbacks")
	if err != nil {
		return nil, err
	}
	root := req.RootID
	if root == "" {
		root = req.ID
	}
	f.Errbacks, err = callErrbacks(env, errbacks, req.ID, root, newStyle)
	return f, err
}

// PartOf is what a task returns to its chord when it ends; ok is false when it
// belongs to none.
func PartOf(req *celeryproto.Task, status string, result celeryproto.Raw) (part celeryproto.ChordPart, ok bool) {
	if !rawTruth(req.Embed.Chord) || req.GroupID == "" {
		return part, false
	}
	return celeryproto.ChordPart{
		GroupID: req.GroupID, TaskID: req.ID, Index: req.GroupIndex, Status: status, Result: result,
	}, true
}

// failChain is _fail_chain: each step of a chain, and of the chords there the
// body too.
func failChain(chain *list, exc celeryproto.Raw) []FailedTask {
	steps := make([]*dict, 0, len(chain.items))
	for i := range chain.items {
		if d, ok := openedDict(chain.items[i]); ok {
			steps = append(steps, d)
		}
	}
	var failed []FailedTask
	for len(steps) > 0 {
		step := steps[0]
		steps = steps[1:]
		options, ok := openedDict(step.openAt(keyOptions))
		if !ok {
			options = newDict(0)
		}
		if task, any := failStep(step, options, exc); any {
			failed = append(failed, task)
		}
		if step.text(keySubtaskType) != "chord" {
			continue
		}
		if kwargs, ok := openedDict(step.openAt(keyKwargs)); ok {
			if body, ok := openedDict(kwargs.openAt(keyBody)); ok {
				steps = append(steps, body)
			}
		}
	}
	return failed
}

// openedDict is the dict that a value is, that of a signature too.
func openedDict(v value) (*dict, bool) {
	if sig, ok := v.(*Signature); ok {
		return sig.d, true
	}
	d, ok := opened(v).(*dict)
	return d, ok
}

// failStep fails one step; any is false when there is nothing to do.
func failStep(step, options *dict, exc celeryproto.Raw) (task FailedTask, any bool) {
	id, group := options.text(optTaskID), options.text(optGroupID)
	if id == "" {
		return task, false
	}
	task.Result = &celeryproto.ResultMeta{
		Status: celeryproto.StatusFailure, Result: exc, TaskID: id, GroupID: group, ParentID: options.text(optParentID),
		Extended: extended(step, options),
	}
	if options.has(optChord) && group != "" {
		task.PartOnce = true
		index, _ := smallInt(options.get(optGroupIndex))
		task.Part = &celeryproto.ChordPart{
			GroupID: group, TaskID: id, Index: index, Status: celeryproto.StatusFailure, Result: exc,
		}
		body, err := encodeValue(options.get(optChord))
		if err == nil {
			task.Body = body
		}
	}
	return task, true
}

// extended are the fields that Celery's setting result_extended stores for a
// task that never ran.
func extended(step, options *dict) *celeryproto.ResultExtended {
	x := &celeryproto.ResultExtended{Name: step.text(keyTask)}
	x.Args, _ = encodeValue(orNone(step.get(keyArgs)))
	x.Kwargs, _ = encodeValue(orNone(step.get(keyKwargs)))
	retries, ok := smallInt(options.get(optRetries))
	if !ok || retries == nil {
		retries = new(int)
	}
	x.Retries = retries
	return x
}

// callErrbacks is _call_task_errbacks.
func callErrbacks(env *Env, errbacks *list, taskID, rootID string, newStyle NewStyle) (Errbacks, error) {
	e := Errbacks{TaskID: taskID}
	var old []value
	for i := range errbacks.items {
		sig := errbacks.signature(i)
		if sig.err != nil {
			return e, sig.err
		}
		if newStyle != nil && newStyle(sig) {
			e.Call = append(e.Call, sig)
		} else {
			old = append(old, sig)
		}
	}
	if len(old) == 0 {
		return e, nil
	}
	r := newRunner(env, nil)
	options := newDict(2)
	options.setText(optParentID, taskID)
	options.setText(optRootID, rootID)
	group := newGroup(&list{items: old}, newDict(2))
	var err error
	e.Plan, err = r.finish(r.apply(group, tupleOf([]celeryproto.Raw{textValue(taskID)}), nil, options))
	return e, err
}
