package appserver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLongFolder: a path that no socket can have is said at once, instead of by each server in its own words.
func TestLongFolder(t *testing.T) { // not parallel: it changes the environment
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", maxSocketPath))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	s, err := New(Config{Command: "true {socket}"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
