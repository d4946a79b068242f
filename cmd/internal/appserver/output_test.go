package appserver

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/iotest"
)

func TestOutput(t *testing.T) {
	t.Parallel()
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader, "error with data": iotest.DataErrReader,
	} {
		var logs strings.Builder
		o := &output{log: slog.New(slog.NewTextHandler(&logs, nil))}
		long := strings.Repeat("x", maxLine)
		o.copy("stdout", wrap(strings.NewReader("one\r\n\n two\n\xffthree\n"+long+"yy\nlast")))
		if got := o.tail(); !strings.HasPrefix(got, "one\n two\n\uFFFDthree\n"+strings.Repeat("x", tailLineBytes)+"…\n") || !strings.HasSuffix(got, "\nyy\nlast") {
			t.Errorf("%s: %q", name, got)
		}
		if n := strings.Count(logs.String(), "msg=\"app server\" stream=stdout"); n != 6 {
			t.Errorf("%s: %d lines in the log", name, n)
		}
		for range 3 * tailLines {
			o.copy("stderr", strings.NewReader("again\n"))
		}
		if n := strings.Count(o.tail(), "again"); n != tailLines {
			t.Errorf("%s: %d lines are kept", name, n)
		}
	}
}
