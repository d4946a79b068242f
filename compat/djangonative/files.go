package djangonative

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/md5" //nolint:gosec // Django's name of the file, no secret depends on it
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/djangostate"
)

// maxFile bounds what is read of a file.
const maxFile = djangostate.DefaultMaxCacheValue

// fileCache is django.core.cache.backends.filebased.FileBasedCache: a pickle of the time at which the entry expires, then the
// zlib-compressed pickle of the value.
type fileCache struct {
	cache compat.Cache
	now   func() time.Time
}

func (c *fileCache) get(_ context.Context, key string) (celeryproto.Raw, error) {
	sum := md5.Sum([]byte(fullKey(&c.cache, key))) //nolint:gosec // as above
	data, _, err := readFile(filepath.Join(c.cache.Path, hex.EncodeToString(sum[:])+".djcache"))
	if err != nil {
		return nil, err
	}
	expires, size, err := djangostate.FileExpiry(data)
	if err != nil {
		return nil, err
	}
	if !expires.IsZero() && expires.Before(c.now()) {
		return nil, errNone
	}
	r, err := zlib.NewReader(bytes.NewReader(data[size:]))
	if err != nil {
		return nil, fmt.Errorf("%w: zlib", djangostate.ErrMalformed)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: zlib", djangostate.ErrMalformed)
	case len(plain) > maxFile:
		return nil, djangostate.ErrTooLarge
	}
	return djangostate.DecodePickle(plain)
}

func (*fileCache) close() error { return nil }

// readFile returns errNone for a file that is not there.
func readFile(path string) (data []byte, modified time.Time, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, modified, errNone
	}
	if err != nil {
		return nil, modified, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, modified, err
	}
	if !info.Mode().IsRegular() {
		return nil, modified, fmt.Errorf("%w: no file", djangostate.ErrMalformed)
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = djangostate.ErrTooLarge
	}
	return data, info.ModTime(), err
}

// fileSessions are those of the engine file.
type fileSessions struct {
	path   string // SESSION_FILE_PATH and SESSION_COOKIE_NAME
	reader *djangostate.SessionReader
	now    func() time.Time
}

func (s *fileSessions) load(_ context.Context, cookie string) (*djangostate.Session, error) {
	if !isSessionKey(cookie) {
		return nil, errNone
	}
	data, modified, err := readFile(s.path + cookie)
	if err != nil {
		return nil, err
	}
	session, err := s.reader.ReadStored(string(data))
	if err != nil || !session.Living(modified, s.reader.MaxAge, s.now()) {
		return nil, errNone
	}
	return session, nil
}
