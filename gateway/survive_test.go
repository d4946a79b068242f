package gateway

import (
	"net/http"
	"strings"
	"testing"

	"github.com/dfws/dfws/compat/dispatch"
)

// badPlanner panics for signals of one name.
type badPlanner struct{ planner }

func (p badPlanner) Plan(t dispatch.Trigger) (*dispatch.Plan, error) {
	if t.Signal == "panic" {
		panic("a mistake")
	}
	return p.planner.Plan(t)
}

// TestPanicCutsOneWindow: a mistake in the handling of a frame costs its window, not the process.
func TestPanicCutsOneWindow(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.ports.planner = badPlanner{r.ports.planner}
	c, other := r.connect("a"), r.connect("b")
	c.send(`{"signal":"panic","opts":{}}`)
	r.eventually("the window is gone", func() bool { return r.counts.get("closed 1006") == 1 })
	other.beat()
}

func TestUserAgentIsBounded(t *testing.T) {
	t.Parallel()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/ws/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for size, want := range map[int]int{0: 0, 300: 300, maxUserAgent: maxUserAgent, 60_000: maxUserAgent} {
		request.Header.Set("User-Agent", strings.Repeat("x", size))
		if h := readHandshake(request, testSettings()); len(h.userAgent) != want {
			t.Errorf("%d bytes of User-Agent became %d, want %d", size, len(h.userAgent), want)
		}
	}
}
