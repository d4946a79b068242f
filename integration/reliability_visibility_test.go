//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/worker"
)

const (
	// shortVisibility is far below what tasks of TestVisibility take and wait.
	shortVisibility = 5 * time.Second
	longTask        = 30 * time.Second
	longETA         = 60 * time.Second
	// orphanQueue is where Python's restorer puts orphans. Nobody consumes it.
	orphanQueue = "orphans"
)

// TestVisibility: what a Go worker holds for many visibility timeouts, because it runs, waits for its ETA, for its rate or for a slot,
// runs there once and nowhere else, although an unmodified Celery worker consumes the same queue and looks for overdue messages every
// second: it restores those that are nobody's.
func TestVisibility(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	const queue, slots, multiplier, limited, waiting, short = "shared", 3, 8, 4, 3, 40
	options := func(restoreInterval int) map[string]any {
		return map[string]any{"broker_transport_options": map[string]any{
			"visibility_timeout": shortVisibility.Seconds(), "unacked_restore_interval": restoreInterval, "unacked_restore_throttle": 1,
		}}
	}
	conf := options(1)
	conf["worker_prefetch_multiplier"] = multiplier
	s := newTwinSite(t, ctx, conf)
	// The Go worker looks for overdue messages at its start only: whatever is restored later, Python restores.
	s.start(twin{language: golang, name: golang, queue: queue, conf: options(3600), args: []string{"-c", fmt.Sprint(slots)}})

	ids := map[string]string{}
	send := func(m worker.TaskMessage, kind string, n int, args ...any) {
		m.Queue = queue
		for i := range n {
			mark := fmt.Sprint(kind, " ", i)
			ids[s.send(m, append([]any{mark}, args...)...)] = mark
		}
	}
	began := time.Now()
	send(worker.TaskMessage{Name: "rel.late", Countdown: longETA}, "waits", waiting)
	send(worker.TaskMessage{Name: "rel.late"}, "runs", slots, longTask.Seconds())
	s.awaitRuns(soon(t, ctx), "start", golang, slots)
	send(worker.TaskMessage{Name: "rel.limited"}, "limited", limited)
	send(worker.TaskMessage{Name: "rel.early"}, "reserved", slots*(multiplier-1)-limited)
	held := waiting + slots*multiplier
	must(t, harness.WaitFor(soon(t, ctx), "a full worker", func(ctx context.Context) error {
		if n, err := s.held(ctx); err != nil || int(n) != held {
			return fmt.Errorf("%d held, want %d (%v)", n, held, err)
		}
		return nil
	}))

	s.start(twin{language: python, name: python, queue: queue, args: []string{"-c", "1"}})
	passed := map[string]string{} // what a full Go worker leaves to Python
	for i := range short {
		mark := fmt.Sprint("short ", i)
		passed[s.send(worker.TaskMessage{Name: "rel.early", Queue: queue}, mark)] = mark
	}
	s.awaitRuns(soon(t, ctx), "end", python, short)
	orphans := 0
	for time.Since(began) < longETA {
		s.orphan(ctx, orphans)
		orphans++
		s.awaitQueue(soon(t, ctx), orphanQueue, int64(orphans))
	}
	t.Logf("Python restored %d orphans", orphans)
	must(t, harness.WaitFor(soon(t, ctx), "the end of all", func(ctx context.Context) error {
		if n, err := s.held(ctx); err != nil || n > 0 {
			return fmt.Errorf("%d held (%v)", n, err)
		}
		return nil
	}))
	s.ranOnce(ctx, ids, golang)
	s.ranOnce(ctx, passed, python)
}

// orphan leaves an unacked message behind, as a worker that has died long ago does.
func (s *twinSite) orphan(ctx context.Context, n int) {
	s.t.Helper()
	task := must1(celeryproto.NewTask("rel.early", []any{fmt.Sprint("orphan ", n)}, nil))(s.t)
	task.SetQueue(orphanQueue)
	envelope := must1(must1(task.Envelope())(s.t).Append(nil))(s.t)
	entry := must1(json.Marshal([]any{json.RawMessage(envelope), "", orphanQueue}))(s.t)
	_, err := s.broker.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, "unacked", task.ID, entry)
		p.ZAdd(ctx, "unacked_index", redis.Z{Score: float64(time.Now().Add(-2 * shortVisibility).Unix()), Member: task.ID})
		return nil
	})
	must(s.t, err)
}

// ranOnce fails unless each task ran once, in one language, was never delivered again, and has its result.
func (s *twinSite) ranOnce(ctx context.Context, names map[string]string, language string) {
	s.t.Helper()
	runs := must1(s.runs(ctx))(s.t)
	ids := make([]string, 0, len(names))
	for id := range names {
		ids = append(ids, id)
	}
	fates := must1(s.fates(ctx, ids))(s.t)
	for _, id := range ids {
		if fates[id] != succeeds {
			s.t.Errorf("%s: %+v, want %+v", names[id], fates[id], succeeds)
		}
		if i := slices.IndexFunc(runs, func(r twinRun) bool { return r.ID == id && r.By != language }); i >= 0 {
			s.t.Errorf("%s ran in %s", names[id], runs[i].By)
		}
	}
}
