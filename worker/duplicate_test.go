package worker

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/dfws/dfws/celeryproto"
)

func TestDeduplication(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name                  string
		on, redelivered, late bool
		status                string
		want                  int32 // runs
		wantsCallback         bool
	}{
		{"done before", true, true, true, celeryproto.StatusSuccess, 0, false},
		{"off", false, true, true, celeryproto.StatusSuccess, 1, true},
		{"not delivered again", true, false, true, celeryproto.StatusSuccess, 1, true},
		{"acked early", true, true, false, celeryproto.StatusSuccess, 1, true},
		{"failed before", true, true, true, celeryproto.StatusFailure, 1, true},
		{"never ended", true, true, true, "", 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := testSettings()
			s.Celery.WorkerDeduplicateSuccessfulTasks = test.on
			var runs atomic.Int32
			o := TaskOptions{AcksLate: No}
			if test.late {
				o.AcksLate = Yes
			}
			r := startRig(t, Config{Settings: s}, steered("once", o, func(context.Context, *TaskCall) (any, error) {
				runs.Add(1)
				return "again", nil
			}))
			task := mustTask(t, "once", nil, nil)
			task.Embed.Callbacks = celeryproto.Raw(`[{"task": "next", "args": [], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false}]`)
			if test.status != "" {
				r.store(task.ID, test.status, `"before"`)
			}
			envelope, err := task.Envelope()
			if err != nil {
				t.Fatal(err)
			}
			d := r.delivery()
			r.broker.messagesC <- received{delivery: d, queue: "go", envelope: envelope, redelivered: test.redelivered}
			<-d.doneC
			if test.want > 0 { // a task acked early runs after that
				eventually(t, "a result", func() bool { m := r.broker.result(task.ID); return m != nil && string(m.Result) == `"again"` })
			}
			if got := runs.Load(); got != test.want {
				t.Errorf("%d runs, want %d", got, test.want)
			}
			if d.ended != "ack" {
				t.Errorf("ended with %q", d.ended)
			}
			if got := len(r.broker.sent(t)) > 0; got != test.wantsCallback {
				t.Errorf("callback sent: %t", got)
			}
		})
	}
}
