package worker

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/dfws/dfws/celeryproto"
)

// FuzzCommands gives commands arguments of any kind: each is answered, none panics.
func FuzzCommands(f *testing.F) {
	c := startControlRig(f, Config{Concurrency: 2, TaskEvents: Yes, Logger: slog.New(slog.DiscardHandler)}, addTask)
	c.remote.gossip = newGossip(c.node, c.hub, celeryproto.Limits{}, c.w.log)
	for _, name := range []string{"pool_grow", "shutdown"} { // ten thousand goroutines, and the end
		delete(c.remote.commands, name)
	}
	for name := range c.remote.commands {
		f.Add(name, `{"task_id": ["a"], "terminate": true, "signal": "TERM", "headers": {"a": ["b"]}, "task_name": "demo.add", "rate_limit": "1/s"}`)
		f.Add(name, `{"soft": 1.5, "hard": "2", "n": 1, "max": 3, "min": 1, "queue": "q", "exchange": "e", "exchange_type": "topic", "routing_key": "a.#"}`)
		f.Add(name, `{"id": "1", "topic": "task", "action": {}, "from_node": "x@y", "revoked": {"a": [1, "a"]}, "ids": "x", "taskinfoitems": ["a"], "samples": -1}`)
		f.Add(name, `{"headers": ["a=b"], "task_id": null, "signal": 9, "ids": [null], "revoked": [1], "with_defaults": "no", "builtins": 1, "n": 1e400}`)
	}
	f.Fuzz(func(t *testing.T, method, arguments string) {
		if _, known := c.remote.commands[method]; !known {
			return
		}
		if celeryproto.CheckJSON([]byte(arguments), celeryproto.JSONLimits{}) != nil || celeryproto.Raw(arguments).Kind() != celeryproto.KindObject {
			return
		}
		c.broker.mu.Lock()
		c.broker.replies, c.broker.fanned = nil, nil
		c.broker.mu.Unlock()
		own := *c.rig
		own.t = t
		rig := &controlRig{rig: &own, remote: c.remote}
		if answer := rig.ask(method, arguments); answer == "" || strings.Contains(answer, "panic: ") && !strings.Contains(arguments, "panic: ") {
			t.Errorf("%s %s: %q", method, arguments, answer)
		}
	})
}
