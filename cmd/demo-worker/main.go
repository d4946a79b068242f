// Command demo-worker is a user's worker: a few signals and a task of the demo site, handled in Go.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/worker"
)

type hello struct {
	Name string `arg:"name,omitempty"`
}

type numbers struct {
	X int `arg:"x"`
	Y int `arg:"y"`
}

func register(w *worker.Worker) {
	worker.HandleSignal(w, worker.Signal[hello]{Name: "demo.go_hello", Allow: worker.Everyone, Run: answer("Hello %s, says a Go worker")})
	worker.HandleSignal(w, worker.Signal[hello]{Name: "demo.both", Allow: worker.Everyone, Run: answer("Hello %s, Go heard the call for both")})
	worker.HandleSignal(w, worker.Signal[hello]{Name: "demo.go_broadcast", Allow: worker.Everyone, Run: tell("%s asked Go to tell everyone")})
	worker.HandleSignal(w, worker.Signal[hello]{Name: "demo.view_to_go", Run: tell("%s made a Django view call Go")})
	worker.HandleTask(w, worker.Task[numbers, int]{Name: "demo.add", Run: func(_ context.Context, _ *worker.TaskCall, n numbers) (int, error) {
		return n.X + n.Y, nil
	}})
}

func answer(format string) func(context.Context, *worker.Call, hello) error {
	return func(ctx context.Context, call *worker.Call, h hello) error {
		opts := map[string]any{"from": "go", "text": fmt.Sprintf(format, cmp.Or(h.Name, "world"))}
		return call.Trigger(ctx, "demo.answer", opts, worker.ToWindow)
	}
}

func tell(format string) func(context.Context, *worker.Call, hello) error {
	return func(ctx context.Context, call *worker.Call, h hello) error {
		opts := map[string]any{"text": fmt.Sprintf(format, cmp.Or(h.Name, "Somebody"))}
		return call.Trigger(ctx, "demo.broadcast", opts, worker.ToBroadcast)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, path string) error {
	file, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	settings, err := compat.ParseSettings(file)
	if err != nil {
		return err
	}
	w, err := worker.New(worker.Config{Settings: settings, App: "demo", Logger: slog.Default()})
	if err != nil {
		return err
	}
	register(w)
	return w.Run(ctx)
}

func main() {
	path := flag.String("settings", "dfws.json", "file written by `manage.py dfws settings --output FILE`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *path); err != nil {
		slog.Error("demo-worker", "err", err)
		os.Exit(1)
	}
}
