package compat

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mustCapture runs testdata/capture.py with the Python of DFWS_PYTHON. Without one the test is skipped, or fails where DFWS_REQUIRE names
// python.
func mustCapture(t *testing.T, arguments ...string) []byte {
	t.Helper()
	python := os.Getenv("DFWS_PYTHON")
	if python == "" {
		const reason = "DFWS_PYTHON names no Python interpreter with Celery"
		if slices.Contains(strings.Split(os.Getenv("DFWS_REQUIRE"), ","), "python") {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	var errors bytes.Buffer
	command := exec.CommandContext(t.Context(), python, append([]string{"testdata/capture.py"}, arguments...)...)
	command.Stderr = &errors
	output, err := command.Output()
	if err != nil {
		t.Fatalf("capture.py %v: %v\n%s", arguments, err, errors.String())
	}
	return output
}
