package worker

import (
	"cmp"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/compat"
)

// siteControl is what a site's settings say of remote control and events.
type siteControl struct {
	limits        celeryproto.Limits
	options       celeryproto.BusOptions // of remote control
	eventOptions  celeryproto.BusOptions
	namespace     string        // control_exchange
	queueExpires  time.Duration // control_queue_expires
	eventExchange string        // event_exchange
	eventPrefix   string        // event_queue_prefix
	eventExpires  time.Duration // event_queue_expires
	sendEvents    bool          // worker_send_task_events
	sendSent      bool          // task_send_sent_event
	remoteControl bool          // worker_enable_remote_control
	poolRestarts  bool          // worker_pool_restarts
}

// defaultEventQueuePrefix is Celery's event_queue_prefix (celery 5.7, app/defaults.py).
const defaultEventQueuePrefix = "celeryev"

func newSiteControl(c *compat.Celery, limits celeryproto.Limits) *siteControl {
	return &siteControl{
		limits: limits, options: celeryproto.BusOptions{Serializer: c.TaskSerializer},
		eventOptions: celeryproto.BusOptions{Serializer: c.EventSerializer},
		namespace:    cmp.Or(c.ControlExchange, celeryproto.DefaultControlNamespace), queueExpires: durationOf(c.ControlQueueExpires),
		eventExchange: cmp.Or(c.EventExchange, celeryproto.DefaultEventExchange), eventPrefix: cmp.Or(c.EventQueuePrefix, defaultEventQueuePrefix),
		eventExpires: durationOf(c.EventQueueExpires), sendEvents: c.WorkerSendTaskEvents, sendSent: c.TaskSendSentEvent,
		remoteControl: c.WorkerEnableRemoteControl, poolRestarts: c.WorkerPoolRestarts,
	}
}

// durationOf is a setting in seconds, 0 for none.
func durationOf(s *compat.Seconds) time.Duration {
	if s == nil {
		return 0
	}
	return s.Duration()
}
