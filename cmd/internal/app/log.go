package app

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"log/slog"
	"strings"
)

// NewLogger returns a logger that writes lines of the given format ("text" or "json") from the given level
// ("debug", "info", "warn", "error") on.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var lv slog.Level
	if err := lv.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log-level: %w", err)
	}
	opts := &slog.HandlerOptions{Level: lv}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return nil, fmt.Errorf("log-format: %q is neither text nor json", format)
}

// HTTPErrors returns the error log of a public http.Server. What its clients cause is written at debug level; a handler that panics and
// a listener that cannot accept (no file descriptors are left) are errors of ours.
func HTTPErrors(logger *slog.Logger) *log.Logger { return log.New(httpErrors{logger}, "", 0) }

type httpErrors struct{ logger *slog.Logger }

// Write gets one line, or one panic with its stack (net/http, Server.logf).
func (h httpErrors) Write(p []byte) (int, error) {
	text := string(bytes.TrimSpace(p))
	if strings.HasPrefix(text, "http: panic serving") || strings.HasPrefix(text, "http: Accept error") {
		h.logger.Error("http server", "text", text)
	} else {
		h.logger.Debug("http server", "text", text)
	}
	return len(p), nil
}
