package redistest

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

var shared struct {
	mu     sync.Mutex
	server *Server
	err    error
}

// Shared returns the one server that the tests of a package share, started by the first call. A test uses its own key
// prefix or database there and never stops or pauses it. The package's TestMain must be [Main], which closes it.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = Launch(Options{})
	}
	skipOrFail(t, shared.err)
	return shared.server
}

// Main runs the tests, closes the server of [Shared] and then fails when a goroutine is left over. It returns the exit code.
func Main(m *testing.M, ignored ...goleak.Option) int {
	code := m.Run()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server != nil {
		if err := shared.server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	if code == 0 {
		if err := goleak.Find(ignored...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}
