package canvas

import (
	"github.com/dfws/dfws/celeryproto"
)

// ChordError is why the body of a chord does not run (celery 5.7, exceptions.py).
type ChordError struct {
	// Text is the message, word for word as Python makes it.
	Text string
	// Cause is the stored exception of the part that failed; nil for none.
	Cause celeryproto.Raw
}

func (e *ChordError) Error() string { return "celery.exceptions.ChordError: " + e.Text }

// Exception is what the result backend stores.
func (e *ChordError) Exception() *celeryproto.Exception {
	return celeryproto.NewException("celery.exceptions", "ChordError", e.Text)
}

// Prefixes of the texts (celery 5.7, backends/redis.py, on_chord_part_return).
const (
	joinErrorPrefix     = "Join error: "
	callbackErrorPrefix = "Callback error: "
)

// CallbackError is the error of a chord whose body could not be sent; exc is the
// exception that a Python worker would have had.
func CallbackError(exc *celeryproto.Exception) *ChordError {
	return &ChordError{Text: callbackErrorPrefix + ReprException(exc)}
}

// chordError finds the part because of which a chord fails, nil when there is
// none.
func chordError(chord *celeryproto.Chord) (*ChordError, error) {
	for i := range chord.Results {
		part := &chord.Results[i]
		if !part.Failed() {
			continue
		}
		meta := celeryproto.ResultMeta{Status: part.Status, Result: part.Result}
		exc, err := meta.Exception()
		if err != nil {
			return nil, err
		}
		text := ReprException(exc)
		if chord.Plain {
			return &ChordError{Text: text}, nil
		}
		if chord.Complex {
			return &ChordError{Text: joinErrorPrefix + text}, nil
		}
		return &ChordError{Text: "Dependency " + part.TaskID + " raised " + text, Cause: part.Result}, nil
	}
	return nil, nil
}

// OnChordReady is the body of a chord, applied with the results of its header.
// The error is a *ChordError when a part failed: OnChordFailed is what to do
// then. req is the task that ended last, whose worker holds the chord.
func OnChordReady(env *Env, req *celeryproto.Task, body celeryproto.Raw, chord *celeryproto.Chord) (*Plan, error) {
	failed, err := chordError(chord)
	if err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	sig, err := Decode(body)
	if err != nil {
		return nil, err
	}
	results := make([]celeryproto.Raw, len(chord.Results))
	for i := range results {
		results[i] = chord.Results[i].Result
	}
	r := newRunner(env, ParentOf(req))
	args := tupleOf([]celeryproto.Raw{tupleOf(results).raw})
	return r.finish(r.apply(sig, args, nil, nil))
}

// OnChordFailed is what a worker does when the body of a chord cannot run
// (celery 5.7, backends/base.py, chord_error_from_stack): the errbacks of the
// body are called, it fails, and so does the chain behind it. Of a group as
// body, each member fails, with the cause instead of the ChordError.
func OnChordFailed(env *Env, body celeryproto.Raw, failed *ChordError, newStyle NewStyle) (*Failure, error) {
	sig, err := Decode(body)
	if err != nil {
		return nil, err
	}
	exc, err := failed.Exception().Raw()
	if err != nil {
		return nil, err
	}
	f := &Failure{}
	if sig.kind == KindGroup {
		cause := exc
		if failed.Cause != nil {
			cause = failed.Cause
		}
		err = f.failGroup(env, sig, cause, newStyle)
	} else {
		r := newRunner(env, nil)
		id := r.ownID(sig.options(), "")
		if r.err != nil {
			return nil, r.err
		}
		err = f.fail(env, id, links(sig.options(), optLinkError), exc, newStyle)
	}
	if err != nil {
		return nil, err
	}
	f.Tasks = append(f.Tasks, failChain(links(sig.options(), optChain), exc)...)
	return f, nil
}

// fail adds one task with its errbacks.
func (f *Failure) fail(env *Env, id string, errbacks *list, exc celeryproto.Raw, newStyle NewStyle) error {
	called, err := callErrbacks(env, errbacks, id, id, newStyle)
	if err != nil {
		return err
	}
	f.Tasks = append(f.Tasks, FailedTask{
		Errbacks: called,
		Result:   &celeryproto.ResultMeta{Status: celeryproto.StatusFailure, Result: exc, TaskID: id},
	})
	return nil
}

// failGroup is _handle_group_chord_error.
func (f *Failure) failGroup(env *Env, group *Signature, exc celeryproto.Raw, newStyle NewStyle) error {
	r := newRunner(env, nil)
	groupID, results := r.freezeGroup(group, freezing{})
	if r.err != nil {
		return r.err
	}
	errbacks := map[string]*list{}
	tasks := group.members()
	for i := range tasks.items {
		id, l := resultErrbacks(tasks.signature(i))
		errbacks[id] = l
	}
	common := links(group.options(), optLinkError)
	var ids []string
	for _, res := range results {
		own := &list{}
		for _, l := range []*list{errbacks[res.id], common} {
			if l == nil {
				continue
			}
			for i := range l.items {
				l.items[i] = opened(l.items[i])
				own.add(l.items[i])
			}
		}
		if err := f.fail(env, res.id, own, exc, newStyle); err != nil {
			return err
		}
		ids = append(ids, res.id)
	}
	f.Tasks = append(f.Tasks, FailedTask{
		Result: &celeryproto.ResultMeta{Status: celeryproto.StatusFailure, Result: exc, TaskID: groupID}, Revoke: ids,
	})
	return nil
}

// resultErrbacks is _result_errbacks: the ID of what has the value of a task, and
// all errbacks on the way to it.
func resultErrbacks(s *Signature) (id string, errbacks *list) {
	all := &list{}
	for s.kind == KindChord && s.body() != nil {
		all.items = append(all.items, links(s.options(), optLinkError).items...)
		s = s.body()
	}
	all.items = append(all.items, links(s.options(), optLinkError).items...)
	if s.kind == KindGroup {
		tasks := s.members()
		for i := range tasks.items {
			_, inner := resultErrbacks(tasks.signature(i))
			all.items = append(all.items, inner.items...)
		}
	}
	return s.options().text(optTaskID), all
}
