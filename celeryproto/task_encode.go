package celeryproto

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

var (
	errNotFinite = errors.New("not a finite number")
	errNotUTF8   = errors.New("not UTF-8")
	errNotInt32  = errors.New("not an integer of 32 bits")
	errSeparator = errors.New("has kombu's separator in it")
)

// keySeparator is what kombu puts between the name of a queue and its priority, and between the parts of a binding (kombu 5.7,
// transport/redis.py, Channel.sep).
const keySeparator = "\x06\x16"

// Envelope is the message for the task. A new task gets Python's full set of
// headers and a fresh delivery tag unless it has one; a decoded one keeps the
// form of what was not changed. The error is an *EncodeError, also for a value
// that the serializer has no type for, or an *UnsupportedError.
func (t *Task) Envelope() (*Envelope, error) {
	e, f, err := t.bareEnvelope()
	if err != nil {
		return nil, err
	}
	return e, t.fill(e, f)
}

// bareEnvelope is the envelope without headers and body, and the serializer of
// the body.
func (t *Task) bareEnvelope() (*Envelope, *format, error) {
	if err := t.validate(); err != nil {
		return nil, nil, err
	}
	f, err := checkSerializer(t.Serializer)
	if err != nil {
		return nil, nil, err
	}
	e := &Envelope{
		ContentType:     f.contentType,
		ContentEncoding: f.encoding,
		Properties:      t.Properties,
	}
	e.Properties.DeliveryInfo.Redelivered = t.Redelivered
	if t.src != nil {
		if t.src.ContentType == e.ContentType {
			e.ContentEncoding = t.src.ContentEncoding
		}
		e.Extra, e.wire = t.src.Extra, t.src.wire
	} else {
		e.Properties.CorrelationID = cmp.Or(e.Properties.CorrelationID, t.ID)
	}
	if e.Properties.DeliveryTag == "" {
		tag, err := uuid.NewRandom()
		if err != nil {
			return nil, nil, err
		}
		e.Properties.DeliveryTag = tag.String()
	}
	return e, f, nil
}

// Append appends the whole envelope as kombu writes it.
func (t *Task) Append(dst []byte) ([]byte, error) {
	if t.src == nil && t.protocol() == 2 {
		return t.appendNew(dst)
	}
	e, err := t.Envelope()
	if err != nil {
		return dst, err
	}
	return e.Append(dst)
}

// appendNew appends a task that never was on the wire, without detours.
func (t *Task) appendNew(dst []byte) ([]byte, error) {
	e, f, err := t.bareEnvelope()
	if err != nil {
		return dst, err
	}
	body, err := t.bodyV2(nil)
	if err == nil {
		err = t.setBody(e, f, body)
	}
	if err != nil {
		return dst, err
	}
	const usual = 1024 // bytes of headers and properties
	size := usual + len(e.Body) + len(t.Args)/2 + len(t.Stamps)
	return e.appendNew(slices.Grow(dst, size), t.fillHeaders)
}

func (t *Task) validate() error {
	fault := func(path string, err error) error { return &EncodeError{Path: path, Err: err} }
	switch {
	case t.Name == "":
		return fault("task", ErrMissing)
	case t.ID == "":
		return fault("id", ErrMissing)
	case t.Properties.DeliveryInfo.RoutingKey == "" && t.Properties.DeliveryInfo.Exchange == "" && t.src == nil:
		return fault("properties.delivery_info.routing_key", ErrMissing)
	case t.Protocol < 0 || t.Protocol > 2:
		return fault("protocol", errors.New("neither 1 nor 2"))
	case t.Protocol == 1 && !t.Embed.Chain.IsNull():
		return fault("embed.chain", errors.New("protocol 1 has no chain"))
	}
	if t.Compression != "" {
		if _, err := algorithmOf(t.Compression); err != nil {
			return err
		}
	}
	if t.isNew() {
		if err := t.validateNew(); err != nil {
			return err
		}
	}
	return t.validateJSON()
}

// isNew tells whether the task never was on the wire.
func (t *Task) isNew() bool { return t.src == nil || t.src.wire == nil }

// validateNew checks what a worker of Celery's cannot cope with, whoever reads the message in between.
func (t *Task) validateNew() error {
	p := &t.Properties
	for _, text := range []struct{ path, text string }{
		{keyTask, t.Name}, {keyID, t.ID}, {keyRootID, t.RootID}, {keyParentID, t.ParentID}, {keyGroup, t.GroupID},
		{keyProperties + "." + keyCorrelationID, p.CorrelationID}, {keyProperties + "." + keyDeliveryTag, p.DeliveryTag},
		{keyProperties + "." + keyDeliveryInfo + "." + keyExchange, p.DeliveryInfo.Exchange},
		{keyProperties + "." + keyDeliveryInfo + "." + keyRoutingKey, p.DeliveryInfo.RoutingKey},
	} {
		if err := checkName(text.text); err != nil {
			return &EncodeError{Path: text.path, Err: err}
		}
	}
	index := 0
	if t.GroupIndex != nil {
		index = *t.GroupIndex
	}
	for _, number := range []struct {
		path string
		n    int
	}{{keyRetries, t.Retries}, {keyGroupIndex, index}, {keyReplacedTaskNesting, t.ReplacedTaskNesting}} {
		if number.n != int(int32(number.n)) {
			return &EncodeError{Path: number.path, Err: errNotInt32}
		}
	}
	return validateMembers(membersAt{PartHeaders, t.ExtraHeaders}, membersAt{PartBody, t.ExtraBody}, membersAt{"embed", t.Embed.Extra},
		membersAt{keyProperties, p.Extra}, membersAt{keyProperties + "." + keyDeliveryInfo, p.DeliveryInfo.Extra})
}

// checkName checks a text that is, or may be, part of a key of Redis.
func checkName(s string) error {
	for i := range len(s) {
		if c := s[i]; c < utf8.RuneSelf && c != keySeparator[0] {
			continue
		}
		switch {
		case !utf8.ValidString(s): // in the key and in the message it would be two different ones
			return errNotUTF8
		case strings.Contains(s, keySeparator):
			return errSeparator
		}
		return nil
	}
	return nil
}

// membersAt are members that are written as they stand, and their place.
type membersAt struct {
	path    string
	members Members
}

func validateMembers(all ...membersAt) error {
	for _, at := range all {
		for _, m := range at.members {
			if len(m.Value) == 0 { // written as null
				continue
			}
			if err := checkRaw(m.Value, JSONLimits{MaxDepth: MaxSendDepth}); err != nil {
				return &EncodeError{Path: at.path + "." + m.Key, Err: err}
			}
		}
	}
	return nil
}

// validateJSON checks the parts that are already encoded: their kind, and that
// they are JSON no deeper than a reader takes them inside of the message.
func (t *Task) validateJSON() error {
	isNew := t.isNew()
	inEmbed := 2 // the body's array and the embed's object
	if t.protocol() == 1 {
		inEmbed = 1
	}
	for _, part := range []struct {
		path  string
		value Raw
		kind  Kind // KindInvalid for any
		depth int  // of what is around it
	}{
		{"args", t.Args, KindArray, 1},
		{"kwargs", t.Kwargs, KindObject, 1},
		{"embed.callbacks", t.Embed.Callbacks, KindInvalid, inEmbed},
		{"embed.errbacks", t.Embed.Errbacks, KindInvalid, inEmbed},
		{"embed.chain", t.Embed.Chain, KindInvalid, inEmbed},
		{"embed.chord", t.Embed.Chord, KindInvalid, inEmbed},
		{"stamped_headers", t.StampedHeaders, KindArray, 2},
		{"stamps", t.Stamps, KindObject, 2},
	} {
		if len(part.value) == 0 {
			continue
		}
		lim := t.limits.JSON.withDefaults()
		lim.MaxDepth = max(1, lim.MaxDepth-part.depth)
		if isNew {
			lim.MaxDepth = min(lim.MaxDepth, MaxSendDepth)
		}
		facts, err := Inspect(part.value, lim)
		switch {
		case err != nil:
		case part.kind != KindInvalid && facts.Kind != part.kind:
			err = errKind(part.kind, facts.Kind)
		case facts.TypedMarker && isNew:
			err = checkTyped(part.value)
		}
		if err != nil {
			return &EncodeError{Path: part.path, Err: err}
		}
	}
	return nil
}

// fill writes headers and body, those of a decoded task only where they changed.
func (t *Task) fill(e *Envelope, f *format) error {
	now, err := t.encode()
	if err != nil {
		return err
	}
	if t.src == nil {
		e.Headers = now.headers.members()
		return t.setBody(e, f, now.body)
	}
	was, err := DecodeTaskLimits(t.src, t.limits)
	if err != nil {
		return err
	}
	orig, err := was.encode()
	if err != nil {
		return err
	}
	sameForm := was.protocol() == t.protocol()
	sameBody := sameForm && bytes.Equal(orig.body, now.body) &&
		e.ContentType == t.src.ContentType && t.Compression == was.Compression && e.Properties.BodyEncoding == t.src.Properties.BodyEncoding
	if sameBody {
		e.Body, e.BodyIsBytes = t.src.Body, t.src.BodyIsBytes
		e.Headers = mergeFields(t.src.Headers, orig.headers, now.headers)
		return nil
	}
	if sameForm && !t.hybrid {
		e.Headers = mergeFields(t.src.Headers, orig.headers, now.headers)
	} else {
		// A new body lacks what the headers did not say: say it all.
		e.Headers = now.headers.members()
	}
	return t.setBody(e, f, now.body)
}

// setBody serializes and compresses a body that stands as JSON.
func (t *Task) setBody(e *Envelope, f *format, body Raw) error {
	payload, err := f.serialize(body)
	if err != nil {
		return within(PartBody, err)
	}
	return e.setPayload(payload, f.encoding == EncodingBinary, t.Compression)
}

func (t *Task) protocol() int { return cmp.Or(t.Protocol, 2) }

// encodedTask are the two parts of a message that a task makes.
type encodedTask struct {
	headers *fieldSet
	body    []byte
}

func (t *Task) encode() (encodedTask, error) {
	var enc encodedTask
	var err error
	if t.protocol() == 1 {
		if enc.headers, err = t.headerFieldsV1(); err == nil {
			enc.body, err = t.bodyV1(nil)
		}
		return enc, err
	}
	if enc.headers, err = t.headerFields(); err == nil {
		enc.body, err = t.bodyV2(nil)
	}
	return enc, err
}

// bodyV2 is the body of protocol 2: [args, kwargs, embed].
func (t *Task) bodyV2(dst []byte) ([]byte, error) {
	dst = slices.Grow(dst, len(t.Args)+len(t.Kwargs)+len(emptyEmbed)+len("[[], {}, ]"))
	dst = append(dst, '[')
	dst = append(dst, t.args()...)
	dst = append(dst, ", "...)
	dst = append(dst, t.kwargs()...)
	dst = append(dst, ", "...)
	dst, err := t.Embed.append(dst)
	return append(dst, ']'), err
}
