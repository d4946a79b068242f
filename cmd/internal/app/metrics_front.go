package app

import (
	"strconv"
	"time"

	"github.com/dfws/dfws/cmd/internal/appserver"
)

func appServerObserver(f factory) appserver.Observer {
	started := f.counters("dfws_appserver_starts_total", "Started application servers, by reason.", "reason")
	ready := f.seconds("dfws_appserver_ready_seconds", "From the start of an application server to its first answer.")
	failed := f.counter("dfws_appserver_start_failures_total", "Application servers that ended, or were stopped, before they served.")
	exited := f.counter("dfws_appserver_exits_total", "Serving application servers that ended by themselves.")
	killed := f.counter("dfws_appserver_kills_total", "Application servers that had to be killed because they did not stop in time.")
	memory := f.gauge("dfws_appserver_memory_bytes", "What the processes of the application server hold together.")
	return appserver.Observer{
		Started: func(reason string) { started.WithLabelValues(reason).Inc() },
		Ready:   func(d time.Duration) { ready.Observe(d.Seconds()) },
		Failed:  failed.Inc,
		Exited:  exited.Inc,
		Killed:  killed.Inc,
		Memory:  func(bytes int64) { memory.Set(float64(bytes)) },
	}
}

func staticObserver(f factory) func(int, string) {
	served := f.counters("dfws_static_requests_total", "Requests for static files, by status and encoding.", "status", "encoding")
	return func(status int, encoding string) { served.WithLabelValues(strconv.Itoa(status), encoding).Inc() }
}
