package worker

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadSettings(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "dfws.json")
	if _, err := LoadSettings(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"schema": 1, "celery": {"broker_url": "redis://:hunter2@127.0.0.1/0"}, "dfws": {"go_queue": "fast"}, "channel_layer": {"hosts": [{"url": "redis://127.0.0.1/1"}]}}`)
	if s, err := LoadSettings(path); err != nil || s.DFWS.GoQueue != "fast" {
		t.Errorf("%+v, %v", s, err)
	}
	write(`{"schema": 1, "celery": {"broker_url": "redis://:hunter2@127.0.0.1/0", "result_expires": "hunter2"}}`)
	if _, err := LoadSettings(path); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("faulty file: %v", err)
	}
}
