package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/integration/bench/latencyproxy"
	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/integration/redistest"
)

// What is done in one run: sizes such that each side works for some seconds.
const (
	celeryTasks   = 6_000
	asynqTasks    = 60_000
	goceleryTasks = 7_000

	concurrency    = 128 // of the Go programs
	celeryPrefork  = 2
	publishWorkers = 2 // Celery processes that fill the queue

	addedRTT = 2 * time.Millisecond

	taskName = "bench.noop"
	queue    = "bench"    // of everybody
	template = "template" // what Celery published, to be copied into the queue for each lap
	resultDB = 1
)

// workerBench is one Redis with what works on it.
type workerBench struct {
	lab      *harness.Lab
	tasks    int // that Celery publishes for the Go worker
	server   *redistest.Server
	redis    *redis.Client // the broker's database
	results  *redis.Client
	settings string // of the Go worker
	binary   string // of the Go worker
	peers    string // binary of asynq and gocelery
	rows     []row

	pipelined float64 // messages that Go publishes in a second
}

func runWorker(ctx context.Context, rounds, tasks int, parts string) (err error) {
	lab, err := harness.New(harness.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	b := &workerBench{lab: lab, tasks: tasks}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	start := time.Now()
	var ratio float64
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"publish", b.publishing},
		{"throughput", func(ctx context.Context) (err error) { ratio, err = b.throughput(ctx, rounds); return err }},
		{"idle", b.idle},
		{"latency", b.latencies},
		{"eta", b.waiting},
		{"memory", b.memory},
	} {
		if parts != "" && part.name != "publish" && !slices.Contains(strings.Split(parts, ","), part.name) {
			continue
		}
		began := time.Now()
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		progress("%s: %.0f s", part.name, time.Since(began).Seconds())
	}
	fmt.Printf("%d cores shared by Redis, the program measured and this one; %d rounds; Go worker, asynq and gocelery with %d tasks at once, "+
		"Celery prefork with %d\ntasks: Go worker %d, Celery %d (published by Celery), asynq %d, gocelery %d (published by their own clients); "+
		"%.0f s\n\n",
		runtime.NumCPU(), rounds, concurrency, celeryPrefork, tasks, celeryTasks, asynqTasks, goceleryTasks, time.Since(start).Seconds())
	return reportRows(os.Stdout, b.rows, ratio)
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

func (b *workerBench) add(r ...row) { b.rows = append(b.rows, r...) }

func (b *workerBench) prepare(ctx context.Context) (err error) {
	if b.server, err = redistest.Launch(redistest.Options{}); err != nil {
		return err
	}
	open := func(db int) *redis.Client {
		return redis.NewClient(&redis.Options{Addr: b.server.Addr, Protocol: 2, DB: db, DisableIdentity: true})
	}
	b.redis, b.results = open(0), open(resultDB)
	if b.settings, err = b.writeSettings("settings.json", b.server.Addr); err != nil {
		return err
	}
	if b.binary, err = b.lab.Binary(ctx, "integration/bench/noopworker"); err != nil {
		return err
	}
	b.peers = filepath.Join(b.lab.Dir(), "peers")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.peers, ".") // a module of its own
	build.Dir = filepath.Join(b.lab.Root(), "integration", "bench", "peers")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build peers: %w\n%s", err, out)
	}
	return nil
}

func (b *workerBench) close() error {
	var errs []error
	for _, c := range []*redis.Client{b.redis, b.results} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	if b.server != nil {
		errs = append(errs, b.server.Close())
	}
	return errors.Join(errs...)
}

// writeSettings writes what the Go worker reads, for a Redis at addr.
func (b *workerBench) writeSettings(name, addr string) (string, error) {
	text, err := json.Marshal(map[string]any{
		"schema":        1,
		"celery":        map[string]any{"broker_url": redisURL(addr, 0), "result_backend": redisURL(addr, resultDB)},
		"channel_layer": map[string]any{"hosts": []any{map[string]any{"url": redisURL(addr, 2)}}},
	})
	if err != nil {
		return "", err
	}
	file := filepath.Join(b.lab.Dir(), name)
	return file, os.WriteFile(file, text, 0o600)
}

func redisURL(addr string, db int) string { return fmt.Sprintf("redis://%s/%d", addr, db) }

// goWorker starts the Go worker and returns once it consumes.
func (b *workerBench) goWorker(ctx context.Context, settings string, env []string, args ...string) (*harness.Process, error) {
	return b.lab.Start(ctx, harness.Command{
		Name: "noopworker", Path: b.binary, Env: env, StopTimeout: 30 * time.Second,
		Args:  append([]string{"-settings", settings, "-concurrency", strconv.Itoa(concurrency)}, args...),
		Ready: logs("consuming"),
	})
}

// logs is a Command's Ready: the log has a text.
func logs(text string) func(context.Context, *harness.Process) error {
	return func(_ context.Context, p *harness.Process) error {
		if !strings.Contains(p.LogFrom(0), text) {
			return fmt.Errorf("no line with %q", text)
		}
		return nil
	}
}

func (b *workerBench) celeryEnv(late bool) []string {
	env := []string{"BENCH_BROKER=" + redisURL(b.server.Addr, 0), "BENCH_BACKEND=" + redisURL(b.server.Addr, resultDB)}
	if late {
		env = append(env, "BENCH_ACKS_LATE=1")
	}
	return env
}

func (b *workerBench) celeryApp() string {
	return filepath.Join(b.lab.Root(), "integration", "bench", "celeryapp")
}

// celeryWorker starts a Celery worker and returns once it consumes.
func (b *workerBench) celeryWorker(ctx context.Context, late bool) (*harness.Process, error) {
	return b.lab.Start(ctx, harness.Command{
		Name: "celery", Path: b.lab.Python(), Dir: b.celeryApp(), Env: b.celeryEnv(late), MayBeKilled: true,
		Args: []string{"-m", "celery", "-A", "benchapp", "worker", "-Q", queue, "--pool", "prefork",
			"-c", strconv.Itoa(celeryPrefork), "--loglevel", "WARNING"},
		Ready: logs("bench is ready"),
	})
}

// celeryPublish lets processes of Celery put n tasks into the queue, and returns the seconds that the slowest needed.
func (b *workerBench) celeryPublish(ctx context.Context, processes, n int) (float64, error) {
	var wg sync.WaitGroup
	errs, seconds := make([]error, processes), make([]float64, processes)
	share := n / processes
	for i := range processes {
		wg.Go(func() {
			cmd := exec.CommandContext(ctx, b.lab.Python(), "benchapp.py", strconv.Itoa(i*share), strconv.Itoa(share))
			cmd.Dir, cmd.Env, cmd.Stderr = b.celeryApp(), append(os.Environ(), b.celeryEnv(true)...), os.Stderr
			out, err := cmd.Output()
			if err == nil {
				seconds[i], err = strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, fmt.Errorf("celery publishes: %w", err)
	}
	got, err := b.redis.LLen(ctx, queue).Result()
	if err == nil && int(got) != share*processes {
		err = fmt.Errorf("celery published %d messages of %d", got, share*processes)
	}
	slowest := seconds[0]
	for _, s := range seconds {
		slowest = max(slowest, s)
	}
	return slowest, err
}

// proxied is a Redis farther away: settings for it, and the round trip that was measured through it.
func (b *workerBench) proxied(ctx context.Context) (p *latencyproxy.Proxy, settings string, rtt time.Duration, err error) {
	if p, err = latencyproxy.Listen(b.server.Addr, addedRTT/2); err != nil {
		return nil, "", 0, err
	}
	if settings, err = b.writeSettings("far.json", p.Addr()); err != nil {
		return p, "", 0, err
	}
	far := redis.NewClient(&redis.Options{Addr: p.Addr(), Protocol: 2, DisableIdentity: true})
	defer func() { err = errors.Join(err, far.Close()) }()
	var trips []float64
	for range 101 {
		start := time.Now()
		if err := far.Ping(ctx).Err(); err != nil {
			return p, "", 0, err
		}
		trips = append(trips, float64(time.Since(start)))
	}
	return p, settings, time.Duration(median(trips).median), nil
}
