package monitor_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/monitor"
	"github.com/dfws/dfws/integration/needs"
)

// event reads an event as it stands in a message.
func event(t testing.TB, text string) celeryproto.Event {
	t.Helper()
	e := &celeryproto.Event{Type: "x-y"}
	envelope, err := e.Envelope("celeryev", celeryproto.BusOptions{BodyEncoding: celeryproto.BodyUTF8})
	if err != nil {
		t.Fatal(err)
	}
	envelope.Body = text
	events, err := celeryproto.DecodeEvents(envelope, celeryproto.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return events[0]
}

func start() time.Time { return time.Unix(1_800_000_000, 0).UTC() }

func TestWorkers(t *testing.T) {
	t.Parallel()
	s := monitor.New(monitor.Limits{})
	at := start()
	apply := func(text string) {
		e := event(t, strings.ReplaceAll(text, "NOW", fmt.Sprint(at.Unix())))
		s.Apply(&e, at)
	}
	apply(`{"type": "worker-offline", "hostname": "gone@h", "timestamp": NOW}`)
	if all := s.Workers(); len(all) != 0 {
		t.Errorf("a worker that only left: %+v", all)
	}
	apply(`{"type": "worker-online", "hostname": "w@h", "pid": 7, "freq": 2.0, "sw_ident": "x", "sw_ver": "x", "clock": 3, "timestamp": NOW}`)
	at = at.Add(3 * time.Second)
	if len(s.AliveWorkers(at)) != 1 {
		t.Error("not alive after 3 s")
	}
	apply(`{"type": "worker-heartbeat", "hostname": "w@h", "active": 1, "processed": 5, "loadavg": [1, 2.5, 3], "clock": 9, "timestamp": NOW}`)
	w, ok := s.Worker("w@h")
	if want := (monitor.Worker{
		Hostname: "w@h", PID: 7, Freq: 2 * time.Second, Clock: 9, Active: 1, Processed: 5, LoadAvg: &[3]float64{1, 2.5, 3}, SWIdent: "x", SWVer: "x",
		Heartbeats: []time.Time{at.Add(-3 * time.Second), at},
	}); !ok || !cmp.Equal(w, want) {
		t.Errorf("worker %s", cmp.Diff(want, w))
	}
	at = at.Add(4 * time.Second)
	if w, _ := s.Worker("w@h"); w.Alive(at) || len(s.AliveWorkers(at)) != 0 {
		t.Error("alive for 4 s without a heartbeat")
	}
	apply(`{"type": "worker-offline", "hostname": "w@h", "timestamp": NOW}`)
	if w, ok := s.Worker("w@h"); !ok || w.Alive(at) || !w.Expires().IsZero() {
		t.Errorf("after worker-offline: %+v", w)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	s := monitor.New(monitor.Limits{MaxWorkers: 3, MaxTasks: 2})
	for i := range 10 {
		e := event(t, fmt.Sprintf(`{"type": "task-received", "hostname": "w%d@h", "uuid": "t%d", "name": "n%d", "clock": %d, "timestamp": 1.5}`, i, i, i, i+1))
		s.Apply(&e, start())
	}
	long := strings.Repeat("x", 100_000)
	for _, text := range []string{
		`{"type": "task-received", "hostname": "h", "uuid": "` + long + `"}`, `{"type": "worker-online", "hostname": "` + long + `"}`,
		`{"type": "task-received", "hostname": "h"}`, `{"type": "worker-online"}`, `{"type": "other"}`, `{"type": "task-received", "uuid": 5}`,
		`{"type": "task-failed", "hostname": "w9@h", "uuid": "t9", "traceback": "` + long + `", "runtime": "x", "retries": "y", "clock": 11}`,
		`{"type": "task-x", "hostname": "w9@h", "uuid": "t9", "runtime": 1e300, "retries": 1e300, "clock": 12}`,
	} {
		e := event(t, text)
		s.Apply(&e, start())
	}
	if tasks := s.Tasks(0); len(tasks) != 2 || tasks[0].ID != "t9" || tasks[1].ID != "t8" || len(tasks[0].Traceback) > 1<<16 || tasks[0].State != "FAILURE" {
		t.Errorf("%d tasks, the newest %+v", len(tasks), tasks[0])
	}
	if len(s.Workers()) != 3 || len(s.TaskTypes()) != 10 {
		t.Errorf("%d workers, %d types", len(s.Workers()), len(s.TaskTypes()))
	}
	if events, received := s.Counts(); events != 18 || received != 10 {
		t.Errorf("%d events, %d received", events, received)
	}
	if got := s.TasksByType("n8", 5); len(got) != 1 || got[0].Worker != "w8@h" {
		t.Errorf("by type: %+v", got)
	}
	if got := s.TasksByWorker("w8@h", 5); len(got) != 1 || got[0].ID != "t8" {
		t.Errorf("by worker: %+v", got)
	}
	s.Clear(false)
	if got := s.Tasks(0); len(got) != 1 || got[0].ID != "t8" || len(s.Workers()) != 0 {
		t.Errorf("after Clear: %+v", got)
	}
	s.Clear(true)
	if _, ok := s.Task("t8"); ok {
		t.Error("a task after Clear(true)")
	}
}

func TestChildren(t *testing.T) {
	t.Parallel()
	s := monitor.New(monitor.Limits{})
	for i, parent := range []string{"null", `"0"`, `"0"`, `"1"`} {
		e := event(t, fmt.Sprintf(`{"type": "task-received", "hostname": "w@h", "uuid": "%d", "parent_id": %s, "root_id": "0", "timestamp": 1.0}`, i, parent))
		s.Apply(&e, start())
	}
	if got := s.Children("0"); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("children %v", got)
	}
}

// randomEvents are events that a small cluster may send, in any order.
func randomEvents(r *rand.Rand) []map[string]any {
	subjects := []string{"sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected", "cancelled", "progress"}
	var events []map[string]any
	for range 1 + r.IntN(40) {
		received := float64(start().Unix() + int64(r.IntN(30)))
		e := map[string]any{
			"hostname": fmt.Sprintf("w%d@h", r.IntN(6)), "pid": 1 + r.IntN(3), "clock": 1 + r.IntN(50), "timestamp": received + float64(r.IntN(4))/4,
			"local_received": received,
		}
		events = append(events, e)
		if r.IntN(4) == 0 {
			e["type"] = []string{"worker-online", "worker-heartbeat", "worker-offline"}[r.IntN(3)]
			e["freq"], e["active"], e["processed"] = float64(1+r.IntN(3)), r.IntN(5), r.IntN(50)
			if r.IntN(2) == 0 {
				e["loadavg"], e["sw_ident"], e["sw_ver"], e["sw_sys"] = []any{0.5, 1.0, 2.25}, "py-celery", "5.7.0", "Linux"
			}
			continue
		}
		subject := subjects[r.IntN(len(subjects))]
		e["type"], e["uuid"] = "task-"+subject, fmt.Sprint(r.IntN(8))
		more := map[string][]any{
			"name": {"a", "b"}, "args": {"(1,)"}, "kwargs": {"{}"}, "eta": {nil, "2026-01-01T00:00:00+00:00"}, "expires": {nil}, "retries": {0, 1, 2},
			"root_id": {"0", nil}, "parent_id": {nil, "1"}, "result": {"5", "'x'"}, "exception": {"ValueError('x')"}, "traceback": {"Trace"},
			"runtime": {0.25, 1.5}, "queue": {"q"}, "exchange": {""}, "routing_key": {"q"},
		}
		for key, values := range more {
			if r.IntN(3) == 0 {
				e[key] = values[r.IntN(len(values))]
			}
		}
	}
	return events
}

// TestAgainstPython gives random events to celery.events.state too.
func TestAgainstPython(t *testing.T) {
	t.Parallel()
	python := needs.Python(t, "celery")
	const rounds = 400
	cmd := exec.Command(python, "testdata/state.py")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONWARNINGS=ignore")
	var input strings.Builder
	var sequences [][]map[string]any
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range rounds {
		events := randomEvents(random)
		line, err := json.Marshal(events)
		if err != nil {
			t.Fatal(err)
		}
		input.Write(append(line, '\n'))
		sequences = append(sequences, events)
	}
	cmd.Stdin = strings.NewReader(input.String())
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	lines.Buffer(nil, 1<<20)
	for _, events := range sequences {
		if !lines.Scan() {
			t.Fatal("Python said too little")
		}
		var want map[string]any
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(withoutZeros(want), withoutZeros(stateOf(t, events))); diff != "" {
			text, _ := json.MarshalIndent(events, "", " ")
			t.Fatalf("-Python +Go:\n%s\n%s", diff, text)
		}
	}
}

// withoutZeros leaves out what is not known: None there, zero here.
func withoutZeros(v any) any {
	object, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := map[string]any{}
	for key, value := range object {
		if inner := withoutZeros(value); inner != nil && !reflect.ValueOf(inner).IsZero() {
			out[key] = inner
		}
	}
	return out
}

// stateOf is what this package makes of events, in the form of testdata/state.py.
func stateOf(t *testing.T, events []map[string]any) map[string]any {
	t.Helper()
	s := monitor.New(monitor.Limits{})
	for _, e := range events {
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		parsed := event(t, string(text))
		s.Apply(&parsed, time.Unix(int64(e["local_received"].(float64)), 0))
	}
	tasks, workers := map[string]any{}, map[string]any{}
	newest := []any{}
	for _, task := range s.Tasks(0) {
		newest = append(newest, task.ID)
		tasks[task.ID] = taskMap(task)
	}
	for _, w := range s.Workers() {
		workers[w.Hostname] = workerMap(w)
	}
	types := []any{}
	for _, name := range s.TaskTypes() {
		types = append(types, name)
	}
	return map[string]any{"tasks": tasks, "workers": workers, "newest": newest, "types": types}
}

func seconds(at time.Time) any {
	if at.IsZero() {
		return nil
	}
	return celeryproto.UnixSeconds(at)
}

func text(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func taskMap(task monitor.Task) map[string]any {
	m := map[string]any{
		"uuid": task.ID, "state": task.State, "clock": float64(task.Clock), "timestamp": seconds(task.Timestamp),
		"sent": seconds(task.Sent), "received": seconds(task.Received), "started": seconds(task.Started), "succeeded": seconds(task.Succeeded),
		"failed": seconds(task.Failed), "retried": seconds(task.Retried), "revoked": seconds(task.Revoked), "rejected": seconds(task.Rejected),
	}
	for key, value := range map[string]string{
		"name": task.Name, "args": task.Args, "kwargs": task.Kwargs, "eta": task.ETA, "expires": task.Expires, "worker": task.Worker,
		"client": task.Client, "result": task.Result, "exception": task.Exception, "traceback": task.Traceback, "queue": task.Queue,
		"routing_key": task.RoutingKey, "root_id": task.RootID, "parent_id": task.ParentID,
	} {
		m[key] = text(value)
	}
	m["retries"], m["runtime"], m["exchange"] = float64(task.Retries), task.Runtime.Seconds(), task.Exchange
	return m
}

func workerMap(w monitor.Worker) map[string]any {
	beats := []any{}
	for _, at := range w.Heartbeats {
		beats = append(beats, celeryproto.UnixSeconds(at))
	}
	var load any
	if w.LoadAvg != nil {
		load = []any{w.LoadAvg[0], w.LoadAvg[1], w.LoadAvg[2]}
	}
	return map[string]any{
		"hostname": w.Hostname, "pid": float64(w.PID), "freq": w.Freq.Seconds(), "heartbeats": beats, "clock": float64(w.Clock),
		"active": float64(w.Active), "processed": float64(w.Processed), "loadavg": load,
		"sw_ident": text(w.SWIdent), "sw_ver": text(w.SWVer), "sw_sys": text(w.SWSys),
	}
}

func FuzzApply(f *testing.F) {
	f.Add(`{"type": "task-received", "hostname": "w@h", "uuid": "1", "name": "n", "timestamp": 1.5, "clock": 3, "retries": 1, "runtime": 0.5}`)
	f.Add(`{"type": "worker-heartbeat", "hostname": "w@h", "pid": 1, "freq": 2.0, "loadavg": [1, 2, 3], "timestamp": 1e300}`)
	f.Fuzz(func(t *testing.T, body string) {
		e := &celeryproto.Event{Type: "x-y"}
		envelope, err := e.Envelope("celeryev", celeryproto.BusOptions{BodyEncoding: celeryproto.BodyUTF8})
		if err != nil {
			t.Fatal(err)
		}
		envelope.Body = body
		events, err := celeryproto.DecodeEvents(envelope, celeryproto.Limits{})
		if err != nil {
			return
		}
		s := monitor.New(monitor.Limits{MaxWorkers: 2, MaxTasks: 2})
		for range 2 {
			for i := range events {
				s.Apply(&events[i], start())
			}
		}
		if len(s.Tasks(0)) > 2 || len(s.Workers()) > 2 {
			t.Error("over the limits")
		}
		s.AliveWorkers(start())
		s.TaskTypes()
	})
}
