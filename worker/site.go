package worker

import (
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

// Defaults of remote control and events (celery 5.7, app/defaults.py).
const (
	defaultControlQueueExpires = 10 * time.Second
	defaultEventQueuePrefix    = "celeryev"
	defaultEventQueueExpires   = time.Minute
)

func newSiteControl(*compat.Celery) *siteControl {
	return &siteControl{
		namespace: celeryproto.DefaultControlNamespace, queueExpires: defaultControlQueueExpires,
		eventExchange: celeryproto.DefaultEventExchange, eventPrefix: defaultEventQueuePrefix, eventExpires: defaultEventQueueExpires,
		remoteControl: true,
	}
}
