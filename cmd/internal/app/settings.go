package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"

	"github.com/dfws/dfws/compat"
)

// LoadSettings reads the settings that `manage.py dfws settings --output FILE` wrote, and the site's own options for a
// command (the Django setting DFWS_GATEWAY for the section "gateway"). A file that others can read holds passwords in the
// open: that is logged.
func LoadSettings(file, section string, logger *slog.Logger) (*compat.Settings, map[string]string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, fmt.Errorf("settings: %w", err)
	}
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&0o077 != 0 {
		logger.Warn("the settings file can be read by other users, and it holds the passwords of Redis", "file", file,
			"mode", info.Mode().Perm().String(), "wanted", "-rw-------")
	}
	settings, err := compat.ParseSettings(data)
	if err != nil {
		return nil, nil, fmt.Errorf("settings file %s: %w", file, err)
	}
	options, err := sectionOptions(data, section)
	if err != nil {
		return nil, nil, fmt.Errorf("settings file %s: %w", file, err)
	}
	return settings, options, nil
}

// sectionOptions returns dfws.<section> of the settings as texts: numbers and booleans as they stand, lists comma-separated.
func sectionOptions(data []byte, section string) (map[string]string, error) {
	var doc struct {
		DFWS map[string]json.RawMessage `json:"dfws"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	raw, ok := doc.DFWS[section]
	if !ok {
		return nil, nil
	}
	var values map[string]any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&values); err != nil {
		return nil, fmt.Errorf("dfws.%s: %w", section, err)
	}
	options := make(map[string]string, len(values))
	for name, value := range values {
		switch v := value.(type) {
		case string:
			options[name] = v
		case json.Number, bool:
			options[name] = fmt.Sprint(v)
		case []any:
			var list List
			for _, item := range v {
				text, ok := item.(string)
				if !ok {
					return nil, fmt.Errorf("dfws.%s.%s: a list of texts is wanted", section, name)
				}
				list = append(list, text)
			}
			options[name] = list.String()
		default:
			return nil, fmt.Errorf("dfws.%s.%s: a text, number, boolean or list of texts is wanted", section, name)
		}
	}
	return options, nil
}
