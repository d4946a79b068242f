package redisbroker

import "time"

// Observer receives what happened, for counters. Every function is optional, may be called from any goroutine and must
// return at once. Queue names are the only values suitable as labels.
type Observer struct {
	// Published: n messages reached queue.
	Published func(queue string, n int)
	// PublishFailed: n messages for queue were given up, with the error that their caller got.
	PublishFailed func(queue string, n int, err error)
	// PublishRetried: a batch of the Publisher failed and will be tried again.
	PublishRetried func(err error)
	// Taken: a delivery was taken from queue; undecodable says that DecodeErr is set.
	Taken func(queue string, redelivered, undecodable bool)
	// Settled: a delivery ended.
	Settled func(queue string, outcome Outcome)
	// Lost: a delivery was no longer ours when it was refreshed or settled (ErrLost).
	Lost func(queue string)
	// Refreshed: the scores of n held deliveries were renewed.
	Refreshed func(n int)
	// Restored: one overdue delivery of somebody else was handled by the restore loop.
	Restored func(result RestoreResult)
	// Broadcast: n messages were published to a fanout exchange or, with an error, given up.
	Broadcast func(exchange string, n int, err error)
	// Replied: a reply of remote control was pushed to so many queues or, with an error, given up.
	Replied func(queues int, err error)
	// FanoutDropped: a Subscriber did not hand over a message of a fanout exchange.
	FanoutDropped func(exchange string, reason FanoutDrop)
	// ReplyDropped: a ReplyQueue popped a reply that nobody waits for, or that nobody can take.
	ReplyDropped func(reason ReplyDrop)
	// Disconnected: an operation of a background loop failed; it goes on by itself.
	Disconnected func(loop string, err error)
	// Switched: connections go to another server from now on, by a failover list or by Sentinel.
	Switched func(addr string)
	// ResultStored: a result was stored, or not because a SUCCESS was already there.
	ResultStored func(status string, kept bool)
	// RoundTrip: one pipelined operation took d for n items.
	RoundTrip func(operation string, n int, d time.Duration)
}

// Outcome is how a delivery ended.
type Outcome string

// Outcomes of a delivery.
const (
	OutcomeAcked        Outcome = "acked"
	OutcomeRejected     Outcome = "rejected"      // dropped by Reject(false)
	OutcomeRequeued     Outcome = "requeued"      // to the end of its queue
	OutcomeRestored     Outcome = "restored"      // back to the head of its queue, consumed next
	OutcomeDeadLettered Outcome = "dead_lettered" // see Delivery.DeadLetter
)

// RestoreResult is what the restore loop did with one overdue delivery.
type RestoreResult string

// Results of the restore loop.
const (
	RestoreDone       RestoreResult = "restored"   // back in its queue
	RestoreGone       RestoreResult = "gone"       // acked or restored by somebody else meanwhile
	RestoreStale      RestoreResult = "stale"      // only the index entry was left, it is removed
	RestoreNoBinding  RestoreResult = "no_binding" // its named exchange has no queue: left where it is
	RestoreUnreadable RestoreResult = "unreadable" // moved to the dead letters
)

func (o *Observer) published(queue string, n int) {
	if o.Published != nil {
		o.Published(queue, n)
	}
}

func (o *Observer) publishFailed(queue string, n int, err error) {
	if o.PublishFailed != nil {
		o.PublishFailed(queue, n, err)
	}
}

func (o *Observer) publishRetried(err error) {
	if o.PublishRetried != nil {
		o.PublishRetried(err)
	}
}

func (o *Observer) taken(queue string, redelivered, undecodable bool) {
	if o.Taken != nil {
		o.Taken(queue, redelivered, undecodable)
	}
}

func (o *Observer) settled(queue string, outcome Outcome) {
	if o.Settled != nil {
		o.Settled(queue, outcome)
	}
}

func (o *Observer) lost(queue string) {
	if o.Lost != nil {
		o.Lost(queue)
	}
}

func (o *Observer) refreshed(n int) {
	if o.Refreshed != nil {
		o.Refreshed(n)
	}
}

func (o *Observer) restored(result RestoreResult) {
	if o.Restored != nil {
		o.Restored(result)
	}
}

func (o *Observer) broadcast(exchange string, n int, err error) {
	if o.Broadcast != nil {
		o.Broadcast(exchange, n, err)
	}
}

func (o *Observer) replied(queues int, err error) {
	if o.Replied != nil {
		o.Replied(queues, err)
	}
}

func (o *Observer) fanoutDropped(exchange string, reason FanoutDrop) {
	if o.FanoutDropped != nil {
		o.FanoutDropped(exchange, reason)
	}
}

func (o *Observer) replyDropped(reason ReplyDrop) {
	if o.ReplyDropped != nil {
		o.ReplyDropped(reason)
	}
}

func (o *Observer) disconnected(loop string, err error) {
	if o.Disconnected != nil {
		o.Disconnected(loop, err)
	}
}

// sentinelLost is disconnected for the connection to a Sentinel.
func (o *Observer) sentinelLost(err error) { o.disconnected("sentinel", err) }

func (o *Observer) switched(addr string) {
	if o.Switched != nil {
		o.Switched(addr)
	}
}

func (o *Observer) resultStored(status string, kept bool) {
	if o.ResultStored != nil {
		o.ResultStored(status, kept)
	}
}

func (o *Observer) roundTrip(operation string, n int, since time.Time) {
	if o.RoundTrip != nil {
		o.RoundTrip(operation, n, time.Since(since))
	}
}
