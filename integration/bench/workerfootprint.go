package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/integration/bench/loadproto"
	"github.com/dfws/dfws/integration/harness"
)

const (
	idleTime = 20 * time.Second
	calm     = 3 * time.Second // after a start, before anything is measured

	aimIdleMB  = 30
	aimIdleCPU = 1 // per cent of a core

	etaTasks = 100_000
	etaSoon  = 1_000 // of them come due while the worker holds them
	etaAfter = 25 * time.Second

	warmTasks  = 10_000
	moreLaps   = 5    // of the usual number each: above a million in all
	aimGrowth  = 10.0 // per cent
	kibibyte   = 1 << 10
	mebibyte   = 1 << 20
	percentage = 100
)

// usage is what an idle worker costs.
type usage struct {
	megabytes, cpuPercent, commands float64
}

// idle measures both workers doing nothing.
func (b *workerBench) idle(ctx context.Context) error {
	ours, err := b.idleOf(ctx, func() (*harness.Process, error) { return b.goWorker(ctx, b.settings, nil) })
	if err != nil {
		return err
	}
	theirs, err := b.idleOf(ctx, func() (*harness.Process, error) { return b.celeryWorker(ctx, true) })
	if err != nil {
		return err
	}
	memory := atMost("idle worker, resident memory", "MiB", ours.megabytes, aimIdleMB)
	memory.theirs, memory.ratio = fmt.Sprintf("%s %s", celeryLabel, number(theirs.megabytes)), theirs.megabytes/ours.megabytes
	cpu := atMost("idle worker, processor", "% of a core", ours.cpuPercent, aimIdleCPU)
	cpu.theirs = fmt.Sprintf("%s %s", celeryLabel, number(theirs.cpuPercent))
	b.add(memory, cpu, times("idle worker, Redis commands", "/s", ours.commands, celeryLabel, theirs.commands, 0, true))
	return nil
}

func (b *workerBench) idleOf(ctx context.Context, start func() (*harness.Process, error)) (u usage, err error) {
	p, err := start()
	if err != nil {
		return u, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	pause(ctx, calm)
	commands, err := b.commands(ctx)
	if err != nil {
		return u, err
	}
	cpu, err := loadproto.GroupCPUSeconds(p.PID())
	if err != nil {
		return u, err
	}
	pause(ctx, idleTime)
	cpuAfter, err := loadproto.GroupCPUSeconds(p.PID())
	if err != nil {
		return u, err
	}
	commandsAfter, err := b.commands(ctx)
	if err != nil {
		return u, err
	}
	bytes, err := loadproto.GroupResidentBytes(p.PID())
	return usage{
		megabytes:  float64(bytes) / mebibyte,
		cpuPercent: percentage * (cpuAfter - cpu) / idleTime.Seconds(),
		commands:   (commandsAfter - commands - 1) / idleTime.Seconds(), // one INFO is ours
	}, err
}

var callsOf = regexp.MustCompile(`(?m)^cmdstat_[^:]+:calls=(\d+)`)

// commands is how many commands Redis has served, those inside scripts included.
func (b *workerBench) commands(ctx context.Context) (float64, error) {
	info, err := b.redis.Info(ctx, "commandstats").Result()
	if err != nil {
		return 0, err
	}
	return commandsOf(info)
}

// commandsOf adds up the calls in INFO commandstats.
func commandsOf(info string) (float64, error) {
	total := 0.0
	for _, match := range callsOf.FindAllStringSubmatch(info, -1) {
		n, err := strconv.ParseFloat(match[1], 64)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// waiting lets a worker take tasks that are due in an hour, among them some that are due soon, and stops it.
func (b *workerBench) waiting(ctx context.Context) (err error) {
	if err := b.results.FlushDB(ctx).Err(); err != nil {
		return err
	}
	broker, err := redisbroker.Open(redisbroker.Options{URL: redisURL(b.server.Addr, 0)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	soon := time.Now().Add(etaAfter).UTC()
	late := soon.Add(time.Hour)
	if _, err := publishAll(ctx, broker, etaTasks, func(i int) time.Time {
		if i%(etaTasks/etaSoon) == 0 {
			return soon
		}
		return late
	}); err != nil {
		return err
	}
	p, err := b.goWorker(ctx, b.settings, nil, "-max-waiting", strconv.Itoa(etaTasks))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	start := time.Now()
	held := func(queued, unacked int) func(context.Context) error {
		return func(ctx context.Context) error { return b.counts(ctx, queued, unacked) }
	}
	limit, cancel := context.WithTimeout(ctx, lapLimit)
	defer cancel()
	if err := harness.WaitFor(limit, "all tasks with an ETA are held", held(0, etaTasks)); err != nil {
		return err
	}
	took := time.Since(start)
	if time.Now().After(soon) {
		return fmt.Errorf("the tasks were taken too late, after %v", took)
	}
	bytes, err := loadproto.ResidentBytes(p.PID())
	if err != nil {
		return err
	}
	if err := harness.WaitFor(limit, "those that are due have run", held(0, etaTasks-etaSoon)); err != nil {
		return err
	}
	if stored, err := b.results.DBSize(ctx).Result(); err != nil || stored != etaSoon {
		return errors.Join(err, fmt.Errorf("%d results of %d tasks that were due", stored, etaSoon))
	}
	start = time.Now()
	if err := p.Stop(); err != nil {
		return err
	}
	back := time.Since(start)
	if err := b.counts(ctx, etaTasks-etaSoon, 0); err != nil {
		return fmt.Errorf("after the stop: %w", err)
	}
	row := atMost("100,000 tasks with ETA: taken", "s", took.Seconds(), etaAfter.Seconds())
	row.theirs = "none lost"
	b.add(row,
		times("100,000 tasks with ETA: given back at the stop", "s", back.Seconds(), "taken", took.Seconds(), 0, true),
		atMost("100,000 tasks with ETA: bytes held for each", "B", float64(bytes)/etaTasks, 8<<10))
	return b.redis.Unlink(ctx, queue).Err()
}

// counts checks what is queued and what is unacked; together they are all there is.
func (b *workerBench) counts(ctx context.Context, queued, unacked int) error {
	pipe := b.redis.TxPipeline()
	q, u := pipe.LLen(ctx, queue), pipe.HLen(ctx, "unacked")
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	if int(q.Val()) != queued || int(u.Val()) != unacked {
		return fmt.Errorf("%d queued and %d unacked, want %d and %d", q.Val(), u.Val(), queued, unacked)
	}
	return nil
}

// memory measures a worker after some and after very many tasks. What the runtime holds beyond the heap differs by megabytes from one
// collection to the next, so the later figure is the median of what was read after each lap: a leak shows in it, luck does not.
func (b *workerBench) memory(ctx context.Context) (err error) {
	p, err := b.goWorker(ctx, b.settings, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	if _, err := b.celeryProtocolLap(ctx, p, warmTasks); err != nil {
		return err
	}
	heap, resident, err := settledMemory(ctx, p)
	if err != nil {
		return err
	}
	var heaps, residents []float64
	for range moreLaps {
		if _, err := b.celeryProtocolLap(ctx, p, b.tasks); err != nil {
			return err
		}
		heapAfter, residentAfter, err := settledMemory(ctx, p)
		if err != nil {
			return err
		}
		heaps, residents = append(heaps, heapAfter), append(residents, residentAfter)
	}
	later := median(residents)
	progress("  resident memory: %.1f MiB after %d tasks, then %.1f–%.1f", resident/mebibyte, warmTasks, later.low/mebibyte, later.high/mebibyte)
	tasks := warmTasks + moreLaps*b.tasks
	grown := func(name string, before, after float64) row {
		r := atMost(fmt.Sprintf("%s up to %d tasks, growth since %d", name, tasks, warmTasks), "%", percentage*(after/before-1), aimGrowth)
		r.theirs = fmt.Sprintf("%.1f → %.1f MiB", before/mebibyte, after/mebibyte)
		return r
	}
	b.add(grown("heap", heap, median(heaps).median), grown("resident memory", resident, later.median))
	return b.results.FlushDB(ctx).Err()
}

// settledMemory reads the memory of a Go worker once it has given back what it does not use.
func settledMemory(ctx context.Context, p *harness.Process) (heap, resident float64, err error) {
	pause(ctx, calm)
	const times = 2 // pools empty themselves over two collections
	for range times {
		offset := p.LogSize()
		if err := p.Signal(syscall.SIGUSR1); err != nil {
			return 0, 0, err
		}
		limit, cancel := context.WithTimeout(ctx, calm)
		err := p.WaitLog(limit, offset, "goroutines")
		cancel()
		if err != nil {
			return 0, 0, err
		}
		lines := strings.Fields(p.LogFrom(offset))
		if len(lines) < 2 {
			return 0, 0, fmt.Errorf("noopworker said %q", lines)
		}
		if heap, err = strconv.ParseFloat(lines[1], 64); err != nil {
			return 0, 0, err
		}
	}
	bytes, err := loadproto.ResidentBytes(p.PID())
	return heap, float64(bytes), err
}
