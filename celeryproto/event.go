package celeryproto

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// DefaultEventExchange is Celery's setting event_exchange: of the type fanout on Redis.
const DefaultEventExchange = "celeryev"

// Types of events (celery 5.7, worker/heartbeat.py, worker/request.py, worker/strategy.py, app/amqp.py, worker/consumer/gossip.py).
const (
	EventWorkerOnline    = "worker-online"
	EventWorkerHeartbeat = "worker-heartbeat"
	EventWorkerOffline   = "worker-offline"
	EventWorkerElect     = "worker-elect"
	EventWorkerElectAck  = "worker-elect-ack"

	EventTaskSent      = "task-sent"
	EventTaskReceived  = "task-received"
	EventTaskStarted   = "task-started"
	EventTaskSucceeded = "task-succeeded"
	EventTaskFailed    = "task-failed"
	EventTaskRetried   = "task-retried"
	EventTaskRevoked   = "task-revoked"
	EventTaskRejected  = "task-rejected"
	EventTaskCancelled = "task-cancelled"
)

// EventGroup is what stands before the first dash of a type: "task", "worker".
func EventGroup(typ string) string {
	group, _, _ := strings.Cut(typ, "-")
	return group
}

// EventRoutingKey is the routing key of a type: with dots instead of dashes.
func EventRoutingKey(typ string) string { return strings.ReplaceAll(typ, "-", ".") }

// eventBatchEnd makes the routing key of several events of one group: "task.multi".
const eventBatchEnd = ".multi"

// Event is something that happened in a worker or a client, for monitors.
type Event struct {
	// Type is one of the Event… constants, or of the application.
	Type string
	// Hostname is the node name of the worker, AnonNodeName for clients.
	Hostname string
	// UTCOffset is how many hours the sender's local time is behind UTC; nil leaves it out. Receivers in Python shift Timestamp by
	// the difference to their own, although it needs no shift.
	UTCOffset *float64
	// PID of the sender; 0 leaves it out.
	PID int
	// Clock is the sender's Lamport clock; nil is null. NoClock says that it was not there at all: a receiver then takes its own.
	Clock   *int64
	NoClock bool
	// Timestamp is when it happened, in seconds since 1970.
	Timestamp float64
	// Fields are all others, in wire order.
	Fields Members
}

// Keys of an event (celery 5.7, events/dispatcher.py, EventDispatcher._prepare_event; events/event.py).
const (
	keyHostname  = "hostname"
	keyUTCOffset = "utcoffset"
	keyPID       = "pid"
	keyTimestamp = "timestamp"
	keyEventType = "type"
)

var eventKeys = newKeySet(keyHostname, keyUTCOffset, keyPID, keyClock, keyTimestamp, keyEventType)

// UnixSeconds is a time as events have it.
func UnixSeconds(t time.Time) float64 {
	return float64(t.Unix()) + float64(t.Nanosecond())/float64(time.Second)
}

// maxTimestamp bounds what Time converts: the end of the year 9999.
const maxTimestamp = 253402300799

// Time is the timestamp as a time in UTC, exact to the microsecond; the zero time when it is beyond what Python's datetime has.
func (e *Event) Time() time.Time {
	if e.Timestamp < 0 || e.Timestamp > maxTimestamp {
		return time.Time{}
	}
	return time.UnixMicro(int64(e.Timestamp * 1e6)).UTC()
}

// append appends the event as Python writes it.
func (e *Event) append(dst []byte) ([]byte, error) {
	if e.Type == "" {
		return dst, &EncodeError{Path: keyEventType, Err: ErrMissing}
	}
	f := newFieldSet(eventKeys.len()+len(e.Fields), 256)
	f.text(keyHostname, e.Hostname)
	if e.UTCOffset != nil {
		f.float(keyUTCOffset, *e.UTCOffset)
	}
	if e.PID != 0 {
		f.int(keyPID, e.PID)
	}
	switch {
	case e.Clock != nil:
		f.int64(keyClock, *e.Clock)
	case !e.NoClock:
		f.raw(keyClock, rawNull)
	}
	if err := f.extra("event", e.Fields, eventKeys); err != nil {
		return dst, err
	}
	f.float(keyTimestamp, e.Timestamp)
	f.text(keyEventType, e.Type)
	return f.appendObject(dst), nil
}

// Envelope is the event as Python publishes it by itself, with the routing key of its type. The error is an *EncodeError or an
// *UnsupportedError.
func (e *Event) Envelope(exchange string, o BusOptions) (*Envelope, error) {
	body, err := e.append(nil)
	if err != nil {
		return nil, err
	}
	return eventEnvelope(exchange, e.Hostname, EventRoutingKey(e.Type), body, o)
}

// EventBatch is the envelope of several events of one group, as Python's workers publish task events. They must be of one host.
func EventBatch(exchange, group string, events []Event, o BusOptions) (*Envelope, error) {
	if len(events) == 0 {
		return nil, &EncodeError{Path: keyBody, Err: errors.New("no event")}
	}
	body := []byte{'['}
	for i := range events {
		if i > 0 {
			body = append(body, ", "...)
		}
		var err error
		if body, err = events[i].append(body); err != nil {
			return nil, within("["+strconv.Itoa(i)+"]", err)
		}
	}
	return eventEnvelope(exchange, events[0].Hostname, group+eventBatchEnd, append(body, ']'), o)
}

func eventEnvelope(exchange, hostname, routingKey string, body []byte, o BusOptions) (*Envelope, error) {
	headers := Members{{Key: keyHostname, Value: AppendString(nil, hostname)}}
	return busEnvelope(o, body, headers, DeliveryTransient, exchange, routingKey)
}

// DecodeEvents reads the event, or the events, of an envelope. The error is a *DecodeError or an *UnsupportedError; one bad
// event spoils all that come with it, as in Python.
func DecodeEvents(e *Envelope, lim Limits) ([]Event, error) {
	body, kind, err := e.busBody(lim)
	if err != nil {
		return nil, err
	}
	elements := []Raw{body}
	if kind == KindArray {
		if elements, err = body.Array(); err != nil {
			return nil, decodeError(PartBody, err)
		}
	}
	events := make([]Event, len(elements))
	for i, element := range elements {
		prefix := ""
		if kind == KindArray {
			prefix = "[" + strconv.Itoa(i) + "]."
		}
		if events[i], err = decodeEvent(element, prefix); err != nil {
			return nil, err
		}
	}
	return events, nil
}

func decodeEvent(r Raw, prefix string) (Event, error) {
	members, err := r.Object()
	if err != nil {
		return Event{}, &DecodeError{Part: PartBody, Field: strings.TrimSuffix(prefix, "."), Offset: -1, Err: err}
	}
	members = members.merged()
	f := fieldReader{part: PartBody, prefix: prefix, members: members}
	e := Event{
		Type: f.needText(keyEventType), Hostname: f.text(keyHostname), UTCOffset: f.optionalFloat(keyUTCOffset),
		PID: f.anyInt(keyPID), Fields: eventKeys.rest(members),
	}
	clock, there := members.Get(keyClock)
	e.NoClock = !there
	if n, ok := clockOf(clock); ok {
		e.Clock = &n
	}
	if at := f.optionalFloat(keyTimestamp); at != nil {
		e.Timestamp = *at
	}
	return e, f.err
}

// optionalFloat is a finite number, nil when absent or null.
func (r *fieldReader) optionalFloat(key string) *float64 {
	value := r.raw(key)
	if value == nil {
		return nil
	}
	n, err := value.seconds()
	if err != nil {
		r.fail(key, err)
		return nil
	}
	return &n
}
