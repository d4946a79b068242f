package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
)

// figure is one row of the report.
type figure struct {
	name   string
	unit   string
	value  func(*result) float64
	lower  bool    // smaller is better
	aim    float64 // how many times better the gateway is to be
	scaled float64 // divide by this for printing
}

var figures = []figure{
	{"connects", "/s", func(r *result) float64 { return r.connectsPerSecond }, false, 15, 1},
	{"memory per idle window", "KiB", func(r *result) float64 { return r.bytesPerWindow }, true, 5, 1024},
	{"server CPU per delivered frame", "µs", func(r *result) float64 { return r.cpuPerFrame }, true, 30, 1},
	{"signals into the queue", "/s", func(r *result) float64 { return r.signalsPerSecond }, false, 15, 1},
	{"server CPU per signal", "µs", func(r *result) float64 { return r.cpuPerSignal }, true, 0, 1},
	{"broadcast p99", "ms", func(r *result) float64 { return r.broadcastP99 }, true, 0, 1},
}

// report prints the median of the rounds with their spread, and the ratio of the medians.
func report(w io.Writer, theirs, ours []*result) error {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\tdaphne\t(spread)\tgateway\t(spread)\tratio\taim")
	for _, f := range figures {
		a, b := spread(theirs, f), spread(ours, f)
		ratio := b.median / a.median
		if f.lower {
			ratio = a.median / b.median
		}
		aim := "-"
		if f.aim > 0 {
			aim = fmt.Sprintf("%.0f× %s", f.aim, map[bool]string{true: "met", false: "MISSED"}[ratio >= f.aim])
		}
		_, _ = fmt.Fprintf(table, "%s, %s\t%.1f\t%.1f–%.1f\t%.1f\t%.1f–%.1f\t%.1f×\t%s\n", f.name, f.unit,
			a.median/f.scaled, a.low/f.scaled, a.high/f.scaled, b.median/f.scaled, b.low/f.scaled, b.high/f.scaled, ratio, aim)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	share := func(results []*result) float64 {
		return slices.MaxFunc(results, func(x, y *result) int { return int(1e6 * (x.generatorShare - y.generatorShare)) }).generatorShare
	}
	_, err := fmt.Fprintf(w, "\nThe load generator used at most %.0f %% of a core against daphne, %.0f %% against the gateway. "+
		"All share %d cores: where that is near half of them the figure is a lower bound.\n", 100*share(theirs), 100*share(ours), runtime.NumCPU())
	return err
}

type spreadOf struct{ low, median, high float64 }

func spread(results []*result, f figure) spreadOf {
	var values []float64
	for _, r := range results {
		values = append(values, f.value(r))
	}
	slices.Sort(values)
	return spreadOf{values[0], values[len(values)/2], values[len(values)-1]}
}
