package celeryproto

// DeliveryInfo is the address of a message.
type DeliveryInfo struct {
	// Exchange is "" for the anonymous one.
	Exchange string
	// RoutingKey is the queue's name for the anonymous exchange.
	RoutingKey string
	// Redelivered is set when a message was restored or requeued.
	Redelivered bool
	// Extra are the members that this package does not know, in wire order.
	Extra Members

	wire Members
}

// Keys of the delivery information (kombu 5.7, transport/virtual/base.py).
const (
	keyExchange    = "exchange"
	keyRoutingKey  = "routing_key"
	keyRedelivered = "redelivered"
)

var deliveryInfoKeys = newKeySet(keyExchange, keyRoutingKey, keyRedelivered)

func deliveryInfoOf(members Members) (DeliveryInfo, error) {
	r := fieldReader{part: PartEnvelope, prefix: keyProperties + "." + keyDeliveryInfo + ".", members: members}
	d := DeliveryInfo{
		Exchange:    r.text(keyExchange),
		RoutingKey:  r.text(keyRoutingKey),
		Redelivered: r.truth(keyRedelivered),
		Extra:       deliveryInfoKeys.rest(members),
		wire:        members,
	}
	for _, key := range []string{keyExchange, keyRoutingKey} {
		if _, there := members.Get(key); !there {
			r.fail(key, ErrMissing)
		}
	}
	return d, r.err
}

// truth is true for true; a flag that is anything else is not set.
func (r *fieldReader) truth(key string) bool {
	value := r.raw(key)
	if value == nil {
		return false
	}
	v, err := value.Bool()
	return err == nil && v
}

func (d *DeliveryInfo) append(dst []byte) ([]byte, error) {
	if d.wire == nil {
		f := fieldSet{buf: dst, stream: true}
		if err := d.fill(&f); err != nil {
			return dst, err
		}
		return f.streamed(), nil
	}
	now, err := d.fields()
	if err != nil {
		return dst, err
	}
	was, err := deliveryInfoOf(d.wire)
	if err != nil {
		return dst, err
	}
	orig, err := was.fields()
	if err != nil {
		return dst, err
	}
	return mergeFields(d.wire, orig, now).Append(dst), nil
}

func (d *DeliveryInfo) fields() (*fieldSet, error) {
	f := newFieldSet(deliveryInfoKeys.len()+len(d.Extra), 64)
	return f, d.fill(f)
}

func (d *DeliveryInfo) fill(f *fieldSet) error {
	f.text(keyExchange, d.Exchange)
	f.text(keyRoutingKey, d.RoutingKey)
	if d.Redelivered {
		f.raw(keyRedelivered, rawTrue)
	}
	return f.extra(keyProperties+"."+keyDeliveryInfo, d.Extra, deliveryInfoKeys)
}
