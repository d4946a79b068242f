package harness

import (
	"errors"
	"strings"
	"testing"

	"github.com/dfws/dfws/integration/needs"
)

// dumpLines is how much of each log a failed test shows.
const dumpLines = 100

// Require skips the test when err says that a program is missing, or fails it where DFWS_REQUIRE names the program; any other
// error fails the test.
func Require(t testing.TB, program string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrMissing):
		needs.Missing(t, program, err.Error())
	default:
		t.Fatal(err)
	}
}

// DumpOnFailure shows, when the test has failed, what each process logged during the test.
func (l *Lab) DumpOnFailure(t testing.TB) {
	t.Helper()
	offsets := map[*Process]int64{}
	for _, p := range l.Processes() {
		offsets[p] = p.LogSize()
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, p := range l.Processes() {
			if text := strings.TrimSpace(lastLines(p.LogFrom(offsets[p]), dumpLines)); text != "" {
				t.Logf("--- log of %s\n%s", p.Name, text)
			}
		}
	})
}
