package compat

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/dfws/dfws/integration/needs"
)

// mustCapture runs testdata/capture.py with the Python of DFWS_PYTHON. Without one the test is skipped, or fails where DFWS_REQUIRE names
// python.
func mustCapture(t *testing.T, arguments ...string) []byte {
	t.Helper()
	python := needs.Python(t, "Celery")
	var errors bytes.Buffer
	command := exec.CommandContext(t.Context(), python, append([]string{"testdata/capture.py"}, arguments...)...)
	command.Stderr = &errors
	output, err := command.Output()
	if err != nil {
		t.Fatalf("capture.py %v: %v\n%s", arguments, err, errors.String())
	}
	return output
}
