package worker

import (
	"context"
	"errors"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// defaultChordRetryInterval is Celery's result_chord_retry_interval (celery 5.7, app/defaults.py).
const defaultChordRetryInterval = time.Second

// unlockArgs are those of celery.chord_unlock, which is sent for each chord on a site whose result backend cannot count a
// header's parts, and with Redis only by older clients.
type unlockArgs struct {
	GroupID    string          `arg:"group_id"`
	Callback   celeryproto.Raw `arg:"callback"`
	Interval   *float64        `arg:"interval"`    // seconds between two looks
	MaxRetries *int            `arg:"max_retries"` // nil: without end
	Result     celeryproto.Raw `arg:"result,omitempty"`
	Options    map[string]any  `arg:",remain"`
}

// unlockChord looks whether all tasks of a chord's header have ended: if not it comes back later, else it sends the body, or lets
// those know who wait for it that a part has failed (celery 5.7, app/builtins.py, unlock_chord).
func unlockChord(ctx context.Context, call *TaskCall, args unlockArgs) (any, error) {
	if call.exec == nil || call.exec.settle == nil || call.exec.settle.results == nil {
		return nil, errNoBackend
	}
	header, err := args.Result.Array()
	if err != nil {
		return nil, bindFailure{&BindError{Argument: "result", Fact: "not a list"}}
	}
	members := make([]celeryproto.ResultTree, len(header))
	for i, member := range header {
		tree, err := celeryproto.DecodeResultTree(member)
		if err != nil {
			return nil, bindFailure{&BindError{Argument: "result", Fact: "not a list of results"}}
		}
		members[i] = *tree
	}
	u := unlocker{call: call, settle: call.exec.settle, args: &args}
	joined, err := u.join(ctx, members)
	switch failed, ok := errors.AsType[*canvas.ChordError](err); {
	case ok:
		return nil, u.fail(ctx, failed)
	case errors.Is(err, celeryproto.ErrNoResult):
		return nil, u.later(ctx, nil)
	case err != nil:
		return nil, u.later(ctx, err)
	}
	return nil, u.send(ctx, joined)
}

type unlocker struct {
	call   *TaskCall
	settle *settler
	args   *unlockArgs
}

// join reads the results of the header. The error is a *canvas.ChordError when a part has failed, ErrNoResult when one has not
// ended yet.
func (u *unlocker) join(ctx context.Context, members []celeryproto.ResultTree) ([]celeryproto.ChordPart, error) {
	metas := map[string]*celeryproto.ResultMeta{}
	var ids []string
	for i := range members {
		ids = members[i].TaskIDs(ids)
	}
	for _, id := range ids {
		m, err := u.settle.results.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		if !celeryproto.IsReady(m.Status) {
			return nil, celeryproto.ErrNoResult
		}
		metas[id] = m
	}
	parts := make([]celeryproto.ChordPart, len(members))
	for i := range members {
		value, err := joinedValue(&members[i], metas)
		if failed, ok := errors.AsType[*canvas.ChordError](err); ok && !members[i].IsGroup {
			failed.Text = "Dependency " + members[i].ID + " raised " + failed.Text // Python does not look into groups
		}
		if err != nil {
			return nil, err
		}
		parts[i] = celeryproto.ChordPart{
			GroupID: u.args.GroupID, TaskID: members[i].ID, Index: &i, Status: celeryproto.StatusSuccess, Result: value,
		}
	}
	return parts, nil
}

// joinedValue is the value of a result: for a group the list of those of its members. The error is a *canvas.ChordError with the first
// exception among them.
func joinedValue(tree *celeryproto.ResultTree, metas map[string]*celeryproto.ResultMeta) (celeryproto.Raw, error) {
	if !tree.IsGroup {
		m := metas[tree.ID]
		if m.Status == celeryproto.StatusSuccess {
			return m.Result, nil
		}
		exc, err := m.Exception()
		if err != nil {
			return nil, err
		}
		return nil, &canvas.ChordError{Text: canvas.ReprException(exc), Cause: m.Result}
	}
	list := celeryproto.Raw{'['}
	for i := range tree.Children {
		value, err := joinedValue(&tree.Children[i], metas)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			list = append(list, ", "...)
		}
		list = append(list, value...)
	}
	return append(list, ']'), nil
}

// send sends the body.
func (u *unlocker) send(ctx context.Context, parts []celeryproto.ChordPart) error {
	plan, err := canvas.OnChordReady(u.call.exec.env, u.call.Task, u.args.Callback, &celeryproto.Chord{GroupID: u.args.GroupID, Results: parts})
	if err == nil {
		err = u.call.exec.sender.Apply(ctx, plan)
	}
	if err == nil {
		u.call.job.sent(plan.Children)
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	exc, _ := exceptionOf(err)
	return u.fail(ctx, canvas.CallbackError(exc))
}

// fail lets those know who wait for the body. The task itself has done its work then.
func (u *unlocker) fail(ctx context.Context, failed *canvas.ChordError) error {
	u.call.Logger().ErrorContext(ctx, "chord failed", "group", u.args.GroupID, "err", failed)
	if !u.settle.flow.failChord(ctx, u.settle, u.call.job, u.args.Callback, failed) {
		return context.Cause(ctx)
	}
	return nil
}

// later comes back after the interval. When that was tried often enough the chord fails: nothing looks after it any more.
func (u *unlocker) later(ctx context.Context, cause error) error {
	retry := &RetryError{Err: cause, MaxRetries: UnlimitedRetries}
	if u.args.Interval != nil {
		retry.After = time.Duration(*u.args.Interval * float64(time.Second))
	}
	if most := u.args.MaxRetries; most != nil {
		retry.MaxRetries = *most
		if *most <= 0 {
			retry.MaxRetries = NoRetries
		}
	}
	rep := retryReport(u.call.job, retry)
	if rep.Outcome == Retried {
		return retry
	}
	exc, _ := exceptionOf(rep.Err)
	text := "chord_unlock could not be retried: " + canvas.ReprException(exc)
	stored, err := exc.Raw()
	if err != nil {
		stored = nil
	}
	if err := u.fail(ctx, &canvas.ChordError{Text: text, Cause: stored}); err != nil {
		return err
	}
	return rep.Err
}
