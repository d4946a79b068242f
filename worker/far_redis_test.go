package worker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/integration/bench/latencyproxy"
	"github.com/dfws/dfws/integration/redistest"
)

// TestFarRedis: where each answer of Redis takes 2 ms, a worker does not ask once for each task. All tasks end, with their results and
// acks, in far fewer steps than there are tasks. (How long it takes is for make bench-worker to say.)
func TestFarRedis(t *testing.T) {
	t.Parallel()
	const tasks, stepsAtMost = 3000, 3000 / 5
	server := redistest.Start(t)
	proxy, err := latencyproxy.Listen(server.Addr, time.Millisecond) // each way
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	client := server.Client(t)
	pipe := client.Pipeline()
	for range tasks {
		envelope, err := mustTask(t, "far", nil, nil).Envelope()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := envelope.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		pipe.LPush(t.Context(), "go", raw)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := client.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}

	far := siteFor(t, server, map[string]any{
		"broker_url": fmt.Sprintf("redis://%s/0", proxy.Addr()), "result_backend": fmt.Sprintf("redis://%s/1", proxy.Addr()),
	})
	startWorker(t, Config{Settings: far, Concurrency: 64}, func(w *Worker) {
		HandleTask(w, Task[struct{}, string]{Name: "far", Run: func(context.Context, *TaskCall, struct{}) (string, error) { return "done", nil }})
	}).awaitReady()
	results := redis.NewClient(&redis.Options{Addr: server.Addr, Protocol: 2, DB: 1})
	defer func() { _ = results.Close() }()
	eventually(t, "all tasks have results and are acked", func() bool {
		stored, err := results.DBSize(t.Context()).Result()
		held, err2 := client.HLen(t.Context(), "unacked").Result()
		return err == nil && err2 == nil && stored == tasks && held == 0
	})
	steps := 0
	for _, command := range []string{"eval", "evalsha", "blmove", "blpop", "brpop"} {
		var calls int
		line := client.InfoMap(t.Context(), "commandstats").Item("Commandstats", "cmdstat_"+command)
		if _, err := fmt.Sscanf(line, "calls=%d,", &calls); err == nil {
			steps += calls
		}
	}
	if steps == 0 || steps > stepsAtMost {
		t.Errorf("%d steps for %d tasks, want 1 to %d", steps, tasks, stepsAtMost)
	}
	t.Logf("%d steps for %d tasks", steps, tasks)
}
