package harness

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

// dumpLines is how much of each log a failed test shows.
const dumpLines = 100

// Require skips the test when err says that a program is missing, or fails it where DFWS_REQUIRE names the program; any other
// error fails the test.
func Require(t testing.TB, program string, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrMissing) && !slices.Contains(strings.Split(os.Getenv("DFWS_REQUIRE"), ","), program):
		t.Skipf("%v (DFWS_REQUIRE=%s makes this fatal)", err, program)
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
