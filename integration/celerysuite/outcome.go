package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// outcome is what became of a test.
type outcome string

const (
	passed  outcome = "passed"
	failed  outcome = "failed"
	skipped outcome = "skipped" // or failed as Celery's project expects
)

// result is a test's last try.
type result struct {
	outcome outcome
	reruns  int
	seconds float64 // of all tries, without set-up
	text    string  // why it failed
}

// results are those of a session or of a side, by node ID.
type results struct {
	tests     map[string]*result
	unrelated map[string]bool // node IDs of tests that have nothing to do with a session worker
}

// record is one line that the plugin wrote.
type record struct {
	Collected string `json:"collected"`
	Worker    bool   `json:"worker"`

	Broken string `json:"broken"`

	Test    string  `json:"test"`
	Outcome string  `json:"outcome"`
	Subtest bool    `json:"subtest"`
	Seconds float64 `json:"seconds"`
	Text    string  `json:"text"`

	Finished *int `json:"finished"`
}

// mostLine bounds a record; the plugin cuts texts off far below.
const mostLine = 1 << 20

// readResults reads what the plugin wrote.
func readResults(path string) (*results, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	r := &results{tests: map[string]*result{}, unrelated: map[string]bool{}}
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, mostLine)
	finished := false
	for scanner.Scan() {
		var rec record
		if err := json.Unmarshal(scanner.Bytes(), &rec); err != nil {
			return nil, fmt.Errorf("results: %w", err)
		}
		if err := r.add(&rec); err != nil {
			return nil, err
		}
		finished = finished || rec.Finished != nil
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("results: %w", err)
	}
	if !finished {
		return nil, errors.New("results: pytest did not come to its end")
	}
	return r, nil
}

func (r *results) add(rec *record) error {
	switch {
	case rec.Broken != "":
		return fmt.Errorf("%s cannot be loaded: %s", rec.Broken, lastLine(rec.Text))
	case rec.Collected != "" && !rec.Worker:
		r.unrelated[rec.Collected] = true
	case rec.Test != "":
		r.addTry(rec)
	}
	return nil
}

// subtestsFailed begins the text of a test that fails because of its parts: theirs say more.
const subtestsFailed = "contains "

// addTry takes in one report: of a test's call, of a set-up or tear-down that did not pass, or of a part of a test.
func (r *results) addTry(rec *record) {
	t := r.tests[rec.Test]
	if t == nil {
		t = &result{outcome: passed}
		r.tests[rec.Test] = t
	}
	if rec.Text != "" && !strings.HasPrefix(rec.Text, subtestsFailed) {
		t.text = rec.Text
	}
	if rec.Subtest { // the test itself fails for it
		return
	}
	t.seconds += rec.Seconds
	switch rec.Outcome {
	case "rerun":
		t.reruns++
		t.outcome = passed // until the next try says otherwise
	case "failed":
		t.outcome = failed
	case "skipped":
		t.outcome = skipped
	}
}

// merge puts sessions together. No test is in two.
func merge(sessions []*results) *results {
	all := &results{tests: map[string]*result{}, unrelated: map[string]bool{}}
	for _, s := range sessions {
		maps.Copy(all.tests, s.tests)
		maps.Copy(all.unrelated, s.unrelated)
	}
	return all
}

func (r *results) count(o outcome) int {
	n := 0
	for _, t := range r.tests {
		if t.outcome == o {
			n++
		}
	}
	return n
}

// summary is one line about a session.
func (r *results) summary() string {
	seconds := 0.0
	for _, t := range r.tests {
		seconds += t.seconds
	}
	return fmt.Sprintf("%d passed, %d failed, %d skipped, %.0f s", r.count(passed), r.count(failed), r.count(skipped), seconds)
}

// names are the node IDs, sorted.
func (r *results) names() []string { return slices.Sorted(maps.Keys(r.tests)) }

func fileOf(nodeID string) string {
	file, _, _ := strings.Cut(nodeID, "::")
	return file
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// reason is the first line in which pytest says why a test failed.
func reason(text string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if rest, ok := strings.CutPrefix(line, "E "); ok && strings.TrimSpace(rest) != "" {
			return strings.TrimSpace(rest)
		}
	}
	return lastLine(text)
}
