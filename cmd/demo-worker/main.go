// Command demo-worker is a user's worker: four signals and a task of the demo site, handled in Go.
package main

import (
	"cmp"
	"context"

	"github.com/dfws/dfws/worker"
	"github.com/dfws/dfws/worker/command"
)

type hello struct {
	Name string `arg:"name,omitempty"`
}

type numbers struct{ X, Y int }

func register(w *worker.Worker) {
	worker.HandleSignal(w, worker.Signal[hello]{Name: "demo.go_hello", Allow: worker.Everyone, Run: answer})
	worker.HandleSignal(w, worker.Signal[hello]{Name: "demo.both", Allow: worker.Everyone, Run: answerToo})
	worker.HandleSignal(w, worker.Signal[hello]{Name: "demo.go_broadcast", Allow: worker.Everyone, Run: tellAll})
	worker.HandleSignal(w, worker.Signal[hello]{Name: "demo.view_to_go", Run: tellAllFromView}) // no browser may call it
	worker.HandleTask(w, worker.Task[numbers, int]{Name: "demo.add", Run: add})
}

func answer(ctx context.Context, call *worker.Call, h hello) error {
	opts := map[string]any{"from": "go", "text": "Hello " + cmp.Or(h.Name, "world") + ", says a Go worker"}
	return call.Trigger(ctx, "demo.answer", opts, worker.ToWindow)
}

func answerToo(ctx context.Context, call *worker.Call, h hello) error {
	opts := map[string]any{"from": "go", "text": "Hello " + cmp.Or(h.Name, "world") + ", Go heard the call for both"}
	return call.Trigger(ctx, "demo.answer", opts, worker.ToWindow)
}

func tellAll(ctx context.Context, call *worker.Call, h hello) error {
	opts := map[string]any{"text": cmp.Or(h.Name, "Somebody") + " asked Go to tell everyone"}
	return call.Trigger(ctx, "demo.broadcast", opts, worker.ToBroadcast)
}

func tellAllFromView(ctx context.Context, call *worker.Call, h hello) error {
	opts := map[string]any{"text": cmp.Or(h.Name, "Somebody") + " made a Django view call Go"}
	return call.Trigger(ctx, "demo.broadcast", opts, worker.ToBroadcast)
}

func add(_ context.Context, _ *worker.TaskCall, n numbers) (int, error) { return n.X + n.Y, nil }

func main() { command.Main("demo", register) }
