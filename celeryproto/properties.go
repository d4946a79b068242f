package celeryproto

import "cmp"

// Properties are the AMQP properties that kombu keeps inside the envelope.
type Properties struct {
	// CorrelationID is the task's ID.
	CorrelationID string
	// ReplyTo is only used by the rpc result backend; Python always writes one.
	ReplyTo string
	// DeliveryMode is DeliveryPersistent (which 0 is written as) or
	// DeliveryTransient; Redis ignores it.
	DeliveryMode int
	// DeliveryInfo is the address.
	DeliveryInfo DeliveryInfo
	// Priority as given, not clamped: 0 is the highest on Redis. What is no
	// number counts as 0.
	Priority int
	// BodyEncoding is BodyBase64 (which "" is written as) or BodyUTF8 for plain
	// text (which absent and null are read as).
	BodyEncoding string
	// DeliveryTag is the field in the unacked hash: unique for each publish.
	DeliveryTag string
	// Expiration is the time to live in milliseconds, as text; "" for none.
	// Redis ignores it.
	Expiration string
	// Extra are the members that this package does not know, in wire order.
	Extra Members

	wire Members
	bare bool // of remote control or an event: without the two that only tasks have
}

// Keys of the properties (kombu 5.7, transport/virtual/base.py; celery 5.7, app/amqp.py).
const (
	keyCorrelationID = "correlation_id"
	keyReplyTo       = "reply_to"
	keyDeliveryMode  = "delivery_mode"
	keyExpiration    = "expiration"
	keyDeliveryInfo  = "delivery_info"
	keyPriority      = "priority"
	keyBodyEncoding  = "body_encoding"
	keyDeliveryTag   = "delivery_tag"
)

var propertyKeys = newKeySet(keyCorrelationID, keyReplyTo, keyDeliveryMode, keyExpiration,
	keyDeliveryInfo, keyPriority, keyBodyEncoding, keyDeliveryTag)

// propertiesOf reads properties; noted may be nil.
func propertiesOf(members Members, noted *notedObject) (Properties, error) {
	r := fieldReader{part: PartEnvelope, prefix: keyProperties + ".", members: members}
	p := Properties{
		CorrelationID: r.text(keyCorrelationID),
		ReplyTo:       r.text(keyReplyTo),
		DeliveryMode:  r.anyInt(keyDeliveryMode),
		Priority:      r.anyInt(keyPriority),
		BodyEncoding:  cmp.Or(r.text(keyBodyEncoding), BodyUTF8),
		DeliveryTag:   r.needText(keyDeliveryTag),
		Expiration:    r.textOrNumber(keyExpiration),
		Extra:         propertyKeys.rest(members),
		wire:          members,
	}
	info := r.objectNoted(keyDeliveryInfo, usualInfo, noted)
	if info == nil {
		r.fail(keyDeliveryInfo, ErrMissing)
	}
	if r.err != nil {
		return Properties{}, r.err
	}
	var err error
	p.DeliveryInfo, err = deliveryInfoOf(info)
	return p, err
}

// anyInt is a number or a text with one; anything else counts as 0, as in kombu.
func (r *fieldReader) anyInt(key string) int {
	value := r.raw(key)
	if value == nil {
		return 0
	}
	n, err := lenientInt(value)
	if err != nil {
		return 0
	}
	return n
}

func (r *fieldReader) textOrNumber(key string) string {
	if value := r.raw(key); value.Kind() == KindNumber {
		return value.String()
	}
	return r.text(key)
}

// append appends the properties as Python writes them.
func (p *Properties) append(dst []byte) ([]byte, error) {
	if p.wire == nil {
		f := fieldSet{buf: dst, stream: true}
		if err := p.fill(&f); err != nil {
			return dst, err
		}
		return f.streamed(), nil
	}
	now, err := p.fields()
	if err != nil {
		return dst, err
	}
	was, err := propertiesOf(p.wire, nil)
	if err != nil {
		return dst, err
	}
	orig, err := was.fields()
	if err != nil {
		return dst, err
	}
	return mergeFields(p.wire, orig, now).Append(dst), nil
}

func (p *Properties) fields() (*fieldSet, error) {
	f := newFieldSet(propertyKeys.len()+len(p.Extra), 256)
	return f, p.fill(f)
}

func (p *Properties) fill(f *fieldSet) error {
	if p.DeliveryTag == "" {
		return &EncodeError{Path: keyProperties + "." + keyDeliveryTag, Err: ErrMissing}
	}
	var err error
	if !p.bare {
		f.text(keyCorrelationID, p.CorrelationID)
		f.text(keyReplyTo, p.ReplyTo)
	}
	// Options that leak stand here (celery 5.7, app/amqp.py, send_task_message).
	if err := f.extra(keyProperties, p.Extra, propertyKeys); err != nil {
		return err
	}
	f.int(keyDeliveryMode, cmp.Or(p.DeliveryMode, DeliveryPersistent))
	if p.Expiration != "" {
		f.text(keyExpiration, p.Expiration)
	}
	f.append(keyDeliveryInfo, func(dst []byte) []byte {
		dst, err = p.DeliveryInfo.append(dst)
		return dst
	})
	if err != nil {
		return err
	}
	f.int(keyPriority, p.Priority)
	f.text(keyBodyEncoding, cmp.Or(p.BodyEncoding, BodyBase64))
	f.text(keyDeliveryTag, p.DeliveryTag)
	return nil
}
