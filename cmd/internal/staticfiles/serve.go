package staticfiles

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// forEver is the Cache-Control of names that are made from their content: ten years, as with WhiteNoise.
const forEver = "max-age=315360000, public, immutable"

// ServeHTTP answers a request below Prefix.
func (f *Files) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{ResponseWriter: w, encoding: identity}
	defer func() {
		if f.cfg.Served != nil {
			f.cfg.Served(rec.status, rec.encoding)
		}
	}()
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(rec, "405 Method Not Allowed", http.StatusMethodNotAllowed)
		return
	}
	f.look(time.Now())
	path, below := strings.CutPrefix(r.URL.Path, f.prefix)
	name, ok := cleanName(path)
	if !below || !ok {
		f.notFound(rec)
		return
	}
	o, err := f.open(name, parseAcceptEncoding(strings.Join(r.Header["Accept-Encoding"], ",")))
	if err != nil {
		// Not there, a folder, a link that leads out, or not ours to read: nobody outside needs to know which.
		f.cfg.Logger.Debug("static file refused", "name", name, "err", err)
		f.notFound(rec)
		return
	}
	defer o.file.Close()
	f.describe(w.Header(), name, o)
	rec.encoding = o.encoding
	http.ServeContent(rec, r, "", o.info.ModTime(), o.file)
}

func (f *Files) notFound(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-cache")
	http.Error(w, "404 Not Found", http.StatusNotFound)
}

// describe sets the headers that http.ServeContent does not.
func (f *Files) describe(h http.Header, name string, o *opened) {
	h.Set("Content-Type", contentType(name))
	h.Set("Etag", etag(o))
	if o.varies {
		h.Set("Vary", "Accept-Encoding")
	}
	if o.encoding != identity {
		h.Set("Content-Encoding", o.encoding)
		h.Set("Content-Length", strconv.FormatInt(o.info.Size(), 10)) // ServeContent leaves it out when there is an encoding
	}
	switch {
	case o.immutable:
		h.Set("Cache-Control", forEver)
	case f.cfg.MaxAge < 0:
		h.Set("Cache-Control", "no-cache")
	default:
		h.Set("Cache-Control", fmt.Sprintf("max-age=%d, public", int(f.cfg.MaxAge.Seconds())))
	}
}

// etag is a strong one: the time in nanoseconds and the size of what is sent, and its encoding.
func etag(o *opened) string {
	tag := fmt.Sprintf("%x-%x", o.info.ModTime().UnixNano(), o.info.Size())
	if o.encoding != identity {
		tag += "-" + o.encoding
	}
	return `"` + tag + `"`
}

// recorder notes the status and keeps the way for sendfile open.
type recorder struct {
	http.ResponseWriter
	status   int
	encoding string
}

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(status int) {
	r.status = status
	if status == http.StatusPreconditionFailed {
		r.Header().Del("Content-Length") // of the file, which does not follow
		r.Header().Del("Content-Encoding")
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// ReadFrom implements io.ReaderFrom.
func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return io.Copy(r.ResponseWriter, src)
}

// Unwrap is what http.ResponseController looks for.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
