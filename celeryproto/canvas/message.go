package canvas

import (
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
// or is a *celeryproto.DecodeError for what a worker would not take. A serializer
// or compression that there is not is refused when the task is encoded.
func (s *Send) Message(def Defaults) (*celeryproto.Task, error) {
	b := builder{def: def, send: s, named: map[string]celeryproto.Raw{}}
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
	rest  celeryproto.Members        // all others

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
	if b.def.Protocol == 1 {
		e.Body = string(b.bodyV1(args.raw, kwargs))
	} else {
		b.headers(e, args.raw, kwargs, stamps)
		e.Body = string(b.bodyV2(args.raw, kwargs))
	}
	if err := b.userHeaders(e); err != nil {
		return nil, err
	}
	t, err := celeryproto.DecodeTask(e)
	if err != nil {
		return nil, err
	}
	t.Properties.BodyEncoding = "" // was plain text so far: nobody has sent it yet
	if t.Serializer, err = b.text(optSerializer, b.def.Serializer); err != nil {
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
		b.rest = slices.DeleteFunc(b.rest, func(m celeryproto.Member) bool { return m.Value.IsNull() })
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
			b.rest.Set(m.Key, m.Value)
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
	names, _ := b.rest.Get(optStampedHeaders)
	b.rest.Delete(optStampedHeaders)
	if names.IsNull() {
		return celeryproto.Raw("{}"), nil
	}
	elements, err := names.Array()
	if err != nil {
		return nil, fmt.Errorf("option %s: %w", optStampedHeaders, err)
	}
	var stamps celeryproto.Members
	for _, element := range elements {
		name, err := element.Text()
		if err != nil {
			return nil, fmt.Errorf("option %s: %w", optStampedHeaders, err)
		}
		if value, ok := b.stamp(name); ok {
			stamps.Set(name, value)
		}
	}
	if len(stamps) != len(elements) {
		kept := &list{}
		for _, stamp := range stamps {
			kept.items = append(kept.items, textValue(stamp.Key))
		}
		names, err = encodeValue(kept)
	}
	b.named[optStampedHeaders] = names
	return stamps.Append(nil), err
}

// stamp takes one stamp out of the options. One of a name that send_task has for
// itself is none.
func (b *builder) stamp(name string) (value celeryproto.Raw, ok bool) {
	if value, ok = b.rest.Get(name); ok {
		b.rest.Delete(name)
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
	p.Extra = b.rest
	p.Expiration = b.expiration
	p.BodyEncoding = celeryproto.BodyUTF8
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

// headers of protocol 2, in the order of as_task_v2.
func (b *builder) headers(e *celeryproto.Envelope, args, kwargs, stamps celeryproto.Raw) {
	lang := b.def.Lang
	if lang == "" {
		lang = celeryproto.LangGo
	}
	id := textValue(b.send.ID())
	argsRepr := celeryproto.ReprTuple(args)
	if b.send.ArgsList && len(b.send.Args) > 0 {
		argsRepr = celeryproto.Repr(args)
	}
	root := b.get(optRootID)
	if !rawTruth(root) {
		root = id
	}
	limits := concat("[", b.get(optTimeLimit), ", ", b.get(optSoftTimeLimit), "]")
	e.Headers = celeryproto.Members{
		{Key: "lang", Value: textValue(lang)},
		{Key: "task", Value: textValue(b.send.Task)},
		{Key: "id", Value: id},
		{Key: "shadow", Value: b.get(optShadow)},
		{Key: "eta", Value: b.eta},
		{Key: "expires", Value: b.expires},
		{Key: "group", Value: b.get(optGroupID)},
		{Key: "group_index", Value: b.get(optGroupIndex)},
		{Key: "retries", Value: b.or(optRetries, intValue(0))},
		{Key: "timelimit", Value: limits},
		{Key: "root_id", Value: root},
		{Key: "parent_id", Value: b.get(optParentID)},
		{Key: "argsrepr", Value: b.leaked(optArgsRepr, argsRepr)},
		{Key: "kwargsrepr", Value: b.leaked(optKwargsRepr, celeryproto.Repr(kwargs))},
		{Key: "origin", Value: b.leaked(optOrigin, b.def.Origin)},
		{Key: "ignore_result", Value: b.get(optIgnoreResult)},
		{Key: "replaced_task_nesting", Value: b.or(optNesting, intValue(0))},
		{Key: "stamped_headers", Value: b.get(optStampedHeaders)},
		{Key: "stamps", Value: stamps},
	}
}

// leaked is an option that as_task_v2 reads and that leaks all the same.
func (b *builder) leaked(option, otherwise string) celeryproto.Raw {
	if v, ok := b.rest.Get(option); ok && !v.IsNull() {
		return v
	}
	return orText(otherwise)
}

// userHeaders are the option headers: they win over Celery's own.
func (b *builder) userHeaders(e *celeryproto.Envelope) error {
	headers, ok := b.named[optHeaders]
	if !ok {
		return nil
	}
	members, err := headers.Object()
	if err != nil {
		return fmt.Errorf("option headers: %w", err)
	}
	for _, m := range members {
		e.Headers.Set(m.Key, m.Value)
	}
	return nil
}

// callbacks is maybe_list(link).
func (b *builder) callbacks(option string) celeryproto.Raw {
	v := b.get(option)
	if v.IsNull() || v.Kind() == celeryproto.KindArray {
		return v
	}
	return concat("[", v, "]")
}

func (b *builder) bodyV2(args, kwargs celeryproto.Raw) celeryproto.Raw {
	return concat("[", args, ", ", kwargs, `, {"callbacks": `, b.callbacks(optLink), `, "errbacks": `, b.callbacks(optLinkError),
		`, "chain": `, b.get(optChain), `, "chord": `, b.get(optChord), "}]")
}

func (b *builder) bodyV1(args, kwargs celeryproto.Raw) celeryproto.Raw {
	utc := rawTrue
	if b.def.LocalTime {
		utc = rawFalse
	}
	group := b.get(optGroupID)
	return concat(`{"task": `, textValue(b.send.Task), `, "id": `, textValue(b.send.ID()), `, "args": `, args, `, "kwargs": `, kwargs,
		`, "group": `, group, `, "group_index": `, b.get(optGroupIndex), `, "retries": `, b.or(optRetries, intValue(0)),
		`, "eta": `, b.eta, `, "expires": `, b.expires, `, "utc": `, utc, `, "callbacks": `, b.callbacks(optLink),
		`, "errbacks": `, b.callbacks(optLinkError), `, "timelimit": [`, b.get(optTimeLimit), ", ", b.get(optSoftTimeLimit),
		`], "taskset": `, group, `, "chord": `, b.get(optChord), "}")
}

// concat joins texts and JSON values.
func concat(parts ...any) celeryproto.Raw {
	size := 0
	for _, part := range parts {
		switch part := part.(type) {
		case string:
			size += len(part)
		case celeryproto.Raw:
			size += len(part)
		}
	}
	all := make(celeryproto.Raw, 0, size)
	for _, part := range parts {
		switch part := part.(type) {
		case string:
			all = append(all, part...)
		case celeryproto.Raw:
			all = append(all, part...)
		}
	}
	return all
}
