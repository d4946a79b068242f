package monitor

import (
	"slices"
	"strings"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// Task is what a task's events have told. Times are zero, texts empty, for what is not known.
type Task struct {
	ID   string
	Name string
	// State is one of Celery's states, or the upper-cased name of an event that Celery does not have.
	State string

	// When its events happened, by the senders' clocks.
	Sent, Received, Started, Succeeded, Failed, Retried, Revoked, Rejected time.Time
	// Timestamp and Clock of the event that its state is from.
	Timestamp time.Time
	Clock     int64

	// Args and Kwargs are texts for people.
	Args, Kwargs string
	ETA, Expires string // as the event has them: ISO 8601
	Retries      int
	// Worker is the node name of the worker, Client that of the process that sent it.
	Worker, Client string
	// Result, Exception and Traceback are texts for people.
	Result, Exception, Traceback string
	// Runtime is how long it ran.
	Runtime              time.Duration
	Queue                string
	Exchange, RoutingKey string
	RootID, ParentID     string
}

// Ready tells whether the task has ended.
func (t *Task) Ready() bool { return celeryproto.IsReady(t.State) }

// task is a Task with its place among the others.
type task struct {
	Task
	last order
}

// States that only monitors have.
const (
	stateReceived = "RECEIVED"
	stateRejected = "REJECTED"
)

// stateOf is the state that an event means (TASK_EVENT_TO_STATE).
var stateOf = map[string]string{
	subjectSent: celeryproto.StatusPending, subjectReceived: stateReceived, "started": celeryproto.StatusStarted,
	"failed": celeryproto.StatusFailure, "retried": celeryproto.StatusRetry, "succeeded": celeryproto.StatusSuccess,
	"revoked": celeryproto.StatusRevoked, "rejected": stateRejected,
}

// precedences are Celery's states, those that count for more first (celery 5.7, states.py). "" stands for all others.
var precedences = []string{
	celeryproto.StatusSuccess, celeryproto.StatusFailure, "", celeryproto.StatusRevoked, celeryproto.StatusStarted, stateReceived,
	stateRejected, celeryproto.StatusRetry, celeryproto.StatusPending,
}

func precedence(state string) int {
	if i := slices.Index(precedences, state); state != "" && i >= 0 {
		return i
	}
	return slices.Index(precedences, "")
}

func (t *task) seen(o order) {
	if t.last == (order{}) || o.compare(t.last) >= 0 {
		t.last = o
	}
}

// apply takes over what an event tells (Task.event of celery 5.7, events/state.py).
func (t *task) apply(e *celeryproto.Event, subject string) {
	at := e.Time()
	t.happened(subject, at)
	state, known := stateOf[subject]
	if !known {
		state = strings.ToUpper(subject)
	}
	f := fields(e.Fields)
	late := state != celeryproto.StatusRetry && t.State != celeryproto.StatusRetry && precedence(state) > precedence(t.State)
	if !late {
		t.State = state
	}
	f.setText("name", &t.Name)
	f.setText("args", &t.Args)
	f.setText("kwargs", &t.Kwargs)
	f.setText("parent_id", &t.ParentID)
	f.setText("root_id", &t.RootID)
	f.setText("eta", &t.ETA)
	f.setText("expires", &t.Expires)
	f.setInt("retries", &t.Retries)
	if late && state == stateReceived {
		return // nothing else of it is news
	}
	t.Timestamp = at
	if e.Clock != nil {
		t.Clock = *e.Clock
	}
	f.setText("result", &t.Result)
	f.setText("exception", &t.Exception)
	f.setText("traceback", &t.Traceback)
	f.setText("queue", &t.Queue)
	f.setText("exchange", &t.Exchange)
	f.setText("routing_key", &t.RoutingKey)
	f.setSeconds("runtime", &t.Runtime)
}

// happened notes when something was.
func (t *task) happened(subject string, at time.Time) {
	times := map[string]*time.Time{
		subjectSent: &t.Sent, subjectReceived: &t.Received, "started": &t.Started, "succeeded": &t.Succeeded, "failed": &t.Failed,
		"retried": &t.Retried, "revoked": &t.Revoked, "rejected": &t.Rejected,
	}
	if field := times[subject]; field != nil {
		*field = at
	}
}

// fields are those of an event. Setters leave a value alone where the event has none, or one of another kind; null is "".
type fields celeryproto.Members

func (f fields) text(key string) string {
	raw, _ := celeryproto.Members(f).Get(key)
	text, err := raw.Text()
	if err != nil {
		return ""
	}
	return text
}

func (f fields) setText(key string, to *string) {
	raw, there := celeryproto.Members(f).Get(key)
	if !there {
		return
	}
	if raw.IsNull() {
		*to = ""
		return
	}
	if text, err := raw.Text(); err == nil {
		*to = shorten(text)
	}
}

func (f fields) setInt(key string, to *int) {
	raw, _ := celeryproto.Members(f).Get(key)
	if v, err := celeryproto.DecodeValue(raw); err == nil {
		if n, isInt := v.(int64); isInt {
			*to = int(n)
		}
	}
}

func (f fields) setSeconds(key string, to *time.Duration) {
	raw, _ := celeryproto.Members(f).Get(key)
	v, err := celeryproto.DecodeValue(raw)
	if err != nil {
		return
	}
	seconds := 0.0
	switch v := v.(type) {
	case float64:
		seconds = v
	case int64:
		seconds = float64(v)
	}
	if seconds >= 0 && seconds < (1<<62)/float64(time.Second) {
		*to = time.Duration(seconds * float64(time.Second))
	}
}
