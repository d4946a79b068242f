// Command signalworker is the Go worker of `make bench-gateway`: it answers bench.go_ping as the site's bench.ping does in Python.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/dfws/dfws/worker"
)

type number struct {
	N int `arg:"n"`
}

func main() {
	if err := run(); err != nil {
		slog.Error("signalworker", "err", err)
		os.Exit(1)
	}
}

func run() error {
	file := flag.String("settings", "", "settings as `manage.py dfws settings` writes them")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	settings, err := worker.LoadSettings(*file)
	if err != nil {
		return err
	}
	w, err := worker.New(worker.Config{Settings: settings, App: "bench", Logger: slog.Default()})
	if err != nil {
		return err
	}
	worker.HandleSignal(w, worker.Signal[number]{Name: "bench.go_ping", Allow: worker.Everyone,
		Run: func(ctx context.Context, call *worker.Call, got number) error {
			return call.Trigger(ctx, "bench.pong", map[string]any{"n": got.N}, worker.ToWindow)
		}})
	return w.Run(ctx)
}
