package worker

import (
	"fmt"
	"os"

	"github.com/dfws/dfws/compat"
)

// LoadSettings reads a file that `manage.py dfws settings --output FILE` wrote, for Config.Settings and NewClient. The error
// of a file that cannot be read is os.ReadFile's; no error contains a value of the file, which has passwords. Nothing else in
// this package reads files, flags or the environment.
func LoadSettings(path string) (*compat.Settings, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("worker: settings: %w", err)
	}
	settings, err := compat.ParseSettings(file)
	if err != nil {
		return nil, fmt.Errorf("worker: settings of %s: %w", path, err)
	}
	return settings, nil
}
