package worker

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/integration/redistest"
)

// voter is a worker that takes part in elections.
type voter struct {
	text     func() string // its log
	joined   string        // what that says of another worker that has come; %s is the node
	decision string        // the same of the end of an election; the group is the winner's node, if that is another one
}

// electorate is a set of workers that elect. Celery's algorithm (celery 5.7, worker/consumer/gossip.py) needs the same view of who lives
// in all of them: a candidate decides when it has as many votes as it knows other workers, and two that know different numbers of them
// decide with different candidates. A heartbeat on request means alive for 10 s. A Python worker that knows one candidate when it decides
// dies of an IndexError (kombu 5.7, clocks.py, sort_heap): one that knows too few workers, or stands alone, or beside voters only. Where
// all stand, all is well: who votes has stood before, so that two votes of different workers mean two candidates.
type electorate struct {
	t      *testing.T
	ctx    context.Context
	client *Client
	voters map[string]*voter

	rounds int // of heartbeats
	mu     sync.Mutex
	beats  map[string]int // heartbeats seen, by node
}

// listen counts heartbeats until the end of the test. From its return on it hears every event.
func (e *electorate) listen() {
	e.t.Helper()
	receiver, err := e.client.Events(EventOptions{RoutingKey: "worker.#", NoWakeup: true, Fault: func(err error) { e.t.Error(err) }})
	must(e.t, err)
	ctx, stop := context.WithCancel(e.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := receiver.Run(ctx, e.count); err != nil {
			e.t.Error(err)
		}
	})
	e.t.Cleanup(func() { stop(); running.Wait() })
	<-receiver.Ready()
}

func (e *electorate) count(ev *celeryproto.Event, _ time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if ev.Type == celeryproto.EventWorkerHeartbeat {
		e.beats[ev.Hostname]++
	}
}

// beat makes all workers tell that they live, and returns when Redis has passed that on.
func (e *electorate) beat() {
	e.t.Helper()
	e.rounds++
	if _, err := e.control().Heartbeat(e.ctx); err != nil {
		e.t.Fatal(err)
	}
	eventually(e.t, "all heartbeats are there", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		for node := range e.voters {
			if e.beats[node] != e.rounds {
				return false
			}
		}
		return true
	})
}

func (e *electorate) control(nodes ...string) *Control {
	return e.client.Control(ControlOptions{Destination: nodes, Timeout: pythonTime})
}

// acquainted tells whether every worker knows every other one.
func (e *electorate) acquainted() bool {
	for node, v := range e.voters {
		for other := range e.voters {
			if other != node && !regexp.MustCompile(fmt.Sprintf(v.joined, other)).MatchString(v.text()) {
				return false
			}
		}
	}
	return true
}

// idle returns when a Python worker waits for messages, with none left. It reads commands and events from two connections, and may take
// an event before a command that came earlier: it would miss votes that were cast before it stands. Each answer is a turn of its loop.
func (e *electorate) idle(node string) {
	e.t.Helper()
	for range 3 { // for what was there, for its own events meanwhile, and for the turn that finds nothing
		if _, err := e.control(node).Ping(e.ctx); err != nil {
			e.t.Fatal(err)
		}
	}
}

// leader is who won an election in the eyes of one worker; "" before it has decided.
func (e *electorate) leader(id, node string) string {
	v := e.voters[node]
	m := regexp.MustCompile(fmt.Sprintf(v.decision, id)).FindStringSubmatch(v.text())
	switch {
	case m == nil:
		return ""
	case m[1] == "":
		return node
	}
	return m[1]
}

// TestPythonElection: Python and Go workers elect one among the candidates, all of them the same one, which sends the task once.
func TestPythonElection(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	ctx, cancel := context.WithTimeout(t.Context(), pythonTime)
	defer cancel()
	e := &electorate{t: t, ctx: ctx, client: clientFor(t, settings), voters: map[string]*voter{}, beats: map[string]int{}}
	var runs atomic.Int64
	for _, name := range []string{"a@test", "b@test"} {
		log := &lines{}
		logger := slog.New(slog.NewTextHandler(io.MultiWriter(log, t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug}))
		startWorker(t, Config{Settings: settings, NodeName: name, Logger: logger, HeartbeatInterval: time.Hour}, func(w *Worker) {
			HandleTask(w, Task[struct{}, int64]{Name: "demo.count", Run: func(context.Context, *TaskCall, struct{}) (int64, error) { return runs.Add(1), nil }})
		}).awaitReady()
		e.voters[name] = &voter{
			text: log.String, joined: `msg="worker has joined" node=%s`, decision: `won an election" election=%s(?: node=(\S+)\.\d+)?\n`,
		}
	}
	python := startPython(t, settings, "-l", "DEBUG", "--heartbeat-interval", "3600")
	e.voters["py@test"] = &voter{
		text: python.text, joined: `%s joined the party`, decision: `(?:I won the election|node (\S+)\.\d+ elected for) '%s'`,
	}
	e.listen()
	eventually(t, "all answer", func() bool {
		pings, err := e.client.Inspect(ControlOptions{}).Ping(ctx)
		return err == nil && len(pings) == len(e.voters)
	})
	eventually(t, "all know each other", func() bool {
		e.beat()
		return e.acquainted()
	})
	for i, candidates := range [][]string{
		{"a@test", "b@test", "py@test"}, {"a@test", "b@test"}, {"b@test"}, {"py@test", "a@test", "b@test"},
	} {
		id := fmt.Sprint("elected-", i)
		e.beat()
		e.idle("py@test")
		if _, err := e.control(candidates...).Election(ctx, id, "task", onGo("demo.count").Set("task_id", id)); err != nil {
			t.Fatal(err)
		}
		leaders := map[string]string{}
		eventually(t, "all candidates have decided on "+id, func() bool {
			for _, node := range candidates {
				leaders[node] = e.leader(id, node)
			}
			return !slices.Contains(slices.Collect(maps.Values(leaders)), "")
		})
		elected := leaders[candidates[0]]
		if !slices.Contains(candidates, elected) {
			t.Errorf("%s, who is no candidate, won among %v", elected, candidates)
		}
		for node, leader := range leaders {
			if leader != elected {
				t.Errorf("%s was elected, but %s says %s", elected, node, leader)
			}
		}
		if err := e.client.Result(id).Get(ctx, nil); err != nil {
			t.Fatalf("the task of %s: %v", elected, err)
		}
		if n := runs.Load(); n != int64(i+1) {
			t.Fatalf("%d elections sent %d tasks", i+1, n)
		}
	}
}
