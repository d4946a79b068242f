package celeryproto

// Values of Properties.DeliveryMode (AMQP 0-9-1, delivery-mode).
const (
	DeliveryTransient  = 1
	DeliveryPersistent = 2
)

// Values of Properties.BodyEncoding (kombu 5.7, transport/virtual/base.py, Channel.codecs).
const (
	BodyBase64 = "base64"
	BodyUTF8   = "utf-8"
)

// LangGo is what this package writes in the "lang" header.
const LangGo = "go"
