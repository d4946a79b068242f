package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/worker"
)

// witness shows the test process each task before its handler is called, as Celery's signal task_received does where the worker runs in
// the test process: tests look at the request.
type witness struct {
	client *redis.Client
	key    string // list to which messages go, and prefix of the keys on which their receipt is answered
}

// witnessTimeout is how long the test process may take for the receivers of one signal.
const witnessTimeout = 5 * time.Second

// show waits until the receivers of the signal have been called, so that they are before the task's result is there.
func (w *witness) show(ctx context.Context, call *worker.TaskCall) {
	if w.key == "" {
		return
	}
	if err := w.send(ctx, call.Task); err != nil && ctx.Err() == nil {
		call.Logger().ErrorContext(ctx, "the tests did not see the task", "err", err)
	}
}

func (w *witness) send(ctx context.Context, task *celeryproto.Task) error {
	message, err := task.Append(nil)
	if err != nil {
		return err
	}
	if err := w.client.RPush(ctx, w.key, message).Err(); err != nil {
		return err
	}
	err = w.client.BLPop(ctx, witnessTimeout, w.key+":"+task.Properties.DeliveryTag).Err()
	if errors.Is(err, redis.Nil) {
		return fmt.Errorf("no answer within %s", witnessTimeout)
	}
	return err
}

var callType = reflect.TypeFor[*worker.TaskCall]()

// witnessed is a handler for worker.Func that shows each call first.
func (w *witness) witnessed(handler any) any {
	run := reflect.ValueOf(handler)
	t := run.Type()
	takesCall := t.NumIn() > 1 && t.In(1) == callType
	in := []reflect.Type{t.In(0), callType}
	for i := range t.NumIn() {
		if i > 1 || i == 1 && !takesCall {
			in = append(in, t.In(i))
		}
	}
	out := make([]reflect.Type, t.NumOut())
	for i := range out {
		out[i] = t.Out(i)
	}
	return reflect.MakeFunc(reflect.FuncOf(in, out, t.IsVariadic()), func(args []reflect.Value) []reflect.Value {
		w.show(args[0].Interface().(context.Context), args[1].Interface().(*worker.TaskCall))
		if !takesCall {
			args = append(args[:1:1], args[2:]...)
		}
		if t.IsVariadic() {
			return run.CallSlice(args)
		}
		return run.Call(args)
	}).Interface()
}
