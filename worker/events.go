package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/canvas"
)

// Groups of events (celery 5.7, events/event.py).
const (
	groupTask   = "task"
	groupWorker = "worker"
)

// eventHub makes the events of this worker and of its tasks (celery 5.7, worker/request.py, worker/strategy.py). The zero value makes
// none. Where nobody asked for task events, each costs one atomic load.
//
// utcoffset, which Python's events have, is left out: receivers would shift the timestamp by it, although that is absolute, and show a
// wrong time wherever their zone is another.
type eventHub struct {
	tasks  atomic.Bool // task events are published; enable_events and disable_events change it
	outbox *eventOutbox
}

// wants tells whether events of a job are published.
func (h *eventHub) wants(j *job) bool {
	return h.tasks.Load() && (j.policy == nil || j.policy.sendEvents)
}

func (h *eventHub) task(typ string, fields celeryproto.Members) { h.outbox.add(groupTask, typ, fields) }

// worker publishes an event of the group worker, when this worker publishes any.
func (h *eventHub) worker(typ string, fields celeryproto.Members) {
	if h.outbox != nil {
		h.outbox.add(groupWorker, typ, fields)
	}
}

func (h *eventHub) received(j *job) {
	if !h.wants(j) {
		return
	}
	fields, err := celeryproto.TaskReceivedFields(j.task)
	if err != nil {
		h.outbox.drop(EventUnencodable, 1, err)
		return
	}
	h.task(celeryproto.EventTaskReceived, fields)
}

func (h *eventHub) started(j *job) {
	if h.wants(j) {
		h.task(celeryproto.EventTaskStarted, celeryproto.TaskStartedFields(j.task.ID))
	}
}

// finished tells how the handlers of a job ended, once that is in Redis.
func (h *eventHub) finished(j *job, rep Report, took time.Duration) {
	if !h.wants(j) {
		return
	}
	id := j.task.ID
	switch rep.Outcome {
	case Succeeded:
		text := celeryproto.ReprSize(rep.Result, j.policy.options.ResultReprMaxSize)
		if len(rep.Result) == 0 {
			text = "None"
		}
		runtime := took.Seconds()
		h.task(celeryproto.EventTaskSucceeded, celeryproto.TaskSucceededFields(id, text, &runtime))
	case Retried:
		h.task(celeryproto.EventTaskRetried, retriedFields(id, rep.Err))
	case Rejected:
		reject, asked := errors.AsType[*RejectError](rep.Err)
		if !asked || reject.Requeue {
			return // rejected was called
		}
		h.failed(id, reject)
		if !j.wasAcked() {
			h.rejected(j, false)
		}
	case Abandoned:
		h.task(celeryproto.EventTaskCancelled, celeryproto.TaskStartedFields(id))
	case Failed:
		h.failed(id, rep.Err)
	}
}

func (h *eventHub) failed(id string, cause error) {
	e, traceback := exceptionOf(cause)
	h.task(celeryproto.EventTaskFailed, celeryproto.TaskFailedFields(id, canvas.ReprException(e), traceback))
}

// retriedFields tell why a task is tried again.
func retriedFields(id string, cause error) celeryproto.Members {
	retry, _ := errors.AsType[*RetryError](cause)
	if retry == nil || retry.Err == nil {
		return celeryproto.TaskFailedFields(id, "None", errorChain(cause))
	}
	e, traceback := exceptionOf(retry.Err)
	if traceback == "" {
		traceback = errorChain(cause)
	}
	return celeryproto.TaskFailedFields(id, canvas.ReprException(e), traceback)
}

// unregistered tells that no worker takes a task.
func (h *eventHub) unregistered(j *job) {
	if h.wants(j) {
		text := "NotRegistered(" + canvas.Repr(celeryproto.AppendString(nil, j.task.Name)) + ")"
		h.task(celeryproto.EventTaskFailed, celeryproto.TaskFailedFields(j.task.ID, text, ""))
	}
}

func (h *eventHub) rejected(j *job, requeue bool) {
	if h.wants(j) {
		h.task(celeryproto.EventTaskRejected, celeryproto.TaskRejectedFields(j.task.ID, requeue))
	}
}

// revoked tells that a job is not run, or was ended by remote control; signum is then the OS signal that Celery would have used.
func (h *eventHub) revoked(j *job, why string) {
	if !h.wants(j) {
		return
	}
	var signum celeryproto.Raw
	if n := j.terminatedBy(); why == whyTerminated && n != 0 {
		signum = rawInt(int64(n))
	}
	h.task(celeryproto.EventTaskRevoked, celeryproto.TaskRevokedFields(j.task.ID, why == whyTerminated, signum, why == whyExpired))
}

// enable switches task events, and reports whether they were in this state before; ok is false when this worker has no events at all.
func (h *eventHub) enable(on bool) (already, ok bool) {
	if h.outbox == nil {
		return false, false
	}
	return h.tasks.Swap(on) == on, true
}

// heart says at regular intervals that the worker lives (celery 5.7, worker/heartbeat.py).
type heart struct {
	hub      *eventHub
	interval time.Duration
	status   func() (active, processed int)
}

// DefaultHeartbeatInterval is the time between two heartbeats (celery 5.7, worker/heartbeat.py).
const DefaultHeartbeatInterval = 2 * time.Second

// run beats until ctx ends.
func (h *heart) run(ctx context.Context) {
	ticker := time.NewTicker(h.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			h.beat(celeryproto.EventWorkerHeartbeat)
		}
	}
}

func (h *heart) beat(typ string) {
	active, processed := h.status()
	s := software()
	s.Freq, s.Active, s.Processed, s.LoadAvg = h.interval.Seconds(), &active, &processed, loadAverage()
	h.hub.worker(typ, s.Fields())
}

// requestedFreq is what a heartbeat has that remote control asked for (celery 5.7, worker/control.py, heartbeat).
const requestedFreq = 5

// beatOnRequest publishes a heartbeat with nothing but who this is.
func (h *eventHub) beatOnRequest() {
	s := software()
	s.Freq = requestedFreq
	fields := s.Fields()
	h.worker(celeryproto.EventWorkerHeartbeat, fields)
}

func software() celeryproto.WorkerStatus {
	return celeryproto.WorkerStatus{SWIdent: Software, SWVer: softwareVersion(), SWSys: systemName()}
}
