package celeryproto

// Properties are the AMQP properties that kombu keeps inside the envelope.
type Properties struct {
	// CorrelationID is the task's ID.
	CorrelationID string
	// ReplyTo is only used by the rpc result backend; Python always writes one.
	ReplyTo string
	// DeliveryMode is DeliveryPersistent or DeliveryTransient; Redis ignores it.
	DeliveryMode int
	// DeliveryInfo is the address.
	DeliveryInfo DeliveryInfo
	// Priority as given, not clamped: 0 is the highest on Redis.
	Priority int
	// BodyEncoding is BodyBase64, or "" (or "utf-8") for a body in plain text.
	BodyEncoding string
	// DeliveryTag is the field in the unacked hash: unique for each publish.
	DeliveryTag string
	// Expiration is the time to live in milliseconds, as text; "" for none.
	Expiration string
	// Extra are the members that this package does not know, in wire order.
	Extra Members

	wire Members
}

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
