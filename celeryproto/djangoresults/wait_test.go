package djangoresults_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/djangoresults"
	"github.com/dfws/dfws/integration/dbtest"
)

// Many wait, several for the same task, before and after the result is there, of Python and of Go.
func TestWait(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		other := s.open(t) // a worker in another process
		const tasks = 40
		var wg sync.WaitGroup
		for n := range tasks {
			id, value := newID(), fmt.Sprint(n)
			for range 3 {
				wg.Go(func() {
					m, err := b.Wait(t.Context(), id)
					if err != nil || string(m.Result) != value {
						t.Errorf("task %d: %+v, %v", n, m, err)
					}
				})
			}
			wg.Go(func() {
				for _, status := range []string{"STARTED", "RETRY", "SUCCESS"} {
					var err error
					if n%4 == 0 {
						err = s.request("store", map[string]any{"task_id": id, "status": status, "result": n}, nil)
					} else {
						err = other.Store(t.Context(), &celeryproto.ResultMeta{TaskID: id, Status: status, Result: raw(value)})
					}
					if err != nil {
						t.Error(err)
					}
				}
				if m, err := b.Wait(t.Context(), id); err != nil || string(m.Result) != value { // long there
					t.Errorf("task %d: %+v, %v", n, m, err)
				}
			})
		}
		wg.Wait()
	})
}

// Python waits for what Go stores.
func TestPythonWaits(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		waiting := s.another(t)
		for status, want := range map[string]string{
			`SUCCESS {"a": [1, "é"]}`: `map[value:map[a:[1 é]]]`, "FAILURE " + valueError: `map[args:('no', 1, 'é') module:builtins raised:ValueError]`,
			`REVOKED {"exc_type": "TaskRevokedError", "exc_message": ["revoked"], "exc_module": "celery.exceptions"}`://
			`map[args:('revoked',) module:celery.exceptions raised:TaskRevokedError]`,
		} {
			id := newID()
			var wg sync.WaitGroup
			wg.Go(func() {
				var got map[string]any
				if err := waiting.request("get", map[string]any{"task_id": id}, &got); err != nil || fmt.Sprint(got) != want {
					t.Errorf("%s: %v, %v", status, got, err)
				}
			})
			must(t, b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: id, Status: "STARTED"}))
			must(t, b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: id, Status: status[:7], Result: raw(status[8:])}))
			wg.Wait()
		}
	})
}

// What the own process stores, Wait learns at once, whatever the interval.
func TestWaitForOwn(t *testing.T) {
	t.Parallel()
	s := sharedSite(t, dbtest.SQLite)
	b := s.openWith(t, func(o *djangoresults.Options) { o.PollInterval = time.Hour })
	id := newID()
	var wg sync.WaitGroup
	wg.Go(func() {
		if m, err := b.Wait(t.Context(), id); err != nil || m.Status != "SUCCESS" {
			t.Errorf("%+v, %v", m, err)
		}
	})
	eventually(t, "looked for once", func() bool { return djangoresults.Asked(b) }) // the next look is an hour away
	must(t, b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: id, Status: "SUCCESS"}))
	wg.Wait()
}

// All who wait are looked for in one statement, and none when nobody waits.
func TestWaitTogether(t *testing.T) {
	t.Parallel()
	s := sharedSite(t, dbtest.SQLite)
	b := s.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	const waiters = 1200
	for range waiters {
		wg.Go(func() {
			if _, err := b.Wait(ctx, newID()); !errors.Is(err, context.Canceled) || djangoresults.Retryable(err) {
				t.Error(err)
			}
		})
	}
	eventually(t, "all wait", func() bool { return djangoresults.Waiting(b) == waiters })
	cancel()
	wg.Wait()
	eventually(t, "nobody is asked for", func() bool { return !djangoresults.Polling(b) })
}

// A row that cannot be read is an error for those who wait for it, not for others.
func TestWaitUnreadable(t *testing.T) {
	each(t, func(t *testing.T, s *site) {
		b := s.open(t)
		bad, good := newID(), newID()
		must(t, b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: bad, Status: "SUCCESS"}))
		s.execute(t, "UPDATE django_celery_results_taskresult SET result = '{' WHERE task_id = '"+bad+"'")
		var wg sync.WaitGroup
		wg.Go(func() {
			if m, err := b.Wait(t.Context(), good); err != nil || m.Status != "SUCCESS" {
				t.Errorf("%+v, %v", m, err)
			}
		})
		_, err := b.Wait(t.Context(), bad)
		if _, ok := errors.AsType[*celeryproto.DecodeError](err); !ok || djangoresults.Retryable(err) {
			t.Errorf("%v", err)
		}
		must(t, b.Store(t.Context(), &celeryproto.ResultMeta{TaskID: good, Status: "SUCCESS"}))
		wg.Wait()
		s.execute(t, "UPDATE django_celery_results_taskresult SET content_type = 'application/x-unknown' WHERE task_id = '"+good+"'")
		if _, err := b.Get(t.Context(), good); err == nil {
			t.Error("a content type that nobody knows")
		}
	})
}
