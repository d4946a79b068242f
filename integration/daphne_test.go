//go:build integration

package integration

import (
	"testing"
)

// TestScenarioIsSound plays the parity scenario on today's stack alone and checks that it shows what it is meant to show: a
// scenario in which nothing happens would be equal everywhere.
func TestScenarioIsSound(t *testing.T) {
	ctx := deadline(t)
	l := lab(t)
	seen := playBehindDaphne(t, ctx, l)
	frames, calls := 0, 0
	for i, s := range scenario() {
		for _, got := range seen[i].Frames {
			frames += len(got)
		}
		calls += len(seen[i].Calls)
		t.Logf("%s: %q", s.name, seen[i].Calls)
	}
	t.Logf("%d steps, %d frames, %d calls", len(seen), frames, calls)
	if frames < 360 || calls < 45 {
		t.Errorf("%d frames and %d calls are too few", frames, calls)
	}
}
