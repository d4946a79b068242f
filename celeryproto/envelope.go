package celeryproto

// Envelope is the JSON object that kombu pushes to a Redis list.
//
// What was decoded is encoded again to the same JSON value: members that this
// package does not know, forms it would not write itself, absent and null.
// Only what was changed in between differs.
type Envelope struct {
	// Body as it stands in the envelope: base64 or plain text, see
	// Properties.BodyEncoding. Payload decodes it.
	Body string
	// BodyIsBytes says that the body stands in the envelope as kombu's typed
	// bytes, which Python writes for a compressed body without base64.
	BodyIsBytes bool
	// ContentType of the body, ContentTypeJSON.
	ContentType string
	// ContentEncoding of the body, EncodingUTF8.
	ContentEncoding string
	// Headers of the message, in wire order.
	Headers Members
	// Properties of the message.
	Properties Properties
	// Extra are the members that this package does not know, in wire order.
	Extra Members

	wire Members
}
