package worker

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/integration/redistest"
)

// BenchmarkNoopTasks runs b.N tasks that do nothing, from a full queue to the last stored result and ack. Compare runs of
// the same -benchtime only: the queue is filled before the clock starts.
func BenchmarkNoopTasks(b *testing.B) {
	for _, concurrency := range []int{2, 16, 128} {
		for _, stored := range []bool{true, false} {
			b.Run(fmt.Sprintf("slots=%d/results=%v", concurrency, stored), func(b *testing.B) {
				benchmarkNoop(b, concurrency, stored, No)
			})
		}
	}
}

// BenchmarkNoopEvents is BenchmarkNoopTasks with the events of tasks, to be compared with slots=16/results=true.
func BenchmarkNoopEvents(b *testing.B) { benchmarkNoop(b, 16, true, Yes) }

func benchmarkNoop(b *testing.B, concurrency int, stored bool, events Choice) {
	server := redistest.Start(b)
	settings := siteFor(b, server, nil)
	services, err := dispatch.Connect(b.Context(), dispatch.ServicesConfig{Settings: settings})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = services.Close() })
	fill(b, services.Broker, !stored)
	var done atomic.Int64
	doneC := make(chan struct{})
	cfg := Config{Settings: settings, Concurrency: concurrency, TaskEvents: events, Observer: Observer{Finished: func(_ TaskInfo, o Outcome, _ time.Duration) {
		if o != Succeeded {
			b.Errorf("a task %s", o)
		}
		if done.Add(1) == int64(b.N) {
			close(doneC)
		}
	}}}
	b.ResetTimer()
	w := startWorker(b, cfg, func(w *Worker) {
		HandleTask(w, Task[pair, int]{Name: "noop", Run: func(context.Context, *TaskCall, pair) (int, error) { return 0, nil }})
	})
	<-doneC
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
	if err := w.halt(); err != nil {
		b.Error(err)
	}
	redis := server.Client(b)
	if n, held := redis.LLen(b.Context(), "go").Val(), redis.HLen(b.Context(), "unacked").Val(); n != 0 || held != 0 {
		b.Errorf("%d tasks left in the queue and %d unacked", n, held)
	}
}

// fill puts b.N tasks into the queue go.
func fill(b *testing.B, broker *redisbroker.Broker, ignore bool) {
	b.Helper()
	const batch = 500
	for sent := 0; sent < b.N; sent += batch {
		messages := make([]redisbroker.Message, min(batch, b.N-sent))
		for i := range messages {
			m := TaskMessage{Name: "noop", Args: []any{sent + i, 2}, Queue: "go", IgnoreResult: ignore}
			t, err := m.build("go", time.Now())
			if err != nil {
				b.Fatal(err)
			}
			envelope, err := t.Append(nil)
			if err != nil {
				b.Fatal(err)
			}
			messages[i] = redisbroker.Message{Queue: "go", Envelope: envelope}
		}
		if err := broker.Publish(b.Context(), messages...); err != nil {
			b.Fatal(err)
		}
	}
}
