//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/worker"
)

// stopped is what a stopped worker leaves behind.
type stopped struct {
	Exit  int
	Fates map[string]fate // of the tasks that ran, by mark
	Queue []string        // marks of what is in the queue, the next to be taken first; " r": marked as delivered before
	Held  int64           // delivered and neither acknowledged nor given back
}

// stopCase is one way to stop a worker of two slots that runs two tasks, has reserved two, and holds one for its ETA.
type stopCase struct {
	conf    map[string]any
	env     []string
	late    float64 // seconds that the task acked late takes, and early that of the other one
	early   float64
	signals []syscall.Signal

	fates     map[string]fate // in both languages
	isCold    bool
	pythonErr bool // its exit status is 1
	rescued   bool // what the Go worker gave back runs in Python afterwards
}

// Marks of the tasks of a stopCase, in the order in which they are sent.
const (
	markETA    = "eta"
	markLate   = "late"
	markEarly  = "early"
	markFirst  = "first"
	markSecond = "second"
)

const endless = 3600.0

// lastETA is the last one that both languages have.
var lastETA = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)

// Fates of the two tasks that run.
var (
	bothEnd    = map[string]fate{markLate: succeeds, markEarly: succeeds}
	bothAreCut = map[string]fate{markLate: leaves, markEarly: {Runs: "S0", Status: "RETRY", Raised: "celery.exceptions.Retry[]"}}
)

var stopCases = map[string]stopCase{
	"terminated twice": {late: 2, early: 2, signals: []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM}, fates: bothEnd},
	"interrupted":      {late: 2, early: 2, signals: []syscall.Signal{syscall.SIGINT}, fates: bothEnd, pythonErr: true},
	"interrupted twice": {
		late: endless, early: endless, signals: []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, fates: bothAreCut, isCold: true,
	},
	"terminated, quit": {
		late: endless, early: endless, signals: []syscall.Signal{syscall.SIGTERM, syscall.SIGQUIT}, fates: bothAreCut, isCold: true, rescued: true,
	},
	"remapped": {
		env: []string{"REMAP_SIGTERM=SIGQUIT"}, late: endless, early: endless, signals: []syscall.Signal{syscall.SIGTERM}, fates: bothAreCut, isCold: true,
	},
	"softly": {
		conf: map[string]any{"worker_soft_shutdown_timeout": 4}, late: endless, early: 2, signals: []syscall.Signal{syscall.SIGQUIT},
		fates: map[string]fate{markLate: leaves, markEarly: succeeds}, isCold: true,
	},
}

// TestStops: what becomes of the tasks of a worker that is stopped is the same in both languages. They differ in the order in which they
// give back, the oldest first in Go and the newest first in Python, and in the exit status: Python's is 1 after a SIGINT that was obeyed
// warmly, and 0 after a cold stop.
func TestStops(t *testing.T) {
	t.Parallel()
	for name, tc := range stopCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := deadline(t)
			conf := map[string]any{"worker_prefetch_multiplier": 2}
			maps.Copy(conf, tc.conf)
			s := newTwinSite(t, ctx, conf)
			inPython := stopped{Fates: tc.fates, Queue: []string{"second r", "first r", "eta r"}}
			inGo := stopped{Fates: tc.fates, Queue: []string{"eta r", "first r", "second r"}}
			if tc.isCold { // what ran is put back last, to the head
				inGo.Exit = 1
				inPython.Queue = []string{"second r", "first r", "late r", "eta r"}
				inGo.Queue = []string{"late r", "eta r", "first r", "second r"}
			}
			if tc.pythonErr {
				inPython.Exit = 1
			}
			for language, want := range map[string]stopped{python: inPython, golang: inGo} {
				if diff := cmp.Diff(want, s.stop(language, tc)); diff != "" {
					t.Errorf("%s: wanted (-) and got (+):\n%s", language, diff)
				}
			}
			if tc.rescued {
				s.rescue(markLate)
			}
		})
	}
}

// stop starts a worker, gives it its tasks, stops it, and looks what is left.
func (s *twinSite) stop(language string, tc stopCase) stopped {
	s.t.Helper()
	ctx := s.ctx
	p := s.start(twin{language: language, name: language, queue: language, args: []string{"-c", "2"}, env: tc.env})
	marks := map[string]string{}
	send := func(task, mark string, eta time.Time, seconds float64) {
		marks[s.send(worker.TaskMessage{Name: task, Queue: language, ETA: eta}, mark, seconds)] = mark
	}
	send("rel.late", markETA, lastETA, 0)
	send("rel.late", markLate, time.Time{}, tc.late)
	send("rel.early", markEarly, time.Time{}, tc.early)
	s.awaitRuns(soon(s.t, ctx), "start", language, 2)
	send("rel.late", markFirst, time.Time{}, 0)
	send("rel.early", markSecond, time.Time{}, 0)
	const held = 4 // the one that is acked early is not
	must(s.t, harness.WaitFor(soon(s.t, ctx), "all is taken", func(ctx context.Context) error {
		if n, err := s.held(ctx); err != nil || n != held {
			return fmt.Errorf("%d held (%v)", n, err)
		}
		return nil
	}))
	for _, signal := range tc.signals {
		at := p.LogSize()
		must(s.t, p.Signal(signal))
		err := p.WaitLog(soon(s.t, ctx), at, "hutdown") // "Warm shutdown", "cold shutdown"
		if err != nil && !errors.Is(err, harness.ErrExited) {
			s.t.Fatal(err)
		}
	}
	got := stopped{Fates: map[string]fate{}}
	if exit, ok := errors.AsType[*exec.ExitError](p.Wait(soon(s.t, ctx))); ok {
		got.Exit = exit.ExitCode()
	}
	ids := make([]string, 0, len(marks))
	for id := range marks {
		ids = append(ids, id)
	}
	for id, f := range must1(s.fates(ctx, ids))(s.t) {
		if mark, ours := marks[id]; ours && f != (fate{}) {
			got.Fates[mark] = f
		}
	}
	messages := must1(s.broker.LRange(ctx, language, 0, -1).Result())(s.t)
	slices.Reverse(messages)
	for _, text := range messages {
		var m struct {
			Headers    struct{ ID string }
			Properties struct {
				DeliveryInfo struct{ Redelivered bool } `json:"delivery_info"`
			}
		}
		must(s.t, json.Unmarshal([]byte(text), &m))
		mark := marks[m.Headers.ID]
		if m.Properties.DeliveryInfo.Redelivered {
			mark += " r"
		}
		got.Queue = append(got.Queue, mark)
	}
	got.Held = must1(s.held(ctx))(s.t)
	must(s.t, s.broker.Del(ctx, "unacked", "unacked_index").Err()) // the other worker shares them
	return got
}

// rescue lets a Celery worker have what a Go worker left: it runs a task anew, and knows that it was delivered before.
func (s *twinSite) rescue(mark string) {
	s.t.Helper()
	p := s.start(twin{language: python, name: "rescuer", queue: golang, args: []string{"-c", "2"}})
	must(s.t, harness.WaitFor(soon(s.t, s.ctx), mark+" in Python", func(ctx context.Context) error {
		runs, err := s.runs(ctx)
		if !slices.ContainsFunc(runs, func(r twinRun) bool { return r.By == python && r.Mark == mark && r.Redelivered }) {
			err = errors.Join(err, errors.New("not yet"))
		}
		return err
	}))
	p.Kill() // it would wait for the task
}
