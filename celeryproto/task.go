package celeryproto

import (
	"time"

	"github.com/google/uuid"
)

// Task is one call of a task: a message of protocol 1 or 2.
//
// A decoded Task that is encoded again gives the same headers, properties and
// body bytes where nothing was changed in between. Raw fields share memory with
// what was decoded: replace them, never write into them.
type Task struct {
	// Protocol is 1 or 2; 0 is 2. A hybrid (headers of 2, body of 1) reads as 2.
	Protocol int

	Name     string // the registered name, "demo.add"
	ID       string // a UUID by custom, any text by rule
	RootID   string // first task of the workflow; "" in a new Task is written as ID
	ParentID string // task that sent this one; "" for none
	GroupID  string // "" for none
	// GroupIndex is the position in the group, nil for none.
	GroupIndex *int
	// Retries counts the retries so far.
	Retries int
	// ETA is when to run, nil for now. A text without offset is read as UTC.
	ETA *time.Time
	// Expires is when to drop the call, nil for never.
	Expires *time.Time
	// NaiveIsLocal says that ETA and Expires came without offset in a message
	// of protocol 1 with "utc": false: they mean the application's timezone.
	NaiveIsLocal bool
	// TimeLimit is the hard and the soft limit in seconds, nil for the worker's.
	TimeLimit [2]*float64

	Lang   string // language of the producer; "" in a new Task is written as LangGo
	Shadow string // name for logs instead of Name; "" for none
	Origin string // "gen<pid>@<hostname>" of the producer
	// ArgsRepr and KwargsRepr are for logs and events; "" in a new Task is
	// written as ReprTuple(Args) and Repr(Kwargs).
	ArgsRepr, KwargsRepr string
	// IgnoreResult overrides the task's own setting, nil leaves it.
	IgnoreResult *bool
	// ReplacedTaskNesting counts Task.replace.
	ReplacedTaskNesting int
	// StampedHeaders is an array of names (nil is null), Stamps an object with
	// their values (nil is {}).
	StampedHeaders, Stamps Raw
	// Serializer of the body: "" for JSON, or SerializerMsgpack, SerializerYAML or
	// SerializerPickle. Args, Kwargs and Embed are JSON whatever it is.
	Serializer string
	// Compression of the body: "", or one of the Compression… constants or
	// kombu's names for them.
	Compression string
	// Redelivered is set when the message was restored or requeued. It stands
	// in the headers and in the delivery information; this one counts.
	Redelivered bool
	// ExtraHeaders are the headers that this package does not know, in wire order.
	ExtraHeaders Members
	// ExtraBody are the same of a protocol 1 body.
	ExtraBody Members

	// Args is a JSON array, Kwargs a JSON object; nil for empty.
	Args, Kwargs Raw
	// Embed holds the callbacks, which are carried untouched.
	Embed Embed

	// Properties of the envelope: address, priority, delivery tag.
	Properties Properties

	src    *Envelope // what the task was decoded from, nil for a new one
	limits Limits    // with which it was
	hybrid bool      // headers of protocol 2, body of protocol 1
}

// NewTask is a call with a fresh ID. args must encode to a JSON array and
// kwargs to an object; nil is empty. The queue is still to be set (SetQueue).
func NewTask(name string, args, kwargs any) (*Task, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	t := &Task{Name: name, ID: id.String()}
	if t.Args, err = encodeAs(KindArray, "args", args); err != nil {
		return nil, err
	}
	if t.Kwargs, err = encodeAs(KindObject, "kwargs", kwargs); err != nil {
		return nil, err
	}
	return t, nil
}

// encodeAs encodes a value that must become one kind of JSON, nil for nil.
func encodeAs(kind Kind, path string, v any) (Raw, error) {
	if v == nil {
		return nil, nil
	}
	r, err := EncodeValue(v)
	if err != nil {
		return nil, within(path, err)
	}
	switch got := r.Kind(); got {
	case kind:
		return r, nil
	case KindNull:
		return nil, nil
	default:
		return nil, &EncodeError{Path: path, Err: errKind(kind, got)}
	}
}

// SetQueue addresses the task to a queue by the anonymous exchange.
func (t *Task) SetQueue(queue string) {
	t.Properties.DeliveryInfo.Exchange = ""
	t.Properties.DeliveryInfo.RoutingKey = queue
}

// Queue is the routing key, which is the queue's name for the anonymous exchange.
func (t *Task) Queue() string { return t.Properties.DeliveryInfo.RoutingKey }
