package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// row is one line of a report.
type row struct {
	name, unit string
	ours       float64
	theirs     string  // what it is compared with, for people
	ratio      float64 // how many times better we are; 0: not compared
	aim        string
	score      float64 // 1 and more: the aim is met; 0: there is none
}

// atLeast is a row whose value is to be at least aim.
func atLeast(name, unit string, ours, aim float64) row {
	return row{name: name, unit: unit, ours: ours, aim: fmt.Sprintf("≥ %g", aim), score: ours / aim}
}

// atMost is a row whose value is to be at most aim.
func atMost(name, unit string, ours, aim float64) row {
	return row{name: name, unit: unit, ours: ours, aim: fmt.Sprintf("≤ %g", aim), score: aim / max(ours, 1e-9)}
}

// times is a row that is to be some times better than a peer; aim 0: it is only told.
func times(name, unit string, ours float64, peer string, theirs, aim float64, lower bool) row {
	r := row{name: name, unit: unit, ours: ours, theirs: fmt.Sprintf("%s %s", peer, number(theirs)), ratio: ours / theirs}
	if lower {
		r.ratio = theirs / max(ours, 1e-9)
	}
	if aim > 0 {
		r.aim, r.score = fmt.Sprintf("%g×", aim), r.ratio/aim
	}
	return r
}

// reportRows prints the table and the ratio that counts most.
func reportRows(w io.Writer, rows []row, ratio float64) error {
	sortRows(rows)
	if err := reportTable(w, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nratio to celery %.1f\n", ratio)
	return err
}

// sortRows puts the row that is farthest from its aim first, and those without an aim last.
func sortRows(rows []row) {
	slices.SortStableFunc(rows, func(a, b row) int {
		if a.score == 0 || b.score == 0 {
			return cmp.Compare(b.score, a.score)
		}
		return cmp.Compare(a.score, b.score)
	})
}

func reportTable(w io.Writer, rows []row) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\tunit\tGo\tcompared with\tratio\taim\t")
	for _, r := range rows {
		ratio, met := "", ""
		if r.ratio > 0 {
			ratio = number(r.ratio) + "×"
		}
		if r.score > 0 {
			met = map[bool]string{true: "met", false: "MISSED"}[r.score >= 1]
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.name, r.unit, number(r.ours), r.theirs, ratio, r.aim, met)
	}
	return table.Flush()
}

// number writes a value with three digits that count.
func number(v float64) string {
	switch {
	case v >= 100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// median of some values, with the least and the greatest.
func median(values []float64) spreadOf {
	sorted := slices.Sorted(slices.Values(values))
	return spreadOf{sorted[0], sorted[len(sorted)/2], sorted[len(sorted)-1]}
}

type spreadOf struct{ low, median, high float64 }
