package gateway

import (
	"os"
	"testing"

	"github.com/dfws/dfws/integration/redistest"
)

// TestMain fails the package when a goroutine is left over.
func TestMain(m *testing.M) { os.Exit(redistest.Main(m)) }
