// Command bench measures the parts beside the Python programs that they replace, in one run, and prints ratios.
//
//	go run ./integration/bench gateway    dfws gateway beside daphne and uvicorn: connects, memory, broadcast, intake, there and back,
//	                                       what arrives at windows that are cut and across a rolling restart
//	go run ./integration/bench worker     Go worker beside Celery, asynq and gocelery: throughput, publishing, memory, latency
//
// gateway: all servers serve the same site on the same Redis. Each round starts the server anew, and opens more and more windows. The load
// generator is a process of its own; its share of a processor core is printed, so that a run that measured it instead of the server
// shows. Everything that is expected is counted, and a short count fails the run.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	rounds := flag.Int("rounds", 0, "rounds with each server or worker; 0: 1 with servers, 3 with workers")
	tasks := flag.Int("tasks", 260_000, "worker: tasks that the Go worker runs in each round, published by Celery before")
	parts := flag.String("parts", "", "worker: only these parts, with commas between; publish always is the first")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, flag.Arg(0), *rounds, *tasks, *parts)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name string, rounds, tasks int, parts string) error {
	switch name {
	case "gateway":
		return runGateway(ctx, cmp.Or(rounds, 1))
	case "worker":
		return runWorker(ctx, cmp.Or(rounds, 3), tasks, parts)
	default:
		return fmt.Errorf("no benchmark %q; there are: gateway, worker", name)
	}
}
