package gateway

import "time"

// What became of a frame that a browser sent: the labels that [Observer.FrameReceived] gets, beside the reasons of
// compat.FrameReason for frames that are refused and the outcomes of compat/dispatch for signals that go nowhere.
const (
	FrameSignal      = "signal"       // handed to the publisher
	FrameHeartbeat   = "heartbeat"    // echoed
	FrameBinary      = "binary"       // ignored
	FrameTooBig      = "too_big"      // closed with 1009
	FrameInvalidUTF8 = "invalid_utf8" // closed with 1007
	FrameNoRoom      = "no_room"      // Config.LargeFrameBytes were taken for too long: closed with 1013
	FrameRefused     = "queue_full"   // no room in the publisher's queue: closed with 1013
	FramePlanFailed  = "plan_failed"  // the signal could not be turned into tasks
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
	// Throttled is called when a window must wait because of Config.FramesPerSecond or Config.SignalsInFlight.
	Throttled func()
	// Published is called when the publisher is done with a signal; err is nil when its tasks are in the broker.
	Published func(err error)
	// FramesSent is called with the frames and bytes that were written to a socket.
	FramesSent func(frames, bytes int)
	// FramesDropped is called with the frames that were queued for a window and never written.
	FramesDropped func(frames int)
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

func (o *Observer) framesDropped(frames int) {
	if frames > 0 && o.FramesDropped != nil {
		o.FramesDropped(frames)
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
