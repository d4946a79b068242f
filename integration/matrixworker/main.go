// Command matrixworker is the Go worker of the integration tests: what project/demo/signals.py and tasks.py are for Python.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/dfws/dfws/compat"
	_ "github.com/dfws/dfws/compat/djangodb/sqlite" // results of sites with django-celery-results
	"github.com/dfws/dfws/worker"
)

// queue is consumed by this worker alone.
const queue = "go-matrix"

func main() {
	settingsFile := flag.String("settings", "settings.json", "what `manage.py dfws settings` exported")
	journalURL := flag.String("journal", "", "Redis `URL` of the list that handlers write to")
	var cfg worker.Config
	flag.IntVar(&cfg.Concurrency, "concurrency", 4, "tasks at once")
	flag.StringVar(&cfg.App, "app", "matrix", "name in the registry")
	flag.IntVar(&cfg.MaxHops, "max-hops", 3, "how often a task that nobody handles goes back to its queue; few, so that a test can wait for the end")
	flag.StringVar(&cfg.UnknownQueue, "unknown-queue", "", "queue for tasks that nobody handles here")
	queues := flag.String("queues", "", "queues to consume, separated by commas; empty: those of the handlers")
	flag.Parse()
	if *queues != "" {
		cfg.Queues = strings.Split(*queues, ",")
	}
	if err := run(cfg, *settingsFile, *journalURL); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(cfg worker.Config, settingsFile, journalURL string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	text, err := os.ReadFile(settingsFile)
	if err != nil {
		return err
	}
	if cfg.Settings, err = compat.ParseSettings(text); err != nil {
		return err
	}
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg.HopDelay = 50 * time.Millisecond
	w, err := worker.New(cfg)
	if err != nil {
		return err
	}
	notes, err := openJournal(journalURL)
	if err != nil {
		return err
	}
	defer notes.close()
	registerSignals(w, notes)
	registerRules(w, notes)
	registerTasks(w, notes)
	return w.Run(ctx)
}
