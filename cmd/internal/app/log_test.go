package app

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/dfws/dfws/integration/logbuffer"
)

// TestHTTPErrors uses a real http.Server: its wording is what decides.
func TestHTTPErrors(t *testing.T) {
	t.Parallel()
	var out logbuffer.Buffer
	logger, err := NewLogger(&out, "text", "info")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.WriteHeader(http.StatusOK) // superfluous: a line of no interest
		panic("a bug")
	}))
	server.Config.ErrorLog = HTTPErrors(logger)
	server.Listener = &exhausted{Listener: server.Listener}
	server.Start()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := server.Client().Do(req); err == nil {
		_ = resp.Body.Close()
	}
	server.Close()
	text := out.String()
	for _, want := range []string{"level=ERROR", "a bug", "log_test.go", "too many open files"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in %s", want, text)
		}
	}
	if strings.Contains(text, "superfluous") {
		t.Errorf("noise in %s", text)
	}
}

// exhausted fails once as a listener does without file descriptors.
type exhausted struct {
	net.Listener
	once sync.Once
}

func (e *exhausted) Accept() (net.Conn, error) {
	var err error
	e.once.Do(func() { err = &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE} })
	if err != nil {
		return nil, err
	}
	return e.Listener.Accept()
}
