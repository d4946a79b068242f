package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/worker"
)

// plainTasks are those that only compute.
func (s suite) plainTasks() {
	// celery.contrib.testing.tasks: what the fixtures wait for at the start.
	worker.HandleFunc(s.w, worker.Func{Name: "celery.ping", Run: func(context.Context) (string, error) { return "pong", nil }})
	s.task("identity", func(_ context.Context, x celeryproto.Raw) (celeryproto.Raw, error) { return x, nil }, "x")
	s.task("add", add, "x", "y", "z")
	s.task("mul", func(_ context.Context, x, y any) (any, error) { return times(x, y) }, "x", "y")
	s.task("add_not_typed", addTwo, "x", "y")
	s.taskWith("add_ignore_result", worker.TaskOptions{IgnoreResult: worker.Yes}, addTwo, "x", "y")
	s.taskWith("add_with_result", worker.TaskOptions{IgnoreResult: worker.No}, addTwo, "x", "y")
	s.task("delayed_sum", delayedSum, "numbers", "pause_time")
	s.task("delayed_sum_with_soft_guard", guardedSum, "numbers", "pause_time")
	s.task("tsum", func(_ context.Context, nums any) (any, error) { return sum(nums) }, "nums")
	s.task("xsum", xsum, "nums")
	s.task("return_exception", func(_ context.Context, e any) ([]any, error) { return []any{e, true}, nil }, "e")
	taskOf(s, "sleeping", worker.TaskOptions{}, sleeping)
	s.task("print_unicode", printUnicode, "log_message", "print_message")
	s.task("write_to_file_and_return_int", writeInt, "file_name", "i")
	s.task("replaced_with_me", func(context.Context) (bool, error) { return true, nil })
	s.task("add_pydantic", addModels, "data")
	s.task("add_pydantic_string_annotations", addModels, "data")
}

func add(_ context.Context, x, y any, z *any) (any, error) {
	total, err := plus(x, y)
	if err != nil || z == nil || !truth(*z) {
		return total, err
	}
	return plus(total, *z)
}

func addTwo(_ context.Context, x, y any) (any, error) { return plus(x, y) }

// pause is time.sleep.
func pause(ctx context.Context, seconds float64) error {
	timer := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func delayedSum(ctx context.Context, numbers any, pauseTime *float64) (any, error) {
	seconds := 1.0
	if pauseTime != nil {
		seconds = *pauseTime
	}
	if err := pause(ctx, seconds); err != nil {
		return nil, err
	}
	return sum(numbers)
}

func guardedSum(ctx context.Context, numbers any, pauseTime *float64) (any, error) {
	total, err := delayedSum(ctx, numbers, pauseTime)
	if limit, ok := errors.AsType[*worker.LimitError](err); ok && limit.Soft {
		return 0, nil
	}
	return total, err
}

func xsum(_ context.Context, nums any) (any, error) {
	list, ok := nums.([]any)
	if !ok {
		return sum(nums)
	}
	flat := make([]any, len(list))
	for i, num := range list {
		flat[i] = num
		if inner, ok := num.([]any); ok {
			var err error
			if flat[i], err = sum(inner); err != nil {
				return nil, err
			}
		}
	}
	return sum(flat)
}

type sleepingArgs struct {
	I     float64        `arg:"i"`
	Other map[string]any `arg:",remain"`
}

func sleeping(ctx context.Context, _ *worker.TaskCall, args sleepingArgs) (any, error) {
	return nil, pause(ctx, args.I)
}

func printUnicode(ctx context.Context, call *worker.TaskCall, logMessage, printMessage *string) error {
	message, text := "håå®ƒ valmuefrø", "hiöäüß"
	if logMessage != nil {
		message = *logMessage
	}
	if printMessage != nil {
		text = *printMessage
	}
	call.Logger().WarnContext(ctx, message)
	_, err := fmt.Println(text)
	return err
}

func writeInt(_ context.Context, fileName string, i int64) (int64, error) {
	file, err := os.OpenFile(fileName, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = fmt.Fprintln(file, i)
	return i, errors.Join(err, file.Close())
}

// addParameters and addResult are the models of tasks.py.
type addParameters struct {
	X int64 `arg:"x"`
	Y int64 `arg:"y"`
}

type addResult struct {
	Result int64 `json:"result"`
}

func addModels(_ context.Context, data addParameters) (addResult, error) {
	return addResult{Result: data.X + data.Y}, nil
}
