package channelslayer

// DropReason says why a message was not delivered. The values are few and fixed: they are meant to be a metric's label.
type DropReason string

// The reasons to drop a message.
const (
	// DropUndecodable: the bytes are not msgpack, or JSON, as Python reads it, or not a dictionary.
	DropUndecodable DropReason = "undecodable"
	// DropExtension: a msgpack extension type, which no channel layer writes.
	DropExtension DropReason = "extension"
	// DropTooDeep: nested deeper than MaxDepth.
	DropTooDeep DropReason = "too_deep"
	// DropNoChannel: no __asgi_channel__ in a message on a specific key; Python puts it where nobody reads.
	DropNoChannel DropReason = "no_channel"
	// DropChannelType: __asgi_channel__ is neither a text nor a list of texts.
	DropChannelType DropReason = "channel_type"
	// DropUnknownChannel: every name in __asgi_channel__ is unknown here, because the last window of the group has just gone.
	DropUnknownChannel DropReason = "unknown_channel"
	// DropBufferFull: a channel that nobody received from had its capacity of messages waiting; the oldest was dropped.
	DropBufferFull DropReason = "buffer_full"
	// DropExpired: a message waited in this process for longer than Expiry and nobody received it.
	DropExpired DropReason = "expired"
	// DropUndecryptable: no Fernet token, or none that one of the keys opens.
	DropUndecryptable DropReason = "undecryptable"
	// DropTokenAge: the Fernet token is older than expiry and ten seconds, or more than a minute from the future.
	DropTokenAge DropReason = "token_age"
	// DropOversized: a published message is longer than MaxPublished.
	DropOversized DropReason = "oversized"
)

// RefreshCause says why a Receiver wrote all its memberships again.
type RefreshCause string

// The causes of a refresh.
const (
	// RefreshScheduled: a third of GroupExpiry has passed.
	RefreshScheduled RefreshCause = "scheduled"
	// RefreshReconnected: the connection was lost and made again, so Redis may have restarted or failed over.
	RefreshReconnected RefreshCause = "reconnected"
	// RefreshLost: the sentinel is gone from the layer, so something flushed it or swept this receiver.
	RefreshLost RefreshCause = "lost"
)

// GroupSent tells what became of one GroupSend.
type GroupSent struct {
	Members      int // channel names in the group
	Keys         int // Redis keys, one per receiving process
	OverCapacity int // keys that were full: their process did not get the message
	Rejected     int // keys that could not be written, or member names that are no text
}

// Observer is called at what a metric or a log may want to know. Every field may be nil. The functions are called on the hot path, from several
// goroutines: they must be quick and safe for concurrent use.
type Observer struct {
	// GroupSent is called after each GroupSend that reached Redis.
	GroupSent func(GroupSent)
	// ChannelFull is called when Send found no room.
	ChannelFull func()
	// Received is called for each batch that a Receiver took, with the number of messages in it.
	Received func(n int)
	// Dropped is called when received messages are dropped.
	Dropped func(reason DropReason, n int)
	// Reconnected is called when a Receiver's connection was made again.
	Reconnected func()
	// Refreshed is called after a Receiver wrote all its memberships again.
	Refreshed func(cause RefreshCause, groups int)
	// Swept is called after the memberships of a dead Receiver were removed.
	Swept func(groups int)
}

func (o *Observer) groupSent(s GroupSent) {
	if o.GroupSent != nil {
		o.GroupSent(s)
	}
}

func (o *Observer) channelFull() {
	if o.ChannelFull != nil {
		o.ChannelFull()
	}
}

func (o *Observer) received(n int) {
	if o.Received != nil {
		o.Received(n)
	}
}

func (o *Observer) dropped(reason DropReason, n int) {
	if o.Dropped != nil {
		o.Dropped(reason, n)
	}
}

func (o *Observer) reconnected() {
	if o.Reconnected != nil {
		o.Reconnected()
	}
}

func (o *Observer) refreshed(cause RefreshCause, groups int) {
	if o.Refreshed != nil {
		o.Refreshed(cause, groups)
	}
}

func (o *Observer) swept(groups int) {
	if o.Swept != nil {
		o.Swept(groups)
	}
}
