package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
)

func annotatedSettings(t *testing.T, tables ...string) *compat.Settings {
	t.Helper()
	s := testSettings()
	for _, text := range tables {
		var a compat.Annotations
		if err := json.Unmarshal([]byte(text), &a.Tasks); err != nil {
			t.Fatal(err)
		}
		s.Celery.TaskAnnotations = append(s.Celery.TaskAnnotations, a)
	}
	return s
}

// frozenTask is the handler of a task "shop.sum" on a site.
func frozenTask(t *testing.T, s *compat.Settings, o TaskOptions, log *slog.Logger) (*taskHandler, error) {
	t.Helper()
	w, err := New(Config{Settings: s, App: "test", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	steered("shop.sum", o, func(context.Context, *TaskCall) (any, error) { return nil, nil })(w)
	err = w.handlers.freeze()
	return w.handlers.tasks["shop.sum"], err
}

func TestAnnotations(t *testing.T) {
	t.Parallel()
	s := annotatedSettings(t, `{
		"shop.sum": {"acks_late": false, "acks_on_failure": false, "acks_on_timeout": false, "reject_on_worker_lost": true, "ignore_result": true,
			"track_started": true, "store_errors_even_if_ignored": true, "send_events": false, "time_limit": 7, "soft_time_limit": 2.5,
			"default_retry_delay": 1, "rate_limit": "10/m", "max_retries": null, "queue_name": "python"},
		"*": {"rate_limit": "5/s"}}`)
	var log strings.Builder
	handler, err := frozenTask(t, s, TaskOptions{TimeLimit: time.Hour, RateLimit: "1/s", IgnoreResult: No}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	p := &handler.policy
	if p.acksLate || p.acksOnFailure || p.acksOnTimeout || !p.requeueLost || !p.ignoreResult || !p.trackStarted || !p.storeErrors || p.sendEvents {
		t.Errorf("policy %+v", p.options)
	}
	if hard, soft := time.Duration(p.timeLimit.Load()), time.Duration(p.softTimeLimit.Load()); hard != 7*time.Second || soft != 2500*time.Millisecond {
		t.Errorf("limits %s and %s", hard, soft)
	}
	if o := p.options; o.RetryDelay != time.Second || o.RateLimit != "5/s" || o.MaxRetries != UnlimitedRetries {
		t.Errorf("options %+v", o)
	}
	if !strings.Contains(log.String(), "attribute=queue_name") {
		t.Errorf("an attribute that Go tasks do not have is not named: %s", log.String())
	}
}

func TestAnnotationOfBothAcks(t *testing.T) {
	t.Parallel()
	s := annotatedSettings(t, `{"*": {"acks_on_failure_or_timeout": false}}`)
	handler, err := frozenTask(t, s, TaskOptions{}, slog.New(slog.DiscardHandler))
	if err != nil || handler.policy.acksOnFailure || handler.policy.acksOnTimeout {
		t.Errorf("%+v, %v", handler.policy.options, err)
	}
	s = annotatedSettings(t, `{"*": {"acks_on_failure_or_timeout": false, "acks_on_timeout": true}}`)
	if handler, err = frozenTask(t, s, TaskOptions{}, slog.New(slog.DiscardHandler)); err != nil || handler.policy.acksOnFailure || !handler.policy.acksOnTimeout {
		t.Errorf("with one of them: %+v, %v", handler.policy.options, err)
	}
}

func TestFaultyAnnotations(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{
		"acks_late": `"yes"`, "time_limit": `"7"`, "rate_limit": `"often"`, "max_retries": `-1`, "soft_time_limit": `[]`, "ignore_result": `{}`,
	} {
		_, err := frozenTask(t, annotatedSettings(t, fmt.Sprintf(`{"shop.sum": {%q: %s}}`, name, value)), TaskOptions{}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), `task "shop.sum"`) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s = %s: %v", name, value, err)
		}
	}
}

func TestAnnotationsOfPython(t *testing.T) {
	t.Parallel()
	s := testSettings()
	s.Celery.TaskAnnotations = []compat.Annotations{{Unsupported: "class shop.Annotations"}}
	var log strings.Builder
	if _, err := frozenTask(t, s, TaskOptions{}, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "class shop.Annotations") {
		t.Errorf("not named: %s", log.String())
	}
}

func TestSiteDefaults(t *testing.T) {
	t.Parallel()
	s := testSettings()
	c := &s.Celery
	c.WorkerConcurrency, c.WorkerPrefetchMultiplier, c.WorkerETATaskLimit, c.WorkerSoftShutdownTimeout = 3, 7, new(100), 4
	c.TaskTimeLimit, c.TaskSoftTimeLimit, c.TaskDefaultRateLimit = new(compat.Seconds(9)), new(compat.Seconds(8)), "2/s"
	c.TaskIgnoreResult, c.TaskTrackStarted, c.TaskRejectOnWorkerLost, c.TaskAcksOnFailureOrTimeout = true, true, true, false
	cfg := Config{Settings: s}.withDefaults()
	if cfg.Concurrency != 3 || cfg.prefetch() != 21 || cfg.MaxWaiting != 100 || cfg.SoftShutdownTimeout != 4*time.Second {
		t.Errorf("%+v", cfg)
	}
	if own := (Config{Settings: s, Concurrency: 1, PrefetchMultiplier: 2, MaxWaiting: 3}).withDefaults(); own.prefetch() != 2 || own.MaxWaiting != 3 {
		t.Errorf("what a program says does not come before the site: %+v", own)
	}
	c.WorkerDisablePrefetch = true
	if got := (Config{Settings: s}).withDefaults().prefetch(); got != 3 {
		t.Errorf("prefetch without prefetching: %d", got)
	}
	handler, err := frozenTask(t, s, TaskOptions{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p := &handler.policy
	if !p.ignoreResult || !p.trackStarted || !p.requeueLost || p.acksOnFailure || p.acksOnTimeout || !p.acksLate || handler.rate() != 2 ||
		time.Duration(p.timeLimit.Load()) != 9*time.Second || time.Duration(p.softTimeLimit.Load()) != 8*time.Second {
		t.Errorf("%+v", p.options)
	}
}

func TestDisabledRateLimits(t *testing.T) {
	t.Parallel()
	s := testSettings()
	s.Celery.WorkerDisableRateLimits = true
	r := startRig(t, Config{Settings: s}, steered("slow", TaskOptions{RateLimit: "1/h"}, func(context.Context, *TaskCall) (any, error) { return nil, nil }))
	for range 3 { // with the limit the second came in an hour
		r.settled(mustTask(t, "slow", nil, nil))
	}
	r.engine.setRate(r.w.handlers.tasks["slow"], "1/h", 1./3600)
	for range 3 {
		r.settled(mustTask(t, "slow", nil, nil))
	}
}

// TestPythonErrbacks holds what is asked of Python to the signature of dfws.errback; integration runs it.
func TestPythonErrbacks(t *testing.T) {
	t.Parallel()
	errback := func(task string) string {
		return fmt.Sprintf(`{"task": %q, "args": [], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false}`, task)
	}
	for _, test := range []struct {
		name         string
		python       *dispatch.Errbacks
		called, sent []string // errbacks
	}{
		{"without the Django app dfws", nil, nil, []string{"shop.old", "shop.new", "fail"}},
		{
			"with it", &dispatch.Errbacks{Task: "dfws.errback", Queue: "celery", OldStyle: []string{"shop.old"}},
			[]string{"shop.new"}, []string{"shop.old", "fail"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := startRig(t, Config{}, steered("fail", TaskOptions{}, func(context.Context, *TaskCall) (any, error) { return nil, errors.New("no") }))
			r.engine.settle.flow.python = func() *dispatch.Errbacks { return test.python }
			r.engine.settle.flow.knows = func(task string) bool { return task == "fail" }
			task := mustTask(t, "fail", nil, map[string]any{"n": 1})
			task.Embed.Errbacks = celeryproto.Raw("[" + errback("shop.old") + "," + errback("shop.new") + "," + errback("fail") + "]")
			r.settled(task)
			var called, sent []string
			for _, message := range r.broker.sent(t) {
				if message.Name != "dfws.errback" {
					sent = append(sent, message.Name)
					continue
				}
				if message.Queue() != "celery" || message.IgnoreResult == nil || !*message.IgnoreResult {
					t.Errorf("sent %+v", message)
				}
				var kwargs struct {
					Request struct {
						ID, Task string
						RootID   string `json:"root_id"`
						Kwargs   map[string]any
						Hostname string
					}
					Exception struct {
						Type string `json:"exc_type"`
					}
					Traceback string
					Errbacks  []struct{ Task string }
				}
				if err := json.Unmarshal(message.Kwargs, &kwargs); err != nil {
					t.Fatal(err)
				}
				if q := kwargs.Request; q.ID != task.ID || q.Task != "fail" || q.RootID != task.ID || len(q.Kwargs) != 1 || q.Hostname != "go.test@host" {
					t.Errorf("request %+v", q)
				}
				if kwargs.Exception.Type == "" || kwargs.Traceback == "" {
					t.Errorf("kwargs %s", message.Kwargs)
				}
				for _, e := range kwargs.Errbacks {
					called = append(called, e.Task)
				}
			}
			if fmt.Sprint(called, sent) != fmt.Sprint(test.called, test.sent) {
				t.Errorf("called by Python %v, sent %v; want %v and %v", called, sent, test.called, test.sent)
			}
		})
	}
}
