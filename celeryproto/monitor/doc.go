// Package monitor is what can be known of workers and tasks from their events: celery.events.state of Celery 5.7, on which `celery
// events` and Flower are built. It is pure: events and times in, values out.
//
//	state := monitor.New(monitor.Limits{})
//	state.Apply(&event, time.Now())
//	for _, w := range state.AliveWorkers(time.Now()) { … }
//	for _, t := range state.Tasks(50) { … } // the newest first
//
// A task's state follows the precedence of Celery's states: an event that comes late does not take back what a later one said, but adds
// what it knows. Everything is bounded: beyond Limits the oldest workers and tasks are forgotten.
//
// Differences from Python: timestamps are not shifted by the event's utcoffset, since they are absolute; values that are not of the
// kind that Celery writes are skipped.
package monitor
