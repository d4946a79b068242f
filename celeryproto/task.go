package celeryproto

import "time"

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
	RootID   string // first task of the workflow; "" is written as ID
	ParentID string // task that sent this one; "" for none
	GroupID  string // "" for none
	// GroupIndex is the position in the group, nil for none.
	GroupIndex *int
	// Retries counts the retries so far.
	Retries int
	// ETA is when to run, nil for now. A naive text is read as UTC.
	ETA *time.Time
	// Expires is when to drop the call, nil for never.
	Expires *time.Time
	// NaiveIsLocal says that a naive ETA or Expires was meant in the
	// application's timezone: protocol 1 with "utc": false.
	NaiveIsLocal bool
	// TimeLimit is the hard and the soft limit in seconds, nil for the worker's.
	TimeLimit [2]*float64

	Lang   string // language of the producer; "" is written as LangGo
	Shadow string // name for logs instead of Name; "" for none
	Origin string // "gen<pid>@<hostname>" of the producer
	// ArgsRepr and KwargsRepr are for logs and events; "" in a new Task is
	// written as ReprTuple(Args) and Repr(Kwargs).
	ArgsRepr, KwargsRepr string
	// IgnoreResult overrides the task's own setting, nil leaves it.
	IgnoreResult *bool
	// ReplacedTaskNesting counts Task.replace.
	ReplacedTaskNesting int
	// StampedHeaders is an array of names, Stamps an object with their values.
	StampedHeaders, Stamps Raw
	// Compression of the body: "" or CompressionZlib.
	Compression string
	// ExtraHeaders are the headers that Celery does not write itself.
	ExtraHeaders Members
	// ExtraBody are unknown members of a protocol 1 body.
	ExtraBody Members

	// Args is a JSON array, Kwargs a JSON object; nil for empty.
	Args, Kwargs Raw
	// Embed holds the callbacks, which are carried untouched.
	Embed Embed

	// Properties of the envelope: address, priority, delivery tag.
	Properties Properties

	src *taskSource
}

// Embed is what follows a call. Each field is the JSON text of signatures,
// carried untouched; nil is null.
type Embed struct {
	Callbacks Raw // array of signatures applied with the result
	Errbacks  Raw // array of signatures called on failure
	Chain     Raw // array of signatures, the next one last
	Chord     Raw // signature of the chord's body
	// Extra are the members that this package does not know, in wire order.
	Extra Members

	wire Raw
}
