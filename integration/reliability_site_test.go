//go:build integration

package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/integration/redistest"
	"github.com/dfws/dfws/worker"
)

// Databases of a twinSite.
const (
	twinBroker = iota
	twinResults
	twinJournal
	twinLayer
)

// The languages of its workers, as the journal names them.
const (
	python = "python"
	golang = "go"
)

// twinSite is a Redis on which Celery workers and Go workers with the same tasks run: integration/reliability has them. No Django,
// which would take most of the time.
type twinSite struct {
	t      *testing.T
	ctx    context.Context
	lab    *harness.Lab
	server *redistest.Server
	conf   map[string]any // Celery's settings
	client *worker.Client

	broker, results, journal *redis.Client
}

func newTwinSite(t *testing.T, ctx context.Context, conf map[string]any) *twinSite {
	t.Helper()
	s := &twinSite{t: t, ctx: ctx, lab: lab(t), server: redistest.Start(t)}
	s.conf = map[string]any{
		"broker_url": s.server.URLFor(twinBroker), "result_backend": s.server.URLFor(twinResults), "broker_connection_retry_on_startup": true,
	}
	maps.Copy(s.conf, conf)
	for db, client := range map[int]**redis.Client{twinBroker: &s.broker, twinResults: &s.results, twinJournal: &s.journal} {
		*client = redis.NewClient(&redis.Options{Addr: s.server.Addr, DB: db, Protocol: 2})
		t.Cleanup(func() { must(t, (*client).Close()) })
	}
	s.client = newClient(t, s.settingsFile(nil))
	return s
}

// settingsFile is what `manage.py dfws settings` would write; more is added to Celery's settings.
func (s *twinSite) settingsFile(more map[string]any) string {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "settings.json")
	text := must1(json.Marshal(map[string]any{
		"schema": 1, "celery": s.confWith(more),
		"channel_layer": map[string]any{"hosts": []any{map[string]any{"url": s.server.URLFor(twinLayer)}}},
	}))(s.t)
	must(s.t, os.WriteFile(file, text, 0o600))
	return file
}

func (s *twinSite) confWith(more map[string]any) map[string]any {
	conf := maps.Clone(s.conf)
	maps.Copy(conf, more)
	return conf
}

// twin is how a worker of a twinSite is started.
type twin struct {
	language string
	name     string // of the process and the node, unique in the test
	queue    string
	conf     map[string]any // added to the site's
	pool     string         // of the Celery worker; prefork when empty
	args     []string       // of both command lines
	env      []string
}

// start starts a worker and returns when it consumes.
func (s *twinSite) start(w twin) *harness.Process {
	s.t.Helper()
	c := harness.Command{
		Name: strings.NewReplacer("/", "-", " ", "_").Replace(s.t.Name()) + "-" + w.name, Dir: filepath.Join(s.lab.Root(), "integration", "reliability"),
		Env:         append([]string{"RELIABILITY_JOURNAL=" + s.server.URLFor(twinJournal)}, w.env...),
		StopTimeout: 3 * time.Second, MayBeKilled: true, // its tasks take as long as a test needs
	}
	ready := " ready."
	args := append([]string{"-Q", w.queue, "-n", w.name + "@%h", "--loglevel", "INFO"}, w.args...)
	if w.language == python {
		conf := must1(json.Marshal(s.confWith(w.conf)))(s.t)
		if w.pool == "" {
			w.pool = "prefork"
		}
		c.Path, c.Args = s.lab.Python(), append([]string{"-m", "celery", "-A", "app", "worker", "--pool", w.pool}, args...)
		c.Env = append(c.Env, "RELIABILITY_CONF="+string(conf), "C_FORCE_ROOT=1", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1")
	} else {
		ready = "msg=consuming"
		c.Path = must1(s.lab.Binary(s.ctx, "integration/reliability"))(s.t)
		c.Args = append([]string{"--settings", s.settingsFile(w.conf)}, args...)
	}
	c.Ready = func(_ context.Context, p *harness.Process) error {
		if !strings.Contains(p.LogFrom(0), ready) {
			return errors.New("no line with " + ready)
		}
		return nil
	}
	p := must1(s.lab.Start(s.ctx, c))(s.t)
	s.t.Cleanup(func() { must(s.t, p.Stop()) })
	return p
}

// send sends a task: args are its mark, and optionally the seconds that it takes and what its first run does.
func (s *twinSite) send(m worker.TaskMessage, args ...any) (id string) {
	s.t.Helper()
	m.Args = args
	return must1(s.client.Send(s.ctx, m))(s.t).ID
}

// twinRun is one entry of the journal.
type twinRun struct {
	ID, Task, By, Event, Mark string
	Redelivered               bool
	Retries                   int
	At                        float64 // seconds since 1970
}

// runs is the journal.
func (s *twinSite) runs(ctx context.Context) ([]twinRun, error) {
	lines, err := s.journal.LRange(ctx, "runs", 0, -1).Result()
	if err != nil {
		return nil, err
	}
	runs := make([]twinRun, len(lines))
	for i, line := range lines {
		if err := json.Unmarshal([]byte(line), &runs[i]); err != nil {
			return nil, err
		}
	}
	return runs, nil
}

// awaitRuns waits for so many entries with an event, "start" or "end".
func (s *twinSite) awaitRuns(ctx context.Context, event, by string, n int) {
	s.t.Helper()
	must(s.t, harness.WaitFor(ctx, fmt.Sprintf("%d × %s by %s", n, event, by), func(ctx context.Context) error {
		runs, err := s.runs(ctx)
		got := 0
		for _, r := range runs {
			if r.Event == event && r.By == by {
				got++
			}
		}
		if err == nil && got < n {
			err = fmt.Errorf("%d so far", got)
		}
		return err
	}))
}

// awaitQueue waits until a queue has so many messages.
func (s *twinSite) awaitQueue(ctx context.Context, queue string, n int64) {
	s.t.Helper()
	must(s.t, harness.WaitFor(ctx, fmt.Sprintf("%d messages in %s", n, queue), func(ctx context.Context) error {
		got, err := s.broker.LLen(ctx, queue).Result()
		if err == nil && got != n {
			err = fmt.Errorf("%d so far", got)
		}
		return err
	}))
}

// fate is what became of a task, in a form that both languages have in common.
type fate struct {
	Runs   string // "S0 Sr0 Er0": started, delivered again and started, ended; the numbers are retries
	Status string // of the result, "" for none
	Raised string // the exception in it
}

// fates of tasks by their IDs.
func (s *twinSite) fates(ctx context.Context, ids []string) (map[string]fate, error) {
	all := make(map[string]fate, len(ids))
	runs, err := s.runs(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		mark := ""
		if r.Redelivered {
			mark = "r"
		}
		f := all[r.ID]
		f.Runs = strings.TrimSpace(f.Runs + fmt.Sprintf(" %s%s%d", strings.ToUpper(r.Event[:1]), mark, r.Retries))
		all[r.ID] = f
	}
	for _, id := range ids {
		f := all[id]
		text, err := s.results.Get(ctx, "celery-task-meta-"+id).Bytes()
		if err == nil {
			f.Status, f.Raised, err = readMeta(text)
		}
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, err
		}
		all[id] = f
	}
	return all, nil
}

// readMeta reads a stored result. The text of a WorkerLostError is not compared, since there are no processes in Go, nor that of a Retry,
// which in Celery is lost in the repr of an exception that contains itself.
func readMeta(text []byte) (status, raised string, err error) {
	var meta struct {
		Status string
		Result json.RawMessage
	}
	if err := json.Unmarshal(text, &meta); err != nil {
		return "", "", err
	}
	if meta.Status == "SUCCESS" {
		return meta.Status, "", nil
	}
	var e struct {
		Type    string `json:"exc_type"`
		Module  string `json:"exc_module"`
		Message []any  `json:"exc_message"`
	}
	if err := json.Unmarshal(meta.Result, &e); err != nil {
		return "", "", err
	}
	if e.Type == "WorkerLostError" || e.Type == "Retry" {
		e.Message = nil
	}
	return meta.Status, fmt.Sprintf("%s.%s%v", e.Module, e.Type, e.Message), nil
}

// held is the number of messages that are delivered and not acknowledged.
func (s *twinSite) held(ctx context.Context) (int64, error) {
	return s.broker.HLen(ctx, "unacked").Result()
}
