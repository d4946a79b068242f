package main

import (
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"text/tabwriter"
)

// row is one file of tests in the table, or the sum of all.
type row struct {
	unrelated    int // nothing to do with a session worker
	inapplicable int // listed
	tests        int // all others
	python, ours map[outcome]int
	both         int // passed with Celery's worker, and with the Go worker
}

func newRow() *row { return &row{python: map[outcome]int{}, ours: map[outcome]int{}} }

func (r *row) add(o *row) {
	r.unrelated += o.unrelated
	r.inapplicable += o.inapplicable
	r.tests += o.tests
	r.both += o.both
	for k, n := range o.python {
		r.python[k] += n
	}
	for k, n := range o.ours {
		r.ours[k] += n
	}
}

// rows counts per file; either side may be nil.
func rows(python, goSide *results, l *list) map[string]*row {
	files := map[string]*row{}
	of := func(file string) *row {
		if files[file] == nil {
			files[file] = newRow()
		}
		return files[file]
	}
	unrelated, names := map[string]bool{}, map[string]bool{}
	for _, side := range []*results{python, goSide} {
		if side == nil {
			continue
		}
		maps.Copy(unrelated, side.unrelated)
		for name := range side.tests {
			names[name] = true
		}
	}
	for name := range unrelated {
		if !names[name] { // those of the list are run whether or not they name the worker
			of(fileOf(name)).unrelated++
		}
	}
	for name := range names {
		r := of(fileOf(name))
		if _, listed := l.Tests[name]; listed {
			r.inapplicable++
			continue
		}
		r.tests++
		var with, ours outcome
		if python != nil && python.tests[name] != nil {
			with = python.tests[name].outcome
			r.python[with]++
		}
		if goSide != nil && goSide.tests[name] != nil {
			ours = goSide.tests[name].outcome
			r.ours[ours]++
		}
		if with == passed && ours == passed {
			r.both++
		}
	}
	return files
}

// report prints the table, what failed and what was tried again; ok says that all is as it should be. Either side may be nil.
func report(w io.Writer, python, goSide *results, l *list, complete bool) (ok bool, err error) {
	if err := table(w, rows(python, goSide, l)); err != nil {
		return false, err
	}
	notes(w, python, goSide, l)
	if goSide == nil {
		return python.count(failed) == 0, nil
	}
	faults := judge(python, goSide, l, complete)
	for _, f := range faults {
		_, _ = fmt.Fprintf(w, "FAULT %s\n      %s\n", f.test, f.what)
	}
	return len(faults) == 0, nil
}

func table(w io.Writer, files map[string]*row) error {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "file\tno worker\tinapplicable\ttests\tPython passed\tfailed\tskipped\tGo passed\tfailed\tskipped\tof Python's passed\t")
	total := newRow()
	for _, file := range slices.Sorted(maps.Keys(files)) {
		line(t, filepath.Base(file), files[file])
		total.add(files[file])
	}
	line(t, "all", total)
	return t.Flush()
}

func line(w io.Writer, name string, r *row) {
	share := "-"
	if n := r.python[passed]; n > 0 {
		share = fmt.Sprintf("%.1f %%", 100*float64(r.both)/float64(n))
	}
	_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t\n", name, r.unrelated, r.inapplicable, r.tests,
		r.python[passed], r.python[failed], r.python[skipped], r.ours[passed], r.ours[failed], r.ours[skipped], share)
}

// notes prints what the table does not show.
func notes(w io.Writer, python, goSide *results, l *list) {
	for _, side := range []struct {
		name string
		*results
	}{{"Celery's worker", python}, {"the Go worker", goSide}} {
		if side.results == nil {
			continue
		}
		for _, name := range side.names() {
			t := side.tests[name]
			if _, listed := l.Tests[name]; listed && side.results == goSide {
				continue
			}
			if t.outcome == failed {
				_, _ = fmt.Fprintf(w, "failed with %s: %s\n      %s\n", side.name, name, reason(t.text))
			}
			if t.reruns > 0 {
				_, _ = fmt.Fprintf(w, "%s with %s after %d reruns: %s\n", t.outcome, side.name, t.reruns, name)
			}
		}
	}
	for _, file := range slices.Sorted(maps.Keys(l.Files)) {
		_, _ = fmt.Fprintf(w, "not run: %s: %s\n", file, l.Files[file])
	}
}
