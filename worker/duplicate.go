package worker

import (
	"context"
	"errors"

	"github.com/dfws/dfws/celeryproto"
)

// success is the result of a task that succeeded when it was delivered before, on a site that wants such ones not to run again
// (worker_deduplicate_successful_tasks; celery 5.7, app/trace.py); nil for a task to run. As in Celery only tasks with acks_late are
// looked up, and one whose result cannot be read runs.
func (s *settler) success(ctx context.Context, j *job) *celeryproto.ResultMeta {
	if !j.redelivered || !j.policy.acksLate || s.results == nil || !s.cfg.Settings.Celery.WorkerDeduplicateSuccessfulTasks {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleMaxWait)
	defer cancel()
	m, err := s.results.Get(ctx, j.task.ID)
	switch {
	case err == nil && m.Status == celeryproto.StatusSuccess:
		return m
	case err != nil && !errors.Is(err, celeryproto.ErrNoResult):
		j.logger(s.log).WarnContext(ctx, "not known whether the task has succeeded before", "err", err)
	}
	return nil
}

// succeededBefore ends a job whose result m is stored. What follows it was sent before that; only its part in a chord may be missing,
// which counts once.
func (s *settler) succeededBefore(ctx context.Context, j *job, m *celeryproto.ResultMeta) {
	j.logger(s.log).InfoContext(ctx, "task not run again, it has succeeded before")
	ok := s.flow.part(ctx, s, j, m.Status, m.Result) && s.ack(ctx, j)
	s.over(j, Report{Outcome: Succeeded, Result: m.Result}, ok)
}
