package celeryproto

import (
	"errors"
	"strconv"
)

// Names of remote control (kombu 5.7, pidbox.py, Mailbox; celery 5.7, app/control.py). The namespace is Celery's setting
// control_exchange.
const (
	DefaultControlNamespace = "celery"
	pidboxEnd               = ".pidbox"
	replyStart              = "reply."
)

// ControlExchange is the fanout exchange of broadcast messages: "celery.pidbox".
func ControlExchange(namespace string) string { return namespace + pidboxEnd }

// ReplyExchange is the direct exchange of replies: "reply.celery.pidbox".
func ReplyExchange(namespace string) string { return replyStart + namespace + pidboxEnd }

// ControlQueue is the name that a node binds to ControlExchange: "celery@host.celery.pidbox".
func ControlQueue(node, namespace string) string { return node + "." + namespace + pidboxEnd }

// ControlMessage is a broadcast message of remote control: a command for some or all nodes.
type ControlMessage struct {
	// Method is the name of the command, "ping".
	Method string
	// Arguments are its keyword arguments; nil is written as {}.
	Arguments Members
	// Destination names the nodes that it is for; empty for all that Pattern fits.
	Destination []string
	// Pattern and Matcher (MatcherGlob, MatcherPCRE) choose nodes by their names; both or none. "" is null.
	Pattern, Matcher string
	// Ticket and ReplyTo ask for replies; the ticket comes back in them. nil and "" when none is wanted.
	Ticket  string
	ReplyTo *ReplyAddress
	// Clock is the sender's Lamport clock.
	Clock int64
	// Expires is the time, in seconds since 1970, after which the sender waits no more; 0 for none. Python's workers ignore it.
	Expires float64
	// Extra are the members of the body that this package does not know, in wire order. A Python worker fails on some of them.
	Extra Members
}

// ReplyAddress is where a reply goes.
type ReplyAddress struct {
	Exchange, RoutingKey string
}

// Keys of a broadcast message (kombu 5.7, pidbox.py, Mailbox._publish).
const (
	keyMethod      = "method"
	keyArguments   = "arguments"
	keyDestination = "destination"
	keyPattern     = "pattern"
	keyMatcher     = "matcher"
	keyTicket      = "ticket"
	keyClock       = "clock"
)

var controlKeys = newKeySet(keyMethod, keyArguments, keyDestination, keyPattern, keyMatcher, keyTicket, keyReplyTo)

// Envelope is the message as Python writes it, for the exchange of ControlExchange. The error is an *EncodeError or an
// *UnsupportedError.
func (m *ControlMessage) Envelope(exchange string, o BusOptions) (*Envelope, error) {
	if m.Method == "" {
		return nil, &EncodeError{Path: keyMethod, Err: ErrMissing}
	}
	if m.Expires < 0 {
		return nil, &EncodeError{Path: keyExpires, Err: errNegative}
	}
	f := newFieldSet(controlKeys.len()+len(m.Extra), 256)
	f.text(keyMethod, m.Method)
	f.append(keyArguments, m.Arguments.Append)
	if len(m.Destination) == 0 {
		f.raw(keyDestination, rawNull)
	} else {
		f.append(keyDestination, func(dst []byte) []byte { return appendTexts(dst, m.Destination) })
	}
	f.textOrNull(keyPattern, m.Pattern)
	f.textOrNull(keyMatcher, m.Matcher)
	if m.ReplyTo != nil {
		f.text(keyTicket, m.Ticket)
		f.append(keyReplyTo, m.ReplyTo.append)
	}
	if err := f.extra(PartBody, m.Extra, controlKeys); err != nil {
		return nil, err
	}
	headers := newFieldSet(2, 32)
	headers.int64(keyClock, m.Clock)
	if m.Expires == 0 {
		headers.int(keyExpires, 0)
	} else {
		headers.float(keyExpires, m.Expires)
	}
	return busEnvelope(o, f.appendObject(nil), headers.members(), DeliveryPersistent, exchange, "")
}

func appendTexts(dst []byte, texts []string) []byte {
	dst = append(dst, '[')
	for i, s := range texts {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = AppendString(dst, s)
	}
	return append(dst, ']')
}

func (a *ReplyAddress) append(dst []byte) []byte {
	dst = AppendString(append(dst, `{"exchange": `...), a.Exchange)
	dst = AppendString(append(dst, `, "routing_key": `...), a.RoutingKey)
	return append(dst, '}')
}

// DecodeControl reads a broadcast message. The error is a *DecodeError or an *UnsupportedError; a Python worker logs such a
// message and skips it.
func DecodeControl(e *Envelope, lim Limits) (*ControlMessage, error) {
	body, err := e.busObject(lim)
	if err != nil {
		return nil, err
	}
	r := fieldReader{part: PartBody, members: body}
	m := &ControlMessage{
		Method: r.needText(keyMethod), Arguments: r.object(keyArguments), Destination: r.texts(keyDestination),
		Pattern: r.text(keyPattern), Matcher: r.text(keyMatcher),
		Ticket: r.text(keyTicket), ReplyTo: r.replyTo(keyReplyTo), Extra: controlKeys.rest(body),
	}
	m.Clock, m.Expires = e.busClock(), e.busExpires()
	return m, r.err
}

// busClock and busExpires are headers of remote control; what is no number is not there.
func (e *Envelope) busClock() int64 {
	value, _ := e.Headers.Get(keyClock)
	clock, _ := clockOf(value)
	return max(clock, 0)
}

func (e *Envelope) busExpires() float64 {
	value, _ := e.Headers.Get(keyExpires)
	seconds, err := value.seconds()
	if err != nil || seconds < 0 {
		return 0
	}
	return seconds
}

// texts is an array of texts, a single text, or nothing, which an empty array or text says too: Python tests them for truth.
func (r *fieldReader) texts(key string) []string {
	value := r.raw(key)
	switch value.Kind() {
	case KindInvalid:
		return nil
	case KindString:
		if text := r.text(key); text != "" {
			return []string{text}
		}
		return nil
	}
	elements, err := value.Array()
	if err != nil {
		r.fail(key, err)
		return nil
	}
	if len(elements) == 0 {
		return nil
	}
	texts := make([]string, len(elements))
	for i, element := range elements {
		if texts[i], err = element.Text(); err != nil {
			r.fail(key+"["+strconv.Itoa(i)+"]", err)
		}
	}
	return texts
}

// replyTo is an address; nil when there is none, which an empty object says too.
func (r *fieldReader) replyTo(key string) *ReplyAddress {
	members := r.object(key)
	if len(members) == 0 {
		return nil
	}
	inner := fieldReader{part: r.part, prefix: r.prefix + key + ".", members: members}
	a := &ReplyAddress{Exchange: inner.needText(keyExchange), RoutingKey: inner.needText(keyRoutingKey)}
	if inner.err != nil && r.err == nil {
		r.err = inner.err
	}
	return a
}

// IsFor tells whether a node is meant (kombu 5.7, pidbox.py, Node.handle_message): it is named, or its name fits the pattern, or
// there is neither. The error is a *PatternError; a Python worker logs it and skips the message.
func (m *ControlMessage) IsFor(node string) (bool, error) {
	if len(m.Destination) > 0 {
		for _, name := range m.Destination {
			if name == node {
				return true, nil
			}
		}
		return false, nil
	}
	if m.Pattern != "" && m.Matcher != "" {
		return MatchNode(node, m.Pattern, m.Matcher)
	}
	return true, nil
}

// ControlReply is what a node answers.
type ControlReply struct {
	// Ticket of the message that it answers.
	Ticket string
	// Clock is the sender's Lamport clock.
	Clock int64
	// Replies are the answers by node: one, from whoever wrote it.
	Replies Members
}

// NewControlReply is the answer of one node.
func NewControlReply(node string, value Raw) *ControlReply {
	return &ControlReply{Replies: Members{{Key: node, Value: value}}}
}

// ReplyOK and ReplyError are the two forms of an answer to a control command: {"ok": value} and {"error": text}. An inspect
// command answers with the value alone.
func ReplyOK(value Raw) Raw {
	return append(appendRaw([]byte(`{"ok": `), value), '}')
}

// ReplyError is the answer of a command that failed.
func ReplyError(text string) Raw {
	return append(AppendString([]byte(`{"error": `), text), '}')
}

// Envelope is the reply as Python writes it. The error is an *EncodeError or an *UnsupportedError.
func (c *ControlReply) Envelope(to ReplyAddress, o BusOptions) (*Envelope, error) {
	if len(c.Replies) == 0 {
		return nil, &EncodeError{Path: keyBody, Err: errors.New("no reply")}
	}
	headers := newFieldSet(2, 64)
	headers.textOrNull(keyTicket, c.Ticket)
	headers.int64(keyClock, c.Clock)
	return busEnvelope(o, c.Replies.Append(nil), headers.members(), DeliveryTransient, to.Exchange, to.RoutingKey)
}

// DecodeControlReply reads a reply. The error is a *DecodeError or an *UnsupportedError.
func DecodeControlReply(e *Envelope, lim Limits) (*ControlReply, error) {
	body, err := e.busObject(lim)
	if err != nil {
		return nil, err
	}
	r := fieldReader{part: PartHeaders, members: e.Headers.merged()}
	return &ControlReply{Ticket: r.text(keyTicket), Clock: e.busClock(), Replies: body}, r.err
}
