//go:build integration

package integration

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/worker"
)

// holding is what a worker has taken when it takes no more.
type holding struct {
	Queued  int64 // left in the queue
	Held    int64 // delivered and not acknowledged
	Started int
}

// TestPrefetch: a worker of two slots takes as many messages from its queue as a Celery worker does, and leaves the others to others.
func TestPrefetch(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		conf        map[string]any
		task        string
		waiting     int // tasks with an ETA, sent first
		python, go_ holding
	}{
		"late": {
			conf: map[string]any{"worker_prefetch_multiplier": 3}, task: "rel.late",
			python: holding{14, 6, 2}, go_: holding{14, 6, 2},
		},
		"early": { // those that run are acked: as many again are held
			conf: map[string]any{"worker_prefetch_multiplier": 3}, task: "rel.early",
			python: holding{12, 6, 2}, go_: holding{12, 6, 2},
		},
		"without limit": {
			conf: map[string]any{"worker_prefetch_multiplier": 0}, task: "rel.late",
			python: holding{0, 20, 2}, go_: holding{0, 20, 2},
		},
		"disabled": {
			conf: map[string]any{"worker_disable_prefetch": true}, task: "rel.late",
			python: holding{18, 2, 2}, go_: holding{18, 2, 2},
		},
		"disabled, early": {
			conf: map[string]any{"worker_disable_prefetch": true}, task: "rel.early",
			python: holding{18, 0, 2}, go_: holding{18, 0, 2},
		},
		"ETA": { // they take up no room
			conf: map[string]any{"worker_prefetch_multiplier": 1}, task: "rel.late", waiting: 10,
			python: holding{18, 12, 2}, go_: holding{18, 12, 2},
		},
		// Beyond the limit they do, in Go that of the window only: in Celery 5.7 the limit is one for all that is held.
		"ETA limit": {
			conf: map[string]any{"worker_prefetch_multiplier": 1, "worker_eta_task_limit": 4}, task: "rel.late", waiting: 5,
			python: holding{21, 4, 0}, go_: holding{19, 6, 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := deadline(t)
			for language, want := range map[string]holding{python: tc.python, golang: tc.go_} {
				s := newTwinSite(t, ctx, tc.conf)
				for i := range tc.waiting {
					s.send(worker.TaskMessage{Name: tc.task, Queue: language, Countdown: time.Hour}, fmt.Sprint("waiting ", i))
				}
				for i := range 20 {
					s.send(worker.TaskMessage{Name: tc.task, Queue: language}, fmt.Sprint("runs ", i), 3600)
				}
				p := s.start(twin{language: language, name: language, queue: language, pool: "threads", args: []string{"-c", "2"}})
				s.awaitHolding(language, want)
				p.Kill() // it would wait for its tasks
			}
		})
	}
}

// stable is for how long what a worker holds must not change.
const stable = time.Second

// awaitHolding waits until a worker takes no more, and compares.
func (s *twinSite) awaitHolding(queue string, want holding) {
	s.t.Helper()
	var got holding
	since := time.Now()
	err := harness.WaitFor(soon(s.t, s.ctx), "what it holds", func(ctx context.Context) error {
		queued, err := s.broker.LLen(ctx, queue).Result()
		if err != nil {
			return err
		}
		held, err := s.held(ctx)
		if err != nil {
			return err
		}
		runs, err := s.runs(ctx)
		if err != nil {
			return err
		}
		now := holding{queued, held, len(runs)}
		if now != got || now != want {
			got, since = now, time.Now()
		}
		if time.Since(since) < stable {
			return fmt.Errorf("%+v", now)
		}
		return nil
	})
	if err != nil {
		s.t.Errorf("%s: %v; want %+v", queue, err, want)
	}
}
