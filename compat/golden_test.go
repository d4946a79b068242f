package compat

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/dfws/dfws/celeryproto"
)

// mustGolden reads a file recorded from Python.
func mustGolden(tb testing.TB, name string, into any) {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
}

// mustCheck fails unless raw is JSON as Python reads it.
func mustCheck(tb testing.TB, raw []byte) {
	tb.Helper()
	if err := celeryproto.CheckJSON(raw, celeryproto.JSONLimits{}); err != nil {
		tb.Fatalf("%s: %v", raw, err)
	}
}
