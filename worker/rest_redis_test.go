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
// worker at each return. On a busy machine a rest may be over before the Python worker has got its turn, and all is done again; without
// rests it never gets all.
func TestOtherWorkerGetsItsTasks(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	const total, hops = 60, 4
	startWorker(t, Config{Settings: settings, MaxHops: hops}, addTask).awaitReady()
	redis, client := server.Client(t), clientFor(t, settings)
	ctx, cancel := context.WithTimeout(t.Context(), pythonTime)
	defer cancel()
	for {
		for range total {
			mustSend(t, client, TaskMessage{Name: "python.task"})
		}
		eventually(t, "the worker has them", func() bool { return redis.LLen(ctx, "go").Val() == 0 })
		got := 0
		for dead := 0; got+dead < total; { // a Python worker, away for a moment after each
			switch err := redis.BRPop(ctx, time.Second, "go").Err(); {
			case err == nil:
				got++
			case !errors.Is(err, goredis.Nil): // ctx has ended, too
				t.Fatalf("%d of %d tasks, %d dead letters, then: %v", got, total, dead, err)
			}
			dead = int(redis.LLen(ctx, "dfws:dead:go").Val())
		}
		if got == total {
			return
		}
		t.Logf("%d of %d tasks, the others are dead letters", got, total)
		must(t, redis.Del(ctx, "dfws:dead:go").Err())
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
