package celeryproto

import (
	"bytes"
	stdbzip2 "compress/bzip2"
	"compress/zlib"
	"errors"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"github.com/dfws/dfws/celeryproto/internal/bzip2"
)

// Content types of compressions (kombu 5.7, compression.py).
const (
	// CompressionZlib is the MIME type of kombu's "gzip" and "zlib", which are
	// both a zlib stream (RFC 1950), not a gzip file.
	CompressionZlib   = "application/x-gzip"
	CompressionBzip2  = "application/x-bz2"    // "bzip2", "bzip"
	CompressionXZ     = "application/x-lzma"   // "lzma", "xz": an .xz file
	CompressionBrotli = "application/x-brotli" // "brotli", where Python has the package brotli
	CompressionZstd   = "application/zstd"     // "zstd", "zstandard", where Python has backports.zstd or is 3.14
)

// algorithm is one way to compress.
type algorithm struct {
	mime  string
	names []string
	// read gives the plain bytes; it may refuse early what would become more than
	// limit bytes, and must need no more memory than that.
	read  func(data []byte, limit int64) (io.Reader, error)
	write func(plain []byte) ([]byte, error)
}

var algorithms = []algorithm{
	{CompressionZlib, []string{"gzip", "zlib"}, readZlib, writeZlib},
	{CompressionBzip2, []string{"bzip2", "bzip"}, readBzip2, writeBzip2},
	{CompressionXZ, []string{"lzma", "xz"}, readXZ, writeXZ},
	{CompressionBrotli, []string{"brotli"}, readBrotli, writeBrotli},
	{CompressionZstd, []string{"zstd", "zstandard"}, readZstd, writeZstd},
}

// algorithmOf finds a compression by its MIME type or a name of kombu's.
func algorithmOf(name string) (*algorithm, error) {
	for i := range algorithms {
		a := &algorithms[i]
		if a.mime == name {
			return a, nil
		}
		for _, alias := range a.names {
			if alias == name {
				return a, nil
			}
		}
	}
	return nil, &UnsupportedError{What: "compression", Name: shorten(name)}
}

// compressionMIME is the MIME type of a compression; names that are not known
// stay as they are, for compress to refuse.
func compressionMIME(name string) string {
	if a, err := algorithmOf(name); err == nil {
		return a.mime
	}
	return name
}

func decompress(name string, data []byte, limit int64) ([]byte, error) {
	a, err := algorithmOf(name)
	if err != nil {
		return nil, err
	}
	r, err := a.read(data, limit)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(plain)) > limit {
		err = ErrTooLarge
	}
	if closer, ok := r.(io.Closer); ok {
		err = errors.Join(err, closer.Close())
	}
	if err != nil {
		return nil, err
	}
	return plain, nil
}

func compress(name string, plain []byte) ([]byte, error) {
	a, err := algorithmOf(name)
	if err != nil {
		return nil, err
	}
	return a.write(plain)
}

func readZlib(data []byte, _ int64) (io.Reader, error) { return zlib.NewReader(bytes.NewReader(data)) }

func writeZlib(plain []byte) ([]byte, error) {
	var buf bytes.Buffer
	w := zlib.NewWriter(&buf)
	_, err := w.Write(plain)
	err = errors.Join(err, w.Close())
	return buf.Bytes(), err
}

func readBzip2(data []byte, _ int64) (io.Reader, error) {
	return stdbzip2.NewReader(bytes.NewReader(data)), nil
}

func writeBzip2(plain []byte) ([]byte, error) { return bzip2.Compress(plain), nil }

// readBrotli needs a window of 16 MiB at most, which is the format's limit.
func readBrotli(data []byte, _ int64) (io.Reader, error) {
	return brotli.NewReader(bytes.NewReader(data)), nil
}

// brotliLevel is 6 of 11: brotli.compress takes 11, at a hundred times the cost.
const brotliLevel = brotli.DefaultCompression

func writeBrotli(plain []byte) ([]byte, error) {
	var buf bytes.Buffer
	w := brotli.NewWriterLevel(&buf, brotliLevel)
	_, err := w.Write(plain)
	err = errors.Join(err, w.Close())
	return buf.Bytes(), err
}

// maxZstdWindow is the window that every decoder has to support (RFC 8878,
// 3.1.1.1.2). The default level of Python's zstd.compress uses 2 MiB at most.
const maxZstdWindow = 8 << 20

// zstdReader decodes in the goroutine that reads.
type zstdReader struct{ *zstd.Decoder }

func (r zstdReader) Close() error {
	r.Decoder.Close()
	return nil
}

func readZstd(data []byte, _ int64) (io.Reader, error) {
	if len(data) == 0 {
		return nil, io.ErrUnexpectedEOF // no frame is an error to Python
	}
	r, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxZstdWindow))
	if err != nil {
		return nil, err
	}
	return zstdReader{r}, nil
}

func writeZstd(plain []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	return w.EncodeAll(plain, nil), w.Close()
}
