package app

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSectionOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, doc string
		want      map[string]string
		fault     string
	}{
		{"absent", `{"dfws": {}}`, nil, ""},
		{"kinds", `{"dfws": {"gateway": {"listen": ":80", "max-windows": 1000000, "trust-forwarded": true, "allow-origin": ["a", "b"]}}}`,
			map[string]string{"listen": ":80", "max-windows": "1000000", "trust-forwarded": "true", "allow-origin": "a,b"}, ""},
		{"object", `{"dfws": {"gateway": {"listen": {}}}}`, nil, "dfws.gateway.listen"},
		{"list of numbers", `{"dfws": {"gateway": {"allow-origin": [1]}}}`, nil, "dfws.gateway.allow-origin"},
		{"no section", `{"dfws": {"gateway": 1}}`, nil, "dfws.gateway"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := sectionOptions([]byte(c.doc), "gateway")
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("error %v, want one that names %s", err, c.fault)
				}
				return
			}
			if err != nil || !maps.Equal(got, c.want) {
				t.Errorf("%v, %v; want %v", got, err, c.want)
			}
		})
	}
}

func TestLoadSettingsFaults(t *testing.T) {
	t.Parallel()
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	if _, _, err := LoadSettings(filepath.Join(t.TempDir(), "missing.json"), "gateway", logger); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	file := filepath.Join(t.TempDir(), "settings.json")
	if err := os.WriteFile(file, []byte(`{"schema": 99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := LoadSettings(file, "gateway", logger); err == nil || !strings.Contains(err.Error(), "99") {
		t.Errorf("another schema: %v", err)
	}
}

func TestLoadSettingsWarnsOfOpenFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "settings.json")
	if err := os.WriteFile(file, []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		mode os.FileMode
		warn bool
	}{{0o600, false}, {0o644, true}} {
		if err := os.Chmod(file, c.mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		_, _, err := LoadSettings(file, "gateway", slog.New(slog.NewTextHandler(&log, nil)))
		if err == nil {
			t.Error("an empty object: no error")
		}
		if got := strings.Contains(log.String(), "level=WARN"); got != c.warn {
			t.Errorf("mode %s: warning %v, want %v: %s", c.mode, got, c.warn, log.String())
		}
	}
}

func TestNewLogger(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	logger, err := NewLogger(&out, "json", "warn")
	if err != nil {
		t.Fatal(err)
	}
	logger.Info("quiet")
	logger.Warn("loud")
	if text := out.String(); strings.Contains(text, "quiet") || !strings.Contains(text, `"msg":"loud"`) {
		t.Errorf("log: %s", text)
	}
	if _, err := NewLogger(&out, "xml", "info"); err == nil {
		t.Error("format xml: no error")
	}
	if _, err := NewLogger(&out, "text", "noise"); err == nil {
		t.Error("level noise: no error")
	}
}
