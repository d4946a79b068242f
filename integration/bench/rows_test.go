package main

import (
	"slices"
	"strings"
	"testing"
)

func TestReportRows(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := reportRows(&out, []row{
		times("told", "/s", 50, "peer", 100, 0, false),
		atLeast("met", "/s", 30, 10),
		times("missed by half", "/s", 200, "peer", 100, 4, false),
		atMost("just met", "MiB", 30, 30),
		times("lower is better", "ms", 2, "peer", 8, 3, true),
	}, 47.26)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var names []string
	for _, line := range lines[1 : len(lines)-2] {
		name, _, _ := strings.Cut(line, "  ")
		names = append(names, name)
	}
	if want := []string{"missed by half", "just met", "lower is better", "met", "told"}; !slices.Equal(names, want) {
		t.Errorf("order %q, want %q", names, want)
	}
	if strings.Count(out.String(), "MISSED") != 1 || !strings.Contains(lines[1], "MISSED") || !strings.Contains(lines[3], "4.00×") {
		t.Errorf("report:\n%s", &out)
	}
	if last := lines[len(lines)-1]; last != "ratio to celery 47.3" {
		t.Errorf("last line %q", last)
	}
}
