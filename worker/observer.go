package worker

import "time"

// Outcome is how one task ended. The values are few and serve as metric labels.
type Outcome string

// The outcomes.
const (
	// Succeeded: every handler that was called returned nil. Handlers that refused the call do not count.
	Succeeded Outcome = "succeeded"
	// Failed: a handler returned an error or panicked, or its arguments did not fit a task's.
	Failed Outcome = "failed"
	// Retried: the handler asked for another try, which was sent.
	Retried Outcome = "retried"
	// Rejected: the handler rejected the message: it went back to its queue, or the task is a FAILURE.
	Rejected Outcome = "rejected"
	// Ignored: the handler wanted nothing stored (ErrIgnore).
	Ignored Outcome = "ignored"
	// Replaced: another task was sent in its place.
	Replaced Outcome = "replaced"
	// Revoked: the task was revoked before it began, or terminated.
	Revoked Outcome = "revoked"
	// Expired: the task's time was over before it began.
	Expired Outcome = "expired"
	// Unhandled: no handler here; the task went back to its queue or to Config.UnknownQueue.
	Unhandled Outcome = "unhandled"
	// Dead: the task went to the dead letters.
	Dead Outcome = "dead"
	// Abandoned: the worker stopped first; the task went back to its queue.
	Abandoned Outcome = "abandoned"
)

// Why a handler was not called, or a task went to the dead letters. The values serve as metric labels.
const (
	// RefusedNotAllowed: the handler's rule said no.
	RefusedNotAllowed = "not_allowed"
	// RefusedNoPermissions: HasPerm, and the window info carries no permissions.
	RefusedNoPermissions = "no_permissions"
	// RefusedBadArguments: an argument is missing, unknown or of the wrong kind.
	RefusedBadArguments = "bad_arguments"
	// RefusedRuleFailed: the rule itself panicked.
	RefusedRuleFailed = "rule_failed"

	// DeadUndecodable: not a message that Celery writes, or in a serializer or compression that is not supported.
	DeadUndecodable = "undecodable"
	// DeadUnhandled: no worker took it within Config.MaxHops.
	DeadUnhandled = "unhandled"
)

// TaskInfo names a task in an Observer.
type TaskInfo struct {
	Queue  string
	Task   string // task name
	Signal string // signal name, "" for plain tasks
}

// Observer has a hook for everything that an operator may want to count. Nil fields are skipped. Hooks are called from
// many goroutines and must not block.
type Observer struct {
	// Started: a task's handlers are about to run; waited is the time since it was taken, less its ETA.
	Started func(task TaskInfo, waited time.Duration)
	// Finished: a task left this worker.
	Finished func(task TaskInfo, outcome Outcome, took time.Duration)
	// Refused: a handler of a signal was not called; reason is one of the Refused constants.
	Refused func(signal, handler, reason string)
	// HandlerFailed: one handler of a signal returned an error or panicked.
	HandlerFailed func(signal, handler string, panicked bool)
	// DeadLettered: a task went to the dead letters; reason is one of the Dead constants.
	DeadLettered func(queue, reason string)
	// Requeued: a task without handler went back; hops counts how often it has.
	Requeued func(queue string, hops int)
	// Waiting: how many tasks wait for their ETA, after each change.
	Waiting func(tasks int)
	// Slots: how many tasks may run at once and how many do, after each change of the former.
	Slots func(size, busy int)
	// FrameLost: the frame of a delayed signal could not be given to the channel layer.
	FrameLost func(signal string)
	// ResultLost: a result could not be stored before the worker stopped, or never can be; nor can a task's part in its chord.
	ResultLost func(queue string)
	// EventsDropped: events were not published; reason is one of the Event constants.
	EventsDropped func(reason string, events int)
	// Controlled: a command of remote control was obeyed or refused, with one of the Control constants as the outcome. command is
	// "other" for names that this worker does not know.
	Controlled func(command, outcome string)
}

func (o *Observer) started(t TaskInfo, waited time.Duration) {
	if o.Started != nil {
		o.Started(t, waited)
	}
}

func (o *Observer) finished(t TaskInfo, outcome Outcome, took time.Duration) {
	if o.Finished != nil {
		o.Finished(t, outcome, took)
	}
}

func (o *Observer) refused(signal, handler, reason string) {
	if o.Refused != nil {
		o.Refused(signal, handler, reason)
	}
}

func (o *Observer) handlerFailed(signal, handler string, panicked bool) {
	if o.HandlerFailed != nil {
		o.HandlerFailed(signal, handler, panicked)
	}
}

func (o *Observer) deadLettered(queue, reason string) {
	if o.DeadLettered != nil {
		o.DeadLettered(queue, reason)
	}
}

func (o *Observer) requeued(queue string, hops int) {
	if o.Requeued != nil {
		o.Requeued(queue, hops)
	}
}

func (o *Observer) waiting(tasks int) {
	if o.Waiting != nil {
		o.Waiting(tasks)
	}
}

func (o *Observer) slots(size, busy int) {
	if o.Slots != nil {
		o.Slots(size, busy)
	}
}

func (o *Observer) frameLost(signal string) {
	if o.FrameLost != nil {
		o.FrameLost(signal)
	}
}

func (o *Observer) resultLost(queue string) {
	if o.ResultLost != nil {
		o.ResultLost(queue)
	}
}

func (o *Observer) eventsDropped(reason string, events int) {
	if o.EventsDropped != nil {
		o.EventsDropped(reason, events)
	}
}

func (o *Observer) controlled(command, outcome string) {
	if o.Controlled != nil {
		o.Controlled(command, outcome)
	}
}
