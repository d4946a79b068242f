package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
	"github.com/dfws/dfws/compat/dispatch"
)

// workflow sends what follows tasks: callbacks, chains, chords, errbacks, retries.
type workflow struct {
	env       canvas.Env
	defaults  canvas.Defaults // Now is set for each use
	router    *router
	publisher publisher
	backend   Backend                                           // nil: the site has none
	python    func() *dispatch.Errbacks                         // what Python says about errbacks, nil for nothing; may be nil
	knows     func(task string) bool                            // tasks with a handler in this program; may be nil
	revoke    func(ctx context.Context, taskIDs []string) error // asks all workers not to run tasks
	sent      func(*parcel)                                     // is told what was sent; may be nil
	now       func() time.Time
}

// shipment is a plan made ready: it can be sent again where it was interrupted.
type shipment struct {
	chords   []celeryproto.ChordStart
	messages []parcel
}

// pack renders a plan's messages. The sizes of chords are known before any message: that is early enough.
func (f *workflow) pack(plan *canvas.Plan) (*shipment, error) {
	s := &shipment{}
	defaults := f.defaults
	defaults.Now = f.now()
	for i := range plan.Steps {
		step := &plan.Steps[i]
		if step.Chord != nil {
			s.chords = append(s.chords, *step.Chord)
			continue
		}
		m, err := f.packSend(*step.Send, defaults)
		if err != nil {
			return nil, err
		}
		s.messages = append(s.messages, m)
	}
	if len(s.chords) > 0 && f.backend == nil {
		return nil, errNoBackend
	}
	return s, nil
}

// packSend makes one message.
func (f *workflow) packSend(send canvas.Send, defaults canvas.Defaults) (parcel, error) {
	d, options, err := f.router.route(send.Task, send.Options)
	if err != nil {
		return parcel{}, err
	}
	send.Options = options
	t, err := send.Message(defaults)
	if err != nil {
		return parcel{}, err
	}
	return pack(d, t)
}

// ship sends what was not sent yet.
func (f *workflow) ship(ctx context.Context, s *shipment) error {
	for len(s.chords) > 0 {
		if err := f.backend.StartChord(ctx, s.chords[0]); err != nil {
			return err
		}
		s.chords = s.chords[1:]
	}
	var err error
	s.messages, err = publish(ctx, f.publisher, s.messages, f.sent)
	return err
}

// send sends a plan at once, for callers that can be told of an error.
func (f *workflow) send(ctx context.Context, plan *canvas.Plan) error {
	s, err := f.pack(plan)
	if err != nil {
		return err
	}
	return f.ship(ctx, s)
}

// insist sends a plan, as often as it takes.
func (f *workflow) insist(ctx context.Context, s *settler, j *job, what string, plan *canvas.Plan) error {
	if plan == nil || len(plan.Steps) == 0 {
		return nil
	}
	load, err := f.pack(plan)
	if err != nil {
		return err
	}
	return s.persist(ctx, j, what, func(ctx context.Context) error { return f.ship(ctx, load) })
}

// callbacks sends what follows a success, before its result is stored. An error with a living ctx fails the task.
func (f *workflow) callbacks(ctx context.Context, s *settler, j *job, result celeryproto.Raw) error {
	if isEmpty(j.task.Embed.Callbacks) && isEmpty(j.task.Embed.Chain) {
		return nil
	}
	plan, err := canvas.OnSuccess(&f.env, j.task, result)
	if err != nil {
		return err
	}
	if err := f.insist(ctx, s, j, "callbacks", plan); err != nil {
		return err
	}
	j.sent(plan.Children)
	return nil
}

// part counts the end of a chord's header task. False: ctx ended first.
func (f *workflow) part(ctx context.Context, s *settler, j *job, status string, result celeryproto.Raw) bool {
	if isEmpty(j.task.Embed.Chord) {
		return true
	}
	part, ok := canvas.PartOf(j.task, status, result)
	if !ok {
		return true
	}
	return f.returnPart(ctx, s, j, part, j.task.Embed.Chord)
}

func (f *workflow) returnPart(ctx context.Context, s *settler, j *job, part celeryproto.ChordPart, body celeryproto.Raw) bool {
	if f.backend == nil {
		j.logger(s.log).ErrorContext(ctx, "chord never ends", "group", part.GroupID, "err", errNoBackend)
		return true
	}
	var chord *celeryproto.Chord
	err := s.persist(ctx, j, "chord part", func(ctx context.Context) (err error) {
		chord, err = f.backend.ChordPart(ctx, part)
		return err
	})
	if ctx.Err() != nil {
		return false
	}
	if err != nil { // not what Celery writes is under the chord's keys
		s.observer.resultLost(j.queue)
		return true
	}
	if chord == nil {
		return true
	}
	return f.dispatch(ctx, s, j, body, chord)
}

// dispatch sends the body of a chord whose header has ended. When the worker stops in between, the message of the job that
// completed the chord is run again, here or in Python, and takes the chord up after the claim has expired.
func (f *workflow) dispatch(ctx context.Context, s *settler, j *job, body celeryproto.Raw, chord *celeryproto.Chord) bool {
	plan, err := canvas.OnChordReady(&f.env, j.task, body, chord)
	if err == nil {
		var ours bool
		renewed := s.persist(ctx, j, "chord", func(ctx context.Context) (err error) {
			ours, err = f.backend.RenewChord(ctx, chord)
			return err
		})
		if renewed != nil || !ours {
			return ctx.Err() == nil
		}
		err = f.insist(ctx, s, j, "chord body", plan)
	}
	if ctx.Err() != nil {
		return false
	}
	finish := f.backend.FinishChord
	if err != nil {
		failed, ok := errors.AsType[*canvas.ChordError](err)
		if !ok {
			exc, _ := exceptionOf(err)
			failed = canvas.CallbackError(exc)
		}
		j.logger(s.log).ErrorContext(ctx, "chord failed", "group", chord.GroupID, "err", failed)
		if !f.failChord(ctx, s, j, body, failed) {
			return false
		}
		finish = f.backend.FailChord
	}
	return s.insist(ctx, j, "chord", func(ctx context.Context) error { return finish(ctx, chord) }) || ctx.Err() == nil
}

func (f *workflow) failChord(ctx context.Context, s *settler, j *job, body celeryproto.Raw, failed *canvas.ChordError) bool {
	failure, err := canvas.OnChordFailed(&f.env, body, failed, f.onlyPython)
	if err != nil {
		j.logger(s.log).ErrorContext(ctx, "body of a failed chord left alone", "err", err)
		return true
	}
	exc, err := failed.Exception().Raw()
	if err != nil {
		exc = nil
	}
	return f.carryFailure(ctx, s, j, failure, &celeryproto.ResultMeta{Result: exc}, s.results != nil)
}

// fail lets those know who wait for what comes after a failed task; m is the failure as it is stored.
func (f *workflow) fail(ctx context.Context, s *settler, j *job, m *celeryproto.ResultMeta) bool {
	if isEmpty(j.task.Embed.Chain) && isEmpty(j.task.Embed.Errbacks) {
		return true
	}
	failure, err := canvas.OnFailure(&f.env, j.task, m.Result, f.onlyPython)
	if err != nil {
		j.logger(s.log).ErrorContext(ctx, "chain and errbacks of a failed task left alone", "err", err)
		return true
	}
	return f.carryFailure(ctx, s, j, failure, m, s.storesErrors(j))
}

func (f *workflow) carryFailure(
	ctx context.Context, s *settler, j *job, failure *canvas.Failure, m *celeryproto.ResultMeta, store bool,
) bool {
	for i := range failure.Tasks {
		if !f.failTask(ctx, s, j, &failure.Tasks[i], m, store) {
			return false
		}
	}
	return f.errbacks(ctx, s, j, &failure.Errbacks, m)
}

// failTask fails one task that will not run.
func (f *workflow) failTask(
	ctx context.Context, s *settler, j *job, task *canvas.FailedTask, m *celeryproto.ResultMeta, store bool,
) bool {
	if !f.errbacks(ctx, s, j, &task.Errbacks, m) {
		return false
	}
	failed := false
	if task.PartOnce && f.backend != nil {
		err := s.persist(ctx, j, "state of a chain's step", func(ctx context.Context) error {
			old, err := f.backend.Get(ctx, task.Result.TaskID)
			if err == nil {
				failed = old.Status == celeryproto.StatusFailure || old.Status == celeryproto.StatusRevoked
			}
			if errors.Is(err, celeryproto.ErrNoResult) {
				return nil
			}
			return err
		})
		if err != nil && ctx.Err() != nil {
			return false
		}
	}
	if task.Result != nil && store {
		result := *task.Result
		result.DateDone, result.Traceback = f.now().In(s.zone), m.Traceback
		if result.Extended == nil { // stored without a request of its own: then Celery takes the children of the task at hand
			result.Children = j.children()
		}
		if !s.extended {
			result.Extended = nil
		}
		if !s.store(ctx, j, &result) {
			return false
		}
	}
	if len(task.Revoke) > 0 {
		if err := f.revoke(ctx, task.Revoke); err != nil {
			j.logger(s.log).WarnContext(ctx, "tasks of a failed chord not revoked", "err", err)
		}
	}
	if task.Part == nil || failed {
		return true
	}
	return f.returnPart(ctx, s, j, *task.Part, task.Body)
}

// errbacks calls the errbacks of a failed task.
func (f *workflow) errbacks(ctx context.Context, s *settler, j *job, e *canvas.Errbacks, m *celeryproto.ResultMeta) bool {
	var python *canvas.Plan
	if len(e.Call) > 0 {
		var err error
		if python, err = f.pythonErrbacks(s, j, e, m); err != nil {
			j.logger(s.log).ErrorContext(ctx, "errbacks not called", "err", err)
		}
	}
	for _, plan := range []*canvas.Plan{python, e.Plan} {
		if err := f.insist(ctx, s, j, "errbacks", plan); err != nil {
			if ctx.Err() != nil {
				return false
			}
			j.logger(s.log).ErrorContext(ctx, "errbacks not sent", "err", err)
			continue
		}
		if plan == e.Plan && plan != nil && plan.Result != nil { // Celery finds the task at hand by itself and makes them its children
			j.sent([]celeryproto.ResultTree{*plan.Result})
		}
	}
	return true
}

// retryPlan is the task's next try.
func (f *workflow) retryPlan(j *job, r *RetryError) (*canvas.Plan, error) {
	opts := canvas.RetryOptions{IgnoreResult: j.policy.ignoreResult}
	set := func(option string, v any) error {
		raw, err := celeryproto.EncodeValue(v)
		if err != nil {
			return err
		}
		opts.Options.Set(option, raw)
		return nil
	}
	var errs []error
	if r.Args != nil {
		opts.Args = []celeryproto.Raw{}
		for _, arg := range r.Args {
			raw, err := celeryproto.EncodeValue(arg)
			errs = append(errs, err)
			opts.Args = append(opts.Args, raw)
		}
	}
	if r.Kwargs != nil {
		raw, err := celeryproto.EncodeValue(r.Kwargs)
		if err == nil {
			opts.Kwargs, err = raw.Object()
		}
		errs = append(errs, err)
	}
	if !r.At.IsZero() {
		errs = append(errs, set("eta", celeryproto.FormatISOTime(r.At)))
	} else {
		errs = append(errs, set("countdown", max(cmp.Or(r.After, cmp.Or(j.policy.options.RetryDelay, DefaultRetryDelay)), 0).Seconds()))
	}
	if r.Expires > 0 {
		errs = append(errs, set("expires", r.Expires.Seconds()))
	}
	if r.Queue != "" {
		errs = append(errs, set("queue", r.Queue))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("worker: retry: %w", err)
	}
	if err := keepArguments(j, &opts); err != nil {
		return nil, err
	}
	return canvas.Retry(&f.env, j.task, opts)
}

// keepArguments takes over from the task what a retry with new positional or new named arguments leaves out, and drops what it gives
// in the other way (celery 5.7, app/task.py, Task.retry).
func keepArguments(j *job, opts *canvas.RetryOptions) error {
	if (opts.Args == nil) == (opts.Kwargs == nil) {
		return nil
	}
	positional, named, err := argumentsOf(j.task)
	if err != nil {
		return fmt.Errorf("worker: retry: %w", err)
	}
	params := j.plain.params
	defer func() {
		if opts.Kwargs == nil { // which would be the old ones
			opts.Kwargs = celeryproto.Members{}
		}
	}()
	if opts.Args != nil {
		opts.Kwargs = named
		for _, name := range params[:min(len(opts.Args), len(params))] {
			opts.Kwargs.Delete(name)
		}
		return nil
	}
	opts.Args = slices.Clone(positional)
	for i, name := range params[:min(len(positional), len(params))] {
		if value, given := opts.Kwargs.Get(name); given {
			opts.Args[i] = value
			opts.Kwargs.Delete(name)
		}
	}
	return nil
}

// replace sends what stands in for a task.
func (f *workflow) replace(ctx context.Context, s *settler, j *job, by *canvas.Signature) error {
	plan, err := canvas.Replace(&f.env, j.task, by)
	if errors.Is(err, canvas.ErrEmptyChain) {
		return &Exception{Type: "ImproperlyConfigured", Module: moduleCelery, Args: []any{"Cannot replace with an empty chain"}}
	}
	if err != nil {
		return err
	}
	return f.insist(ctx, s, j, "replacement", plan)
}

// sent notes what a job has sent, for its result's children.
func (j *job) sent(children []celeryproto.ResultTree) {
	j.mu.Lock()
	j.trail = append(j.trail, children...)
	j.mu.Unlock()
}
