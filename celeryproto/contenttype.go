package celeryproto

// Content types (kombu 5.7, serialization.py).
const (
	ContentTypeJSON    = "application/json"
	ContentTypeMsgpack = "application/x-msgpack"
	ContentTypeYAML    = "application/x-yaml"
	ContentTypePickle  = "application/x-python-serialize"
	// ContentTypeData is bytes as they are, and what a message without a content
	// type has. Signed messages (serializer "auth") have it, too.
	ContentTypeData = "application/data"
	// ContentTypeText is a text as it is.
	ContentTypeText = "text/plain"
	// contentTypeTrusted is no type that kombu writes, but one that it trusts.
	contentTypeTrusted = "application/text"
)

// Content encodings (kombu 5.7, serialization.py).
const (
	EncodingUTF8   = "utf-8"
	EncodingBinary = "binary"
)

// Names of serializers, for Task.Serializer and ResultCodec.Serializer; "" is JSON.
const (
	SerializerJSON    = "json"
	SerializerMsgpack = "msgpack"
	SerializerYAML    = "yaml"
	SerializerPickle  = "pickle"
	SerializerRaw     = "raw"
	serializerAuth    = "auth"
	serializerText    = "text"
)

// format is one way to serialize a value.
type format struct {
	name, contentType, encoding string
	bit                         uint8 // in Accept
	trusted                     bool  // whatever is accepted
	read                        func(data []byte, lim Limits) (Raw, error)
	write                       func(tree any) ([]byte, error)
}

// formats are what this package reads and writes. JSON comes first; it needs no
// conversion.
var formats = []format{
	{name: SerializerJSON, contentType: ContentTypeJSON, encoding: EncodingUTF8, bit: 1 << 0, read: readJSON},
	{name: SerializerMsgpack, contentType: ContentTypeMsgpack, encoding: EncodingBinary, bit: 1 << 1,
		read: readMsgpack, write: writeMsgpack},
	{name: SerializerYAML, contentType: ContentTypeYAML, encoding: EncodingUTF8, bit: 1 << 2, read: readYAML, write: writeYAML},
	{name: SerializerPickle, contentType: ContentTypePickle, encoding: EncodingBinary, bit: 1 << 3,
		read: readPickle, write: writePickle},
	{name: SerializerRaw, contentType: ContentTypeData, bit: 1 << 4, trusted: true},
	{name: serializerText, contentType: ContentTypeText, bit: 1 << 5},
	{name: serializerText, contentType: contentTypeTrusted, bit: 1 << 6, trusted: true},
}

// formatOf finds a format by its name or content type; "" is JSON.
func formatOf(name string) *format {
	if name == "" {
		return &formats[0]
	}
	for i := range formats {
		if f := &formats[i]; f.contentType == name || f.name == name && name != serializerText {
			return f
		}
	}
	return nil
}

func unsupportedSerializer(name string) error {
	return &UnsupportedError{What: "serializer", Name: shorten(name)}
}

// checkSerializer refuses what tasks and results cannot be written with.
func checkSerializer(name string) (*format, error) {
	f := formatOf(name)
	if f == nil || f.read == nil {
		return nil, unsupportedSerializer(name)
	}
	return f, nil
}

// shortName is how a Task names a format: "" for JSON.
func (f *format) shortName() string {
	if f.name == SerializerJSON {
		return ""
	}
	return f.name
}
