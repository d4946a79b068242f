package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dfws/dfws/integration/bench/loadproto"
)

// step is what was measured with a number of windows open.
type step struct {
	windows           int
	connectsPerSecond float64 // of the windows that this step added
	bytesPerWindow    float64 // resident memory above that of the server without windows
	idleCPU           float64 // percent of a core
	p50, p99          float64 // milliseconds from group_send to the frame at the window, over all frames of the worst broadcast
	cpuPerFrame       float64 // microseconds of the server's processor time
	redisCommands     float64 // for each broadcast, those of the idle server taken off
	redisBytes        float64 // that Redis sent for each, in the same way
	generatorShare    float64 // the largest share of a core that the load generator used
}

// measured is what one contender did in one round.
type measured struct {
	steps            []step
	signalsPerSecond float64
	cpuPerSignal     float64 // microseconds
	callP50, callP99 float64 // milliseconds from a browser's signal to the answer of its handler
	cutShare         float64 // percent of the messages that arrive when each page is cut every ten seconds
}

// at is the step with so many windows.
func (m *measured) at(windows int) (step, error) {
	for _, s := range m.steps {
		if s.windows == windows {
			return s, nil
		}
	}
	return step{}, fmt.Errorf("nothing was measured with %d windows", windows)
}

const (
	warmUpWindows = 20               // connected and gone before memory is first read: servers load code lazily
	settle        = 12 * time.Second // servers may tidy up before their memory is read
	idleFor       = 15 * time.Second
	callsInFlight = 8
)

// windowLap is one contender under measurement.
type windowLap struct {
	bench     *gatewayBench
	contender contender
	pid       int
	url       string
	gen       *generator
	m         *measured

	empty int64 // resident bytes without windows
	open  int
}

func (l *windowLap) connect(n int) (*loadproto.Reply, error) {
	const atOnce = 32
	reply, err := l.gen.ask(loadproto.Command{Do: "connect", URL: l.url, Cookies: l.bench.cookies[l.open:][:n], Concurrency: min(atOnce, n), TimeoutSeconds: 300})
	if err == nil && (reply.Failed > 0 || reply.Open != l.open+n) {
		err = fmt.Errorf("%d of %d windows opened, %d failed: %s", reply.Open, l.open+n, reply.Failed, reply.Error)
	}
	return reply, err
}

func (l *windowLap) warmUp(ctx context.Context) error {
	if _, err := l.connect(warmUpWindows); err != nil {
		return err
	}
	if _, err := l.gen.ask(loadproto.Command{Do: "close"}); err != nil {
		return err
	}
	pause(ctx, settle)
	var err error
	l.empty, err = loadproto.ResidentBytes(l.pid)
	return err
}

// step opens windows until there are so many, leaves them alone, and broadcasts to them.
func (l *windowLap) step(ctx context.Context, windows int) error {
	s := step{windows: windows}
	more := windows - l.open
	reply, err := l.connect(more)
	if err != nil {
		return err
	}
	l.open = windows
	s.connectsPerSecond, s.generatorShare = float64(more)/reply.Seconds, l.gen.share()
	pause(ctx, settle)
	resident, err := loadproto.ResidentBytes(l.pid)
	if err != nil {
		return err
	}
	s.bytesPerWindow = float64(resident-l.empty) / float64(windows)
	idle, err := l.watch(ctx, func() error { pause(ctx, idleFor); return ctx.Err() })
	if err != nil {
		return err
	}
	s.idleCPU = percentage * idle.cpu / idle.seconds
	busy, err := l.watch(ctx, func() error { return l.broadcasts(ctx, &s) })
	if err != nil {
		return err
	}
	n := float64(l.contender.broadcasts)
	s.cpuPerFrame = busy.cpu * 1e6 / (n * float64(windows))
	s.redisCommands = max(0, busy.commands-idle.commands*busy.seconds/idle.seconds) / n
	s.redisBytes = max(0, busy.bytes-idle.bytes*busy.seconds/idle.seconds) / n
	l.m.steps = append(l.m.steps, s)
	progress("  %s, %d windows: %.0f connects/s, %.1f KiB each, idle %.1f %%, broadcast p50 %.0f ms, p99 %.0f ms, %.1f µs for each frame, "+
		"%.0f commands and %.0f bytes of Redis", l.contender.name, windows, s.connectsPerSecond, s.bytesPerWindow/kibibyte, s.idleCPU, s.p50, s.p99,
		s.cpuPerFrame, s.redisCommands, s.redisBytes)
	return nil
}

// spent is what the server and Redis did in a while.
type spent struct{ seconds, cpu, commands, bytes float64 }

func (l *windowLap) watch(ctx context.Context, during func() error) (s spent, err error) {
	read := func() (now spent, err error) {
		if now.cpu, err = loadproto.CPUSeconds(l.pid); err == nil {
			now.commands, now.bytes, err = l.bench.redisWork(ctx)
		}
		return now, err
	}
	before, err := read()
	if err != nil {
		return s, err
	}
	began := time.Now()
	if err := during(); err != nil {
		return s, err
	}
	after, err := read()
	return spent{time.Since(began).Seconds(), after.cpu - before.cpu, after.commands - before.commands, after.bytes - before.bytes}, err
}

// broadcasts sends frames to all windows, each after the one before has reached every window.
func (l *windowLap) broadcasts(ctx context.Context, s *step) error {
	for range l.contender.broadcasts {
		if err := l.bench.broadcast(ctx); err != nil {
			return err
		}
		reply, err := l.gen.ask(loadproto.Command{Do: "await", Total: l.open, TimeoutSeconds: 120})
		if err != nil {
			return err
		}
		if reply.Received != l.open || reply.Lost > 0 {
			return fmt.Errorf("%d of %d frames arrived, %d windows were lost", reply.Received, l.open, reply.Lost)
		}
		if reply.P99Millis > s.p99 {
			s.p50, s.p99 = reply.P50Millis, reply.P99Millis
		}
		s.generatorShare = max(s.generatorShare, l.gen.share())
	}
	return nil
}

// intake sends frames from the browsers and waits until as many tasks are in the queue.
func (l *windowLap) intake(ctx context.Context) error {
	total, b := l.contender.signals, l.bench
	if err := b.broker.Del(ctx, intakeQueue).Err(); err != nil {
		return err
	}
	cpu, err := loadproto.CPUSeconds(l.pid)
	if err != nil {
		return err
	}
	start := time.Now()
	reply, err := l.gen.ask(loadproto.Command{Do: "send", Total: total, Text: `{"signal":"bench.intake","opts":{"n":1}}`})
	if err != nil {
		return err
	}
	if reply.Failed > 0 {
		return fmt.Errorf("%d windows could not send", reply.Failed)
	}
	count, deadline := 0, start.Add(2*time.Minute)
	for count < total {
		n, err := b.broker.LLen(ctx, intakeQueue).Result()
		if err != nil {
			return err
		}
		if count = int(n); time.Now().After(deadline) {
			return fmt.Errorf("%d of %d signals are in the queue", count, total)
		}
		pause(ctx, 5*time.Millisecond)
	}
	l.m.signalsPerSecond = float64(total) / time.Since(start).Seconds()
	used, err := loadproto.CPUSeconds(l.pid)
	if err != nil {
		return err
	}
	l.m.cpuPerSignal = (used - cpu) * 1e6 / float64(total)
	if count > total {
		return fmt.Errorf("%d tasks in the queue for %d signals", count, total)
	}
	progress("  %s: %.0f signals/s into the queue, %.1f µs each", l.contender.name, l.m.signalsPerSecond, l.m.cpuPerSignal)
	return b.broker.Del(ctx, intakeQueue).Err()
}

// roundTrips measures from a browser's signal to the frame that its handler sends the window.
func (l *windowLap) roundTrips(ctx context.Context) (err error) {
	w, err := l.contender.work(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Stop()) }()
	for _, calls := range []int{l.contender.calls / 10, l.contender.calls} { // the first is for warming up
		reply, err := l.gen.ask(loadproto.Command{Do: "roundtrip", Total: calls, Concurrency: callsInFlight, TimeoutSeconds: 120,
			Text: fmt.Sprintf(`{"signal":%q,"opts":{"n":1}}`, l.contender.callSignal)})
		if err != nil {
			return err
		}
		if reply.Failed > 0 || reply.Received != calls {
			return fmt.Errorf("%d of %d answers came, %d windows gave up", reply.Received, calls, reply.Failed)
		}
		l.m.callP50, l.m.callP99 = reply.P50Millis, reply.P99Millis
	}
	progress("  %s: there and back in %.2f ms (p50), %.2f ms (p99), %d at once", l.contender.name, l.m.callP50, l.m.callP99, callsInFlight)
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
