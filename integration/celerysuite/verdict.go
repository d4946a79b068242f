package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// listFile has the tests that are special.
const listFile = "exceptions.json"

// list is what stands there.
type list struct {
	// Files are not run at all: file → why.
	Files map[string]string `json:"files"`
	// Races are tests that fail now and then whatever the worker, so that they get further tries: node ID → why.
	Races map[string]string `json:"races"`
	// Tests cannot apply to a worker in another language: node ID → why.
	Tests map[string]string `json:"tests"`
}

func readList(path string) (*list, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var l list
	if err := decoder.Decode(&l); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var faults []error
	for _, names := range []map[string]string{l.Files, l.Races, l.Tests} {
		for name, why := range names {
			if strings.TrimSpace(why) == "" {
				faults = append(faults, fmt.Errorf("%s: %s has no reason", path, name))
			}
		}
	}
	return &l, errors.Join(faults...)
}

// fault is what makes the run fail.
type fault struct{ test, what string }

// judge compares the Go worker with Celery's, which is nil when it was not run. complete says that all tests were run: then a listed one
// must be among them.
func judge(python, goSide *results, l *list, complete bool) []fault {
	var faults []fault
	for _, name := range goSide.names() {
		t := goSide.tests[name]
		_, listed := l.Tests[name]
		switch {
		case listed && t.outcome == passed:
			faults = append(faults, fault{name, "is listed as inapplicable and passes"})
		case !listed && t.outcome == failed && passes(python, name):
			faults = append(faults, fault{name, reason(t.text)})
		case !listed && t.outcome == skipped && python != nil && passes(python, name):
			faults = append(faults, fault{name, "passes with Celery's worker and is skipped with the Go worker"})
		}
	}
	if python != nil {
		for _, name := range python.names() {
			if goSide.tests[name] == nil {
				faults = append(faults, fault{name, "was not run with the Go worker"})
			}
		}
	}
	if complete {
		for _, names := range []map[string]string{l.Tests, l.Races} {
			for _, name := range slices.Sorted(maps.Keys(names)) {
				if goSide.tests[name] == nil {
					faults = append(faults, fault{name, "is listed and does not exist"})
				}
			}
		}
	}
	return faults
}

// passes tells whether a test is known to pass with Celery's worker, or may be taken to.
func passes(python *results, name string) bool {
	if python == nil {
		return true
	}
	t := python.tests[name]
	return t != nil && t.outcome == passed
}
