package djangostate

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/pierrec/lz4/v4"

	"github.com/dfws/dfws/celeryproto"
)

// DefaultMaxCacheValue bounds a decompressed cache entry: a thousand topics are about 70 KB.
const DefaultMaxCacheValue = 1 << 20

// CacheCodec is how a cache writes values in Redis.
type CacheCodec struct {
	// Serializer is "pickle", "json" or "msgpack" (django-redis 7.0, serializers). Django's own RedisCache always uses pickle.
	Serializer string
	// Compressor is "", "zlib", "gzip", "lz4", "zstd" or "lzma" (django-redis 7.0, compressors).
	Compressor string
	// MaxBytes bounds the decompressed value; 0 means DefaultMaxCacheValue.
	MaxBytes int64
}

// contentTypes are the names that celeryproto has for the serializers.
var contentTypes = map[string][2]string{
	"pickle":  {"application/x-python-serialize", "binary"},
	"json":    {"application/json", "utf-8"},
	"msgpack": {"application/x-msgpack", "binary"},
}

// Decode reads the bytes of one entry as JSON. Integers stand as text, everything else is serialized and then perhaps compressed; what is
// no compressed text is taken as it is, as django-redis does with entries that are too short to be worth it. Pickles are read as data:
// one that holds anything but plain values is refused with an error that wraps ErrMalformed and names it.
func (c CacheCodec) Decode(data []byte) (celeryproto.Raw, error) {
	if n, err := strconv.ParseInt(string(data), 10, 64); err == nil {
		return strconv.AppendInt(nil, n, 10), nil
	}
	limit := c.MaxBytes
	if limit <= 0 {
		limit = DefaultMaxCacheValue
	}
	plain, err := c.decompress(data, limit)
	switch {
	case errors.Is(err, celeryproto.ErrTooLarge), errors.Is(err, ErrTooLarge):
		return nil, ErrTooLarge
	case err != nil:
		plain = data
	}
	if int64(len(plain)) > limit {
		return nil, ErrTooLarge
	}
	return decodeContent(c.Serializer, plain, limit)
}

// acceptedContent is every serializer. A pickle is read as data, nothing in it is called.
var acceptedContent = func() celeryproto.Accept {
	accept, err := celeryproto.ParseAccept([]string{"pickle", "json", "msgpack"})
	if err != nil {
		panic(err) // they are constants
	}
	return accept
}()

func decodeContent(serializer string, data []byte, limit int64) (celeryproto.Raw, error) {
	kind, ok := contentTypes[serializer]
	if !ok {
		return nil, fmt.Errorf("%w: serializer %q", ErrMalformed, serializer)
	}
	raw, err := celeryproto.DecodeContent(kind[0], kind[1], data, celeryproto.Limits{MaxDecompressed: limit, Accept: acceptedContent})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return raw, nil
}

func (c CacheCodec) decompress(data []byte, limit int64) ([]byte, error) {
	switch c.Compressor {
	case "":
		return data, nil
	case "gzip":
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		return readAll(r, limit)
	case "lz4":
		return readAll(lz4.NewReader(bytes.NewReader(data)), limit)
	case "zlib", "zstd", "lzma":
		return celeryproto.Decompress(c.Compressor, data, limit)
	default:
		return nil, fmt.Errorf("%w: compressor %q", ErrMalformed, c.Compressor)
	}
}

// readAll reads at most limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, ErrTooLarge
	}
	return data, err
}

// maxTopics bounds the topics of a window; df_websockets sets no limit.
const maxTopics = 10_000

// Topics reads the entry of df_websockets' cache for a window: a text that is a JSON list of topics.
func Topics(entry celeryproto.Raw) ([]string, error) {
	text, err := entry.Text()
	if err != nil {
		return nil, fmt.Errorf("%w: topics: no text", ErrMalformed)
	}
	list := []byte(text)
	if err := celeryproto.CheckJSON(list, celeryproto.JSONLimits{}); err != nil {
		return nil, fmt.Errorf("%w: topics: %w", ErrMalformed, err)
	}
	elements, err := celeryproto.Raw(list).Array()
	if err != nil {
		return nil, fmt.Errorf("%w: topics: no list", ErrMalformed)
	}
	if len(elements) > maxTopics {
		return nil, fmt.Errorf("%w: more than %d topics", ErrTooLarge, maxTopics)
	}
	topics := make([]string, len(elements))
	for i, element := range elements {
		if topics[i], err = element.Text(); err != nil {
			return nil, fmt.Errorf("%w: topics: no text", ErrMalformed)
		}
	}
	return topics, nil
}

// Flags of a value in memcached (pymemcache 4.0, serde.py).
const (
	memcachedBytes  = 0
	memcachedPickle = 1 << 0
	memcachedInt    = 1 << 1
	memcachedLong   = 1 << 2
	memcachedText   = 1 << 4
)

// DecodeMemcached reads a value of memcached as JSON.
func DecodeMemcached(flags uint32, data []byte) (celeryproto.Raw, error) {
	switch flags {
	case memcachedText:
		return celeryproto.Raw(celeryproto.AppendString(nil, string(data))), nil
	case memcachedInt, memcachedLong:
		n, err := strconv.ParseInt(string(data), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: no integer", ErrMalformed)
		}
		return strconv.AppendInt(nil, n, 10), nil
	case memcachedPickle:
		return DecodePickle(data)
	case memcachedBytes:
		return nil, fmt.Errorf("%w: bytes", ErrMalformed)
	default:
		return nil, fmt.Errorf("%w: flags %d", ErrMalformed, flags)
	}
}

// DecodePickle reads a pickle of at most DefaultMaxCacheValue bytes as JSON, as CacheCodec does.
func DecodePickle(data []byte) (celeryproto.Raw, error) {
	if len(data) > DefaultMaxCacheValue {
		return nil, ErrTooLarge
	}
	return decodeContent("pickle", data, DefaultMaxCacheValue)
}

// FileExpiry reads when an entry of FileBasedCache expires, the zero time for never, and how many bytes say so: a pickle of its own in front
// of the value.
func FileExpiry(data []byte) (expires time.Time, size int, err error) {
	const (
		header = 2 + 1 + 8 // PROTO and its version, FRAME and its length
		float  = 1 + 8     // BINFLOAT
	)
	switch {
	case len(data) >= 4 && data[0] == 0x80 && data[2] == 'N' && data[3] == '.':
		return time.Time{}, 4, nil
	case len(data) >= header+float+1 && data[0] == 0x80 && data[2] == 0x95 && data[header] == 'G' && data[header+float] == '.':
		return fileTime(data[header+1:], header+float+1)
	case len(data) >= 2+float+1 && data[0] == 0x80 && data[2] == 'G' && data[2+float] == '.': // protocols before 4 have no frames
		return fileTime(data[3:], 2+float+1)
	default:
		return time.Time{}, 0, fmt.Errorf("%w: expiry of a file", ErrMalformed)
	}
}

func fileTime(b []byte, size int) (time.Time, int, error) {
	seconds := math.Float64frombits(binary.BigEndian.Uint64(b))
	if !(seconds >= 0 && seconds < 1e11) { // NaN, too
		return time.Time{}, 0, fmt.Errorf("%w: expiry of a file", ErrMalformed)
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), size, nil
}
