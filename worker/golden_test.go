package worker

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

// recorded are the elements of the queues in a recording of df_websockets.
func recorded(t *testing.T, path string) [][]byte {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Redis []struct {
			Type   string   `json:"type"`
			Values [][]byte `json:"values_b64"`
		} `json:"redis"`
	}
	if err := json.Unmarshal(file, &golden); err != nil {
		t.Fatal(err)
	}
	var elements [][]byte
	for _, key := range golden.Redis {
		if key.Type == "list" {
			elements = append(elements, key.Values...)
		}
	}
	return elements
}

// TestRecordedSignals runs what df_websockets 1.2.6 put into its queues.
func TestRecordedSignals(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/df_websockets/celery_message_*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	for _, path := range paths {
		elements := recorded(t, path)
		if len(elements) == 0 {
			t.Errorf("%s: no messages", path)
		}
		for _, element := range elements {
			envelope, err := celeryproto.DecodeEnvelope(element)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			task, err := celeryproto.DecodeTask(envelope)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			runRecorded(t, path, task)
		}
	}
}

func runRecorded(t *testing.T, path string, task *celeryproto.Task) {
	t.Helper()
	sent, err := compat.DecodeSignalArgs(task.Args)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	calls := 0
	w := mustWorker(t, Config{Queues: []string{task.Queue()}}, func(w *Worker) {
		HandleSignal(w, Signal[map[string]any]{Name: sent.Signal, Queue: sent.Queue, Allow: Everyone, Run: func(_ context.Context, c *Call, args map[string]any) error {
			calls++
			if c.FromClient != sent.FromClient || c.TaskID != task.ID || len(args) == 0 {
				t.Errorf("%s: call %+v with %v", path, c, args)
			}
			if got := string(c.Window.AppendJSON(nil)); got != sent.Window.String() {
				t.Errorf("%s: the window info changed:\n%s\n%s", path, got, sent.Window)
			}
			return nil
		}})
	})
	report, err := w.Execute(t.Context(), task, task.Queue(), &fakeSender{})
	if err != nil || report.Outcome != Succeeded || calls != 1 {
		t.Errorf("%s: %+v, %v, %d calls", path, report, err, calls)
	}
}
