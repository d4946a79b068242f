package main

import (
	"testing"

	"github.com/dfws/dfws/worker"
	"github.com/dfws/dfws/worker/workertest"
)

func TestHandlers(t *testing.T) {
	t.Parallel()
	bench := workertest.New(t, register)
	for signal, want := range map[string]struct {
		sends, text string
		to          worker.Target
		fromClient  bool
	}{
		"demo.go_hello":     {"demo.answer", "Hello Ada, says a Go worker", worker.ToWindow, true},
		"demo.both":         {"demo.answer", "Hello Ada, Go heard the call for both", worker.ToWindow, true},
		"demo.go_broadcast": {"demo.broadcast", "Ada asked Go to tell everyone", worker.ToBroadcast, true},
		"demo.view_to_go":   {"demo.broadcast", "Ada made a Django view call Go", worker.ToBroadcast, false},
	} {
		got := bench.Signal(workertest.Signal{Name: signal, Opts: map[string]any{"name": "Ada"}, FromClient: want.fromClient})
		if len(got.Triggers) != 1 {
			t.Errorf("%s: %+v", signal, got)
			continue
		}
		sent := got.Triggers[0]
		if sent.Signal != want.sends || sent.To[0] != want.to || sent.Opts.(map[string]any)["text"] != want.text {
			t.Errorf("%s sends %+v", signal, sent)
		}
	}
	if got := bench.Task(workertest.Task{Name: "demo.add", Args: []any{2, 40}}).Value(t); got != int64(42) {
		t.Errorf("2 + 40 = %v", got)
	}
	refused := bench.Signal(workertest.Signal{Name: "demo.view_to_go", FromClient: true})
	if refused.Handlers[0].Refused != worker.RefusedNotAllowed {
		t.Errorf("a browser called demo.view_to_go: %+v", refused)
	}
}
