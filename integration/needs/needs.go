// Package needs is what tests do about programs that are missing: they are skipped, or fail where the environment variable
// DFWS_REQUIRE, a list with commas, names the program. CI sets it, so that nothing is passed over there.
package needs

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Env is the environment variable that lists what may not be missing.
const Env = "DFWS_REQUIRE"

// Missing skips the test because program is missing, or fails it where the program is required.
func Missing(t testing.TB, program, reason string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv(Env), ","), program) {
		t.Fatal(reason)
	}
	t.Skipf("%s (%s=%s makes this fatal)", reason, Env, program)
}

// Python is the interpreter that DFWS_PYTHON names. Without one the test ends as for Missing; with says what the interpreter is to have.
func Python(t testing.TB, with string) string {
	t.Helper()
	python := os.Getenv("DFWS_PYTHON")
	if python == "" {
		Missing(t, "python", "DFWS_PYTHON names no Python interpreter with "+with)
	}
	return python
}
