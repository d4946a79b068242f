//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	_ "github.com/dfws/dfws/compat/djangodb/sqlite"
	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/worker"
)

// TestDatabaseResults: a site that keeps its results in Django's database. Python waits for tasks of Go and Go for tasks of
// Python; groups, chains and chords go through both; both leave the same rows; and django-celery-beat runs a task of Go.
func TestDatabaseResults(t *testing.T) {
	ctx := deadline(t)
	site := must1(lab(t).NewSite(ctx, harness.SiteOptions{DatabaseResults: true}))(t)
	settings := must1(site.ExportSettings(ctx))(t)
	must1(site.Celery(ctx, harness.CeleryOptions{Name: "database-celery"}))(t)
	options := matrixWorker(site, settings)
	options.Name = "database-matrix"
	must1(site.GoWorker(ctx, options))(t)

	const chordError = `celery.exceptions.ChordError("ValueError('no')",)`
	got := manage[map[string]any](t, ctx, site, "results", "calls")
	want := map[string]any{
		"identity": map[string]any{"é": []any{1., nil}}, "raise": "builtins.ValueError('no',)", "fail": "builtins.RuntimeError('boom',)",
		"group": []any{0., 1., 2., 3.}, "chord in Go": []any{1., 2., 3.}, "chord in Python": []any{1., 2., 3.}, "chain": 10.,
		"failed chord": []any{chordError, chordError}, "forgotten": []any{3., nil, 0.}, "chords left": 0.,
		"slept in go": "slept", "slept in python": "slept",
	}
	traceback, _ := got["traceback"].(string)
	if !strings.Contains(traceback, "boom") {
		t.Errorf("traceback: %q", traceback)
	}
	goID, _ := got["same task in go"].(string)
	pythonID, _ := got["same task in python"].(string)
	for _, name := range []string{"traceback", "same task in go", "same task in python"} {
		delete(got, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what Python gets (+):\n%s", diff)
	}
	pythonRow, goRow := taskRow(t, ctx, site, pythonID), taskRow(t, ctx, site, goID)
	workers := fmt.Sprint(pythonRow["worker"], " ", goRow["worker"])
	if !strings.Contains(workers, "database-celery@") || !strings.Contains(workers, "go.matrix@") {
		t.Errorf("workers: %s", workers)
	}
	if diff := cmp.Diff(comparableRow(pythonRow), comparableRow(goRow)); diff != "" {
		t.Errorf("row of Python (-) and of Go (+):\n%s", diff)
	}

	client := newClient(t, settings)
	var sum int
	must(t, must1(client.Send(ctx, worker.TaskMessage{Name: "demo.tasks.add", Args: []any{20, 22}}))(t).Get(soon(t, ctx), &sum))
	if sum != 42 {
		t.Errorf("20 + 22 = %d", sum)
	}
	err := must1(client.Send(ctx, worker.TaskMessage{Name: "demo.tasks.fail", Args: []any{"from Python"}}))(t).Get(soon(t, ctx), nil)
	if !errors.Is(err, &worker.Exception{Type: "ValueError"}) {
		t.Errorf("demo.tasks.fail: %v, want a ValueError", err)
	}
	testPeriodicTask(t, ctx, site)
}

// testPeriodicTask: a task in django-celery-beat's tables, run by Go, shows its name beside its result.
func testPeriodicTask(t *testing.T, ctx context.Context, site *harness.Site) {
	t.Helper()
	const name = "every second, é"
	manage[int](t, ctx, site, "results", "periodic", name, "matrix.add", "[2, 3]")
	beat := must1(site.Beat(ctx))(t)
	must(t, harness.WaitFor(soon(t, ctx), "result of the periodic task", func(ctx context.Context) error {
		rows := manage[[]map[string]any](t, ctx, site, "results", "rows", "periodic_task_name", name)
		if len(rows) == 0 {
			return errors.New("no row")
		}
		row := rows[0]
		if row["status"] != "SUCCESS" || row["result"] != "5" || row["task_name"] != "matrix.add" || row["task_args"] != `"[2, 3]"` ||
			!strings.HasPrefix(fmt.Sprint(row["worker"]), "go.matrix@") {
			t.Errorf("row: %v", row)
		}
		return nil
	}))
	must(t, beat.Stop())
}

// comparableRow leaves out of a row what two runs of a task cannot share.
func comparableRow(row map[string]any) map[string]any {
	out := map[string]any{}
	for name, value := range row {
		switch {
		case name == "id" || name == "task_id" || name == "worker":
		case strings.HasPrefix(name, "date_") && value != nil:
			out[name] = "a time"
		default:
			out[name] = value
		}
	}
	return out
}

func taskRow(t *testing.T, ctx context.Context, site *harness.Site, id string) map[string]any {
	t.Helper()
	rows := manage[[]map[string]any](t, ctx, site, "results", "rows", "task_id", id)
	if len(rows) != 1 {
		t.Fatalf("task %q has %d rows", id, len(rows))
	}
	return rows[0]
}

// manage runs a management command that prints JSON.
func manage[T any](t *testing.T, ctx context.Context, site *harness.Site, args ...string) T {
	t.Helper()
	var value T
	text := must1(site.Manage(ctx, args...))(t)
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v in %.500s", err, text)
	}
	return value
}
