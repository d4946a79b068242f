package celeryproto

// Defaults of Limits.
const (
	// DefaultMaxDecompressed is how large a compressed body or result may become:
	// 64 MiB. Python has no such limit, and a kilobyte of zlib fills a megabyte.
	DefaultMaxDecompressed = 64 << 20
	// DefaultMaxValues is how many values a pickle or a YAML document may have:
	// about four million, which take some 200 MB while they are read.
	DefaultMaxValues = 4 << 20
)

// Limits bounds what decoding a body or a result may cost, and what is decoded at
// all. The zero value is the default.
type Limits struct {
	// JSON bounds the JSON text, and the depth and integers of other serializations.
	JSON JSONLimits
	// MaxDecompressed is how many bytes a compressed body or result may become,
	// and how many bytes of JSON what is serialized otherwise: in YAML and
	// pickles a few bytes can refer to each other and stand for gigabytes. 0
	// means DefaultMaxDecompressed.
	MaxDecompressed int64
	// MaxValues is how many values a pickle or a YAML document may have: 0 means
	// DefaultMaxValues.
	MaxValues int
	// Accept is what may be deserialized, Celery's accept_content; the zero value
	// is JSON alone.
	Accept Accept
}

func (l Limits) withDefaults() Limits {
	if l.MaxDecompressed <= 0 {
		l.MaxDecompressed = DefaultMaxDecompressed
	}
	if l.MaxValues <= 0 {
		l.MaxValues = DefaultMaxValues
	}
	return l
}
