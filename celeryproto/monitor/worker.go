package monitor

import (
	"fmt"
	"slices"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

const (
	// maxHeartbeats is how many are remembered of a worker.
	maxHeartbeats = 4
	// expireWindow is for how many intervals a worker lives after its last heartbeat (HEARTBEAT_EXPIRE_WINDOW).
	expireWindow = 2
	// defaultFreq is the interval of a worker that has not told its own.
	defaultFreq = time.Minute
	// maxFreq bounds what a worker may tell.
	maxFreq = 24 * time.Hour
)

// Worker is what a worker's events have told.
type Worker struct {
	// Hostname is the node name.
	Hostname string
	PID      int
	// Freq is the time between its heartbeats.
	Freq time.Duration
	// Heartbeats are the times of the last ones, the oldest first; none after worker-offline.
	Heartbeats []time.Time
	// Clock of its last event.
	Clock int64
	// Active is how many tasks run, Processed how many it has begun.
	Active, Processed int
	// LoadAvg is its machine's load of the last one, five and fifteen minutes; nil when not known.
	LoadAvg *[3]float64
	// What software it is, such as "py-celery", its version, and the operating system.
	SWIdent, SWVer, SWSys string
}

func newWorker(hostname string) Worker { return Worker{Hostname: hostname, Freq: defaultFreq} }

// ID tells two workers with the same node name apart.
func (w *Worker) ID() string {
	if w.PID == 0 {
		return w.Hostname + ".None"
	}
	return fmt.Sprintf("%s.%d", w.Hostname, w.PID)
}

// Alive tells whether the last heartbeat is not too long ago.
func (w *Worker) Alive(now time.Time) bool {
	if len(w.Heartbeats) == 0 {
		return false
	}
	return now.Before(w.Expires())
}

// Expires is when the worker counts as lost unless it is heard of again; the zero time when it does already.
func (w *Worker) Expires() time.Time {
	if len(w.Heartbeats) == 0 {
		return time.Time{}
	}
	return w.Heartbeats[len(w.Heartbeats)-1].Add(expireWindow * w.Freq)
}

// update takes over what an event tells.
func (w *Worker) update(e *celeryproto.Event) {
	if e.PID != 0 {
		w.PID = e.PID
	}
	if e.Clock != nil {
		w.Clock = *e.Clock
	}
	status := e.WorkerStatus()
	if status.Freq > 0 {
		w.Freq = maxFreq
		if status.Freq < maxFreq.Seconds() {
			w.Freq = time.Duration(status.Freq * float64(time.Second))
		}
	}
	if status.Active != nil {
		w.Active = *status.Active
	}
	if status.Processed != nil {
		w.Processed = *status.Processed
	}
	if status.LoadAvg != nil {
		w.LoadAvg = status.LoadAvg
	}
	for _, s := range []struct {
		field *string
		value string
	}{{&w.SWIdent, status.SWIdent}, {&w.SWVer, status.SWVer}, {&w.SWSys, status.SWSys}} {
		if s.value != "" {
			*s.field = shorten(s.value)
		}
	}
}

// beat notes a sign of life.
func (w *Worker) beat(at time.Time) {
	if len(w.Heartbeats) >= maxHeartbeats {
		w.Heartbeats = slices.Delete(w.Heartbeats, 0, 1)
	}
	i, _ := slices.BinarySearchFunc(w.Heartbeats, at, time.Time.Compare)
	for i < len(w.Heartbeats) && w.Heartbeats[i].Equal(at) {
		i++
	}
	w.Heartbeats = slices.Insert(w.Heartbeats, i, at)
}

func (w *Worker) copy() Worker {
	c := *w
	c.Heartbeats = slices.Clone(w.Heartbeats)
	return c
}
