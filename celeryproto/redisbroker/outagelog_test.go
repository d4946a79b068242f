package redisbroker

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A Redis that fails and works by turns is told of once in a while.
func TestOutageLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		o := outageLog{logger: slog.New(slog.NewTextHandler(&text, nil)), what: "taking"}
		said := func(want string) {
			t.Helper()
			if got := strings.Count(text.String(), "\n"); (want != "") != (got == 1) || !strings.Contains(text.String(), want) {
				t.Errorf("in the log: %q, want %q", text.String(), want)
			}
			text.Reset()
		}
		fault := errors.New("OOM")
		o.worked()
		said("")
		o.failed(fault)
		said(`level=WARN msg="redisbroker: taking fails, trying again" err=OOM`)
		o.failed(fault)
		said("")
		o.worked()
		said(`level=INFO msg="redisbroker: taking works again"`)
		const turns = 1000
		for range turns - 1 {
			time.Sleep(outageQuiet / turns) // the bubble's clock
			o.failed(fault)
			o.worked()
		}
		said("")
		time.Sleep(outageQuiet / turns)
		o.failed(fault)
		said("fails")
		time.Sleep(2 * outageQuiet) // it lasts
		o.failed(fault)
		said("")
		o.worked()
		said("works")
	})
}
