//go:build integration

package integration

import (
	"context"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/integration/harness"
)

// inOrder makes Celery work like one pair of hands, so that both runs of the scenario have one order.
var inOrder = harness.CeleryOptions{Pool: "solo", Concurrency: 1}

// TestParity plays one scenario through daphne on a site without the Django app "dfws", and through the gateway on a site with it:
// every window gets the same frames, byte for byte apart from the signal ids, in the same order, and the same Python handlers run
// with the same arguments.
func TestParity(t *testing.T) {
	ctx := deadline(t)
	l := lab(t)
	before := playBehindDaphne(t, ctx, l)
	checkSound(t, before)
	site, err := startFull(ctx, l, harness.SiteOptions{}, inOrder)
	must(t, err)
	after := playAll(t, ctx, site.Site, site.gateway.URL)
	for i, s := range scenario() {
		if diff := cmp.Diff(before[i], after[i]); diff != "" {
			t.Errorf("%s: daphne (-) and gateway (+) differ:\n%s", s.name, diff)
		}
	}
}

func playBehindDaphne(t *testing.T, ctx context.Context, l *harness.Lab) []observation {
	t.Helper()
	site := must1(l.NewSite(ctx, harness.SiteOptions{WithoutShim: true}))(t)
	daphne := must1(site.Daphne(ctx))(t)
	worker := must1(site.Celery(ctx, inOrder))(t)
	seen := playAll(t, ctx, site, daphne.URL)
	must(t, worker.Stop())
	must(t, daphne.Stop())
	return seen
}

// checkSound: a scenario in which nothing happens would be equal everywhere.
func checkSound(t *testing.T, seen []observation) {
	t.Helper()
	frames, calls := 0, 0
	for _, o := range seen {
		for _, got := range o.Frames {
			frames += len(got)
		}
		calls += len(o.Calls)
	}
	if frames < 360 || calls < 45 {
		t.Errorf("today's stack shows only %d frames and %d calls in %d steps", frames, calls, len(seen))
	}
}

func playAll(t *testing.T, ctx context.Context, site *harness.Site, base *url.URL) []observation {
	t.Helper()
	open := openAll(t, ctx, base)
	var seen []observation
	for i, s := range scenario() {
		seen = append(seen, play(t, ctx, site, open, i, s))
	}
	return seen
}
