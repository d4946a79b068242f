package layertest_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/channelslayer/layertest"
	"github.com/dfws/dfws/integration/redistest"
)

var (
	prefixes   sync.Map // testing.TB → its number: a test may run again on the same server
	lastPrefix atomic.Int64
)

// prefix is the test's own layer prefix on the shared server.
func prefix(t testing.TB) string {
	n, ok := prefixes.Load(t)
	if !ok {
		n, _ = prefixes.LoadOrStore(t, lastPrefix.Add(1))
	}
	return fmt.Sprintf("layertest.%d.", n)
}

const capacity = 10

func goLayer(t testing.TB) *channelslayer.Core {
	t.Helper()
	l, err := channelslayer.Open(channelslayer.Config{
		Hosts: []channelslayer.Host{{URL: redistest.Shared(t).URL}}, Prefix: prefix(t), Capacity: capacity,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func pythonConfig(t testing.TB) map[string]any {
	return map[string]any{"hosts": []string{redistest.Shared(t).URL}, "prefix": prefix(t), "capacity": capacity}
}

func TestGoLayer(t *testing.T) {
	t.Parallel()
	layertest.Run(t, func(t testing.TB) channelslayer.Layer { return goLayer(t) })
}

// The suite itself is judged by the real thing, then the two are mixed.
func TestPythonLayers(t *testing.T) {
	t.Parallel()
	peer := layertest.StartPeer(t)
	inGo := func(t testing.TB) channelslayer.Layer { return goLayer(t) }
	inPython := func(t testing.TB) channelslayer.Layer { return peer.Layer(t, pythonConfig(t)) }
	t.Run("python to python", func(t *testing.T) { layertest.Run(t, inPython) })
	t.Run("go to python", func(t *testing.T) { layertest.RunPair(t, inGo, inPython) })
	t.Run("python to go", func(t *testing.T) { layertest.RunPair(t, inPython, inGo) })
}
