package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dfws/dfws/integration/sample"
	"github.com/dfws/dfws/worker"
)

type pairArgs struct {
	X int `arg:"x"`
	Y int `arg:"y"`
}

type valueArgs struct {
	Value any `arg:"value"`
}

type textArgs struct {
	Text string `arg:"text"`
}

type sleepArgs struct {
	Mark    string  `arg:"mark"`
	Seconds float64 `arg:"seconds"`
}

type none struct{}

func registerTasks(w *worker.Worker, notes journal) {
	worker.HandleTask(w, worker.Task[pairArgs, int]{Name: "matrix.add", Queue: queue,
		Run: func(_ context.Context, _ *worker.TaskCall, args pairArgs) (int, error) { return args.X + args.Y, nil }})
	worker.HandleTask(w, worker.Task[valueArgs, any]{Name: "matrix.identity", Queue: queue,
		Run: func(_ context.Context, _ *worker.TaskCall, args valueArgs) (any, error) { return args.Value, nil }})
	worker.HandleTask(w, worker.Task[textArgs, none]{Name: "matrix.raise", Queue: queue,
		Run: func(_ context.Context, _ *worker.TaskCall, args textArgs) (none, error) {
			return none{}, &worker.Exception{Type: "ValueError", Args: []any{args.Text}}
		}})
	worker.HandleTask(w, worker.Task[textArgs, none]{Name: "matrix.fail", Queue: queue,
		Run: func(_ context.Context, _ *worker.TaskCall, args textArgs) (none, error) {
			return none{}, errors.New(args.Text)
		}})
	worker.HandleTask(w, worker.Task[textArgs, none]{Name: "matrix.panic", Queue: queue,
		Run: func(_ context.Context, _ *worker.TaskCall, args textArgs) (none, error) { panic(args.Text) }})
	worker.HandleTask(w, worker.Task[passArgs, none]{Name: "matrix.trigger", Queue: queue,
		Run: func(ctx context.Context, call *worker.TaskCall, args passArgs) (none, error) {
			return none{}, call.Trigger(ctx, args.Signal, args.opts(), sample.Targets(args.To)...)
		}})
	worker.HandleTask(w, worker.Task[sleepArgs, string]{Name: "matrix.sleep", Queue: queue,
		Run: func(ctx context.Context, call *worker.TaskCall, args sleepArgs) (string, error) {
			if err := notes.note(ctx, "matrix.sleep:start", nil, map[string]string{"mark": args.Mark}); err != nil {
				return "", err
			}
			timer := time.NewTimer(time.Duration(args.Seconds * float64(time.Second)))
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
			return "slept", notes.note(ctx, "matrix.sleep:end", nil, map[string]string{
				"mark": args.Mark, "redelivered": fmt.Sprint(call.Redelivered),
			})
		}})
}
