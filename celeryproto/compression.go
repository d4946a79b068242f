package celeryproto

import (
	"bytes"
	"compress/zlib"
	"errors"
	"io"
)

// CompressionZlib is the MIME type of kombu's "gzip" and "zlib", which are both
// a zlib stream (RFC 1950), not a gzip file (kombu 5.7, compression.py).
const CompressionZlib = "application/x-gzip"

// DefaultMaxDecompressed is how large a compressed body or result may become:
// 64 MiB. Python has no such limit, and a kilobyte of zlib fills a megabyte.
const DefaultMaxDecompressed = 64 << 20

// Limits bounds what decoding a body or a result may cost. The zero value is
// the default.
type Limits struct {
	// JSON bounds the JSON text.
	JSON JSONLimits
	// MaxDecompressed is how many bytes a compressed body or result may become:
	// 0 means DefaultMaxDecompressed.
	MaxDecompressed int64
}

func (l Limits) withDefaults() Limits {
	if l.MaxDecompressed <= 0 {
		l.MaxDecompressed = DefaultMaxDecompressed
	}
	return l
}

// checkCompression refuses all but zlib, by name.
func checkCompression(name string) error {
	switch name {
	case CompressionZlib, "gzip", "zlib":
		return nil
	default:
		return &UnsupportedError{What: "compression", Name: shorten(name)}
	}
}

func decompress(name string, data []byte, limit int64) ([]byte, error) {
	if err := checkCompression(name); err != nil {
		return nil, err
	}
	r, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(plain)) > limit {
		err = ErrTooLarge
	}
	if err != nil {
		return nil, err
	}
	return plain, r.Close()
}

func compress(name string, plain []byte) ([]byte, error) {
	if err := checkCompression(name); err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := zlib.NewWriter(&buf)
	_, err := w.Write(plain)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
