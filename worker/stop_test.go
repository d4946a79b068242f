package worker

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestRedisAwayWhileSettling(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{}, addTask)
	r.broker.fail = 2
	task := mustTask(t, "demo.add", []any{1, 2}, nil)
	r.settled(task)
	if r.broker.result(task.ID) == nil {
		t.Error("no result after Redis came back")
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	startedC := make(chan struct{}, 4)
	wait := func(w *Worker) {
		HandleTask(w, Task[struct{}, int]{Name: "wait", Run: func(ctx context.Context, _ *TaskCall, _ struct{}) (int, error) {
			startedC <- struct{}{}
			<-ctx.Done()
			return 0, ctx.Err()
		}})
	}
	r := startRig(t, Config{Concurrency: 1, SoftStopTimeout: 20 * time.Millisecond}, wait)
	running, waiting := r.send(mustTask(t, "wait", nil, nil)), r.send(mustTask(t, "wait", nil, nil))
	<-startedC
	eventually(t, "the second waits for a slot", func() bool { _, _, waiting := r.engine.slots.counts(); return waiting == 1 })
	r.stop()
	if err := <-r.doneC; err != nil {
		t.Errorf("stop: %v", err)
	}
	if running.ended != "" || waiting.ended != "" {
		t.Errorf("settled although abandoned: %q, %q", running.ended, waiting.ended)
	}
	if r.broker.given != 1 {
		t.Errorf("%d given back before they began, want 1", r.broker.given)
	}
	if len(r.broker.stored) != 0 {
		t.Errorf("results of abandoned tasks: %v", r.broker.stored)
	}
}

func TestStopStuck(t *testing.T) {
	t.Parallel()
	startedC, releaseC := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(releaseC) })
	r := startRig(t, Config{Concurrency: 1, SoftStopTimeout: time.Millisecond, HardStopTimeout: time.Millisecond}, func(w *Worker) {
		HandleTask(w, Task[struct{}, int]{Name: "stuck", Run: func(context.Context, *TaskCall, struct{}) (int, error) {
			close(startedC)
			<-releaseC
			return 0, nil
		}})
	})
	d := r.send(mustTask(t, "stuck", nil, nil))
	<-startedC
	r.stop()
	if err := <-r.doneC; !errors.Is(err, ErrStuck) {
		t.Errorf("stop: %v", err)
	}
	if d.ended != "" {
		t.Errorf("ended with %q", d.ended)
	}
}

func TestAckEarly(t *testing.T) {
	t.Parallel()
	var d *fakeDelivery
	sentC := make(chan struct{})
	r := startRig(t, Config{AckEarly: true}, func(w *Worker) {
		HandleTask(w, Task[struct{}, string]{Name: "early", Run: func(context.Context, *TaskCall, struct{}) (string, error) {
			<-sentC
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.ended, nil
		}})
	})
	task := mustTask(t, "early", nil, nil)
	d = r.send(task)
	close(sentC)
	eventually(t, "a result", func() bool { return r.broker.result(task.ID) != nil })
	if got := r.broker.result(task.ID).Result.String(); got != `"ack"` {
		t.Errorf("while the handler ran the delivery was %s", got)
	}
}
