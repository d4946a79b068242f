//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/worker"
	"github.com/redis/go-redis/v9"
)

const (
	// kills is how many workers die while tasks flow, and pythonKills how many of them are Python's, which take seconds to start.
	kills, pythonKills = 200, 24
	goWorkers          = 3
	pythonWorkers      = 2
	killQueue          = "mixed"
)

// TestKills kills Go and Python workers with SIGKILL, two hundred times and at any moment, while tasks flow through one queue that
// all of them consume. In the end each task has a result and has run, once or more often, in one language or the other; nothing is left
// anywhere. The only tasks that may be missing are those that a Python worker had popped and not yet recorded when it died,
// which kombu loses by design: a tap names each of them.
func TestKills(t *testing.T) {
	ctx := deadline(t)
	site, settings := crashSite(t, ctx)
	tap := must1(lab(t).NewTap(site.Redis.Addr))(t)
	client := newClient(t, settings)
	history := record(t, site)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	goTeam := newTeam(t, goWorkers, func(n, life int) (*harness.Process, error) {
		options := matrixWorker(site, settings, "-queues", killQueue, "-app", fmt.Sprintf("matrix%d", n))
		options.Name, options.App = fmt.Sprintf("go%d.%d", n, life), fmt.Sprintf("matrix%d", n)
		return site.GoWorker(ctx, options)
	})
	pythonTeam := newTeam(t, pythonWorkers, func(n, life int) (*harness.Process, error) {
		return site.Celery(ctx, harness.CeleryOptions{
			Name: fmt.Sprintf("python%d.%d", n, life), Queues: []string{killQueue}, Env: []string{"DFWS_TEST_REDIS_URL=redis://" + tap.Addr},
		})
	})

	var sent []string
	var flowing atomic.Bool
	flowing.Store(true)
	var producer sync.WaitGroup
	producer.Go(func() { sent = produce(t, ctx, client, &flowing) })
	pythons := pythonKills
	for left := kills; left > 0 && ctx.Err() == nil && !t.Failed(); left-- {
		team := goTeam
		if random.IntN(left) < pythons {
			team, pythons = pythonTeam, pythons-1
		}
		team.kill(random)
		pause(ctx, time.Duration(random.IntN(60))*time.Millisecond)
	}
	flowing.Store(false)
	producer.Wait()
	goTeam.wait()
	pythonTeam.wait()
	t.Logf("%d tasks, %d kills in Go, %d in Python", len(sent), goTeam.killed, pythonTeam.killed)

	if err := harness.WaitFor(ctx, "the end of all tasks", func(ctx context.Context) error { return allEnded(ctx, site, tap, sent) }); err != nil {
		if lost, is := errors.AsType[*lostError](err); is {
			t.Log(history(lost.tasks))
		}
		t.Fatal(err)
	}
	t.Logf("%d lost by Python between taking and recording", len(must1(tap.Unrecorded())(t)))
	nothingLeft(t, ctx, site, killQueue)
}

// pause waits; that is what makes the moment of a kill random.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// produce sends tasks, each with its own mark, as fast as the workers that are alive can keep up with.
func produce(t *testing.T, ctx context.Context, client *worker.Client, flowing *atomic.Bool) (sent []string) {
	const batch, every = 10, 100 * time.Millisecond
	for flowing.Load() && ctx.Err() == nil {
		for range batch {
			mark := fmt.Sprint("kill ", len(sent))
			p, err := client.Send(ctx, worker.TaskMessage{Name: "matrix.sleep", Queue: killQueue, Args: []any{mark, 0.02}})
			if err != nil {
				t.Errorf("send: %v", err)
				return sent
			}
			sent = append(sent, p.ID)
		}
		pause(ctx, every)
	}
	return sent
}

// allEnded returns an error while tasks wait, or are neither done nor those that Python has lost. A task that has just moved from one
// place to another may be seen nowhere; then it is not done yet, and looked for again.
func allEnded(ctx context.Context, site *harness.Site, tap *harness.Tap, sent []string) error {
	results, broker := site.Database(harness.ResultDB), site.Database(harness.BrokerDB)
	defer results.Close()
	defer broker.Close()
	queued, err := broker.LLen(ctx, killQueue).Result()
	held, err2 := broker.HLen(ctx, "unacked").Result()
	lost, err3 := tap.Unrecorded()
	if err := errors.Join(err, err2, err3); err != nil {
		return err
	}
	if queued+held > 0 {
		return fmt.Errorf("%d in the queue, %d held", queued, held)
	}
	pipe, exists := results.Pipeline(), make([]*redis.IntCmd, len(sent))
	for i, id := range sent {
		exists[i] = pipe.Exists(ctx, "celery-task-meta-"+id)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	var missing []string
	for i, id := range sent {
		if exists[i].Val() == 0 && !slices.Contains(lost, id) {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return &lostError{missing}
	}
	return nil
}

// lostError names tasks that are neither done nor waiting.
type lostError struct{ tasks []string }

func (e *lostError) Error() string { return "tasks are lost: " + strings.Join(e.tasks, ", ") }

// record writes down every command that Redis serves, and returns a function that finds those which name one of some tasks, or a
// delivery of theirs.
func record(t *testing.T, site *harness.Site) (history func(tasks []string) string) {
	t.Helper()
	file := must1(os.Create(filepath.Join(t.TempDir(), "commands")))(t)
	conn := must1(net.Dial("tcp", site.Redis.Addr))(t)
	must1(io.WriteString(conn, "MONITOR\r\n"))(t)
	var copying sync.WaitGroup
	copying.Go(func() { _, _ = io.Copy(file, conn) })
	t.Cleanup(func() {
		_ = conn.Close()
		copying.Wait()
		_ = file.Close()
	})
	return func(tasks []string) string {
		commands, err := os.ReadFile(file.Name())
		if err != nil {
			return err.Error()
		}
		var found strings.Builder
		names := slices.Clone(tasks)
		for line := range strings.Lines(string(commands)) {
			if !slices.ContainsFunc(names, func(name string) bool { return strings.Contains(line, name) }) {
				continue
			}
			if !strings.Contains(line, `"exists"`) { // the test's own
				found.WriteString(line)
			}
			if tag := deliveryTag.FindStringSubmatch(line); tag != nil && !slices.Contains(names, tag[1]) {
				names = append(names, tag[1])
			}
		}
		return found.String()
	}
}

// deliveryTag finds a message's tag in a command of MONITOR, which puts a backslash before each quotation mark.
var deliveryTag = regexp.MustCompile(`\\"delivery_tag\\": \\"([^"\\]+)\\"`)

// team are workers of one language; each is started again when it was killed.
type team struct {
	t     *testing.T
	start func(n, life int) (*harness.Process, error)

	mu      sync.Mutex
	members []*harness.Process // nil while it starts
	lives   []int
	killed  int

	starting sync.WaitGroup
}

func newTeam(t *testing.T, size int, start func(n, life int) (*harness.Process, error)) *team {
	t.Helper()
	m := &team{t: t, start: start, members: make([]*harness.Process, size), lives: make([]int, size)}
	for n := range size {
		m.raise(n)
	}
	m.wait()
	return m
}

func (m *team) raise(n int) {
	m.starting.Go(func() {
		m.mu.Lock()
		m.lives[n]++
		life := m.lives[n]
		m.mu.Unlock()
		p, err := m.start(n, life)
		if err != nil {
			m.t.Errorf("worker %d: %v", n, err)
			return
		}
		m.mu.Lock()
		m.members[n] = p
		m.mu.Unlock()
	})
}

// kill kills a member that runs, waiting for one if all are starting, and starts it again.
func (m *team) kill(random *rand.Rand) {
	m.t.Helper()
	var victim int
	err := harness.WaitFor(m.t.Context(), "a living worker", func(context.Context) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		var living []int
		for n, p := range m.members {
			if p != nil {
				living = append(living, n)
			}
		}
		if len(living) == 0 {
			return errors.New("all are starting")
		}
		victim = living[random.IntN(len(living))]
		return nil
	})
	if err != nil {
		m.t.Error(err)
		return
	}
	m.mu.Lock()
	p := m.members[victim]
	m.members[victim] = nil
	m.killed++
	m.mu.Unlock()
	p.Kill()
	m.raise(victim)
}

func (m *team) wait() { m.starting.Wait() }
