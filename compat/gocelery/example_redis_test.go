package gocelery_test

import (
	"testing"

	"github.com/dfws/dfws/integration/redistest"
)

// The programs of the example do the same, each on a Redis of its own.
func TestExample(t *testing.T) {
	t.Parallel()
	for name, program := range map[string]func(url string) (any, error){"before": before, "after": after} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sum, err := program(redistest.Start(t).URL)
			if err != nil || sum != 8.0 {
				t.Errorf("%v, %v", sum, err)
			}
		})
	}
}
