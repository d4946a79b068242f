package worker

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dfws/dfws/compat/dispatch"
)

// announceEvery is how often the worker looks, in its copy of the registry, whether its entry is still there: a Redis that
// lost its data has lost it too, and until it is back the worker's signals are unknown everywhere.
const announceEvery = time.Second

// registry is what the worker needs of dispatch.Registry and dispatch.Store.
type registry interface {
	Refresh(ctx context.Context) error
	Entries() []*dispatch.Entry
	CheckConflicts(e *dispatch.Entry) error
	PublishRegistry(ctx context.Context, e *dispatch.Entry) error
}

// entry is what this worker tells the others about its handlers.
func (w *Worker) entry(queues []string) *dispatch.Entry {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	e := &dispatch.Entry{
		Publisher: dispatch.PublisherGo(w.cfg.App), Language: dispatch.LanguageGo, App: w.cfg.App,
		PublishedAt: float64(time.Now().UnixMilli()) / 1000, Host: host, PID: os.Getpid(),
		DefaultQueue: queues[0], Signals: map[string][]dispatch.Handler{},
	}
	if slices.Contains(queues, w.cfg.Settings.DFWS.GoQueue) {
		e.DefaultQueue = w.cfg.Settings.DFWS.GoQueue
	}
	for _, s := range w.handlers.order {
		required, optional := s.plan.names()
		e.Signals[s.signal] = append(e.Signals[s.signal], dispatch.Handler{
			Handler: s.name, Queue: s.queue, Queues: []string{s.queue}, Allow: s.allow.String(),
			Arguments: &dispatch.Arguments{Required: required, Optional: optional, Any: s.plan.takesAny()},
		})
	}
	return e
}

// announce reads the registry, refuses to start against it, reports what an operator should know, and publishes the
// entry. It waits for Redis as long as it takes. nil with an ended ctx means that the worker was stopped first.
func (w *Worker) announce(ctx context.Context, reg registry, queues []string) error {
	if !w.await(ctx, "registry", reg.Refresh) {
		return nil
	}
	e := w.entry(queues)
	if err := reg.CheckConflicts(e); err != nil {
		return err
	}
	w.report(reg.Entries(), queues)
	w.await(ctx, "registry entry", func(ctx context.Context) error { return reg.PublishRegistry(ctx, e) })
	return nil
}

// keepAnnounced publishes the entry again when it has disappeared, until ctx ends.
func (w *Worker) keepAnnounced(ctx context.Context, reg registry, queues []string) {
	ticker := time.NewTicker(announceEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		publisher := dispatch.PublisherGo(w.cfg.App)
		if slices.ContainsFunc(reg.Entries(), func(e *dispatch.Entry) bool { return e.Publisher == publisher }) {
			continue
		}
		if err := reg.PublishRegistry(ctx, w.entry(queues)); err != nil && ctx.Err() == nil {
			w.log.Warn("registry entry missing and not published", "err", err)
		}
	}
}

// await repeats f until it succeeds; false means that ctx ended first.
func (w *Worker) await(ctx context.Context, what string, f func(context.Context) error) bool {
	for wait := settleMinWait; ; wait = min(2*wait, settleMaxWait) {
		err := f(ctx)
		if err == nil {
			return true
		}
		if wait == settleMinWait {
			w.log.Warn("waiting for Redis", "for", what, "err", err)
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
	}
}

// report names what is odd about the worker's queues: those that Python consumes as well, and signals on them that only
// Python handles, which this worker would take and send back.
func (w *Worker) report(entries []*dispatch.Entry, queues []string) {
	python := map[string][]string{}
	for _, e := range entries {
		if e.Language != dispatch.LanguagePython {
			continue
		}
		for signal, handlers := range e.Signals {
			for _, h := range handlers {
				for _, queue := range append([]string{h.Queue}, h.Queues...) {
					if queue != "" && !slices.Contains(python[queue], signal) {
						python[queue] = append(python[queue], signal)
					}
				}
			}
		}
	}
	settings := w.cfg.Settings
	for _, queue := range queues {
		signals := python[queue]
		if len(signals) == 0 && queue != settings.WebSocket.DefaultQueue && queue != settings.Celery.TaskDefaultQueue {
			continue
		}
		w.log.Warn("queue belongs to Python workers: they drop the signals of Go handlers, and this worker sends back what is theirs",
			"queue", queue)
		if len(signals) > 0 {
			slices.SortFunc(signals, strings.Compare)
			w.log.Warn("signals with handlers only in Python", "queue", queue, "signals", signals)
		}
	}
	for _, s := range w.handlers.order {
		if !slices.Contains(queues, s.queue) {
			w.log.Warn("handler waits for another worker: its queue is not among Config.Queues", "signal", s.signal, "queue", s.queue)
		}
	}
}
