package worker

import (
	"context"
	"testing"
)

// With worker_disable_prefetch a task that was acked before it runs makes no room for another: worker_prefetch_multiplier = 1 does.
func TestEarlyAckWithoutPrefetch(t *testing.T) {
	t.Parallel()
	for name, disabled := range map[string]bool{"disabled": true, "one": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := testSettings()
			settings.Celery.WorkerDisablePrefetch = disabled
			startedC, releaseC := make(chan struct{}), make(chan struct{})
			r := startRig(t, Config{Settings: settings, PrefetchMultiplier: 1, AckEarly: true}, steered("task", TaskOptions{}, func(context.Context, *TaskCall) (any, error) {
				close(startedC)
				<-releaseC
				return nil, nil
			}))
			task := mustTask(t, "task", nil, nil)
			d := r.send(task)
			r.await(d)
			<-startedC
			want := 0
			if disabled {
				want = -1
			}
			if got := r.broker.prefetch(); got != want {
				t.Errorf("the window has changed by %d while it runs, want %d", got, want)
			}
			close(releaseC)
			eventually(t, "it has ended", func() bool { return r.engine.table.len() == 0 })
			if got := r.broker.prefetch(); got != 0 {
				t.Errorf("the window has changed by %d when it has ended", got)
			}
		})
	}
}
