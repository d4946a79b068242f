package layertest_test

import (
	"os"
	"testing"

	"github.com/dfws/dfws/integration/redistest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Main(m)) }
