package celeryproto

import (
	"slices"
	"time"
)

// Task states (celery 5.7, states.py).
const (
	StatusPending = "PENDING"
	StatusStarted = "STARTED"
	StatusRetry   = "RETRY"
	StatusSuccess = "SUCCESS"
	StatusFailure = "FAILURE"
	StatusRevoked = "REVOKED"
)

// IsReady tells whether a task in this state is over (celery 5.7, states.py, READY_STATES).
func IsReady(status string) bool {
	switch status {
	case StatusSuccess, StatusFailure, StatusRevoked:
		return true
	default:
		return false
	}
}

// ResultMeta is what the result backend stores for a task.
//
// What was decoded is encoded again to the same JSON value where nothing was
// changed in between.
type ResultMeta struct {
	// Status is one of the Status… constants or a name of the application's.
	Status string
	// Result is the return value, or an exception (see Exception), or whatever
	// else the state brings; nil is null. Typed values in it are not looked at.
	Result Raw
	// Traceback is text for people; "" is null.
	Traceback string
	// Children are the tasks that this one sent, as result tuples; nil is [],
	// which is not the null of a task that was revoked before it ran.
	Children Raw
	// DateDone is when the task ended, the zero time for null. Celery up to 5.3
	// writes it without offset, in UTC.
	DateDone time.Time
	TaskID   string
	GroupID  string // written when not ""
	ParentID string // written when not ""
	// Extended is there with Celery's setting result_extended.
	Extended *ResultExtended
	// Request is what only the database backend of django-celery-results stores;
	// nil for a result that no message stands behind.
	Request *ResultRequest
	// Compression is "" or one of the Compression… constants (setting
	// result_compression, celery 5.7).
	Compression string
	// Extra are the members that this package does not know, stamps among them.
	Extra Members

	wire Members
}

// ResultExtended are the further fields of Celery's setting result_extended.
type ResultExtended struct {
	Name         string // the task's name; "" is null
	Args, Kwargs Raw    // JSON values; nil is null
	Worker       string // node name; "" is null
	Retries      *int   // nil is null
	Queue        string // routing key; "" is null
}

// Keys of a result meta (celery 5.7, backends/base.py, _get_result_meta).
const (
	keyStatus    = "status"
	keyResult    = "result"
	keyTraceback = "traceback"
	keyChildren  = "children"
	keyDateDone  = "date_done"
	keyTaskID    = "task_id"
	keyGroupID   = "group_id"
	keyName      = "name"
	keyWorker    = "worker"
	keyQueue     = "queue"
)

var (
	extendedKeys = newKeySet(keyName, keyArgs, keyKwargs, keyWorker, keyRetries, keyQueue)
	resultKeys   = newKeySet(keyStatus, keyResult, keyTraceback, keyChildren, keyDateDone, keyTaskID,
		keyGroupID, keyParentID, keyName, keyArgs, keyKwargs, keyWorker, keyRetries, keyQueue)
)

// DecodeResult decodes the value of a celery-task-meta key that was written with
// the result serializer json; ResultCodec reads the others. It refuses what
// Python's AsyncResult cannot read: what is no JSON object, no status, no
// result. The error is a *DecodeError, or an *UnsupportedError that names a
// compression.
func DecodeResult(b []byte) (*ResultMeta, error) {
	return DecodeResultLimits(b, Limits{})
}

// DecodeResultLimits is DecodeResult with limits of the caller's; lim.Accept does
// not count.
func DecodeResultLimits(b []byte, lim Limits) (*ResultMeta, error) {
	return ResultCodec{Limits: lim}.Decode(b)
}

func resultOf(members Members) (*ResultMeta, error) {
	r := fieldReader{part: PartResult, members: members}
	m := &ResultMeta{
		Status:    r.needText(keyStatus),
		Result:    r.raw(keyResult),
		Traceback: r.text(keyTraceback),
		TaskID:    r.text(keyTaskID),
		GroupID:   r.text(keyGroupID),
		ParentID:  r.text(keyParentID),
		Extra:     resultKeys.rest(members),
		wire:      members,
	}
	m.Children, _ = members.Get(keyChildren)
	if _, there := members.Get(keyResult); !there {
		r.fail(keyResult, ErrMissing)
	}
	if done, _ := r.time(keyDateDone); done != nil {
		m.DateDone = *done
	}
	for _, member := range members {
		if extendedKeys.has(member.Key) {
			m.Extended = r.extended()
			break
		}
	}
	return m, r.err
}

func (r *fieldReader) extended() *ResultExtended {
	return &ResultExtended{
		Name:    r.text(keyName),
		Args:    r.raw(keyArgs),
		Kwargs:  r.raw(keyKwargs),
		Worker:  r.text(keyWorker),
		Retries: r.optionalInt(keyRetries),
		Queue:   r.text(keyQueue),
	}
}

// Append appends the meta as Celery writes it with the result serializer json,
// compressed when Compression says so. The error is an *EncodeError or an
// *UnsupportedError.
func (m *ResultMeta) Append(dst []byte) ([]byte, error) {
	return ResultCodec{Compression: m.Compression}.Append(dst, m)
}

func (m *ResultMeta) merged() (Members, error) {
	now, err := m.fields()
	if err != nil {
		return nil, err
	}
	if m.wire == nil {
		return now.members(), nil
	}
	was, err := resultOf(m.wire)
	if err != nil {
		return nil, err
	}
	orig, err := was.fields()
	if err != nil {
		return nil, err
	}
	return mergeFields(m.wire, orig, now), nil
}

// appendNew appends a meta that never was on the wire, without detours.
func (m *ResultMeta) appendNew(dst []byte) ([]byte, error) {
	const usual = 256 // bytes beside what is counted
	size := usual + len(m.Result) + len(m.Children) + len(m.Traceback)
	if m.Extended != nil {
		size += len(m.Extended.Args) + len(m.Extended.Kwargs) + usual
	}
	f := fieldSet{buf: slices.Grow(dst, size), stream: true}
	if err := m.fill(&f); err != nil {
		return dst, err
	}
	return f.streamed(), nil
}

func (m *ResultMeta) fields() (*fieldSet, error) {
	f := newFieldSet(resultKeys.len()+len(m.Extra), 256)
	return f, m.fill(f)
}

func (m *ResultMeta) fill(f *fieldSet) error {
	if m.Status == "" {
		return &EncodeError{Path: keyStatus, Err: ErrMissing}
	}
	f.text(keyStatus, m.Status)
	f.raw(keyResult, m.Result)
	f.textOrNull(keyTraceback, m.Traceback)
	f.rawOr(keyChildren, m.Children, "[]")
	done := &m.DateDone
	if done.IsZero() {
		done = nil
	}
	if err := f.timeOrNull(keyDateDone, done); err != nil {
		return err
	}
	if m.GroupID != "" {
		f.text(keyGroupID, m.GroupID)
	}
	if m.ParentID != "" {
		f.text(keyParentID, m.ParentID)
	}
	if x := m.Extended; x != nil {
		f.textOrNull(keyName, x.Name)
		f.raw(keyArgs, x.Args)
		f.raw(keyKwargs, x.Kwargs)
		f.textOrNull(keyWorker, x.Worker)
		f.intOrNull(keyRetries, x.Retries)
		f.textOrNull(keyQueue, x.Queue)
	}
	if err := f.extra(PartResult, m.Extra, resultKeys); err != nil {
		return err
	}
	f.text(keyTaskID, m.TaskID)
	return m.checkJSON()
}

func (m *ResultMeta) checkJSON() error {
	for _, part := range []struct {
		path  string
		value Raw
	}{{keyResult, m.Result}, {keyChildren, m.Children}} {
		if len(part.value) == 0 {
			continue
		}
		check := checkRaw
		if m.wire != nil { // what an application has registered is relayed
			check = func(r Raw, lim JSONLimits) error { return CheckJSON(r, lim) }
		}
		if err := check(part.value, JSONLimits{MaxDepth: DefaultMaxDepth - 1}); err != nil {
			return &EncodeError{Path: part.path, Err: err}
		}
	}
	return nil
}
