package appserver

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"sync"
)

const (
	// maxLine is how long a line of output may be; a longer one is logged in parts.
	maxLine = 16 << 10
	// tailLines is how many lines of output are kept to say why a server ended.
	tailLines = 15
	// tailLineBytes is how much of each of them.
	tailLineBytes = 300
)

// output logs what a generation writes, line by line, and keeps the last lines. Both of its streams share it.
type output struct {
	log *slog.Logger

	mu   sync.Mutex
	last []string // at most tailLines
}

// copy logs each line that r gives until it ends.
func (o *output) copy(stream string, r io.Reader) {
	log := o.log.With("stream", stream)
	buf := make([]byte, 0, maxLine)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		rest := buf
		for {
			line, after, found := bytes.Cut(rest, []byte{'\n'})
			if !found {
				break
			}
			o.line(log, line)
			rest = after
		}
		if len(rest) == cap(buf) {
			o.line(log, rest)
			rest = nil
		}
		buf = buf[:copy(buf, rest)]
		if err != nil { // the process has closed its end, or its time is over
			if len(buf) > 0 {
				o.line(log, buf)
			}
			return
		}
	}
}

func (o *output) line(log *slog.Logger, line []byte) {
	text := strings.ToValidUTF8(strings.TrimRight(string(line), "\r"), "\uFFFD")
	if strings.TrimSpace(text) == "" {
		return
	}
	log.Info("app server", "text", text)
	if len(text) > tailLineBytes {
		text = strings.ToValidUTF8(text[:tailLineBytes], "") + "…"
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.last) == tailLines {
		o.last = append(o.last[:0], o.last[1:]...)
	}
	o.last = append(o.last, text)
}

// tail returns the last lines.
func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.last, "\n")
}
