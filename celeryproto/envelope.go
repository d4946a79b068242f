package celeryproto

import (
	"errors"
	"slices"
)

// Envelope is the JSON object that kombu pushes to a Redis list.
//
// What was decoded is encoded again to the same JSON value: members that this
// package does not know, forms it would not write itself, absent and null.
// Only what was changed in between differs. A decoded Envelope shares memory
// with the bytes it was decoded from.
type Envelope struct {
	// Body as it stands in the envelope: base64 or plain text, see
	// Properties.BodyEncoding. Payload decodes it.
	Body string
	// BodyIsBytes says that the body stands in the envelope as kombu's typed
	// bytes, which Python writes for a compressed body without base64.
	BodyIsBytes bool
	// ContentType of the body: ContentTypeJSON or another one of the ContentType…
	// constants.
	ContentType string
	// ContentEncoding of the body, EncodingUTF8 or EncodingBinary; "" is null.
	ContentEncoding string
	// Headers of the message, in wire order.
	Headers Members
	// Properties of the message.
	Properties Properties
	// Extra are the members that this package does not know, in wire order.
	Extra Members

	wire Members
}

// Keys of the envelope (kombu 5.7, transport/virtual/base.py, prepare_message).
const (
	keyBody            = "body"
	keyContentEncoding = "content-encoding"
	keyContentType     = "content-type"
	keyHeaders         = "headers"
	keyProperties      = "properties"
)

var envelopeKeys = newKeySet(keyBody, keyContentEncoding, keyContentType, keyHeaders, keyProperties)

// DecodeEnvelope decodes one element of a queue. It refuses what a Python
// consumer loses or dies of: what is not an object in Python's JSON, typed
// values that kombu cannot read, an absent body, absent properties, and
// delivery information without exchange, routing key or delivery tag. The
// error is a *DecodeError.
func DecodeEnvelope(b []byte) (*Envelope, error) {
	s := newScanner(b, JSONLimits{})
	s.space()
	if kindAt(b, s.pos) != KindObject {
		facts, err := Inspect(b, JSONLimits{})
		if err == nil {
			err = errKind(KindObject, facts.Kind)
		}
		return nil, decodeError(PartEnvelope, err)
	}
	var inner nested
	members, ok := inner.scan(&s)
	err := s.end(ok)
	if err == nil && s.marker {
		err = checkTyped(b)
	}
	if err != nil {
		return nil, decodeError(PartEnvelope, err)
	}
	return envelopeOf(members.merged(), &inner)
}

// nested are the objects inside of an envelope, noted in the scan of the whole.
type nested struct {
	headers, properties, info notedObject
}

// notedObject has the members of the object that starts at at.
type notedObject struct {
	at      *byte
	members Members
}

// Usual numbers of members (celery 5.7).
const (
	usualHeaders    = 19
	usualProperties = 7
	usualInfo       = 2
)

func (n *nested) scan(s *scanner) (Members, bool) {
	return s.membersWith(envelopeKeys.len(), func(key []byte) bool {
		switch string(key) {
		case `"` + keyHeaders + `"`:
			return n.headers.scan(s, usualHeaders, nil)
		case `"` + keyProperties + `"`:
			return n.properties.scan(s, usualProperties, func(key []byte) bool {
				if string(key) == `"`+keyDeliveryInfo+`"` {
					return n.info.scan(s, usualInfo, nil)
				}
				return s.value()
			})
		}
		return s.value()
	})
}

// scan notes the value at pos when it is an object.
func (o *notedObject) scan(s *scanner, n int, inner func(key []byte) bool) (ok bool) {
	if kindAt(s.b, s.pos) != KindObject {
		return s.value()
	}
	o.at = &s.b[s.pos]
	o.members, ok = s.membersWith(n, inner)
	return ok
}

// objectNoted is objectOf that scans nothing when o has the object.
func (r *fieldReader) objectNoted(key string, n int, o *notedObject) Members {
	if o != nil && o.at != nil {
		if value := r.raw(key); len(value) > 0 && &value[0] == o.at {
			return o.members.merged()
		}
	}
	return r.objectOf(key, n)
}

// decodeError puts a part in front of a fault and takes over its offset.
func decodeError(part string, err error) *DecodeError {
	offset := int64(-1)
	if syntax, ok := errors.AsType[*SyntaxError](err); ok {
		offset = syntax.Offset
	}
	if inner, ok := errors.AsType[*DecodeError](err); ok {
		return &DecodeError{Part: part, Field: inner.Field, Offset: inner.Offset, Err: inner.Err}
	}
	return &DecodeError{Part: part, Offset: offset, Err: err}
}

// envelopeOf reads an envelope; inner may be nil.
func envelopeOf(members Members, inner *nested) (*Envelope, error) {
	if inner == nil {
		inner = &nested{}
	}
	r := fieldReader{part: PartEnvelope, members: members}
	e := &Envelope{
		ContentType:     r.text(keyContentType),
		ContentEncoding: r.text(keyContentEncoding),
		Headers:         r.objectNoted(keyHeaders, usualHeaders, &inner.headers),
		Extra:           envelopeKeys.rest(members),
		wire:            members,
	}
	e.Body, e.BodyIsBytes = r.body()
	properties := r.objectNoted(keyProperties, usualProperties, &inner.properties)
	if properties == nil {
		r.fail(keyProperties, ErrMissing)
	}
	if r.err != nil {
		return nil, r.err
	}
	var err error
	e.Properties, err = propertiesOf(properties, &inner.info)
	return e, err
}

// body is a text or typed bytes.
func (r *fieldReader) body() (body string, isBytes bool) {
	value := r.raw(keyBody)
	switch {
	case value == nil:
		r.fail(keyBody, ErrMissing)
	case value.Kind() == KindObject:
		v, err := DecodeValue(value)
		if b, ok := v.([]byte); ok {
			return string(b), true
		}
		if err == nil {
			err = errKind(KindString, KindObject)
		}
		r.fail(keyBody, err)
	default:
		return r.text(keyBody), false
	}
	return "", false
}

// Append appends the envelope as kombu writes it. It refuses (*EncodeError)
// what DecodeEnvelope would refuse.
func (e *Envelope) Append(dst []byte) ([]byte, error) {
	if e.wire == nil {
		if err := e.validateNew(); err != nil {
			return dst, err
		}
	}
	if e.wire == nil && len(e.Extra) == 0 {
		return e.appendNew(dst, nil)
	}
	now, err := e.fields()
	if err != nil {
		return dst, err
	}
	if e.wire == nil {
		return now.appendObject(dst), nil
	}
	was, err := envelopeOf(e.wire, nil)
	if err != nil {
		return dst, err
	}
	orig, err := was.fields()
	if err != nil {
		return dst, err
	}
	return mergeFields(e.wire, orig, now).Append(dst), nil
}

// validateNew checks what is written as it stands.
func (e *Envelope) validateNew() error {
	p := &e.Properties
	return validateMembers(membersAt{keyHeaders, e.Headers}, membersAt{PartEnvelope, e.Extra}, membersAt{keyProperties, p.Extra},
		membersAt{keyProperties + "." + keyDeliveryInfo, p.DeliveryInfo.Extra})
}

// appendNew appends an envelope that never was on the wire, without detours.
// headers, when not nil, writes them instead of Headers.
func (e *Envelope) appendNew(dst []byte, headers func(*fieldSet) error) ([]byte, error) {
	size := len(e.Body) + 512
	for _, header := range e.Headers {
		size += len(header.Key) + len(header.Value) + len(`"": , `)
	}
	out := slices.Grow(dst, size)
	if e.BodyIsBytes {
		value, err := EncodeValue([]byte(e.Body))
		if err != nil {
			return dst, err
		}
		out = append(append(out, `{"body": `...), value...)
	} else {
		out = AppendString(append(out, `{"body": `...), e.Body)
	}
	out = appendTextOrNull(append(out, `, "content-encoding": `...), e.ContentEncoding)
	out = appendTextOrNull(append(out, `, "content-type": `...), e.ContentType)
	out = append(out, `, "headers": `...)
	if headers == nil {
		out = e.Headers.Append(out)
	} else {
		f := fieldSet{buf: out, stream: true}
		if err := headers(&f); err != nil {
			return dst, err
		}
		out = f.streamed()
	}
	out, err := e.Properties.append(append(out, `, "properties": `...))
	if err != nil {
		return dst, err
	}
	return append(out, '}'), nil
}

func appendTextOrNull(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, rawNull...)
	}
	return AppendString(dst, s)
}

func (e *Envelope) fields() (*fieldSet, error) {
	properties, err := e.Properties.append(nil)
	if err != nil {
		return nil, err
	}
	f := &fieldSet{buf: make([]byte, 0, len(e.Body)+64)}
	if e.BodyIsBytes {
		value, err := EncodeValue([]byte(e.Body))
		if err != nil {
			return nil, err
		}
		f.raw(keyBody, value)
	} else {
		f.text(keyBody, e.Body)
	}
	f.textOrNull(keyContentEncoding, e.ContentEncoding)
	f.textOrNull(keyContentType, e.ContentType)
	f.raw(keyHeaders, e.Headers.Append(nil))
	f.raw(keyProperties, properties)
	return f, f.extra(PartEnvelope, e.Extra, envelopeKeys)
}

// Clone is a copy whose fields can be changed without changing e.
func (e *Envelope) Clone() *Envelope {
	c := *e
	c.Headers = slices.Clone(e.Headers)
	c.Extra = slices.Clone(e.Extra)
	c.Properties.Extra = slices.Clone(e.Properties.Extra)
	c.Properties.DeliveryInfo.Extra = slices.Clone(e.Properties.DeliveryInfo.Extra)
	return &c
}
