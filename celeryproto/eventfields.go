package celeryproto

import "cmp"

// Fields of events, in the order in which Python writes them. A celery events dump needs all of them.

// Keys of events that no other message has.
const (
	keyUUID       = "uuid"
	keyRuntime    = "runtime"
	keyException  = "exception"
	keyTerminated = "terminated"
	keySignum     = "signum"
	keyExpired    = "expired"
	keyRequeue    = "requeue"
	keyFreq       = "freq"
	keyActive     = "active"
	keyProcessed  = "processed"
	keyLoadAvg    = "loadavg"
	keySWIdent    = "sw_ident"
	keySWVer      = "sw_ver"
	keySWSys      = "sw_sys"
)

// WorkerStatus are the fields of worker-online, worker-heartbeat and worker-offline (celery 5.7, worker/heartbeat.py).
type WorkerStatus struct {
	// Freq is the time between heartbeats, in seconds: a monitor takes a worker that was silent for twice as long for lost.
	Freq float64
	// Active is how many tasks run, Processed how many were taken so far; nil leaves them out, as the answer to the control command
	// heartbeat does.
	Active, Processed *int
	// LoadAvg is the load of the last one, five and fifteen minutes; nil leaves it out.
	LoadAvg *[3]float64
	// Software, its version, and the operating system: "py-celery", "5.7.0", "Linux".
	SWIdent, SWVer, SWSys string
}

// Fields are the status as it stands in an event.
func (w *WorkerStatus) Fields() Members {
	f := newFieldSet(7, 128)
	f.float(keyFreq, w.Freq)
	if w.Active != nil {
		f.int(keyActive, *w.Active)
	}
	if w.Processed != nil {
		f.int(keyProcessed, *w.Processed)
	}
	if w.LoadAvg != nil {
		f.append(keyLoadAvg, func(dst []byte) []byte {
			dst = AppendFloat(append(dst, '['), w.LoadAvg[0])
			dst = AppendFloat(append(dst, ", "...), w.LoadAvg[1])
			return append(AppendFloat(append(dst, ", "...), w.LoadAvg[2]), ']')
		})
	}
	f.text(keySWIdent, w.SWIdent)
	f.text(keySWVer, w.SWVer)
	f.text(keySWSys, w.SWSys)
	return f.members()
}

// WorkerStatus reads the status of a worker event. What is missing, or of another kind, is left zero.
func (e *Event) WorkerStatus() WorkerStatus {
	r := fieldReader{members: e.Fields.merged()}
	w := WorkerStatus{Active: r.optionalInt(keyActive), Processed: r.optionalInt(keyProcessed)}
	if freq := r.optionalFloat(keyFreq); freq != nil {
		w.Freq = *freq
	}
	w.SWIdent, w.SWVer, w.SWSys = r.text(keySWIdent), r.text(keySWVer), r.text(keySWSys)
	if load := r.raw(keyLoadAvg); load.Kind() == KindArray {
		w.LoadAvg = loadAvg(load)
	}
	return w
}

func loadAvg(r Raw) *[3]float64 {
	var load [3]float64
	elements, err := r.Array()
	if err != nil || len(elements) != len(load) {
		return nil
	}
	for i, element := range elements {
		if load[i], err = element.seconds(); err != nil {
			return nil
		}
	}
	return &load
}

// TaskSentFields are those of task-sent, which a client publishes (celery 5.7, app/amqp.py). queue is the queue's name, which the
// message itself does not have when it has an exchange. The error is an *EncodeError.
func TaskSentFields(t *Task, queue string) (Members, error) {
	f := newFieldSet(12, 256)
	f.text(keyUUID, t.ID)
	f.textOrNull(keyRootID, cmp.Or(t.RootID, t.ID))
	f.textOrNull(keyParentID, t.ParentID)
	if err := t.describe(f); err != nil {
		return nil, err
	}
	f.text(keyQueue, queue)
	f.text(keyExchange, t.Properties.DeliveryInfo.Exchange)
	f.text(keyRoutingKey, t.Properties.DeliveryInfo.RoutingKey)
	return f.members(), nil
}

// TaskReceivedFields are those of task-received (celery 5.7, worker/strategy.py). The error is an *EncodeError.
func TaskReceivedFields(t *Task) (Members, error) {
	f := newFieldSet(9, 256)
	f.text(keyUUID, t.ID)
	d := &fieldSet{}
	if err := t.describe(d); err != nil {
		return nil, err
	}
	described := d.members()
	const args, kwargs = 1, 2
	f.text(keyName, cmp.Or(t.Shadow, t.Name)) // celery 5.7, worker/request.py, Request.name
	for _, i := range []int{args, kwargs} {
		f.raw(described[i].Key, described[i].Value)
	}
	f.textOrNull(keyRootID, t.RootID)
	f.textOrNull(keyParentID, t.ParentID)
	for _, m := range described[kwargs+1:] {
		f.raw(m.Key, m.Value)
	}
	return f.members(), nil
}

// describe adds name, args, kwargs, retries, eta and expires.
func (t *Task) describe(f *fieldSet) error {
	argsRepr, kwargsRepr := t.ArgsRepr, t.KwargsRepr
	if t.src == nil && argsRepr == "" {
		argsRepr = ReprTuple(t.args())
	}
	if t.src == nil && kwargsRepr == "" {
		kwargsRepr = Repr(t.kwargs())
	}
	f.text(keyName, t.Name)
	f.text(keyArgs, argsRepr)
	f.text(keyKwargs, kwargsRepr)
	f.int(keyRetries, t.Retries)
	if err := f.timeOrNull(keyETA, t.ETA); err != nil {
		return err
	}
	return f.timeOrNull(keyExpires, t.Expires)
}

// taskEvent begins with the task's ID.
func taskEvent(id string) *fieldSet {
	f := newFieldSet(4, 128)
	f.text(keyUUID, id)
	return f
}

// TaskStartedFields are those of task-started, and of task-cancelled (celery 5.7, worker/request.py, as those that follow).
func TaskStartedFields(id string) Members { return taskEvent(id).members() }

// TaskSucceededFields are those of task-succeeded: the repr of the result, at most 1024 characters (see Repr), and the run time in
// seconds, nil when it is not known.
func TaskSucceededFields(id, result string, runtime *float64) Members {
	f := taskEvent(id)
	f.text(keyResult, result)
	if runtime == nil {
		f.raw(keyRuntime, rawNull)
	} else {
		f.float(keyRuntime, *runtime)
	}
	return f.members()
}

// TaskFailedFields are those of task-failed and task-retried: the repr of the exception, "ValueError('boom')", and the traceback.
// "" leaves the traceback out, as for a task that is not registered.
func TaskFailedFields(id, exception, traceback string) Members {
	f := taskEvent(id)
	f.text(keyException, exception)
	if traceback != "" {
		f.text(keyTraceback, traceback)
	}
	return f.members()
}

// TaskRevokedFields are those of task-revoked. signum is the number or the name of the OS signal that ended the task, nil for
// none.
func TaskRevokedFields(id string, terminated bool, signum Raw, expired bool) Members {
	f := taskEvent(id)
	f.bool(keyTerminated, terminated)
	f.raw(keySignum, signum)
	f.bool(keyExpired, expired)
	return f.members()
}

// TaskRejectedFields are those of task-rejected.
func TaskRejectedFields(id string, requeue bool) Members {
	f := taskEvent(id)
	f.bool(keyRequeue, requeue)
	return f.members()
}
