package staticfiles

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// manifestName is where ManifestStaticFilesStorage keeps its names (django/contrib/staticfiles/storage.py, 5.2: manifest_name).
	manifestName = "staticfiles.json"
	// maxManifestBytes bounds it: a thousand times what a large site has.
	maxManifestBytes = 64 << 20
	// lookInterval is how often the root and the manifest are looked at.
	lookInterval = time.Second
)

// DefaultMaxAge is how long files without a hash in their name may be cached, as with WhiteNoise.
const DefaultMaxAge = time.Minute

// Config of a [Files].
type Config struct {
	// URL is Django's STATIC_URL. Of an absolute one, which names a CDN, the path counts: that is what the CDN asks for. Required.
	URL string
	// Root is Django's STATIC_ROOT. Required.
	Root string
	// MaxAge is how long files without a hash in their name may be cached. 0: one minute. Negative: not at all without asking.
	MaxAge time.Duration
	// Logger gets what is wrong with the root; nil discards.
	Logger *slog.Logger
	// Served is called for each answer with its status and the encoding that was chosen ("br", "zstd", "gzip", "identity"); may be nil.
	Served func(status int, encoding string)
}

// Files serves static files: a http.Handler for the requests below Prefix.
type Files struct {
	cfg    Config
	prefix string
	looked atomic.Int64 // when the root was looked at last, in nanoseconds since 1970

	mu        sync.RWMutex // held for reading while a file is opened
	root      *os.Root
	rootInfo  fs.FileInfo
	manifest  fs.FileInfo     // nil without one
	immutable map[string]bool // names that were made from their content
	trouble   string          // the last error that was logged, so that it is logged once
}

// New opens the root.
func New(cfg Config) (*Files, error) {
	prefix, err := pathOf(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.Root == "" {
		return nil, errors.New("staticfiles: STATIC_ROOT is not set")
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = DefaultMaxAge
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Files{cfg: cfg, prefix: prefix}
	if err := f.openRoot(); err != nil {
		return nil, err
	}
	f.looked.Store(time.Now().UnixNano())
	if err := f.readManifest(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// pathOf returns the path of STATIC_URL, which begins and ends with a slash.
func pathOf(staticURL string) (string, error) {
	u, err := url.Parse(staticURL)
	switch {
	case staticURL == "":
		return "", errors.New("staticfiles: STATIC_URL is not set")
	case err != nil || !strings.HasPrefix(u.Path, "/") || !strings.HasSuffix(u.Path, "/"):
		return "", fmt.Errorf("staticfiles: STATIC_URL %q has no path that begins and ends with a slash", staticURL)
	case u.Path == "/":
		return "", fmt.Errorf("staticfiles: STATIC_URL %q would hide the whole site", staticURL)
	}
	return u.Path, nil
}

// Prefix is the path below which the files are, with a slash at both ends.
func (f *Files) Prefix() string { return f.prefix }

// Close closes the root. No request may come after it.
func (f *Files) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.root.Close()
}

// openRoot opens the root anew. The caller holds mu, or is New.
func (f *Files) openRoot() error {
	root, err := os.OpenRoot(f.cfg.Root)
	if err != nil {
		return fmt.Errorf("staticfiles: STATIC_ROOT (has `manage.py collectstatic` run?): %w", err)
	}
	info, err := root.Stat(".")
	if err != nil {
		return errors.Join(fmt.Errorf("staticfiles: STATIC_ROOT: %w", err), root.Close())
	}
	if f.root != nil {
		_ = f.root.Close() // was only read
	}
	f.root, f.rootInfo, f.manifest, f.immutable = root, info, nil, nil
	return nil
}

// readManifest reads the manifest if it is another one than before. The caller holds mu, or is New.
func (f *Files) readManifest() error {
	info, err := f.root.Stat(manifestName)
	if errors.Is(err, fs.ErrNotExist) {
		f.manifest, f.immutable = nil, nil
		return nil
	}
	if err != nil {
		return fmt.Errorf("staticfiles: manifest: %w", err)
	}
	if f.manifest != nil && os.SameFile(info, f.manifest) && info.Size() == f.manifest.Size() && info.ModTime().Equal(f.manifest.ModTime()) {
		return nil
	}
	file, err := f.root.Open(manifestName)
	if err != nil {
		return fmt.Errorf("staticfiles: manifest: %w", err)
	}
	defer file.Close()
	var manifest struct {
		Paths map[string]string `json:"paths"`
	}
	if err := json.NewDecoder(io.LimitReader(file, maxManifestBytes)).Decode(&manifest); err != nil {
		return fmt.Errorf("staticfiles: manifest: %s: %w", manifestName, err)
	}
	immutable := make(map[string]bool, len(manifest.Paths))
	for name, hashed := range manifest.Paths {
		if name != hashed {
			immutable[hashed] = true
		}
	}
	f.manifest, f.immutable = info, immutable
	return nil
}

// look notices another root and another manifest, once a second at most. What is wrong is logged, and what was there before goes on.
func (f *Files) look(now time.Time) {
	last := f.looked.Load()
	if now.UnixNano()-last < int64(lookInterval) || !f.looked.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	info, err := os.Stat(f.cfg.Root)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil:
	case !os.SameFile(info, f.rootInfo):
		err = f.openRoot()
		fallthrough
	default:
		err = errors.Join(err, f.readManifest())
	}
	switch {
	case err == nil:
		f.trouble = ""
	case err.Error() != f.trouble:
		f.trouble = err.Error()
		f.cfg.Logger.Error("static files: what was there before is served on", "err", err)
	}
}

// opened is a file that may be sent.
type opened struct {
	file      *os.File
	info      fs.FileInfo
	encoding  string // of the variant; identity for the file itself
	varies    bool   // there are variants
	immutable bool
}

// open opens the best variant of a file for the encodings that a client accepts.
func (f *Files) open(name string, accepted acceptedEncodings) (*opened, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	info, err := f.root.Stat(name)
	if err != nil {
		return nil, err
	}
	best, varies := variant{encoding: identity, size: info.Size(), q: accepted.of(identity)}, false
	for _, c := range codings {
		compressed, err := f.root.Stat(name + c.suffix)
		if err != nil || !compressed.Mode().IsRegular() || compressed.Size() >= info.Size() ||
			compressed.ModTime().Before(info.ModTime().Add(-variantSlack)) {
			continue // none, no gain, or that of an older file
		}
		varies = true
		if v := (variant{c.encoding, c.suffix, compressed.Size(), accepted.of(c.encoding)}); v.betterThan(best) {
			best = v
		}
	}
	// Not waiting, since a named pipe would wait for its writer.
	file, err := f.root.OpenFile(name+best.suffix, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err = file.Stat(); err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &opened{file, info, best.encoding, varies, f.immutable[name]}, nil
}

// cleanName returns the name of the file that a path below the prefix asks for; false if there can be none.
func cleanName(path string) (string, bool) {
	if !fs.ValidPath(path) || path == "." || strings.ContainsAny(path, "\x00\\") {
		return "", false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if strings.HasPrefix(segment, ".") {
			return "", false
		}
	}
	return path, true
}
