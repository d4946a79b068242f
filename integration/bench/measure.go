package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dfws/dfws/integration/bench/loadproto"
)

// plan is how much a server is asked to do in one round. Rates and costs per piece are compared, so the slower server may be
// given fewer pieces.
type plan struct {
	windows     int // connected at once
	concurrency int // handshakes under way at once
	broadcasts  int // frames to all windows, one after the other
	signals     int // from the browsers into the queue
}

// server is what a round measures: the process of the websocket server and the ways to reach it.
type server struct {
	name      string
	pid       int
	websocket string
}

// result of one round with one server.
type result struct {
	connectsPerSecond float64
	bytesPerWindow    float64
	broadcastP99      float64 // milliseconds from group_send to the frame at the window
	cpuPerFrame       float64 // microseconds of the server's processor time per delivered frame
	signalsPerSecond  float64
	cpuPerSignal      float64 // microseconds
	generatorShare    float64 // the largest share of one processor core that the load generator used
}

// site is what a round needs besides the server.
type site interface {
	// Broadcast sends one frame to the group of all windows, as a Python process would.
	Broadcast(ctx context.Context, opts string) error
	// QueueLength is the number of tasks in the queue of the intake benchmark.
	QueueLength(ctx context.Context) (int, error)
	// EmptyQueue removes them.
	EmptyQueue(ctx context.Context) error
}

const (
	warmUpWindows = 20               // connected and gone before memory is first read: both servers load code lazily
	settle        = 12 * time.Second // both servers may tidy up before their memory is read
)

// round measures everything once, on a server that was just started.
func round(ctx context.Context, gen *generator, s server, st site, cookies []string, p plan) (*result, error) {
	connect := func(n int) (*loadproto.Reply, error) {
		reply, err := gen.ask(loadproto.Command{Do: "connect", URL: s.websocket, Cookies: cookies[:n],
			Concurrency: min(p.concurrency, n), TimeoutSeconds: 120})
		if err == nil && (reply.Failed > 0 || reply.Open != n) {
			err = fmt.Errorf("%d of %d windows opened, %d failed: %s", reply.Open, n, reply.Failed, reply.Error)
		}
		return reply, err
	}
	if _, err := connect(warmUpWindows); err != nil {
		return nil, fmt.Errorf("warm-up: %w", err)
	}
	if _, err := gen.ask(loadproto.Command{Do: "close"}); err != nil {
		return nil, err
	}
	pause(ctx, settle)
	before, err := loadproto.ResidentBytes(s.pid)
	if err != nil {
		return nil, err
	}
	r := &result{}
	reply, err := connect(p.windows)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	r.connectsPerSecond = float64(p.windows) / reply.Seconds
	r.generatorShare = gen.share()
	pause(ctx, settle)
	after, err := loadproto.ResidentBytes(s.pid)
	if err != nil {
		return nil, err
	}
	r.bytesPerWindow = float64(after-before) / float64(p.windows)
	if err := broadcast(ctx, gen, s, st, p, r); err != nil {
		return nil, fmt.Errorf("broadcast: %w", err)
	}
	if err := intake(ctx, gen, s, st, p, r); err != nil {
		return nil, fmt.Errorf("intake: %w", err)
	}
	_, err = gen.ask(loadproto.Command{Do: "close"})
	return r, err
}

// broadcast sends p.broadcasts frames, each after the one before has reached every window.
func broadcast(ctx context.Context, gen *generator, s server, st site, p plan, r *result) error {
	cpu, err := loadproto.CPUSeconds(s.pid)
	if err != nil {
		return err
	}
	for range p.broadcasts {
		if err := st.Broadcast(ctx, fmt.Sprintf(`{"sent_ns": %d, "text": "a broadcast of the usual size, some hundred bytes with the envelope"}`, time.Now().UnixNano())); err != nil {
			return err
		}
		reply, err := gen.ask(loadproto.Command{Do: "await", Total: p.windows, TimeoutSeconds: 60})
		if err != nil {
			return err
		}
		if reply.Received != p.windows || reply.Lost > 0 {
			return fmt.Errorf("%d of %d frames arrived, %d windows were lost", reply.Received, p.windows, reply.Lost)
		}
		r.broadcastP99 = max(r.broadcastP99, reply.P99Millis)
		r.generatorShare = max(r.generatorShare, gen.share())
	}
	used, err := loadproto.CPUSeconds(s.pid)
	r.cpuPerFrame = (used - cpu) * 1e6 / float64(p.windows*p.broadcasts)
	return err
}

// intake sends p.signals frames from the browsers and waits until as many tasks are in the queue.
func intake(ctx context.Context, gen *generator, s server, st site, p plan, r *result) error {
	if err := st.EmptyQueue(ctx); err != nil {
		return err
	}
	cpu, err := loadproto.CPUSeconds(s.pid)
	if err != nil {
		return err
	}
	start := time.Now()
	reply, err := gen.ask(loadproto.Command{Do: "send", Total: p.signals, Text: `{"signal":"bench.intake","opts":{"n":1}}`})
	if err != nil {
		return err
	}
	if reply.Failed > 0 {
		return fmt.Errorf("%d windows could not send", reply.Failed)
	}
	r.generatorShare = max(r.generatorShare, gen.share())
	count, deadline := 0, start.Add(2*time.Minute)
	for count < p.signals {
		if count, err = st.QueueLength(ctx); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d signals are in the queue", count, p.signals)
		}
		pause(ctx, 5*time.Millisecond)
	}
	r.signalsPerSecond = float64(p.signals) / time.Since(start).Seconds()
	used, err := loadproto.CPUSeconds(s.pid)
	if err != nil {
		return err
	}
	r.cpuPerSignal = (used - cpu) * 1e6 / float64(p.signals)
	if count > p.signals {
		return fmt.Errorf("%d tasks in the queue for %d signals", count, p.signals)
	}
	return st.EmptyQueue(ctx)
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
