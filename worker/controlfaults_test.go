package worker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCommandFaults(t *testing.T) {
	t.Parallel()
	c := startControlRig(t, Config{Concurrency: 2}, func(w *Worker) {
		addTask(w)
		HandleControl(w, "double", func(_ context.Context, args struct{ N int }) (any, error) {
			return map[string]any{"ok": 2 * args.N}, nil
		})
		HandleControl(w, "fails", func(context.Context, struct{}) (any, error) { return nil, errors.New("not today") })
		HandleControl(w, "raises", func(context.Context, map[string]any) (any, error) {
			return nil, &Exception{Type: "RuntimeError", Args: []any{"it's"}}
		})
		HandleControl(w, "panics", func(context.Context, struct{}) (any, error) { panic("oh") })
	})
	for _, tc := range []struct{ method, arguments, want string }{
		{"revoke", "", `{"error": "TypeError(\"revoke() missing 1 required positional argument: 'task_id'\")"}`},
		{"terminate", "", `{"error": "TypeError(\"terminate() missing 2 required positional arguments: 'signal' and 'task_id'\")"}`},
		{"terminate", `{"signal": "term", "task_id": "x"}`, `{"error": "TypeError('signal name must be uppercase string.')"}`},
		{"terminate", `{"signal": "NOPE", "task_id": "x"}`, `{"error": "AttributeError(\"module 'signal' has no attribute 'SIGNOPE'\")"}`},
		{"terminate", `{"signal": 9, "task_id": ["x"]}`, `{"ok": "terminate: tasks unknown"}`},
		{"revoke", `{"task_id": []}`, `{"ok": "tasks set() flagged as revoked"}`},
		{"revoke", `{"task_id": [1]}`, `{"error": "TypeError('revoke() argument task_id: a number, want a list of texts')"}`},
		{"revoke", `{"task_id": {"a": 1}}`, `{"error": "TypeError('revoke() argument task_id: a object, want a list of texts')"}`},
		{"rate_limit", `{"task_name": "demo.add", "rate_limit": "1/x"}`, `{"error": "KeyError('x')"}`},
		{"rate_limit", `{"task_name": "demo.add", "rate_limit": 0}`, `{"ok": "rate limit disabled successfully"}`},
		{"rate_limit", `{"task_name": "demo.add", "rate_limit": []}`, `{"error": "TypeError('rate_limit() argument rate_limit: a array, want a text or a number')"}`},
		{"time_limit", `{"task_name": "demo.add", "soft": "1.5", "hard": null}`, `{"ok": "time limits set successfully"}`},
		{"registered", `{"taskinfoitems": ["soft_time_limit", "time_limit", "__class__"]}`, `["demo.add [soft_time_limit=1.5]"]`},
		{"time_limit", `{"task_name": "no.task", "soft": 1}`, `{"error": "unknown task"}`},
		{"time_limit", `{"task_name": "demo.add", "soft": "x"}`, `{"error": "TypeError('time_limit() argument soft: a invalid, want a number')"}`},
		{"pool_shrink", `{"n": 2}`, `{"error": "ValueError(\"Can't shrink pool. At least one slot has to stay!\")"}`},
		{"pool_grow", `{"n": 1000000000}`, `{"error": "ValueError(\"Can't grow pool beyond 10000 slots\")"}`},
		{"pool_grow", `{"n": -1}`, `{"error": "ValueError('n is negative')"}`},
		{"pool_grow", `{"n": 1e300}`, `{"error": "TypeError('pool_grow() argument n: a number, want a whole number')"}`},
		{"add_consumer", `{"queue": ""}`, `{"error": "ValueError('queue is empty')"}`},
		{"add_consumer", `{"queue": "q", "exchange_type": "fanout"}`, `{"error": "NotImplementedError('add_consumer: exchanges of the type fanout are not supported')"}`},
		{"objgraph", "", `{"error": "NotImplementedError('objgraph: a Go worker has no Python objects to draw')"}`},
		{"election", `{"id": "1", "topic": "task"}`, `{"error": "RuntimeError('gossip is off in this worker')"}`},
		{"revoke_by_stamped_headers", `{"headers": 1}`, `{"error": "TypeError('revoke_by_stamped_headers() argument headers: a number, want an object')"}`},
		{"revoke_by_stamped_headers", `{"headers": ["a=b"]}`, `{"ok": "headers {'a': 'b'} flagged as revoked, but not terminated"}`},
		{"revoke_by_stamped_headers", `{"headers": ["a"]}`, `{"error": "IndexError('list index out of range')"}`},
		{"hello", `{"from_node": "w1@golden"}`, `null`},
		{"dump_revoked", "", `["x"]`},
		{"double", `{"n": 21}`, `{"ok": 42}`},
		{"double", `{"n": "x"}`, `{"error": "TypeError('argument \"n\": a text, want an integer')"}`},
		{"fails", "", `{"error": "RuntimeError('not today')"}`},
		{"raises", `{"anything": 1}`, `{"error": "RuntimeError(\"it's\")"}`},
		{"panics", "", `{"error": "RuntimeError('panic: oh')"}`},
	} {
		if got := c.ask(tc.method, tc.arguments); got != tc.want {
			t.Errorf("%s %s:\ngot  %s\nwant %s", tc.method, tc.arguments, got, tc.want)
		}
	}
}

func TestHandleControlFaults(t *testing.T) {
	t.Parallel()
	w, err := New(Config{Settings: testSettings(), App: "test"})
	must(t, err)
	addTask(w)
	HandleControl(w, "ping", func(context.Context, struct{}) (any, error) { return nil, nil })
	HandleControl[struct{}](w, "none", nil)
	HandleControl(w, "number", func(context.Context, int) (any, error) { return nil, nil })
	HandleControl(w, "twice", func(context.Context, struct{}) (any, error) { return nil, nil })
	HandleControl(w, "twice", func(context.Context, struct{}) (any, error) { return nil, nil })
	err = w.handlers.freeze()
	for _, want := range []string{`"ping": Celery has`, `"none": no function`, `"number": arguments are`, `"twice": two functions`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in %v", want, err)
		}
	}
}

// TestHostileControl gives the worker what no client of Celery writes: each is counted, none is answered or fatal.
func TestHostileControl(t *testing.T) {
	t.Parallel()
	counts := map[string]int{}
	cfg := Config{Observer: Observer{Controlled: func(command, outcome string) { counts[command+" "+outcome]++ }}}
	c := startControlRig(t, cfg, addTask)
	give := func(body string) {
		c.give(fmt.Sprintf(`{"body": %q, "content-encoding": "utf-8", "content-type": "application/json", "headers": {"clock": "x"}, `+
			`"properties": {"delivery_mode": 2, "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""}, "priority": 0, `+
			`"body_encoding": "base64", "delivery_tag": "1"}}`, base64.StdEncoding.EncodeToString([]byte(body))))
	}
	for _, body := range []string{
		``, `[]`, `{`, `null`, `{"method": 5}`, `{"method": "ping", "arguments": []}`, `{"method": "ping", "destination": [5]}`,
		`{"method": "ping", "pattern": "(", "matcher": "pcre"}`, `{"method": "ping", "pattern": "x", "matcher": "nope"}`,
		`{"method": "ping", "reply_to": {"exchange": 1}}`, strings.Repeat(`[`, 100_000),
	} {
		give(body)
	}
	if want := map[string]int{"other unreadable": 11}; !cmp.Equal(counts, want) {
		t.Errorf("counted %v, want %v", counts, want)
	}
	give(`{"method": "ping", "destination": ["other@node"]}`)
	give(`{"method": "ping", "destination": ["w1@golden"]}`)
	give(`{"method": "\ud800 no such", "arguments": {}}`)
	many := make([]string, 100_000)
	for i := range many {
		many[i] = fmt.Sprint("w", i, "@golden")
	}
	destination, err := json.Marshal(many)
	must(t, err)
	give(`{"method": "ping", "destination": ` + string(destination) + `}`)
	for _, exchange := range []string{"celery", "celeryev", "reply.other.pidbox", "celery.pidbox"} { // queues of tasks, expiring with the reply
		give(fmt.Sprintf(`{"method": "ping", "reply_to": {"exchange": %q, "routing_key": "celery"}}`, exchange))
	}
	if counts["ping done"] != 2 || counts["ping unanswered"] != 4 || counts["other unknown"] != 1 || len(c.answers()) != 0 {
		t.Errorf("counted %v, %d answers", counts, len(c.answers()))
	}
}
