package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

const (
	// settleTimeout bounds giving back what is left at the end of a stop.
	settleTimeout = 10 * time.Second
	// settleMinWait and settleMaxWait bound the wait between tries while Redis is away.
	settleMinWait, settleMaxWait = 50 * time.Millisecond, 5 * time.Second
)

// settler writes to Redis how a task ended. While Redis is away it goes on trying until the worker stops; then the task
// stays unacked and will be run again.
type settler struct {
	cfg      Config
	results  results // nil: the site has no result backend
	zone     *time.Location
	extended bool // setting result_extended
	ignore   bool // setting task_ignore_result
	node     string
	log      *slog.Logger
	observer *Observer
}

// finish ends a job whose handlers ran: first the result, then the ack, so that a crash between the two repeats the task
// rather than losing its result.
func (s *settler) finish(ctx context.Context, j *job, rep Report, began time.Time) {
	outcome := rep.Outcome
	if outcome != Abandoned || j.acked {
		if s.stores(j) {
			s.store(ctx, j, s.metaOf(j, rep))
		}
		if !j.acked && !s.insist(ctx, j, "ack", j.ack) {
			outcome = Abandoned
		}
	}
	s.observer.finished(j.info(), outcome, time.Since(began))
}

// expire ends a job whose time was over before it began.
func (s *settler) expire(ctx context.Context, j *job) {
	j.logger(s.log).InfoContext(ctx, "task expired")
	if s.stores(j) {
		s.store(ctx, j, s.revoked(j, "expired"))
	}
	outcome := Expired
	if !s.insist(ctx, j, "ack", j.ack) {
		outcome = Abandoned
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
	s.observer.finished(j.info(), outcome, time.Since(j.taken))
}

// dead puts a job into the dead letters of its queue, and lets whoever waits for its result know.
func (s *settler) dead(ctx context.Context, j *job, reason string, cause error) {
	j.logger(s.log).ErrorContext(ctx, "task dead-lettered", "reason", reason, "size", j.size, "err", cause)
	if meta := s.deadMeta(j, reason, cause); meta != nil {
		s.store(ctx, j, meta)
	}
	outcome := Dead
	text := reason + ": " + cause.Error()
	if s.insist(ctx, j, "dead letter", func(ctx context.Context) error { return j.deadLetter(ctx, text) }) {
		s.observer.deadLettered(j.queue, reason)
	} else {
		outcome = Abandoned
	}
	s.observer.finished(j.info(), outcome, time.Since(j.taken))
}

// deadMeta is the failure that a dead letter's sender gets to see, nil for none.
func (s *settler) deadMeta(j *job, reason string, cause error) *celeryproto.ResultMeta {
	if j.task == nil {
		if j.envelope == nil || s.results == nil || j.envelope.TaskID() == "" {
			return nil
		}
		j.task = &celeryproto.Task{Name: j.envelope.TaskName(), ID: j.envelope.TaskID()}
		class, module := "DecodeError", "kombu.exceptions"
		if _, unsupported := errors.AsType[*celeryproto.UnsupportedError](cause); unsupported {
			class = "ContentDisallowed"
		}
		return s.failure(j, &Exception{Type: class, Module: module, Args: []any{cause.Error()}})
	}
	if !s.stores(j) || j.task.ID == "" {
		return nil
	}
	switch reason {
	case DeadUnhandled:
		return s.notRegistered(j)
	case DeadCanvas:
		return s.failure(j, &Exception{Type: "NotImplementedError", Args: []any{cause.Error()}})
	}
	return s.failure(j, cause)
}

// stores tells whether a job's end is written to the result backend: the message's own wish first, as in Celery 5.6 and later.
func (s *settler) stores(j *job) bool {
	switch {
	case s.results == nil:
		return false
	case j.task.IgnoreResult != nil:
		return !*j.task.IgnoreResult
	case j.plain != nil && j.plain.ignoreResult:
		return false
	}
	return !s.ignore
}

func (s *settler) store(ctx context.Context, j *job, meta *celeryproto.ResultMeta) {
	if !s.insist(ctx, j, "result", func(ctx context.Context) error { return s.results.Store(ctx, meta) }) {
		s.observer.resultLost(j.queue)
	}
}

// insist repeats a write until it succeeds; false means that ctx ended first, or that trying again is pointless.
func (s *settler) insist(ctx context.Context, j *job, what string, write func(context.Context) error) bool {
	for wait := settleMinWait; ; wait = min(2*wait, settleMaxWait) {
		err := write(ctx)
		switch {
		case err == nil:
			return true
		case ctx.Err() != nil:
			j.logger(s.log).WarnContext(ctx, "task not settled before the worker stopped", "step", what, "err", err)
			return false
		case !retryable(err):
			j.logger(s.log).ErrorContext(ctx, "task not settled", "step", what, "err", err)
			return false
		case wait == settleMinWait:
			j.logger(s.log).WarnContext(ctx, "settling a task, trying again", "step", what, "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}
