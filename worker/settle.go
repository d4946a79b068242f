package worker

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
)

const (
	// settleTimeout bounds giving back what is left at the end of a stop.
	settleTimeout = 10 * time.Second
	// settleMinWait and settleMaxWait bound the wait between tries while Redis is away.
	settleMinWait, settleMaxWait = 50 * time.Millisecond, 5 * time.Second
)

// settler writes to Redis how a task ended, and sends what follows it. While Redis is away it goes on trying until the worker
// stops; then the task stays unacked and will be run again.
type settler struct {
	cfg      Config
	results  Backend // nil: the site has no result backend
	quick    bool    // results are stored by the step that acks
	zone     *time.Location
	extended bool // setting result_extended
	ignore   bool // setting task_ignore_result
	node     string
	flow     *workflow
	events   *eventHub
	ended    func(*job) // a job has left the worker
	log      *slog.Logger
	observer *Observer
}

// isPlain tells whether nothing is to be done for a job but to store its result and to ack.
func (s *settler) isPlain(j *job, rep Report) bool {
	e := &j.task.Embed
	return rep.Outcome == Succeeded && (s.quick || !s.stores(j)) && isEmpty(e.Callbacks) && isEmpty(e.Chain) && isEmpty(e.Chord)
}

// isEmpty tells whether a part of the embed says that nothing follows; the last step of a chain has "chain": [].
func isEmpty(r celeryproto.Raw) bool {
	switch r.Kind() {
	case celeryproto.KindInvalid, celeryproto.KindNull:
		return true
	case celeryproto.KindArray, celeryproto.KindObject:
		const brackets = 2
		return len(r) == brackets
	default:
		return false
	}
}

// successMeta is what is stored for a plain job, nil for nothing.
func (s *settler) successMeta(j *job, rep Report) *celeryproto.ResultMeta {
	if !s.stores(j) {
		return nil
	}
	return s.meta(j, celeryproto.StatusSuccess, rep.Result, "")
}

// started stores that a job has begun, where somebody wants to know. It is not worth failing a task for.
func (s *settler) started(ctx context.Context, j *job) {
	if !j.policy.trackStarted || !s.stores(j) {
		return
	}
	info, err := celeryproto.EncodeValue(map[string]any{"pid": os.Getpid(), "hostname": s.node})
	if err == nil {
		err = s.results.Store(ctx, s.meta(j, celeryproto.StatusStarted, info, ""))
	}
	if err != nil {
		j.logger(s.log).WarnContext(ctx, "STARTED not stored", "err", err)
	}
}

// finish ends a job whose handlers ran. A crash in between repeats the task rather than losing what follows it.
func (s *settler) finish(ctx context.Context, j *job, rep Report) {
	var ok bool
	switch rep.Outcome {
	case Succeeded:
		rep, ok = s.succeed(ctx, j, rep)
	case Retried:
		rep, ok = s.retry(ctx, j, rep)
	case Rejected:
		ok = s.reject(ctx, j, rep)
	case Ignored:
		ok = s.ack(ctx, j)
	case Replaced:
		rep, ok = s.replace(ctx, j, rep)
	case Revoked:
		s.revoke(ctx, j, Revoked)
		return
	case Abandoned:
		ok = s.abandon(ctx, j)
	default:
		rep, ok = s.fail(ctx, j, rep.Err)
	}
	s.over(j, rep, ok)
}

// finishAfter goes on where the quick way of ending a job failed with err.
func (s *settler) finishAfter(ctx context.Context, j *job, rep Report, err error) {
	if errors.Is(err, redisbroker.ErrLost) { // the result is stored; the message is somebody else's
		s.succeeded(j, rep)
		return
	}
	if _, encode := errors.AsType[*celeryproto.EncodeError](err); encode {
		rep = Report{Outcome: Failed, Err: encodeFailure(err)}
	}
	s.finish(ctx, j, rep)
}

// succeeded notes the end of a job whose result and ack are in Redis.
func (s *settler) succeeded(j *job, rep Report) { s.over(j, rep, true) }

// over tells everybody who wants to know that a job has left the worker; not ok means that it is still in Redis and will be
// run again.
func (s *settler) over(j *job, rep Report, ok bool) {
	s.ended(j)
	outcome := rep.Outcome
	if !ok {
		outcome = Abandoned
	}
	_, began, _ := j.state()
	took := time.Since(began)
	s.observer.finished(j.info(), outcome, took)
	if ok || rep.Outcome == Abandoned {
		s.events.finished(j, rep, took)
	}
}

// succeed is what celery 5.7, app/trace.py, does in this order: callbacks, chain, result, chord, ack. As those of fail, retry and replace,
// the report says how the job has ended after all.
func (s *settler) succeed(ctx context.Context, j *job, rep Report) (Report, bool) {
	if err := s.flow.callbacks(ctx, s, j, rep.Result); err != nil {
		if ctx.Err() != nil {
			return rep, false
		}
		return s.fail(ctx, j, err)
	}
	if s.stores(j) && !s.store(ctx, j, s.meta(j, celeryproto.StatusSuccess, rep.Result, "")) {
		return rep, false
	}
	return rep, s.flow.part(ctx, s, j, celeryproto.StatusSuccess, rep.Result) && s.ack(ctx, j)
}

// fail is what celery 5.7, backends/base.py (mark_as_failure), does in this order: result, chord, chain, errbacks; then the ack.
func (s *settler) fail(ctx context.Context, j *job, cause error) (Report, bool) {
	policy := j.policy
	_, timedOut := hardLimitOf(cause)
	late := policy.acksLate && !j.wasAcked()
	switch {
	case late && timedOut && !policy.acksOnTimeout, late && errors.Is(cause, ErrGoexit) && policy.requeueLost:
		return Report{Outcome: Rejected, Err: &RejectError{Err: cause, Requeue: true}}, s.requeue(ctx, j)
	}
	return Report{Outcome: Failed, Err: cause}, s.markFailed(ctx, j, s.failure(j, cause)) && s.ack(ctx, j)
}

// markFailed stores a failure and lets everybody know who depends on the task.
func (s *settler) markFailed(ctx context.Context, j *job, m *celeryproto.ResultMeta) bool {
	if s.storesErrors(j) && !s.store(ctx, j, m) {
		return false
	}
	return s.flow.part(ctx, s, j, m.Status, m.Result) && s.flow.fail(ctx, s, j, m)
}

// retry sends the task again, stores RETRY and acks.
func (s *settler) retry(ctx context.Context, j *job, rep Report) (Report, bool) {
	retry, _ := errors.AsType[*RetryError](rep.Err)
	plan, err := s.flow.retryPlan(j, retry)
	if err == nil {
		err = s.flow.insist(ctx, s, j, "retry", plan)
	}
	if err != nil { // what Python raises then
		err = &RejectError{Err: err}
		return Report{Outcome: Failed, Err: err}, ctx.Err() == nil && s.markFailed(ctx, j, s.failure(j, err)) && s.ack(ctx, j)
	}
	if s.storesErrors(j) {
		j.sent(plan.Children)
		if !s.store(ctx, j, s.retryMeta(j, retry)) {
			return rep, false
		}
	}
	return rep, s.ack(ctx, j)
}

// reject is what celery 5.7, worker/request.py, does with Reject.
func (s *settler) reject(ctx context.Context, j *job, rep Report) bool {
	reject, _ := errors.AsType[*RejectError](rep.Err)
	if reject.Requeue {
		return s.requeue(ctx, j)
	}
	return s.markFailed(ctx, j, s.failure(j, reject)) && s.ack(ctx, j)
}

// replace sends what stands in for the task, then acks.
func (s *settler) replace(ctx context.Context, j *job, rep Report) (Report, bool) {
	by, _ := errors.AsType[*replacement](rep.Err)
	if err := s.flow.replace(ctx, s, j, by.by); err != nil {
		if ctx.Err() != nil {
			return rep, false
		}
		return s.fail(ctx, j, err)
	}
	return rep, s.ack(ctx, j)
}

// errCancelled is what Celery stores for a task that its cold shutdown interrupts (celery 5.7, worker/request.py, _announce_cancelled),
// but for its text, which there is lost in the repr of an exception that contains itself.
var errCancelled = &Exception{Type: "Retry", Module: moduleCelery, Args: []any{"cancelled by Celery", nil, nil}}

// abandon leaves a job that the worker's stop interrupted in unacked, to be given back. One that was acked already is lost; whoever
// waits for it learns that, as at Celery's cold shutdown.
func (s *settler) abandon(ctx context.Context, j *job) bool {
	if !j.wasAcked() {
		return false
	}
	j.logger(s.log).WarnContext(ctx, "task interrupted by the stop, and acked before it ran: lost")
	if s.storesErrors(j) {
		s.store(ctx, j, s.retryMeta(j, &RetryError{Err: errCancelled}))
	}
	return true
}

// requeue gives the message back to the end of its queue, marked as redelivered.
func (s *settler) requeue(ctx context.Context, j *job) bool {
	if j.wasAcked() {
		return true
	}
	ok := s.insist(ctx, j, "requeue", j.reject)
	if ok {
		s.events.rejected(j, true)
	}
	return ok
}

// ack ends the message, unless it was acked before the handlers ran.
func (s *settler) ack(ctx context.Context, j *job) bool {
	return j.wasAcked() || s.insist(ctx, j, "ack", j.ack)
}

// Why a task is REVOKED (celery 5.7, worker/request.py).
const (
	whyRevoked    = "revoked"
	whyExpired    = "expired"
	whyTerminated = "terminated"
)

// revoke ends a job that is not to be run, or was terminated while it ran: outcome is Revoked or Expired.
func (s *settler) revoke(ctx context.Context, j *job, outcome Outcome) {
	_, began, _ := j.state()
	why := whyRevoked
	switch {
	case outcome == Expired:
		why = whyExpired
	case !began.IsZero():
		why = whyTerminated
	}
	j.logger(s.log).InfoContext(ctx, "task discarded", "reason", why)
	m := s.revoked(j, why)
	ok := !s.storesErrors(j) || s.store(ctx, j, m)
	ok = ok && s.flow.part(ctx, s, j, m.Status, m.Result) && s.ack(ctx, j)
	s.ended(j)
	if !ok {
		outcome = Abandoned
	} else {
		s.events.revoked(j, why)
	}
	s.observer.finished(j.info(), outcome, time.Since(j.taken))
}

// unhandled gives a job without handler to others: to Config.UnknownQueue, back to its queue, or, when it came back too
// often, to the dead letters. framed says that the frame of a delayed signal was already sent, cause why it is not run here.
func (s *settler) unhandled(ctx context.Context, j *job, framed bool, cause error) {
	if j.hops >= s.cfg.MaxHops {
		s.dead(ctx, j, DeadUnhandled, cause)
		return
	}
	envelope, err := j.again(framed, s.cfg.UnknownQueue)
	if err != nil {
		s.dead(ctx, j, DeadUndecodable, err)
		return
	}
	log := j.logger(s.log)
	outcome := Unhandled
	if s.cfg.UnknownQueue != "" {
		log.DebugContext(ctx, "no handler, moved", "to", s.cfg.UnknownQueue)
		if !s.insist(ctx, j, "move", func(ctx context.Context) error {
			return j.move(ctx, s.cfg.UnknownQueue, j.envelope.Properties.Priority, envelope)
		}) {
			outcome = Abandoned
		}
	} else {
		wait := s.cfg.hopDelay(j.hops)
		log.DebugContext(ctx, "no handler, sent back", "hops", j.hops+1, "wait", wait)
		if !s.insist(ctx, j, "requeue", func(ctx context.Context) error { return j.requeue(ctx, envelope, wait, hopRest(j.hops)) }) {
			outcome = Abandoned
		}
	}
	if outcome == Unhandled {
		s.observer.requeued(j.queue, j.hops+1)
	}
	s.ended(j)
	s.observer.finished(j.info(), outcome, time.Since(j.taken))
}

// dead puts a job into the dead letters of its queue, and lets whoever waits for its result know.
func (s *settler) dead(ctx context.Context, j *job, reason string, cause error) {
	j.logger(s.log).ErrorContext(ctx, "task dead-lettered", "reason", reason, "size", j.size, "err", cause)
	s.deadResult(ctx, j, reason, cause)
	outcome := Dead
	text := reason + ": " + cause.Error()
	if s.insist(ctx, j, "dead letter", func(ctx context.Context) error { return j.deadLetter(ctx, text) }) {
		s.observer.deadLettered(j.queue, reason)
		if reason == DeadUnhandled {
			s.events.unregistered(j)
		}
	} else {
		outcome = Abandoned
	}
	s.ended(j)
	s.observer.finished(j.info(), outcome, time.Since(j.taken))
}

// deadResult is the failure that a dead letter's sender gets to see, and what depends on it.
func (s *settler) deadResult(ctx context.Context, j *job, reason string, cause error) {
	if j.task == nil {
		if j.envelope == nil || s.results == nil || j.envelope.TaskID() == "" {
			return
		}
		j.task = &celeryproto.Task{Name: j.envelope.TaskName(), ID: j.envelope.TaskID()}
		class, module := "DecodeError", "kombu.exceptions"
		if isDisallowed(cause) {
			class = "ContentDisallowed"
		}
		s.store(ctx, j, s.failure(j, &Exception{Type: class, Module: module, Args: []any{cause.Error()}}))
		return
	}
	if j.task.ID == "" {
		return
	}
	if reason == DeadUnhandled {
		s.markFailed(ctx, j, s.notRegistered(j))
		return
	}
	s.markFailed(ctx, j, s.failure(j, cause))
}

// isDisallowed tells whether a message is in a serializer or compression that is not read here.
func isDisallowed(err error) bool {
	_, unsupported := errors.AsType[*celeryproto.UnsupportedError](err)
	return unsupported
}

// stores tells whether a job's success is written to the result backend: the message's own wish first, as in Celery 5.6 and later.
func (s *settler) stores(j *job) bool {
	switch {
	case s.results == nil:
		return false
	case j.task.IgnoreResult != nil:
		return !*j.task.IgnoreResult
	case j.plain != nil:
		return !j.plain.policy.ignoreResult
	}
	return !s.ignore
}

// storesErrors is stores for failures, retries and revocations.
func (s *settler) storesErrors(j *job) bool {
	return s.results != nil && (s.stores(j) || j.policy != nil && j.policy.storeErrors)
}

// store writes a result. What can never be written is lost, counted, and no reason to run the task again: only the end of ctx gives
// false.
func (s *settler) store(ctx context.Context, j *job, meta *celeryproto.ResultMeta) bool {
	if !s.insist(ctx, j, "result", func(ctx context.Context) error { return s.results.Store(ctx, meta) }) {
		s.observer.resultLost(j.queue)
		return ctx.Err() == nil
	}
	return true
}

// insist is persist where only success counts.
func (s *settler) insist(ctx context.Context, j *job, what string, write func(context.Context) error) bool {
	return s.persist(ctx, j, what, write) == nil
}

// persist repeats a write until it succeeds. The error is the last one when ctx ended first or trying again is pointless.
func (s *settler) persist(ctx context.Context, j *job, what string, write func(context.Context) error) error {
	for wait := settleMinWait; ; wait = min(2*wait, settleMaxWait) {
		err := write(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			j.logger(s.log).WarnContext(ctx, "task not settled before the worker stopped", "step", what, "err", err)
			return err
		case !retryable(err):
			j.logger(s.log).ErrorContext(ctx, "task not settled", "step", what, "err", err)
			return err
		case wait == settleMinWait:
			j.logger(s.log).WarnContext(ctx, "settling a task, trying again", "step", what, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}
