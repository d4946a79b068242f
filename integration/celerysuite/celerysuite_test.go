package main

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// written is what the plugin writes: of a test that passes, one that passes at its third try, one that fails in its set-up, one whose
// part fails and then the test itself, one that is skipped, and one whose tear-down fails.
const written = `{"collected": "t/test_a.py::test_pass", "worker": true}
{"collected": "t/test_a.py::test_alone", "worker": false}
{"test": "t/test_a.py::test_pass", "outcome": "passed", "subtest": false, "seconds": 1.5, "text": ""}
{"test": "t/test_a.py::test_flaky", "outcome": "rerun", "subtest": false, "seconds": 1, "text": "E  first"}
{"test": "t/test_a.py::test_flaky", "outcome": "failed", "subtest": true, "seconds": 1, "text": "E  part"}
{"test": "t/test_a.py::test_flaky", "outcome": "rerun", "subtest": false, "seconds": 1, "text": "E  second"}
{"test": "t/test_a.py::test_flaky", "outcome": "passed", "subtest": false, "seconds": 1, "text": ""}
{"test": "t/test_a.py::test_setup", "outcome": "failed", "subtest": false, "seconds": 0, "text": "x\nE   \nE   no worker\nend"}
{"test": "t/test_a.py::test_part", "outcome": "passed", "subtest": true, "seconds": 0, "text": ""}
{"test": "t/test_a.py::test_part", "outcome": "failed", "subtest": true, "seconds": 0, "text": "E   assert 1 == 2"}
{"test": "t/test_a.py::test_part", "outcome": "failed", "subtest": false, "seconds": 2, "text": "contains 1 failed subtest"}
{"test": "t/test_a.py::test_skip", "outcome": "skipped", "subtest": false, "seconds": 0, "text": ""}
{"test": "t/test_a.py::test_end", "outcome": "passed", "subtest": false, "seconds": 0, "text": ""}
{"test": "t/test_a.py::test_end", "outcome": "failed", "subtest": false, "seconds": 0, "text": "E   left over"}
{"finished": 1}
`

func mustRead(t *testing.T, text string) (*results, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "results.jsonl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return readResults(path)
}

func TestReadResults(t *testing.T) {
	t.Parallel()
	r, err := mustRead(t, written)
	if err != nil {
		t.Fatal(err)
	}
	type short struct {
		Outcome outcome
		Reruns  int
		Reason  string
	}
	got := map[string]short{}
	for name, result := range r.tests {
		s := short{Outcome: result.outcome, Reruns: result.reruns}
		if s.Outcome == failed {
			s.Reason = reason(result.text)
		}
		got[strings.TrimPrefix(name, "t/test_a.py::")] = s
	}
	want := map[string]short{
		"test_pass":  {passed, 0, ""},
		"test_flaky": {passed, 2, ""},
		"test_setup": {failed, 0, "no worker"},
		"test_part":  {failed, 0, "assert 1 == 2"},
		"test_skip":  {skipped, 0, ""},
		"test_end":   {failed, 0, "left over"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(r.unrelated) != 1 || !r.unrelated["t/test_a.py::test_alone"] {
		t.Errorf("unrelated: %v", r.unrelated)
	}
	if got := r.summary(); got != "2 passed, 3 failed, 1 skipped, 6 s" {
		t.Error(got)
	}
}

func TestReadResultsOfABrokenRun(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		strings.TrimSuffix(written, "{\"finished\": 1}\n"):                  "did not come to its end",
		`{"broken": "t/test_a.py", "text": "x\nE   ImportError: no azure"}`: "t/test_a.py cannot be loaded",
		"no json": "results: ",
	} {
		if _, err := mustRead(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func of(outcomes map[string]outcome) *results {
	r := &results{tests: map[string]*result{}, unrelated: map[string]bool{}}
	for name, o := range outcomes {
		r.tests["t/test_a.py::"+name] = &result{outcome: o, text: "E   why"}
	}
	return r
}

func TestJudge(t *testing.T) {
	t.Parallel()
	python := of(map[string]outcome{
		"good": passed, "bad": passed, "flaky": failed, "gone": passed, "skips": passed, "both-skip": skipped, "stale": passed, "cannot": passed,
	})
	ours := of(map[string]outcome{
		"good": passed, "bad": failed, "flaky": failed, "skips": skipped, "both-skip": skipped, "stale": passed, "cannot": failed,
	})
	l := &list{Tests: map[string]string{"t/test_a.py::stale": "x", "t/test_a.py::cannot": "x", "t/test_a.py::unknown": "x"}, Races: map[string]string{"t/test_a.py::good": "x"}}
	short := func(faults []fault) map[string]string {
		m := map[string]string{}
		for _, f := range faults {
			m[strings.TrimPrefix(f.test, "t/test_a.py::")] = f.what
		}
		return m
	}
	want := map[string]string{
		"bad":   "why",
		"skips": "passes with Celery's worker and is skipped with the Go worker",
		"stale": "is listed as inapplicable and passes",
		"gone":  "was not run with the Go worker",
	}
	if d := cmp.Diff(want, short(judge(python, ours, l, false))); d != "" {
		t.Error(d)
	}
	want["unknown"] = "is listed and does not exist"
	if d := cmp.Diff(want, short(judge(python, ours, l, true))); d != "" {
		t.Error(d)
	}
	alone := map[string]string{"bad": "why", "flaky": "why", "stale": "is listed as inapplicable and passes"}
	if d := cmp.Diff(alone, short(judge(nil, ours, l, false))); d != "" {
		t.Errorf("without Celery's worker: %s", d)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	python := of(map[string]outcome{"one": passed, "two": passed, "three": passed, "four": failed, "five": skipped, "cannot": passed})
	ours := of(map[string]outcome{"one": passed, "two": passed, "three": failed, "four": passed, "five": skipped, "cannot": failed})
	for _, name := range []string{"alone", "too", "cannot"} {
		python.unrelated["t/test_a.py::"+name], ours.unrelated["t/test_a.py::"+name] = true, true
	}
	ours.tests["t/test_a.py::one"].reruns = 2
	l := &list{Tests: map[string]string{"t/test_a.py::cannot": "x"}, Files: map[string]string{"t/test_b.py": "needs a moon"}}
	var b strings.Builder
	ok, err := report(&b, python, ours, l, true)
	if err != nil || ok {
		t.Errorf("ok %v, %v", ok, err)
	}
	table, rest, _ := strings.Cut(b.String(), "\nfailed with")
	fields := strings.Fields(table[strings.LastIndex(table, "\n"):])
	if d := cmp.Diff([]string{"all", "2", "1", "5", "3", "1", "1", "3", "1", "1", "66.7", "%"}, fields); d != "" {
		t.Error(d)
	}
	for _, want := range []string{
		" Celery's worker: t/test_a.py::four", "failed with the Go worker: t/test_a.py::three\n      why",
		"passed with the Go worker after 2 reruns: t/test_a.py::one", "FAULT t/test_a.py::three", "not run: t/test_b.py: needs a moon",
	} {
		if !strings.Contains(rest, want) {
			t.Errorf("%q is missing in\n%s", want, rest)
		}
	}
	if strings.Contains(rest, "cannot") {
		t.Errorf("a listed test is reported:\n%s", rest)
	}
	ours.tests["t/test_a.py::three"].outcome = passed
	if ok, err := report(&b, python, ours, l, true); err != nil || !ok {
		t.Errorf("all as it should be: %v, %v", ok, err)
	}
}

func TestPlanSessions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := planSessions(dir, &list{}); err == nil {
		t.Error("a folder without tests is taken")
	}
	folder := filepath.Join(dir, testFolder)
	if err := os.MkdirAll(folder, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"test_a.py", "test_backend.py", "test_canvas.py", "conftest.py"} {
		if err := os.WriteFile(filepath.Join(folder, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plan, err := planSessions(dir, &list{Files: map[string]string{testFolder + "/test_backend.py": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	canvas := testFolder + "/test_canvas.py"
	if n := parts[canvas]; len(plan) != n+1 || plan[0] != (session{canvas, 0, n}) || plan[n] != (session{testFolder + "/test_a.py", 0, 1}) {
		t.Errorf("%+v", plan)
	}
	if got := plan[1].name() + " " + plan[len(plan)-1].name(); got != "test_canvas-1 test_a" {
		t.Error(got)
	}
}

func TestListIsSound(t *testing.T) {
	t.Parallel()
	l, err := readList(listFile)
	if err != nil {
		t.Fatal(err)
	}
	names := maps.Clone(l.Tests)
	maps.Copy(names, l.Races)
	for name := range names {
		if !strings.HasPrefix(name, testFolder+"/test_") || !strings.Contains(name, "::") || strings.ContainsAny(name, "*?") {
			t.Errorf("%q is not the node ID of one test", name)
		}
	}
	path := filepath.Join(t.TempDir(), "list.json")
	for _, bad := range []string{`{"tests": {"a": " "}}`, `{"tets": {}}`, `{`} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readList(path); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}
