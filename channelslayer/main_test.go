package channelslayer

import (
	"os"
	"testing"

	"github.com/dfws/dfws/internal/redistest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Main(m)) }
