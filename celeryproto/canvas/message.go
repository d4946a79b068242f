package canvas

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// Defaults are what a message gets beside the options of its call: settings of
// the application, the process, and the clock.
type Defaults struct {
	// Now is the time from which countdown and expires in seconds count.
	Now time.Time
	// Location is Celery's setting timezone, UTC when nil.
	Location *time.Location
	// Protocol is the setting task_protocol, 1 or 2; 0 is 2.
	Protocol int
	// LocalTime is the setting enable_utc turned off. Only protocol 1 says so.
	LocalTime bool
	// Lang is the header "lang": celeryproto.LangGo when "".
	Lang string
	// Origin is the header "origin", "gen<pid>@<host>"; "" is null.
	Origin string
	// ReplyTo is for options without reply_to.
	ReplyTo string
	// Serializer and Compression are task_serializer and task_compression.
	Serializer, Compression string
	// DeliveryMode is task_default_delivery_mode; 0 is persistent.
	DeliveryMode int
	// TaskOptions are the execution options of the class of a task that this
	// process knows (celery 5.7, app/task.py, extract_exec_options) and its
	// ignore_result; ok is false for a name that it does not know. May be nil.
	TaskOptions func(task string) (options celeryproto.Members, ok bool)
}

// Options of apply_async and send_task that become parts of a message
// (celery 5.7, app/base.py, app/amqp.py).
const (
	optExpires       = "expires"
	optTimeLimit     = "time_limit"
	optSoftTimeLimit = "soft_time_limit"
	optIgnoreResult  = "ignore_result"
	optShadow        = "shadow"
	optRetries       = "retries"
	optOrigin        = "origin"
	optArgsRepr      = "argsrepr"
	optKwargsRepr    = "kwargsrepr"
	optHeaders       = "headers"
	optSerializer    = "serializer"
	optCompression   = "compression"
	optDeliveryMode  = "delivery_mode"
	optCorrelationID = "correlation_id" // leaks, over the task's ID
)

// sendOptions are those that send_task names: what is left of the options may
// become a stamp or leak into the properties.
var sendOptions = []string{
	optTaskID, optLink, optLinkError, optShadow, optCountdown, optETA, optExpires, optGroupID, optGroupIndex, optRetries,
	optChord, optReplyTo, optTimeLimit, optSoftTimeLimit, optRootID, optParentID, optRouteName, optChain, optNesting,
	optAddToParent, optIgnoreResult, "task_type",
}

// publishOptions are those that send_task_message of celery, or publish of kombu
// 5.7, messaging.py, names: they never leak.
var publishOptions = []string{
	"exchange", "routing_key", "queue", "retry", "retry_policy", optSerializer, optDeliveryMode, optCompression, "declare",
	optHeaders, "exchange_type", "timeout", "confirm_timeout", "mandatory", "immediate", optPriority, "content_type",
	"content_encoding", "expiration",
}

// Names of Celery's built-in tasks: every Python process knows them.
var builtinTasks = []string{
	"celery.backend_cleanup", TaskAccumulate, "celery.chord_unlock", TaskMap, TaskStarmap, TaskChunks, TaskGroup, TaskChain, TaskChord,
}

// Queue is the option queue, "" for none: routing is left to the caller, as are
// the options exchange, routing_key, exchange_type, retry and retry_policy.
func (s *Send) Queue() string {
	queue, _ := s.Options.Get("queue")
	text, err := queue.Text()
	if err != nil {
		return ""
	}
	return text
}

// Message is the message that Python's send_task makes of the call, without an
// address and a delivery tag. The error names an option that Python refuses too,
// or is a *celeryproto.DecodeError for what a worker would not take, or a
// *celeryproto.UnsupportedError.
func (s *Send) Message(def Defaults) (*celeryproto.Task, error) {
	b := builder{def: def, send: s, named: map[string]celeryproto.Raw{}, rest: newDict(0)}
	t, err := b.build()
	if err != nil {
		return nil, fmt.Errorf("canvas: message of %s: %w", s.Task, err)
	}
	return t, nil
}

// builder makes one message.
type builder struct {
	def   Defaults
	send  *Send
	named map[string]celeryproto.Raw // of sendOptions and publishOptions; never null
	rest  *dict                      // all others

	eta, expires celeryproto.Raw
	expiration   string
}

// get is a named option, null for None.
func (b *builder) get(option string) celeryproto.Raw { return b.or(option, none) }

func (b *builder) or(option string, otherwise celeryproto.Raw) celeryproto.Raw {
	if v, ok := b.named[option]; ok {
		return v
	}
	return otherwise
}

func (b *builder) text(option, otherwise string) (string, error) {
	v, ok := b.named[option]
	if !ok {
		return otherwise, nil
	}
	text, err := v.Text()
	if err != nil {
		return "", fmt.Errorf("option %s: %w", option, err)
	}
	return text, nil
}

func (b *builder) build() (*celeryproto.Task, error) {
	b.options()
	if err := b.times(); err != nil {
		return nil, err
	}
	stamps, err := b.stamps()
	if err != nil {
		return nil, err
	}
	e, err := b.envelope()
	if err != nil {
		return nil, err
	}
	args, kwargs := tupleOf(b.send.Args), celeryproto.Raw(b.send.Kwargs.Append(nil))
	var body celeryproto.Raw
	if b.def.Protocol == 1 {
		body = b.bodyV1(args.raw, kwargs)
	} else {
		b.headers(e, args.raw, kwargs, stamps)
		body = b.bodyV2(args.raw, kwargs)
	}
	e.Body = base64.StdEncoding.EncodeToString(body)
	if err := b.userHeaders(e); err != nil {
		return nil, err
	}
	t, err := celeryproto.DecodeTask(e)
	if err != nil {
		return nil, err
	}
	if t.Serializer, err = b.serializer(); err != nil {
		return nil, err
	}
	t.Compression, err = b.text(optCompression, b.def.Compression)
	return t, err
}

// options takes apart the options of the call, and those of the task's class.
func (b *builder) options() {
	class, known := b.class()
	if known {
		b.take(class)
		if _, ok := b.named[optIgnoreResult]; !ok {
			b.named[optIgnoreResult] = rawFalse
		}
	}
	b.take(b.send.Options)
	_, toQueue := b.named["queue"]
	if !toQueue {
		// The router drops what is None when it fills in a queue (celery 5.7,
		// app/routes.py, lpmerge).
		b.rest = b.rest.withoutNone()
	}
	_, prioritized := b.named[optPriority]
	if b.send.ParentPriority != nil && !prioritized && !(known && toQueue) {
		// With a queue, the None of the task's class still stands there.
		b.named[optPriority] = intValue(*b.send.ParentPriority)
	}
}

func (b *builder) class() (options celeryproto.Members, known bool) {
	if b.def.TaskOptions != nil {
		if options, known = b.def.TaskOptions(b.send.Task); known {
			return options, true
		}
	}
	return nil, slices.Contains(builtinTasks, b.send.Task)
}

// take adds options over those that are there. None takes one away.
func (b *builder) take(options celeryproto.Members) {
	for _, m := range options {
		switch {
		case processOption(m.Key):
		case !slices.Contains(sendOptions, m.Key) && !slices.Contains(publishOptions, m.Key):
			b.rest.set(m.Key, m.Value)
		case m.Value.IsNull():
			delete(b.named, m.Key)
		default:
			b.named[m.Key] = m.Value
		}
	}
}

// stamps are the values of the stamps, which are options of their names. Names
// without an option, which Python's Stamp leaves behind and its send_task then
// dies of, are left out.
func (b *builder) stamps() (celeryproto.Raw, error) {
	names, _ := b.rest.pop(optStampedHeaders).(celeryproto.Raw)
	if names.IsNull() {
		return celeryproto.Raw("{}"), nil
	}
	elements, err := names.Array()
	if err != nil {
		return nil, fmt.Errorf("option %s: %w", optStampedHeaders, err)
	}
	stamps := newDict(len(elements))
	for _, element := range elements {
		name, err := element.Text()
		if err != nil {
			return nil, fmt.Errorf("option %s: %w", optStampedHeaders, err)
		}
		if value, ok := b.stamp(name); ok {
			stamps.set(name, value)
		}
	}
	b.rest = b.rest.without(stamps.has)
	if stamps.len() != len(elements) {
		if names, err = encodeValue(keysOf(stamps)); err != nil {
			return nil, err
		}
	}
	b.named[optStampedHeaders] = names
	return encodeValue(stamps)
}

// stamp is one stamp, which then is no option any more. One of a name that
// send_task has for itself is none.
func (b *builder) stamp(name string) (value celeryproto.Raw, ok bool) {
	if value, ok = b.rest.get(name).(celeryproto.Raw); ok {
		return value, true
	}
	if slices.Contains(publishOptions, name) {
		value, ok = b.named[name]
		delete(b.named, name)
	}
	return value, ok
}

// envelope has everything but headers and body.
func (b *builder) envelope() (*celeryproto.Envelope, error) {
	e := &celeryproto.Envelope{ContentType: celeryproto.ContentTypeJSON, ContentEncoding: celeryproto.EncodingUTF8}
	p := &e.Properties
	p.CorrelationID = b.send.ID()
	if id, ok := b.rest.pop(optCorrelationID).(celeryproto.Raw); ok {
		var err error
		if p.CorrelationID, err = id.Text(); err != nil {
			return nil, fmt.Errorf("option %s: %w", optCorrelationID, err)
		}
	}
	for _, e := range b.rest.entries {
		p.Extra = append(p.Extra, celeryproto.Member{Key: e.key, Value: e.val.(celeryproto.Raw)}) // take puts nothing else there
	}
	p.Expiration = b.expiration
	p.BodyEncoding = celeryproto.BodyBase64
	var err error
	if p.ReplyTo, err = b.text(optReplyTo, b.def.ReplyTo); err != nil {
		return nil, err
	}
	if p.DeliveryMode, err = b.deliveryMode(); err != nil {
		return nil, err
	}
	if priority, ok := b.named[optPriority]; ok {
		n, err := priority.Number()
		i, isInt := n.(int64)
		if err != nil || !isInt {
			return nil, errors.New("option priority: expected an integer")
		}
		p.Priority = int(i)
	}
	return e, nil
}

// serializer is the option of that name, "" for JSON.
func (b *builder) serializer() (string, error) {
	name, err := b.text(optSerializer, b.def.Serializer)
	if err != nil || name == "" || name == celeryproto.SerializerJSON || name == celeryproto.ContentTypeJSON {
		return "", err
	}
	_, _, _, err = celeryproto.EncodeContent(name, none)
	return name, err
}

// deliveryMode is kombu's maybe_delivery_mode.
func (b *builder) deliveryMode() (int, error) {
	mode, ok := b.named[optDeliveryMode]
	if !ok {
		return b.def.DeliveryMode, nil
	}
	switch mode.String() {
	case "1", `"transient"`:
		return celeryproto.DeliveryTransient, nil
	case "2", `"persistent"`:
		return celeryproto.DeliveryPersistent, nil
	}
	return 0, errors.New("option delivery_mode: expected 1 or 2")
}

func orText(text string) celeryproto.Raw {
	if text == "" {
		return none
	}
	return textValue(text)
}
