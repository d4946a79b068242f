package worker

import (
	"context"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/redistest"
)

// TestOtherWorkerGetsItsTasks: a worker that takes from Python's queue what only Python knows does not forestall an idle Python
// worker at each return.
func TestOtherWorkerGetsItsTasks(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	const total, hops = 60, 4
	startWorker(t, Config{Settings: settings, MaxHops: hops}, addTask).awaitReady()
	redis, ctx := server.Client(t), within10s(t)
	client := clientFor(t, settings)
	for range total {
		mustSend(t, client, TaskMessage{Name: "python.task"})
	}
	eventually(t, "the worker has them", func() bool { return redis.LLen(ctx, "go").Val() == 0 })
	got := 0
	for ; got < total; got++ { // a Python worker, away for a moment after each
		if err := redis.BRPop(ctx, 5*time.Second, "go").Err(); err != nil {
			break
		}
		redis.Ping(ctx)
	}
	if dead := redis.LLen(context.Background(), "dfws:dead:go").Val(); got != total || dead != 0 {
		t.Errorf("%d of %d tasks, %d dead letters", got, total, dead)
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
