package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/integration/bench/loadproto"
	"github.com/dfws/dfws/integration/harness"
)

// lap is one full queue that one program empties.
type lap struct {
	n       int
	pid     int                                // leader of the program's process group
	release func(context.Context) error        // starts the clock
	left    func(context.Context) (int, error) // how much is not over; 0 ends the lap
	verify  func(context.Context, int) error   // that nothing was left out; given n
}

// pace is what a lap measured.
type pace struct {
	perSecond float64
	seconds   float64
	worker    float64 // µs of processor time for each task
	redis     float64 // likewise
}

const (
	pollEvery = 5 * time.Millisecond
	lapLimit  = 2 * time.Minute
)

func (b *workerBench) measureLap(ctx context.Context, l lap) (pace, error) {
	cpu := func() (worker, redis float64, err error) {
		if worker, err = loadproto.GroupCPUSeconds(l.pid); err != nil {
			return 0, 0, err
		}
		redis, err = loadproto.CPUSeconds(b.server.PID())
		return worker, redis, err
	}
	worker, redis, err := cpu()
	if err != nil {
		return pace{}, err
	}
	start := time.Now()
	if err := l.release(ctx); err != nil {
		return pace{}, err
	}
	for {
		left, err := l.left(ctx)
		if err != nil {
			return pace{}, err
		}
		if left == 0 {
			break
		}
		if time.Since(start) > lapLimit {
			return pace{}, fmt.Errorf("%d tasks are left after %v", left, lapLimit)
		}
		pause(ctx, pollEvery)
	}
	seconds := time.Since(start).Seconds()
	workerAfter, redisAfter, err := cpu()
	if err != nil {
		return pace{}, err
	}
	n := float64(l.n)
	p := pace{perSecond: n / seconds, seconds: seconds, worker: (workerAfter - worker) * 1e6 / n, redis: (redisAfter - redis) * 1e6 / n}
	return p, l.verify(ctx, l.n)
}

// prepareQueue copies the first n messages that Celery published; releaseQueue gives them to whoever consumes.
func (b *workerBench) prepareQueue(ctx context.Context, n int) error {
	if err := b.results.FlushDB(ctx).Err(); err != nil {
		return err
	}
	if err := b.redis.Copy(ctx, template, "staged", 0, true).Err(); err != nil {
		return err
	}
	return b.redis.LTrim(ctx, "staged", int64(-n), -1).Err() // consumed from the right
}

func (b *workerBench) releaseQueue(ctx context.Context) error {
	return b.redis.Rename(ctx, "staged", queue).Err()
}

// celeryLeft counts the tasks of Celery's protocol that are not over: no result yet, or still in the queue or unacked.
func (b *workerBench) celeryLeft(n int) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		pipe := b.redis.Pipeline()
		queued, unacked := pipe.LLen(ctx, queue), pipe.HLen(ctx, "unacked")
		if _, err := pipe.Exec(ctx); err != nil {
			return 0, err
		}
		stored, err := b.results.DBSize(ctx).Result()
		return max(n-int(stored), int(queued.Val()+unacked.Val())), err
	}
}

// verifyResults checks that there is one result for each task, all of them successes, and nothing else.
func (b *workerBench) verifyResults(ctx context.Context, n int) error {
	count, values := 0, map[string]bool{}
	var cursor uint64
	for {
		keys, next, err := b.results.Scan(ctx, cursor, "*", 1000).Result()
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			metas, err := b.results.MGet(ctx, keys...).Result()
			if err != nil {
				return err
			}
			for i, meta := range metas {
				text, _ := meta.(string)
				m, err := celeryproto.DecodeResult([]byte(text))
				if err != nil {
					return fmt.Errorf("%s: %w", keys[i], err)
				}
				if m.Status != celeryproto.StatusSuccess {
					return fmt.Errorf("%s is %s", keys[i], m.Status)
				}
				values[m.Result.String()] = true
				count++
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	if count != n || len(values) != n { // each task returns its own number
		return fmt.Errorf("%d results with %d values for %d tasks", count, len(values), n)
	}
	index, err := b.redis.ZCard(ctx, "unacked_index").Result()
	if err == nil && index != 0 {
		err = fmt.Errorf("%d entries are left in the index of unacked messages", index)
	}
	return err
}

// celeryProtocolLap measures a worker that consumes already.
func (b *workerBench) celeryProtocolLap(ctx context.Context, p *harness.Process, n int) (pace, error) {
	if err := b.prepareQueue(ctx, n); err != nil {
		return pace{}, err
	}
	return b.measureLap(ctx, lap{n: n, pid: p.PID(), release: b.releaseQueue, left: b.celeryLeft(n), verify: b.verifyResults})
}

func (b *workerBench) goLap(ctx context.Context, settings string, env []string, args ...string) (r pace, err error) {
	p, err := b.goWorker(ctx, settings, env, args...)
	if err != nil {
		return pace{}, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	return b.celeryProtocolLap(ctx, p, b.tasks)
}

func (b *workerBench) celeryLap(ctx context.Context, late bool) (r pace, err error) {
	p, err := b.celeryWorker(ctx, late)
	if err != nil {
		return pace{}, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	return b.celeryProtocolLap(ctx, p, celeryTasks)
}

// peerLap lets asynq or gocelery fill its own queue and empty it.
func (b *workerBench) peerLap(ctx context.Context, name string, n int, results bool) (r pace, fillPerSecond float64, err error) {
	if err := errors.Join(b.results.FlushDB(ctx).Err(), b.dropAsynq(ctx)); err != nil {
		return pace{}, 0, err
	}
	args := func(command string, more ...string) []string {
		return append([]string{name, command, "-redis", b.server.Addr, "-results=" + strconv.FormatBool(results)}, more...)
	}
	start := time.Now()
	if out, err := exec.CommandContext(ctx, b.peers, args("fill", "-n", strconv.Itoa(n))...).CombinedOutput(); err != nil {
		return pace{}, 0, fmt.Errorf("fill: %w\n%s", err, out)
	}
	fillPerSecond = float64(n) / time.Since(start).Seconds()
	work := exec.CommandContext(ctx, b.peers, args("work", "-concurrency", strconv.Itoa(concurrency))...)
	work.Stderr = os.Stderr
	p, err := startPeer(work)
	if err != nil {
		return pace{}, 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	l := lap{n: n, pid: work.Process.Pid, release: p.release, left: b.celeryLeft(n), verify: b.verifyResults}
	if name == "asynq" {
		l.left, l.verify = b.asynqLeft(n, results), func(ctx context.Context, n int) error { return b.verifyAsynq(ctx, n, results) }
	}
	r, err = b.measureLap(ctx, l)
	return r, fillPerSecond, err
}

// peerProcess is a worker of the program peers.
type peerProcess struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

func startPeer(cmd *exec.Cmd) (*peerProcess, error) {
	cmd.SysProcAttr = ownGroup()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		return nil, errors.Join(fmt.Errorf("peers said %q", line), err, cmd.Process.Kill(), cmd.Wait())
	}
	return &peerProcess{cmd, stdin}, nil
}

func (p *peerProcess) release(context.Context) error {
	_, err := io.WriteString(p.stdin, "go\n")
	return err
}

// stop ends the worker; one that hangs is killed.
func (p *peerProcess) stop() error {
	timer := time.AfterFunc(15*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	return errors.Join(p.stdin.Close(), p.cmd.Wait())
}

// asynqLeft counts what is not over (asynq 0.26, internal/base/base.go, has the keys).
func (b *workerBench) asynqLeft(n int, results bool) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		pipe := b.redis.Pipeline()
		pending, active := pipe.LLen(ctx, "asynq:{"+queue+"}:pending"), pipe.LLen(ctx, "asynq:{"+queue+"}:active")
		completed := pipe.ZCard(ctx, "asynq:{"+queue+"}:completed")
		if _, err := pipe.Exec(ctx); err != nil {
			return 0, err
		}
		left := int(pending.Val() + active.Val())
		if results {
			left = max(left, n-int(completed.Val()))
		}
		return left, nil
	}
}

// verifyAsynq checks the count of processed tasks, and the results of the last ones.
func (b *workerBench) verifyAsynq(ctx context.Context, n int, results bool) error {
	done, err := b.redis.Get(ctx, "asynq:{"+queue+"}:processed").Int()
	if err == nil && done != n {
		err = fmt.Errorf("asynq processed %d tasks of %d", done, n)
	}
	if err != nil || !results {
		return err
	}
	ids, err := b.redis.ZRangeArgs(ctx, redis.ZRangeArgs{Key: "asynq:{" + queue + "}:completed", Start: 0, Stop: 99, Rev: true}).Result()
	if err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := b.redis.HGet(ctx, "asynq:{"+queue+"}:t:"+id, "result").Int(); err != nil {
			return fmt.Errorf("asynq task %s: result: %w", id, err)
		}
	}
	return nil
}

// dropAsynq deletes everything of asynq.
func (b *workerBench) dropAsynq(ctx context.Context) error {
	var cursor uint64
	for {
		keys, next, err := b.redis.Scan(ctx, cursor, "asynq:*", 5000).Result()
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := b.redis.Unlink(ctx, keys...).Err(); err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// describe tells what a lap cost.
func (p pace) describe() string {
	return fmt.Sprintf("%.0f/s in %.1f s, processor time for each task %.1f µs, Redis %.1f µs", p.perSecond, p.seconds, p.worker, p.redis)
}
