package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/bench/loadproto"
	"github.com/dfws/dfws/integration/harness"
)

const (
	goCalls     = 4_000
	celeryCalls = 800
	warmCalls   = 50
)

// latencies measures from before a message is published until its result is there, seen by one and the same Go client.
func (b *workerBench) latencies(ctx context.Context) error {
	ours, err := b.latencyOf(ctx, goCalls, func() (*harness.Process, error) { return b.goWorker(ctx, b.settings, nil) })
	if err != nil {
		return err
	}
	theirs, err := b.latencyOf(ctx, celeryCalls, func() (*harness.Process, error) { return b.celeryWorker(ctx, true) })
	if err != nil {
		return err
	}
	for i, flight := range inFlight {
		for _, p := range []int{50, 99} {
			b.add(times(fmt.Sprintf("call to result, %d in flight, p%d", flight, p), "ms",
				loadproto.Percentile(ours[i], p), celeryLabel, loadproto.Percentile(theirs[i], p), 0, true))
		}
	}
	return nil
}

var inFlight = []int{1, 8}

func (b *workerBench) latencyOf(ctx context.Context, calls int, start func() (*harness.Process, error)) (all [][]time.Duration, err error) {
	p, err := start()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	broker, err := redisbroker.Open(redisbroker.Options{URL: redisURL(b.server.Addr, 0)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	results, err := redisbroker.OpenResults(redisbroker.ResultOptions{URL: redisURL(b.server.Addr, resultDB)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, results.Close()) }()
	for _, flight := range inFlight {
		if _, err := callAll(ctx, broker, results, warmCalls, flight); err != nil {
			return nil, err
		}
		delays, err := callAll(ctx, broker, results, calls, flight)
		if err != nil {
			return nil, err
		}
		all = append(all, delays)
	}
	return all, nil
}

// callAll makes n calls, flight of them at a time.
func callAll(ctx context.Context, broker *redisbroker.Broker, results *redisbroker.Results, n, flight int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, lapLimit)
	defer cancel()
	delays, errs := make([]time.Duration, n), make([]error, flight)
	var next atomic.Int64
	var wg sync.WaitGroup
	for f := range flight {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && errs[f] == nil; i = int(next.Add(1)) - 1 {
				start := time.Now()
				errs[f] = call(ctx, broker, results, i)
				delays[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	return delays, errors.Join(errs...)
}

// call makes one call and checks its result.
func call(ctx context.Context, broker *redisbroker.Broker, results *redisbroker.Results, i int) error {
	id, m, err := envelope(i, time.Time{})
	if err != nil {
		return err
	}
	if err := broker.Publish(ctx, m); err != nil {
		return err
	}
	meta, err := results.Wait(ctx, id)
	if err == nil && (meta.Status != celeryproto.StatusSuccess || meta.Result.String() != fmt.Sprint(i)) {
		err = fmt.Errorf("call %d: %s %s", i, meta.Status, meta.Result)
	}
	return err
}
