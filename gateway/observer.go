package gateway

import "time"

// What became of a frame that a browser sent: the labels that [Observer.FrameReceived] gets, beside the reasons of
// compat.FrameReason for frames that are refused and the outcomes of compat/dispatch for signals that go nowhere.
const (
	FrameSignal       = "signal"         // handed to the publisher
	FrameHeartbeat    = "heartbeat"      // echoed
	FrameBinary       = "binary"         // ignored
	FrameTooSlow      = "too_slow"       // over Config.FrameTimeout: closed with 1008
	FrameControlFlood = "control_flood"  // too many pings and pongs: closed with 1008
	FrameTooBig       = "too_big"        // closed with 1009
	FrameInvalidUTF8  = "invalid_utf8"   // closed with 1007
	FrameNoRoom       = "no_room"        // Config.LargeFrameBytes were taken for too long: closed with 1013
	FrameRefused      = "queue_full"     // no room in the publisher's queue: closed with 1013
	FrameDelay        = "delay_too_long" // countdown or expires over Config.MaxDelay: ignored
	FramePlanFailed   = "plan_failed"    // the signal could not be turned into tasks
)

// How a window was identified: the labels that [Observer.Identified] gets.
const (
	IdentifiedTicket    = "ticket"     // by its ticket
	IdentifiedCallback  = "callback"   // Django was asked
	IdentifiedNative    = "native"     // by Django's cache, session and user table
	IdentifiedAnonymous = "anonymous"  // nobody is logged in on this site: its topics alone
	IdentifiedNoKey     = "no_key"     // no window key: anonymous, no groups
	IdentifiedNoTicket  = "no_ticket"  // no ticket, or an expired one: anonymous, no groups
	IdentifiedOther     = "mismatch"   // another session than the ticket's: anonymous, public groups only
	IdentifiedRevoked   = "revoked"    // the ticket was revoked a moment ago: anonymous, public groups only
	IdentifiedBadTicket = "bad_ticket" // the ticket could not be read: anonymous, no groups
)

// Why a message of the channel layer reached no window: the labels that [Observer.MessageDropped] gets.
const (
	MessageType = "type" // another type than ws_message
	MessageText = "text" // no text, or one that is not UTF-8
)

// Why messages for a window were lost: the labels that [Observer.FramesDropped] gets.
const (
	DroppedClosed   = "closed"   // the window ended and is not one that can come back: it has no window key, or no groups
	DroppedRevoked  = "revoked"  // its session ended
	DroppedExpired  = "expired"  // it did not come back within Config.ParkFor
	DroppedOverflow = "overflow" // more than Config.ParkFrames, ParkBytes or ParkTotalBytes waited; the oldest go first
	DroppedEvicted  = "evicted"  // more than Config.MaxParked windows waited; those that wait longest go first
	DroppedUnproven = "unproven" // written to a socket that broke, and not kept any more: they may have arrived
	DroppedDrained  = "drained"  // the gateway ended before the window came back, and Redis did not take its messages
)

// Where a window's earlier socket was: the labels that [Observer.TakenOver] gets.
const (
	TakenOverHere  = "here"  // at this gateway
	TakenOverThere = "there" // at another one
)

// Why a window was opened without what another gateway kept for it: the labels that [Observer.HandoverFailed] gets.
const (
	HandoverRedis   = "redis"   // Redis did not answer in time
	HandoverTimeout = "timeout" // the other gateway did not answer in time
	HandoverGone    = "gone"    // the other gateway has ended without writing it
)

// What went wrong with a proxied request: the labels that [Observer.ProxyFailed] gets.
const (
	ProxyAway     = "away"     // 502: the application server does not take connections
	ProxyStarting = "starting" // 503: Config.FindUpstream has none
	ProxyRefused  = "refused"  // 400, 405 or 505: the request is not one to pass on
	ProxyBroken   = "broken"   // 502: it broke the connection before its answer
	ProxyCut      = "cut"      // it broke the connection within its answer; the client's is cut as well
	ProxyTimeout  = "timeout"  // 504: no answer within Config.UpstreamHeaderTimeout
	ProxyCanceled = "canceled" // the client went away first
)

// Observer is called at what a metric may want to know. Every field may be nil. The functions are called on the hot path and from
// many goroutines: they must be quick and safe for concurrent use. All labels are bounded.
type Observer struct {
	// Opened is called for each accepted window.
	Opened func()
	// Closed is called when a window is gone, with the first close code of either side and whether the browser was first.
	Closed func(code CloseCode, byBrowser bool)
	// Refused is called for each handshake that was not accepted, with one of the Refused constants.
	Refused func(reason string)
	// Identified is called for each handshake, with one of the Identified constants.
	Identified func(outcome string)
	// IdentifyFailed is called when a strategy gave no answer about a handshake, with one of the Strategy and one of the Identify constants.
	IdentifyFailed func(strategy, reason string)
	// Connected is called for each accepted window with the time from request to answer.
	Connected func(d time.Duration)
	// FrameReceived is called for each frame of a browser.
	FrameReceived func(outcome string)
	// Throttled is called when a window must wait because of Config.FramesPerSecond, Config.UserFramesPerSecond or Config.SignalsInFlight.
	Throttled func()
	// Published is called when the publisher is done with a signal; err is nil when its tasks are in the broker.
	Published func(err error)
	// FramesSent is called with the frames and bytes that were written to a socket.
	FramesSent func(frames, bytes int)
	// FramesDropped is called with the messages for a window that were lost, with one of the Dropped constants. window is the hash of the
	// window key, as in logs: no label, but for those who look after one window.
	FramesDropped func(window, reason string, frames int)
	// Parked is called when windows begin to wait for their next socket, and with a negative number when they do no longer.
	Parked func(windows int)
	// TakenOver is called for each window that got what an earlier socket had missed, with one of the TakenOver constants and the number
	// of messages.
	TakenOver func(from string, frames int)
	// HandoverFailed is called when a window was opened without what another gateway may have kept for it, with one of the Handover constants.
	HandoverFailed func(reason string)
	// FanOut is called for each message of the layer with the number of windows it went to and the time this took.
	FanOut func(windows int, d time.Duration)
	// MessageDropped is called for messages of the layer that reach no window, with one of the Message constants.
	MessageDropped func(reason string)
	// Revoked is called for each revocation with the number of windows that it closed.
	Revoked func(windows int)
	// Proxied is called for each request that went to the application server, when its answer is complete.
	Proxied func(status int, d time.Duration)
	// ProxyFailed is called when a request got no answer, or no whole one, from the application server, with one of the Proxy constants.
	ProxyFailed func(kind string)
}

func (o *Observer) opened(d time.Duration) {
	if o.Opened != nil {
		o.Opened()
	}
	if o.Connected != nil {
		o.Connected(d)
	}
}

func (o *Observer) closed(code CloseCode, byBrowser bool) {
	if o.Closed != nil {
		o.Closed(code, byBrowser)
	}
}

func (o *Observer) refused(reason string) {
	if o.Refused != nil {
		o.Refused(reason)
	}
}

func (o *Observer) identified(outcome string) {
	if o.Identified != nil {
		o.Identified(outcome)
	}
}

func (o *Observer) identifyFailed(strategy, reason string) {
	if o.IdentifyFailed != nil {
		o.IdentifyFailed(strategy, reason)
	}
}

func (o *Observer) frameReceived(outcome string) {
	if o.FrameReceived != nil {
		o.FrameReceived(outcome)
	}
}

func (o *Observer) throttled() {
	if o.Throttled != nil {
		o.Throttled()
	}
}

func (o *Observer) published(err error) {
	if o.Published != nil {
		o.Published(err)
	}
}

func (o *Observer) framesSent(frames, bytes int) {
	if o.FramesSent != nil {
		o.FramesSent(frames, bytes)
	}
}

func (o *Observer) framesDropped(window, reason string, frames int) {
	if frames > 0 && o.FramesDropped != nil {
		o.FramesDropped(window, reason, frames)
	}
}

func (o *Observer) parked(windows int) {
	if o.Parked != nil {
		o.Parked(windows)
	}
}

func (o *Observer) takenOver(from string, frames int) {
	if o.TakenOver != nil {
		o.TakenOver(from, frames)
	}
}

func (o *Observer) handoverFailed(reason string) {
	if o.HandoverFailed != nil {
		o.HandoverFailed(reason)
	}
}

func (o *Observer) fanOut(windows int, d time.Duration) {
	if o.FanOut != nil {
		o.FanOut(windows, d)
	}
}

func (o *Observer) messageDropped(reason string) {
	if o.MessageDropped != nil {
		o.MessageDropped(reason)
	}
}

func (o *Observer) revoked(windows int) {
	if o.Revoked != nil {
		o.Revoked(windows)
	}
}

func (o *Observer) proxied(status int, d time.Duration) {
	if o.Proxied != nil {
		o.Proxied(status, d)
	}
}

func (o *Observer) proxyFailed(kind string) {
	if o.ProxyFailed != nil {
		o.ProxyFailed(kind)
	}
}
