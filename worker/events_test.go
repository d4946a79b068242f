package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
)

// moving are parts of an event that differ each time.
var moving = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`"utcoffset": 0\.0, `), ""}, // see eventHub
	{regexp.MustCompile(`"(timestamp|runtime)": [0-9.e-]+`), `"$1": X`},
	{regexp.MustCompile(`"(pid|clock)": [0-9]+`), `"$1": X`},
	{regexp.MustCompile(`"traceback": "(?:[^"\\]|\\.)*"`), `"traceback": X`},
	{regexp.MustCompile(`"(eta|expires)": "[^"]*"`), `"$1": X`},
	{regexp.MustCompile(`"loadavg": \[[^\]]*\]`), `"loadavg": X`},
	{regexp.MustCompile(`"sw_ident": "[^"]*", "sw_ver": "[^"]*"`), "software"},
}

func still(text string) string {
	for _, m := range moving {
		text = m.pattern.ReplaceAllString(text, m.by)
	}
	return text
}

// eventTexts are the events in the bodies of some messages, one by one, without what moves.
func eventTexts(t testing.TB, bodies []string) []string {
	t.Helper()
	var texts []string
	for _, body := range bodies {
		raws := []celeryproto.Raw{celeryproto.Raw(body)}
		if raws[0].Kind() == celeryproto.KindArray {
			var err error
			raws, err = raws[0].Array()
			must(t, err)
		}
		for _, raw := range raws {
			texts = append(texts, still(string(raw)))
		}
	}
	return texts
}

// recordedEvents are those of a recording that a worker published.
func recordedEvents(t testing.TB, name, group string) []string {
	t.Helper()
	var bodies []string
	for _, item := range mustBusGolden(t, name).Redis {
		if item.Type == "pubsub" && strings.Contains(item.Channel, "celeryev/"+group) && !strings.HasSuffix(item.Channel, "task.sent") {
			bodies = append(bodies, bodyOf(t, item.Value))
		}
	}
	return eventTexts(t, bodies)
}

const goldenID = "00000000-0000-4000-8000-000000000001"

// TestRecordedEvents runs what the recorded worker ran, and compares the events.
func TestRecordedEvents(t *testing.T) {
	t.Parallel()
	handlers := func(w *Worker) {
		task := func(name string, run func() (any, error)) {
			HandleTask(w, Task[RawArgs, any]{Name: name, Run: func(context.Context, *TaskCall, RawArgs) (any, error) { return run() }})
		}
		addTask(w)
		task("demo.echo", func() (any, error) { return map[string]any{"k": "v"}, nil })
		task("demo.fail_value", func() (any, error) { return nil, &Exception{Type: "ValueError", Args: []any{"boom"}} })
		task("demo.reject_me", func() (any, error) { return nil, Reject(errors.New("not wanted")) })
		task("demo.retry_me", func() (any, error) {
			return nil, Retry(&Exception{Type: "ValueError", Args: []any{"try again"}}, time.Hour)
		})
	}
	soon, past := time.Now().Add(50*time.Millisecond), time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		golden, task string
		args         any
		kwargs       any
		set          func(*celeryproto.Task)
		fix          func([]string) []string // of the recording
	}{
		{golden: "event_task_success", task: "demo.add", args: []any{2, 3}},
		{golden: "event_task_failed", task: "demo.fail_value", args: []any{"boom"}, fix: withoutTraceback},
		{golden: "event_task_rejected", task: "demo.reject_me", fix: withoutTraceback},
		{golden: "event_task_revoked_expired", task: "demo.add", args: []any{1, 2}, set: func(task *celeryproto.Task) { task.Expires = &past }},
		{golden: "event_task_retried", task: "demo.retry_me", args: []any{1}, fix: func(all []string) []string {
			return slices.Delete(all, 2, 3) // of the second try, which is not in this queue
		}},
		{golden: "event_task_eta", task: "demo.echo", args: []any{1}, kwargs: map[string]any{"k": "v"}, set: func(task *celeryproto.Task) {
			later := soon.Add(time.Hour)
			task.ETA, task.Expires = &soon, &later
		}, fix: func(all []string) []string {
			all[2] = strings.Replace(all[2], `"{'args': (1,), 'kwargs': {'k': 'v'}}"`, `"{'k': 'v'}"`, 1)
			return all
		}},
	} {
		t.Run(tc.golden, func(t *testing.T) {
			t.Parallel()
			r := startRig(t, Config{TaskEvents: Yes}, handlers)
			r.node.name = "w1@golden"
			want := recordedEvents(t, tc.golden, "task")
			if tc.fix != nil {
				want = tc.fix(want)
			}
			task := mustTask(t, tc.task, tc.args, tc.kwargs)
			task.ID, task.RootID = goldenID, goldenID
			if tc.set != nil {
				tc.set(task)
			}
			r.settled(task)
			eventually(t, "the events are published", func() bool { return len(eventTexts(t, r.events())) >= len(want) })
			if diff := cmp.Diff(want, eventTexts(t, r.events())); diff != "" {
				t.Errorf("-Celery +Go:\n%s", diff)
			}
		})
	}
}

// withoutTraceback leaves out what a Go error only has when it is no named exception.
func withoutTraceback(all []string) []string {
	for i := range all {
		all[i] = strings.Replace(all[i], `"traceback": X, `, "", 1)
	}
	return all
}

func TestHeartbeats(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{TaskEvents: Yes}, addTask)
	r.node.name = "w1@golden"
	h := &heart{hub: r.hub, interval: 2 * time.Second, status: func() (int, int) { return 0, 0 }}
	for _, typ := range []string{"worker-online", "worker-heartbeat", "worker-heartbeat", "worker-offline"} {
		h.beat(typ)
	}
	r.hub.beatOnRequest()
	want := recordedEvents(t, "event_worker", "worker")
	eventually(t, "they are published", func() bool { return len(r.events()) == 5 })
	got := eventTexts(t, r.events())
	if diff := cmp.Diff(want, got[:4]); diff != "" {
		t.Errorf("-Celery +Go:\n%s", diff)
	}
	requested := `{"hostname": "w1@golden", "pid": X, "clock": X, "freq": 5.0, software, "sw_sys": "` + systemName() + `", "timestamp": X, "type": "worker-heartbeat"}`
	if got[4] != requested {
		t.Errorf("on request: %s", got[4])
	}
	r.broker.mu.Lock()
	defer r.broker.mu.Unlock()
	if m := r.broker.fanned[0]; m.Exchange != "celeryev" || m.RoutingKey != "worker.online" {
		t.Errorf("published to %s with %s", m.Exchange, m.RoutingKey)
	}
}

// TestMoreEvents are those that no recording has.
func TestMoreEvents(t *testing.T) {
	t.Parallel()
	r := startRig(t, Config{TaskEvents: Yes, MaxHops: 1, HopDelay: time.Millisecond}, func(w *Worker) {
		HandleTask(w, Task[struct{}, any]{Name: "quiet", Options: TaskOptions{SendEvents: No}, Run: func(context.Context, *TaskCall, struct{}) (any, error) { return nil, nil }})
		HandleTask(w, Task[struct{}, any]{Name: "requeued", Run: func(context.Context, *TaskCall, struct{}) (any, error) { return nil, Requeue(nil) }})
		HandleTask(w, Task[struct{}, any]{Name: "retried", Run: func(context.Context, *TaskCall, struct{}) (any, error) { return nil, Retry(nil, time.Second) }})
		HandleTask(w, Task[struct{}, any]{Name: "shadowed", Options: TaskOptions{ResultReprMaxSize: 5}, Run: func(context.Context, *TaskCall, struct{}) (any, error) { return "a long text", nil }})
	})
	r.settled(mustTask(t, "quiet", nil, nil))
	r.settled(mustTask(t, "requeued", nil, nil))
	r.settled(mustTask(t, "retried", nil, nil))
	shadowed := mustTask(t, "shadowed", nil, nil)
	shadowed.Shadow = "nice name"
	r.settled(shadowed)
	eventually(t, "the unknown task is dead", func() bool { // it comes back once
		unknown := mustTask(t, "unknown", nil, nil)
		envelope, err := unknown.Envelope()
		must(t, err)
		envelope.Headers.Set(hopsHeader, celeryproto.Raw("1"))
		d := r.delivery()
		r.broker.messagesC <- received{delivery: d, queue: "go", envelope: envelope}
		r.await(d)
		return d.ended == "dead"
	})
	var all string
	eventually(t, "the last event is published", func() bool {
		all = strings.Join(eventTexts(t, r.events()), "\n")
		return strings.Contains(all, "NotRegistered('unknown')")
	})
	for _, want := range []string{
		`"requeue": true`, `"exception": "None", "traceback": X, "timestamp": X, "type": "task-retried"`, `"name": "nice name"`, `"result": "'a...'"`,
		`"exception": "NotRegistered('unknown')", "timestamp": X, "type": "task-failed"`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s in\n%s", want, all)
		}
	}
	if n := strings.Count(all, "task-received"); n != 3 {
		t.Errorf("%d tasks received, want 3:\n%s", n, all)
	}
}

func TestEventsSwitchedOff(t *testing.T) {
	t.Parallel()
	c := startControlRig(t, Config{TaskEvents: Yes}, addTask)
	for _, step := range []struct{ method, want string }{
		{"enable_events", "task events already enabled"}, {"disable_events", "task events disabled"},
		{"disable_events", "task events already disabled"}, {"enable_events", "task events enabled"},
	} {
		if got := c.ask(step.method, ""); got != `{"ok": "`+step.want+`"}` {
			t.Errorf("%s: %s", step.method, got)
		}
		if step.want == "task events disabled" {
			c.settled(mustTask(t, "demo.add", []any{1, 2}, nil))
		}
	}
	c.settled(mustTask(t, "demo.add", []any{1, 2}, nil))
	eventually(t, "the second task's events are published", func() bool { return len(eventTexts(t, c.events())) == 3 })
}

// fanoutFunc is a fanout made of a function.
type fanoutFunc func(ctx context.Context, msgs ...redisbroker.FanoutMessage) error

// PublishFanout implements fanout.
func (f fanoutFunc) PublishFanout(ctx context.Context, msgs ...redisbroker.FanoutMessage) error {
	return f(ctx, msgs...)
}

// countedDrops is an Observer that counts lost events by reason.
func countedDrops() (*Observer, func() map[string]int) {
	var mu sync.Mutex
	counts := map[string]int{}
	o := &Observer{EventsDropped: func(reason string, n int) {
		mu.Lock()
		defer mu.Unlock()
		counts[reason] += n
	}}
	return o, func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		seen := map[string]int{}
		for reason, n := range counts {
			seen[reason] = n
		}
		return seen
	}
}

func TestOutboxBatches(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var sizes []int
	keys := map[string]int{}
	first, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	observer, drops := countedDrops()
	o := newEventOutbox(newNode("n@h"), "celeryev", fanoutFunc(func(_ context.Context, msgs ...redisbroker.FanoutMessage) error {
		once.Do(func() { close(first); <-release })
		mu.Lock()
		defer mu.Unlock()
		for _, m := range msgs {
			keys[m.RoutingKey]++
			sizes = append(sizes, strings.Count(bodyOf(t, string(m.Envelope)), `"type"`))
		}
		return nil
	}), testLogger(t), observer)
	var wg sync.WaitGroup
	wg.Go(o.run)
	o.add(groupWorker, "worker-online", nil)
	<-first
	for i := range 50 {
		o.add(groupTask, "task-custom", celeryproto.TaskStartedFields(fmt.Sprint(i)))
	}
	o.add(groupWorker, "worker-heartbeat", nil)
	o.add(groupTask, "task-custom", nil)
	close(release)
	o.close()
	wg.Wait()
	if want := []int{1, 24, 24, 2, 1, 1}; !slices.Equal(sizes, want) {
		t.Errorf("messages of %v events, want %v", sizes, want)
	}
	if want := map[string]int{"worker.online": 1, "worker.heartbeat": 1, "task.multi": 4}; !cmp.Equal(keys, want) {
		t.Errorf("published with %v, want %v", keys, want)
	}
	o.add(groupTask, "task-custom", nil)
	if got := drops(); !cmp.Equal(got, map[string]int{EventStopped: 1}) {
		t.Errorf("dropped %v", got)
	}
}

// TestOutboxWhileRedisIsAway: events wait within bounds, heartbeats do not.
func TestOutboxWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	away, published := true, 0
	tried := make(chan struct{}, 100)
	observer, drops := countedDrops()
	o := newEventOutbox(newNode("n@h"), "celeryev", fanoutFunc(func(_ context.Context, msgs ...redisbroker.FanoutMessage) error {
		mu.Lock()
		defer mu.Unlock()
		select {
		case tried <- struct{}{}:
		default:
		}
		if away {
			return io.EOF
		}
		for _, m := range msgs {
			published += strings.Count(bodyOf(t, string(m.Envelope)), `"type"`)
		}
		return nil
	}), testLogger(t), observer)
	var wg sync.WaitGroup
	wg.Go(o.run)
	o.add(groupTask, "task-custom", nil)
	<-tried
	<-tried
	o.add(groupWorker, celeryproto.EventWorkerHeartbeat, nil)
	for range maxEvents + 7 {
		o.add(groupTask, "task-custom", nil)
	}
	big := celeryproto.Members{{Key: "x", Value: rawText(strings.Repeat("x", maxEventBytes))}}
	o.add(groupTask, "task-custom", big)
	mu.Lock()
	away = false
	mu.Unlock()
	o.close()
	wg.Wait()
	if got := drops(); !cmp.Equal(got, map[string]int{EventOffline: 1, EventFull: 8}) {
		t.Errorf("dropped %v", got)
	}
	if published != maxEvents+1 {
		t.Errorf("%d events published, want %d", published, maxEvents+1)
	}
}

func TestOutboxGivesUp(t *testing.T) {
	t.Parallel()
	observer, drops := countedDrops()
	refused := true
	o := newEventOutbox(newNode("n@h"), "celeryev", fanoutFunc(func(context.Context, ...redisbroker.FanoutMessage) error {
		if refused {
			refused = false
			return errors.New("no permission")
		}
		return io.EOF
	}), testLogger(t), observer)
	o.add(groupTask, "task-custom", nil)
	var wg sync.WaitGroup
	wg.Go(o.run)
	eventually(t, "what Redis refuses is lost", func() bool { return drops()[EventRefused] == 1 })
	o.add(groupTask, "task-custom", celeryproto.Members{{Key: "x", Value: celeryproto.Raw("{")}})
	eventually(t, "what cannot be written is lost", func() bool { return drops()[EventUnencodable] == 1 })
	o.add(groupTask, "task-custom", nil)
	o.close()
	wg.Wait()
	if got := drops(); got[EventStopped] != 1 {
		t.Errorf("dropped %v", got)
	}
}
