package celeryproto

// Decompress undoes a compression of kombu's, by name ("zlib", "zstd", "lzma", …) or MIME type. The error is ErrTooLarge for what grows beyond limit
// bytes, and an *UnsupportedError for an unknown compression. Django's caches use the same formats.
func Decompress(name string, data []byte, limit int64) ([]byte, error) {
	return decompress(name, data, limit)
}
