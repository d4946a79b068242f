// Command noopworker is the Go worker that `make bench-worker` measures: one task that does nothing.
//
// On SIGUSR1 it gives unused memory back to the system and prints the bytes of its heap that are in use.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"syscall"

	"github.com/dfws/dfws/worker"
)

type numbers struct{ X, Y int }

func main() {
	if err := run(); err != nil {
		slog.Error("noopworker", "err", err)
		os.Exit(1)
	}
}

func run() (err error) {
	file := flag.String("settings", "", "settings as `manage.py dfws settings` writes them")
	concurrency := flag.Int("concurrency", 0, "tasks that run at once; 0: one per CPU")
	early := flag.Bool("ack-early", false, "ack before running")
	waiting := flag.Int("max-waiting", 0, "tasks that may wait for their ETA; 0: the library's default")
	profile := flag.String("cpuprofile", "", "file for a CPU profile")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	settings, err := worker.LoadSettings(*file)
	if err != nil {
		return err
	}
	w, err := worker.New(worker.Config{
		Settings: settings, App: "bench", Logger: slog.Default(), Concurrency: *concurrency, AckEarly: *early, MaxWaiting: *waiting,
	})
	if err != nil {
		return err
	}
	worker.HandleTask(w, worker.Task[numbers, int]{Name: "bench.noop", Queue: "bench",
		Run: func(_ context.Context, _ *worker.TaskCall, n numbers) (int, error) { return n.X, nil }})
	go reportHeap(ctx)
	return w.Run(ctx)
}

// reportHeap answers SIGUSR1 until ctx ends.
func reportHeap(ctx context.Context) {
	askC := make(chan os.Signal, 1)
	signal.Notify(askC, syscall.SIGUSR1)
	for {
		select {
		case <-ctx.Done():
			return
		case <-askC:
		}
		debug.FreeOSMemory()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		fmt.Printf("heap %d goroutines %d\n", stats.HeapAlloc, runtime.NumGoroutine())
	}
}
