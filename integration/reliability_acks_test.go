//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/worker"
)

// Fates of tasks.
var (
	succeeds   = fate{Runs: "S0 E0", Status: "SUCCESS"}
	fails      = fate{Runs: "S0", Status: "FAILURE", Raised: "builtins.ValueError[on purpose]"}
	isRejected = fate{Runs: "S0", Status: "FAILURE", Raised: "celery.exceptions.Reject[on purpose false]"}
	runsTwice  = fate{Runs: "S0 Sr0 Er0", Status: "SUCCESS"}
	isRetried  = fate{Runs: "S0 S1 E1", Status: "SUCCESS"}
	overTime   = fate{Runs: "S0", Status: "FAILURE", Raised: "billiard.exceptions.TimeLimitExceeded[1]"}
	overSoft   = fate{Runs: "S0", Status: "FAILURE", Raised: "billiard.exceptions.SoftTimeLimitExceeded[]"}
	isLost     = fate{Runs: "S0", Status: "FAILURE", Raised: "billiard.exceptions.WorkerLostError[]"}
	leaves     = fate{Runs: "S0"} // without a result
	hasExpired = fate{Status: "REVOKED", Raised: "celery.exceptions.TaskRevokedError[expired]"}
)

// outcomes are what becomes of each task of integration/reliability by what its first run does, in both languages.
var outcomes = map[string]map[string]fate{
	// Acked before it runs: it is never run again, whatever else its options say.
	"rel.early": {
		"": succeeds, "raise": fails, "reject": isRejected, "requeue": leaves, "ignore": leaves, "retry": isRetried,
		"hang": overTime, "hang softly": overSoft, "die": isLost,
	},
	"rel.early_strict": {
		"": succeeds, "raise": fails, "reject": isRejected, "requeue": leaves, "ignore": leaves, "retry": isRetried,
		"hang": overTime, "hang softly": overSoft, "die": isLost,
	},
	// Acked afterwards.
	"rel.late": {
		"": succeeds, "raise": fails, "reject": isRejected, "requeue": runsTwice, "ignore": leaves, "retry": isRetried,
		"hang": overTime, "hang softly": overSoft, "die": isLost,
	},
	// acks_on_failure and acks_on_timeout are false: a task over its hard limit goes back, one that fails is rejected for good.
	"rel.strict": {
		"": succeeds, "raise": fails, "reject": isRejected, "requeue": runsTwice, "ignore": leaves, "retry": isRetried,
		"hang": runsTwice, "hang softly": overSoft, "die": isLost,
	},
	// reject_on_worker_lost.
	"rel.lost": {
		"": succeeds, "raise": fails, "reject": isRejected, "requeue": runsTwice, "ignore": leaves, "retry": isRetried,
		"hang": overTime, "hang softly": overSoft, "die": runsTwice,
	},
}

// TestOutcomes: each way in which a task can end, with each way of acknowledging, ends the same in a Go worker and in Celery's: the
// same runs, the same result, and no message left. The application's time zone and the system's are neither each other nor UTC.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	ctx := deadline(t)
	s := newTwinSite(t, ctx, map[string]any{"timezone": "America/New_York"})
	for _, language := range []string{python, golang} {
		s.start(twin{language: language, name: language, queue: language, args: []string{"-c", "4"}, env: []string{"TZ=Asia/Tokyo"}})
	}
	want, names, due := map[string]fate{}, map[string]string{}, map[string]time.Time{}
	for _, language := range []string{python, golang} {
		for task, ends := range outcomes {
			for first, wanted := range ends {
				m := worker.TaskMessage{Name: task, Queue: language}
				how, soft := strings.CutSuffix(first, " softly")
				switch {
				case soft:
					m.SoftTimeLimit = time.Second
				case how == "hang":
					m.TimeLimit = time.Second
				}
				name := fmt.Sprintf("%s %s %s", language, task, first)
				id := s.send(m, name, 0, how)
				want[id], names[id] = wanted, name
			}
		}
		for name, m := range timed {
			name = language + " " + name
			id, eta := s.sendTimed(language, name, m)
			want[id], names[id], due[id] = m.want, name, eta
		}
	}
	s.awaitFates(want, names)
	for _, r := range must1(s.runs(ctx))(t) {
		if eta := due[r.ID]; r.At < float64(eta.UnixMilli())/1e3 {
			t.Errorf("%s began %.3f s before its time", names[r.ID], float64(eta.UnixMilli())/1e3-r.At)
		}
	}
}

// timedTask has an ETA or an expiry.
type timedTask struct {
	eta, expires time.Duration // from now, 0 for none
	layout       string        // how they are written
	want         fate
}

// naive is a time without offset, as enable_utc = False makes Celery write it. Celery's workers take it for UTC all the same (celery
// 5.7, worker/request.py).
const naive = "2006-01-02T15:04:05.000000"

var timed = map[string]timedTask{
	"has expired":               {expires: -time.Minute, layout: time.RFC3339Nano, want: hasExpired},
	"was due long ago":          {eta: -50 * 365 * 24 * time.Hour, layout: time.RFC3339Nano, want: succeeds},
	"expires before its time":   {eta: 2 * time.Second, expires: time.Second, layout: time.RFC3339Nano, want: hasExpired},
	"expires after its time":    {eta: time.Second, expires: time.Minute, layout: time.RFC3339Nano, want: succeeds},
	"is due later, naive":       {eta: time.Second, layout: naive, want: succeeds},
	"has expired, naive":        {expires: -time.Minute, layout: naive, want: hasExpired},
	"expires later, naive":      {expires: time.Minute, layout: naive, want: succeeds},
	"both, naive":               {eta: 2 * time.Second, expires: time.Second, layout: naive, want: hasExpired},
	"has expired before it was": {eta: time.Minute, expires: -time.Minute, layout: time.RFC3339Nano, want: hasExpired},
}

// sendTimed sends a task whose times are written as a foreign client may.
func (s *twinSite) sendTimed(queue, name string, m timedTask) (id string, eta time.Time) {
	s.t.Helper()
	task := must1(celeryproto.NewTask("rel.late", []any{name}, nil))(s.t)
	task.SetQueue(queue)
	envelope := must1(task.Envelope())(s.t)
	now := time.Now().UTC()
	if m.eta != 0 {
		eta = now.Add(m.eta)
		envelope.Headers.Set("eta", celeryproto.AppendString(nil, eta.Format(m.layout)))
	}
	if m.expires != 0 {
		envelope.Headers.Set("expires", celeryproto.AppendString(nil, now.Add(m.expires).Format(m.layout)))
	}
	must(s.t, s.broker.LPush(s.ctx, queue, must1(envelope.Append(nil))(s.t)).Err())
	return task.ID, eta
}

// awaitFates waits until tasks have ended as they should, and nothing is left of them.
func (s *twinSite) awaitFates(want map[string]fate, names map[string]string) {
	s.t.Helper()
	ids := make([]string, 0, len(want))
	for id := range want {
		ids = append(ids, id)
	}
	named := func(all map[string]fate) map[string]fate {
		byName := map[string]fate{}
		for _, id := range ids {
			byName[names[id]] = all[id]
		}
		return byName
	}
	var got map[string]fate
	err := harness.WaitFor(soon(s.t, s.ctx), "all fates", func(ctx context.Context) error {
		var errs []error
		for _, queue := range []string{python, golang} {
			if n, err := s.broker.LLen(ctx, queue).Result(); err != nil || n > 0 {
				errs = append(errs, fmt.Errorf("%d messages in %s (%v)", n, queue, err))
			}
		}
		if n, err := s.held(ctx); err != nil || n > 0 {
			errs = append(errs, fmt.Errorf("%d held (%v)", n, err))
		}
		all, err := s.fates(ctx, ids)
		got = all
		if different := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return all[id] == want[id] }); len(different) > 0 {
			errs = append(errs, fmt.Errorf("%d differ", len(different)))
		}
		return errors.Join(append(errs, err)...)
	})
	if err != nil {
		s.t.Errorf("%v\nwanted (-) and got (+):\n%s", err, cmp.Diff(named(want), named(got)))
	}
}
