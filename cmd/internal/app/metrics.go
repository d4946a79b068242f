package app

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/cmd/internal/appserver"
	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/gateway"
)

// Metrics is a Prometheus registry and the observers that fill it. Names are dfws_<package>_<noun>_<unit>; every label is
// bounded: queues, outcomes, reasons and close codes, never ids, topics or users.
type Metrics struct {
	Registry *prometheus.Registry
	Gateway  gateway.Observer
	Broker   redisbroker.Observer
	Layer    channelslayer.Observer
	Dispatch dispatch.Observer
	// AppServer is for the supervised application server, StaticServed for static files, ProxyHeaderRefused for PROXY headers.
	AppServer          appserver.Observer
	StaticServed       func(status int, encoding string)
	ProxyHeaderRefused func()
}

// NewMetrics returns a registry with Go's own metrics and those of our packages.
func NewMetrics() *Metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	f := factory{registry}
	return &Metrics{
		Registry: registry,
		Gateway:  gatewayObserver(f),
		Broker:   brokerObserver(f),
		Layer:    layerObserver(f),
		Dispatch: dispatchObserver(f),

		AppServer:          appServerObserver(f),
		StaticServed:       staticObserver(f),
		ProxyHeaderRefused: f.counter("dfws_listener_proxy_headers_refused_total", "Connections of load balancers without a right PROXY header.").Inc,
	}
}

// factory makes metrics and registers them.
type factory struct{ registry *prometheus.Registry }

func (f factory) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	f.registry.MustRegister(c)
	return c
}

func (f factory) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	f.registry.MustRegister(c)
	return c
}

func (f factory) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	f.registry.MustRegister(g)
	return g
}

func (f factory) seconds(name, help string) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help,
		Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8)}) // 0.5 ms to 8 s
	f.registry.MustRegister(h)
	return h
}

func gatewayObserver(f factory) gateway.Observer {
	open := f.gauge("dfws_gateway_windows_open", "Open windows.")
	closed := f.counters("dfws_gateway_windows_closed_total", "Windows that ended, by close code and by who was first.", "code", "by")
	refused := f.counters("dfws_gateway_handshakes_refused_total", "Websocket handshakes that were not accepted.", "reason")
	identified := f.counters("dfws_gateway_handshakes_identified_total", "How windows were identified.", "outcome")
	identifyFailed := f.counters("dfws_gateway_identify_failures_total", "Times that a way to identify a window gave no answer.", "strategy", "reason")
	connect := f.seconds("dfws_gateway_connect_seconds", "From a window's request to the gateway's acceptance.")
	received := f.counters("dfws_gateway_frames_received_total", "Frames of browsers and what became of them.", "outcome")
	throttled := f.counter("dfws_gateway_frames_throttled_total", "Frames that waited because their window sends too many.")
	published := f.counters("dfws_gateway_signals_published_total", "Browsers' signals that the publisher is done with: stored or failed.", "outcome")
	sent := f.counter("dfws_gateway_frames_sent_total", "Frames written to windows.")
	sentBytes := f.counter("dfws_gateway_sent_bytes_total", "Bytes of the frames written to windows.")
	dropped := f.counters("dfws_gateway_frames_dropped_total", "Messages for a window that were lost.", "reason")
	parked := f.gauge("dfws_gateway_windows_parked", "Windows whose socket is gone and that may come back.")
	takenOver := f.counters("dfws_gateway_windows_taken_over_total", "Windows that came back, by where their earlier socket was.", "from")
	handed := f.counters("dfws_gateway_frames_handed_over_total", "Messages that windows had missed and got when they came back.", "from")
	handoverFailed := f.counters("dfws_gateway_handovers_failed_total", "Windows opened without what another gateway may have kept for them.", "reason")
	fanOut := f.counter("dfws_gateway_fanout_windows_total", "Windows that messages of the layer were queued for.")
	fanOutTime := f.seconds("dfws_gateway_fanout_seconds", "Queueing one message of the layer for all its windows.")
	messages := f.counters("dfws_gateway_messages_dropped_total", "Messages of the layer that no window could be given.", "reason")
	revoked := f.counter("dfws_gateway_windows_revoked_total", "Windows closed by a logout or a change of their user.")
	proxied := f.counters("dfws_gateway_proxy_requests_total", "Requests that the application server answered, by class of status.", "status")
	proxyTime := f.seconds("dfws_gateway_proxy_seconds", "From a proxied request to the end of its answer.")
	proxyFailed := f.counters("dfws_gateway_proxy_failures_total", "Requests that the application server gave no answer to.", "kind")
	return gateway.Observer{
		Opened: open.Inc,
		Closed: func(code gateway.CloseCode, byBrowser bool) {
			open.Dec()
			by := "gateway"
			if byBrowser {
				by = "browser"
			}
			closed.WithLabelValues(code.String(), by).Inc()
		},
		Refused:        func(reason string) { refused.WithLabelValues(reason).Inc() },
		Identified:     func(outcome string) { identified.WithLabelValues(outcome).Inc() },
		IdentifyFailed: func(strategy, reason string) { identifyFailed.WithLabelValues(strategy, reason).Inc() },
		Connected:      func(d time.Duration) { connect.Observe(d.Seconds()) },
		FrameReceived:  func(outcome string) { received.WithLabelValues(outcome).Inc() },
		Throttled:      throttled.Inc,
		Published:      func(err error) { published.WithLabelValues(outcomeOf(err)).Inc() },
		FramesSent: func(frames, bytes int) {
			sent.Add(float64(frames))
			sentBytes.Add(float64(bytes))
		},
		FramesDropped: func(_, reason string, frames int) { dropped.WithLabelValues(reason).Add(float64(frames)) },
		Parked:        func(windows int) { parked.Add(float64(windows)) },
		TakenOver: func(from string, frames int) {
			takenOver.WithLabelValues(from).Inc()
			handed.WithLabelValues(from).Add(float64(frames))
		},
		HandoverFailed: func(reason string) { handoverFailed.WithLabelValues(reason).Inc() },
		FanOut: func(windows int, d time.Duration) {
			fanOut.Add(float64(windows))
			fanOutTime.Observe(d.Seconds())
		},
		MessageDropped: func(reason string) { messages.WithLabelValues(reason).Inc() },
		Revoked:        func(windows int) { revoked.Add(float64(windows)) },
		Proxied: func(status int, d time.Duration) {
			proxied.WithLabelValues(strconv.Itoa(status/100) + "xx").Inc()
			proxyTime.Observe(d.Seconds())
		},
		ProxyFailed: func(kind string) { proxyFailed.WithLabelValues(kind).Inc() },
	}
}

func outcomeOf(err error) string {
	if err != nil {
		return "failed"
	}
	return "stored"
}

func brokerObserver(f factory) redisbroker.Observer {
	published := f.counters("dfws_broker_messages_published_total", "Tasks that reached their queue.", "queue")
	failed := f.counters("dfws_broker_messages_failed_total", "Tasks that were given up: queue full, deadline or broker error.", "queue")
	retried := f.counter("dfws_broker_batches_retried_total", "Batches of tasks that had to be written again.")
	disconnected := f.counters("dfws_broker_disconnects_total", "Failed operations of background loops, which go on by themselves.", "loop")
	switched := f.counter("dfws_broker_switches_total", "Times that another Redis was chosen, by a failover list or by Sentinel.")
	broadcast := f.counters("dfws_broker_broadcasts_total", "Messages to fanout exchanges: remote control and events.", "exchange", "outcome")
	dropped := f.counters("dfws_broker_broadcasts_dropped_total", "Received messages of fanout exchanges that were dropped.", "exchange", "reason")
	lostReplies := f.counters("dfws_broker_replies_dropped_total", "Replies of remote control that nobody could take.", "reason")
	return redisbroker.Observer{
		Published:      func(queue string, n int) { published.WithLabelValues(queue).Add(float64(n)) },
		PublishFailed:  func(queue string, n int, _ error) { failed.WithLabelValues(queue).Add(float64(n)) },
		PublishRetried: func(error) { retried.Inc() },
		Disconnected:   func(loop string, _ error) { disconnected.WithLabelValues(loop).Inc() },
		Switched:       func(string) { switched.Inc() },
		Broadcast: func(exchange string, n int, err error) {
			outcome := "published"
			if err != nil {
				outcome = "failed"
			}
			broadcast.WithLabelValues(exchange, outcome).Add(float64(n))
		},
		FanoutDropped: func(exchange string, reason redisbroker.FanoutDrop) {
			dropped.WithLabelValues(exchange, string(reason)).Inc()
		},
		ReplyDropped: func(reason redisbroker.ReplyDrop) { lostReplies.WithLabelValues(string(reason)).Inc() },
	}
}

func layerObserver(f factory) channelslayer.Observer {
	overCapacity := f.counter("dfws_layer_messages_over_capacity_total", "Group messages that a receiving process had no room for.")
	received := f.counter("dfws_layer_messages_received_total", "Messages that this process received.")
	dropped := f.counters("dfws_layer_messages_dropped_total", "Received messages that were dropped.", "reason")
	reconnected := f.counter("dfws_layer_reconnects_total", "Connections of the receiver that were made again.")
	refreshed := f.counters("dfws_layer_refreshes_total", "Times that all memberships were written again.", "cause")
	swept := f.counter("dfws_layer_groups_swept_total", "Memberships of dead processes that were removed.")
	return channelslayer.Observer{
		GroupSent:   func(s channelslayer.GroupSent) { overCapacity.Add(float64(s.OverCapacity)) },
		Received:    func(n int) { received.Add(float64(n)) },
		Dropped:     func(reason channelslayer.DropReason, n int) { dropped.WithLabelValues(string(reason)).Add(float64(n)) },
		Reconnected: reconnected.Inc,
		Refreshed:   func(cause channelslayer.RefreshCause, _ int) { refreshed.WithLabelValues(string(cause)).Inc() },
		Swept:       func(groups int) { swept.Add(float64(groups)) },
	}
}

func dispatchObserver(f factory) dispatch.Observer {
	planned := f.counters("dfws_dispatch_signals_total", "Triggered signals by what they led to.", "outcome")
	failed := f.counter("dfws_dispatch_failures_total", "Signals that could not be turned into tasks.")
	signals := f.gauge("dfws_dispatch_registry_signals", "Signals in the registry.")
	registryFailed := f.counter("dfws_dispatch_registry_failures_total", "Times that the registry, or an entry of it, could not be read.")
	badRevocation := f.counter("dfws_dispatch_revocations_unreadable_total", "Revocations that could not be read.")
	badNote := f.counter("dfws_dispatch_notes_unreadable_total", "Notes of other gateways that could not be read.")
	return dispatch.Observer{
		Planned:         func(outcome dispatch.Outcome, _ bool, _, _ int) { planned.WithLabelValues(string(outcome)).Inc() },
		PlanFailed:      failed.Inc,
		RegistryChanged: func(n int) { signals.Set(float64(n)) },
		RegistryFailed:  registryFailed.Inc,
		BadRevocation:   badRevocation.Inc,
		BadNote:         badNote.Inc,
	}
}
