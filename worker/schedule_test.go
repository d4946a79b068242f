package worker

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

func jobDue(id string, eta time.Time) *job {
	return &job{task: &celeryproto.Task{ID: id}, eta: eta}
}

// Jobs are due in the order of their ETAs, whenever they come: those of the past at once, that of the year 9999 not in a thousand hours.
func TestScheduleOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSchedule(func(int) {})
		ctx, cancel := context.WithCancel(t.Context())
		type due struct {
			id    string
			after time.Duration
		}
		var mu sync.Mutex
		var got []due
		began := time.Now()
		var group sync.WaitGroup
		group.Go(func() {
			s.run(ctx, func(j *job) {
				mu.Lock()
				defer mu.Unlock()
				got = append(got, due{j.task.ID, time.Since(began)})
			})
		})
		s.add(jobDue("last", time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)))
		s.add(jobDue("three hours", began.Add(3*time.Hour)))
		s.add(jobDue("a minute", began.Add(time.Minute)))
		synctest.Wait()
		s.add(jobDue("first", time.Date(1, time.January, 1, 0, 0, 1, 0, time.UTC)))
		s.add(jobDue("a second", began.Add(time.Second)))
		time.Sleep(1000 * time.Hour) // the bubble's clock
		synctest.Wait()
		mu.Lock()
		want := []due{{"first", 0}, {"a second", time.Second}, {"a minute", time.Minute}, {"three hours", 3 * time.Hour}}
		if !slices.Equal(got, want) {
			t.Errorf("due were %v, want %v", got, want)
		}
		mu.Unlock()
		cancel()
		group.Wait()
		if left := s.clear(); len(left) != 1 || left[0].task.ID != "last" {
			t.Errorf("%d jobs are left", len(left))
		}
	})
}

// When the system's clock is set, the ETAs count, not the time that has passed: set forward, what is due then is due within an hour, the
// longest that is waited without a look at the clock; set back, nothing is early.
func TestScheduleClockSet(t *testing.T) {
	t.Parallel()
	began := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	s := newSchedule(func(int) {})
	s.add(jobDue("soon", began.Add(10*time.Minute)))
	s.add(jobDue("tomorrow", began.Add(24*time.Hour)))
	for _, look := range []struct {
		now  time.Time
		due  []string
		wait time.Duration
	}{
		{began, nil, 10 * time.Minute},
		{began.Add(-30 * 24 * time.Hour), nil, time.Hour},
		{began.Add(10*time.Minute - time.Nanosecond), nil, time.Nanosecond},
		{began.Add(23 * time.Hour), []string{"soon"}, time.Hour},
		{began.Add(22*time.Hour + 30*time.Minute), nil, time.Hour},
		{began.Add(48 * time.Hour), []string{"tomorrow"}, time.Hour},
	} {
		var due []string
		wait := s.release(look.now, func(j *job) { due = append(due, j.task.ID) })
		if !slices.Equal(due, look.due) || wait != look.wait {
			t.Errorf("at %s: %v due, next look after %s; want %v, %s", look.now, due, wait, look.due, look.wait)
		}
	}
}
