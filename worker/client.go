package worker

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// ErrNoResultBackend is returned by Client for waiting on a site whose settings name no result backend.
var ErrNoResultBackend = errors.New("worker: the site has no result backend (setting celery.result_backend)")

// TaskMessage is one call of a task, in Python or Go.
type TaskMessage struct {
	// Name of the task, such as "demo.add". Required.
	Name string
	// Args are the positional arguments: anything celeryproto.EncodeValue takes.
	Args []any
	// Kwargs are the keyword arguments: a map with text keys, a struct with json tags, or nil.
	Kwargs any
	// Queue it goes to. Empty: the setting celery.task_default_queue.
	Queue string
	// ID of the task; empty: a new UUID.
	ID string
	// Countdown or ETA is when it may run, at once when both are zero.
	Countdown time.Duration
	ETA       time.Time
	// Expires is how long it may wait in the queue before it is dropped; zero: for ever.
	Expires time.Duration
	// Priority, 0 to 9: on Redis 0 is the highest.
	Priority int
	// IgnoreResult asks the worker to store no result.
	IgnoreResult bool
	// TimeLimit is the hard limit and SoftTimeLimit the soft one; zero: the worker's.
	TimeLimit, SoftTimeLimit time.Duration
	// Headers are added to Celery's own.
	Headers map[string]any
}

// build makes the message of protocol 2; now is the clock of Countdown and Expires.
func (m TaskMessage) build(defaultQueue string, now time.Time) (*celeryproto.Task, error) {
	switch {
	case m.Name == "":
		return nil, errors.New("worker: task message: no name")
	case m.Countdown != 0 && !m.ETA.IsZero():
		return nil, errors.New("worker: task message: both a countdown and an ETA")
	case m.Priority < 0 || m.Priority > 9:
		return nil, fmt.Errorf("worker: task message: priority %d, want 0 to 9", m.Priority)
	case m.Expires < 0 || m.TimeLimit < 0 || m.SoftTimeLimit < 0:
		return nil, errors.New("worker: task message: a negative duration")
	}
	var args any
	if m.Args != nil {
		args = m.Args
	}
	t, err := celeryproto.NewTask(m.Name, args, m.Kwargs)
	if err != nil {
		return nil, fmt.Errorf("worker: task message: %w", err)
	}
	if m.ID != "" {
		t.ID, t.RootID, t.Properties.CorrelationID = m.ID, m.ID, m.ID
	}
	queue := m.Queue
	if queue == "" {
		queue = defaultQueue
	}
	t.Properties.DeliveryInfo.RoutingKey = queue
	t.Properties.Priority = m.Priority
	t.IgnoreResult = &m.IgnoreResult
	if m.Countdown != 0 {
		m.ETA = now.Add(m.Countdown)
	}
	if !m.ETA.IsZero() {
		eta := m.ETA.UTC()
		t.ETA = &eta
	}
	if m.Expires > 0 {
		expires := now.Add(m.Expires).UTC()
		t.Expires = &expires
	}
	for i, d := range []time.Duration{m.TimeLimit, m.SoftTimeLimit} {
		if d > 0 {
			seconds := d.Seconds()
			t.TimeLimit[i] = &seconds
		}
	}
	for key, value := range m.Headers {
		raw, err := celeryproto.EncodeValue(value)
		if err != nil {
			return nil, fmt.Errorf("worker: task message: header %q: %w", key, err)
		}
		t.ExtraHeaders.Set(key, raw)
	}
	return t, nil
}

// failureOf is what a task has raised, an *Exception; nil when it has not.
func failureOf(m *celeryproto.ResultMeta) error {
	switch m.Status {
	case celeryproto.StatusFailure, celeryproto.StatusRevoked:
		e, err := m.Exception()
		if err != nil {
			return fmt.Errorf("worker: result of a task that failed: %w", err)
		}
		out := &Exception{Type: e.Type, Module: e.Module, Args: make([]any, len(e.Message)), Traceback: m.Traceback}
		for i, raw := range e.Message {
			if out.Args[i], err = celeryproto.DecodeValue(raw); err != nil {
				out.Args[i] = raw
			}
		}
		return out
	default:
		return nil
	}
}

// decodeResult decodes a value by the rules of arguments; into is a pointer, or nil when the value does not matter.
func decodeResult(raw celeryproto.Raw, into any) error {
	if into == nil {
		return nil
	}
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return fmt.Errorf("worker: result into a %T, want a pointer", into)
	}
	if len(raw) == 0 {
		raw = celeryproto.Raw("null")
	}
	f := planField{name: "result", typ: v.Elem().Type()}
	if err := f.set(v.Elem(), raw); err != nil {
		return fmt.Errorf("worker: result: %w", err)
	}
	return nil
}
