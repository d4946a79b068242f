package worker

import (
	"context"
	"errors"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/integration/redistest"
)

// TestOtherWorkerGetsItsTasks: a worker that takes from Python's queue what only Python knows does not forestall an idle Python
// worker at each return.
func TestOtherWorkerGetsItsTasks(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	const total, hopDelay = 60, 100 * time.Millisecond
	startWorker(t, Config{Settings: settings, MaxHopDelay: hopDelay, HopDelay: hopDelay}, addTask).awaitReady()
	redis, client := server.Client(t), clientFor(t, settings)
	ctx, cancel := context.WithTimeout(t.Context(), pythonTime)
	defer cancel()
	for range total {
		mustSend(t, client, TaskMessage{Name: "python.task"})
	}
	eventually(t, "the worker has them", func() bool { return redis.LLen(ctx, "go").Val() == 0 })
	dead := func() int64 { return redis.LLen(ctx, "dfws:dead:go").Val() }
	got := 0
	for got < total && dead() == 0 { // a Python worker, away for a moment after each
		switch err := redis.BRPop(ctx, time.Second, "go").Err(); {
		case err == nil:
			got++
		case !errors.Is(err, goredis.Nil):
			t.Fatalf("%d of %d tasks, then %v", got, total, err)
		}
	}
	if n := dead(); got != total || n != 0 {
		t.Errorf("%d of %d tasks, %d dead letters", got, total, n)
	}
}

func TestHopRest(t *testing.T) {
	t.Parallel()
	if d := hopRest(0); d != 0 {
		t.Errorf("after the first return: %v", d)
	}
	nominal := minRest
	for hop := 1; hop < 20; hop++ {
		if d := hopRest(hop); d > nominal || d <= nominal*3/4-1 {
			t.Errorf("hop %d: %v, nominal %v", hop, d, nominal)
		}
		nominal = min(2*nominal, maxRest)
	}
}
