// Command reliability is the Go worker of the tests that compare what becomes of tasks in a Go worker and in Celery's: the twin of app.py.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/worker"
	"github.com/dfws/dfws/worker/command"
)

// options are those of app.py. Nothing is acked early unless a task says so, which is the other way round in Celery.
var options = map[string]worker.TaskOptions{
	"rel.early":        {AcksLate: worker.No},
	"rel.late":         {},
	"rel.strict":       {AcksOnFailure: worker.No, AcksOnTimeout: worker.No},
	"rel.early_strict": {AcksLate: worker.No, AcksOnFailure: worker.No, AcksOnTimeout: worker.No, RejectOnWorkerLost: worker.Yes},
	"rel.lost":         {RejectOnWorkerLost: worker.Yes},
	"rel.limited":      {RateLimit: "15/m"},
}

func main() {
	opts, err := redis.ParseURL(os.Getenv("RELIABILITY_JOURNAL"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "RELIABILITY_JOURNAL:", err)
		os.Exit(1)
	}
	notes := journal{redis.NewClient(opts)}
	command.Main("reliability", func(w *worker.Worker) {
		for name, o := range options {
			worker.HandleTask(w, worker.Task[args, string]{Name: name, Options: o, Run: notes.run})
		}
	})
}

// args are those of the tasks.
type args struct {
	Mark    string  `arg:"mark"`
	Seconds float64 `arg:"seconds,omitempty"`
	First   string  `arg:"first,omitempty"`
}

// journal notes the runs of tasks where app.py does.
type journal struct{ client *redis.Client }

func (j journal) note(ctx context.Context, call *worker.TaskCall, event, mark string) error {
	text, err := json.Marshal(map[string]any{
		"task": call.Task.Name, "id": call.Task.ID, "by": "go", "event": event, "mark": mark, "redelivered": call.Redelivered,
		"retries": call.Task.Retries, "at": float64(time.Now().UnixMicro()) / 1e6,
	})
	if err != nil {
		return err
	}
	return j.client.RPush(ctx, "runs", text).Err()
}

// run sleeps and returns; the first run of a task does what args.First says instead of returning.
func (j journal) run(ctx context.Context, call *worker.TaskCall, args args) (string, error) {
	if err := j.note(ctx, call, "start", args.Mark); err != nil {
		return "", err
	}
	if err := sleep(ctx, time.Duration(args.Seconds*float64(time.Second))); err != nil {
		return "", err
	}
	if args.First != "" && call.Task.Retries == 0 && !call.Redelivered {
		return "", end(ctx, args.First)
	}
	if err := j.note(ctx, call, "end", args.Mark); err != nil {
		return "", err
	}
	return args.Mark + " done", nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// onPurpose is what app.py raises.
var onPurpose = &worker.Exception{Type: "ValueError", Args: []any{"on purpose"}}

func end(ctx context.Context, how string) error {
	switch how {
	case "raise":
		return onPurpose
	case "reject":
		return worker.Reject(errors.New("on purpose"))
	case "requeue":
		return worker.Requeue(errors.New("on purpose"))
	case "ignore":
		return worker.ErrIgnore
	case "retry":
		return &worker.RetryError{Err: onPurpose, After: 100 * time.Millisecond}
	case "hang":
		return sleep(ctx, time.Hour)
	case "die":
		runtime.Goexit()
	}
	return fmt.Errorf("no such end: %s", how)
}
