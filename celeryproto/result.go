package celeryproto

import "time"

// ResultMeta is what the result backend stores for a task.
type ResultMeta struct {
	Status string // one of the Status… constants, or a name of the application's
	// Result is the return value, or an exception (see Exception), or whatever
	// the state brings; nil is null.
	Result Raw
	// Traceback is text for people; "" is null.
	Traceback string
	// Children are the tasks that this one sent, as result tuples; nil is [].
	Children Raw
	// DateDone is when the task ended, the zero time for null. Celery up to 5.3
	// writes it naive, in UTC.
	DateDone time.Time
	TaskID   string
	GroupID  string // written when not ""
	ParentID string // written when not ""
	// Extended is there with Celery's setting result_extended.
	Extended *ResultExtended
	// Compression is "" or CompressionZlib: setting result_compression.
	Compression string
	// Extra are the members that this package does not know, stamps among them.
	Extra Members

	wire Members
}

// ResultExtended are the further fields of Celery's setting result_extended.
type ResultExtended struct {
	Name         string // the task's name
	Args, Kwargs Raw    // JSON values; nil is null
	Worker       string // node name; "" is null
	Retries      int
	Queue        string // routing key; "" is null
}
