package main

import (
	"context"
	"errors"
	"fmt"
)

// Aims of the throughput.
const (
	aimCelery    = 45
	aimAsynq     = 3
	aimLatency   = 3
	relaxedGOGC  = "GOGC=400"
	celeryLabel  = "Celery"
	asynqLabel   = "asynq"
	goceleryName = "gocelery"
)

// laps are those of one program.
type laps []pace

func (l laps) median(value func(pace) float64) spreadOf {
	values := make([]float64, len(l))
	for i, p := range l {
		values[i] = value(p)
	}
	return median(values)
}

func perSecond(p pace) float64 { return p.perSecond }

// throughput measures no-op tasks, the programs one after the other in each round, and returns how many times faster than Celery
// the Go worker is.
func (b *workerBench) throughput(ctx context.Context, rounds int) (ratio float64, err error) {
	far, farSettings, rtt, err := b.proxied(ctx)
	if far != nil {
		defer func() { err = errors.Join(err, far.Close()) }()
	}
	if err != nil {
		return 0, err
	}
	all := map[string]laps{}
	var asynqFill []float64
	type namedLap struct {
		name string
		run  func() (pace, error)
	}
	run := func(laps []namedLap) error {
		for _, l := range laps {
			p, err := l.run()
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			progress("  %s: %s", l.name, p.describe())
			all[l.name] = append(all[l.name], p)
		}
		return nil
	}
	goLap := func(settings string, env []string, args ...string) func() (pace, error) {
		return func() (pace, error) { return b.goLap(ctx, settings, env, args...) }
	}
	celeryLap := func(late bool) func() (pace, error) {
		return func() (pace, error) { return b.celeryLap(ctx, late) }
	}
	peerLap := func(name string, n int, results bool) func() (pace, error) {
		return func() (pace, error) {
			p, fill, err := b.peerLap(ctx, name, n, results)
			if name == asynqLabel {
				asynqFill = append(asynqFill, fill)
			}
			return p, err
		}
	}
	for i := range rounds {
		progress("round %d of %d", i+1, rounds)
		if err := run([]namedLap{
			{"go", goLap(b.settings, nil)},
			{"celery", celeryLap(true)},
			{"go, far", goLap(farSettings, nil)},
			{"asynq", peerLap(asynqLabel, asynqTasks, true)},
		}); err != nil {
			return 0, err
		}
	}
	if err := run([]namedLap{
		{"go early", goLap(b.settings, nil, "-ack-early")},
		{"go " + relaxedGOGC, goLap(b.settings, []string{relaxedGOGC})},
		{"celery early", celeryLap(false)},
		{"asynq bare", peerLap(asynqLabel, asynqTasks, false)},
		{"gocelery", peerLap(goceleryName, goceleryTasks, true)},
	}); err != nil {
		return 0, err
	}
	if err := b.dropAsynq(ctx); err != nil {
		return 0, err
	}
	rate := func(name string) float64 { return all[name].median(perSecond).median }
	ours := rate("go")
	spread := all["go"].median(perSecond)
	celery := all["celery"].median(perSecond)
	progress("go %.0f–%.0f/s, celery %.0f–%.0f/s", spread.low, spread.high, celery.low, celery.high)
	farRow := times("no-op tasks, 2 ms farther away", "/s", rate("go, far"), "near", ours, 0, false)
	farRow.name = fmt.Sprintf("no-op tasks, Redis %.1f ms away", rtt.Seconds()*1e3)
	farRow.aim, farRow.score = fmt.Sprintf("≥ 1/%d", aimLatency), farRow.ratio*aimLatency
	b.add(
		times("no-op tasks, results stored, acks late", "/s", ours, celeryLabel, rate("celery"), aimCelery, false),
		times("no-op tasks, results stored, acks late", "/s", ours, asynqLabel, rate("asynq"), aimAsynq, false),
		times("no-op tasks, asynq without results", "/s", ours, asynqLabel, rate("asynq bare"), 0, false),
		times("no-op tasks, gocelery never acks", "/s", ours, goceleryName, rate("gocelery"), 0, false),
		times("no-op tasks, acks early", "/s", rate("go early"), celeryLabel, rate("celery early"), 0, false),
		times("no-op tasks, "+relaxedGOGC, "/s", rate("go "+relaxedGOGC), "default", ours, 0, false),
		farRow,
		times("worker's processor time for each task", "µs", all["go"].median(func(p pace) float64 { return p.worker }).median,
			celeryLabel, all["celery"].median(func(p pace) float64 { return p.worker }).median, 0, true),
		times("Redis' processor time for each task", "µs", all["go"].median(func(p pace) float64 { return p.redis }).median,
			celeryLabel, all["celery"].median(func(p pace) float64 { return p.redis }).median, 0, true),
	)
	b.add(times("published by asynq's client, 8 goroutines", "/s", b.pipelined, asynqLabel, median(asynqFill).median, 0, false))
	return ours / rate("celery"), nil
}
