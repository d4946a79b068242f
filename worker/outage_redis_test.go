package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/celeryproto/redisbroker"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/integration/redistest"
)

// logBook counts what is worth a warning.
type logBook struct {
	mu    sync.Mutex
	count map[string]int
	lines []string
}

func (b *logBook) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (b *logBook) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count[r.Message]++
	b.lines = append(b.lines, line)
	return nil
}

func (b *logBook) WithAttrs([]slog.Attr) slog.Handler { return b }
func (b *logBook) WithGroup(string) slog.Handler      { return b }

func (b *logBook) has(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.lines, func(line string) bool { return strings.Contains(line, text) })
}

// flow is a worker, and a publisher that sends tasks the whole time. Every task is accounted for at the end.
type flow struct {
	t       *testing.T
	log     logBook
	without string // a kind of tasks that are not sent

	publisher *redisbroker.Publisher
	gate      sync.RWMutex // read while a message is handed to the publisher
	stopC     chan struct{}
	group     sync.WaitGroup
	published atomic.Int64
	ran       atomic.Int64

	mu   sync.Mutex
	want map[string]string // the kinds of the tasks that were sent, by ID
	runs map[string]int
}

// The kinds of tasks.
const (
	flowLate  = "flow.late"
	flowEarly = "flow.early"
	flowFails = "flow.fails"
	flowETA   = "flow.eta"
)

// startFlow returns when tasks flow.
func startFlow(t *testing.T, settings *compat.Settings, without string) *flow {
	t.Helper()
	f := &flow{
		t: t, without: without, log: logBook{count: map[string]int{}}, stopC: make(chan struct{}), want: map[string]string{}, runs: map[string]int{},
	}
	startWorker(t, Config{Settings: settings, Concurrency: 8, Logger: slog.New(&f.log)}, func(w *Worker) {
		for name, late := range map[string]Choice{flowLate: Yes, flowEarly: No, flowFails: Yes, flowETA: Yes} {
			HandleTask(w, Task[struct{}, string]{Name: name, Options: TaskOptions{AcksLate: late}, Run: f.run})
		}
	}).awaitReady()
	services, err := dispatch.Connect(t.Context(), dispatch.ServicesConfig{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	f.publisher = services.Broker.NewPublisher(redisbroker.PublisherConfig{Deadline: time.Minute})
	ctx, stop := context.WithCancel(t.Context())
	f.group.Go(func() {
		if err := f.publisher.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	f.group.Go(func() { defer stop(); f.publish() })
	t.Cleanup(func() {
		f.stop()
		f.group.Wait()
		if err := services.Close(); err != nil {
			t.Error(err)
		}
	})
	f.progress()
	return f
}

func (f *flow) run(_ context.Context, call *TaskCall, _ struct{}) (string, error) {
	f.mu.Lock()
	f.runs[call.Task.ID]++
	f.mu.Unlock()
	f.ran.Add(1)
	if call.Task.Name == flowFails {
		return "", &Exception{Type: "ValueError", Args: []any{"on purpose"}}
	}
	return "done", nil
}

// publish sends a task every other millisecond until stop.
func (f *flow) publish() {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	kinds := []string{flowLate, flowLate, flowLate, flowEarly, flowLate, flowFails, flowLate, flowETA}
	for n := 0; ; n++ {
		select {
		case <-f.stopC:
			return
		case <-ticker.C:
		}
		if kind := kinds[n%len(kinds)]; kind != f.without {
			f.gate.RLock()
			f.send(kind)
			f.gate.RUnlock()
		}
	}
}

func (f *flow) send(kind string) {
	task := mustTask(f.t, kind, nil, nil)
	if kind == flowETA {
		eta := time.Now().Add(50 * time.Millisecond).UTC()
		task.ETA = &eta
	}
	envelope, err := task.Envelope()
	if err != nil {
		f.t.Error(err)
		return
	}
	raw, err := envelope.Append(nil)
	if err != nil {
		f.t.Error(err)
		return
	}
	f.mu.Lock()
	f.want[task.ID] = kind
	f.mu.Unlock()
	err = f.publisher.Enqueue([]redisbroker.Message{{Queue: "go", Envelope: raw}}, func(err error) {
		if err != nil {
			f.t.Errorf("%s %s: %v", kind, task.ID, err)
		}
		f.published.Add(1)
	})
	if err != nil {
		f.t.Error(err)
	}
}

// progress returns when more tasks have run.
func (f *flow) progress() {
	f.t.Helper()
	const some = 200
	before := f.ran.Load()
	eventually(f.t, "tasks run", func() bool { return f.ran.Load() >= before+some })
}

// pause holds the publisher up when Redis has everything that was sent.
func (f *flow) pause() (resume func()) {
	f.t.Helper()
	f.gate.Lock()
	eventually(f.t, "all is published", f.allPublished)
	return f.gate.Unlock
}

func (f *flow) allPublished() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.published.Load() == int64(len(f.want))
}

func (f *flow) stop() {
	select {
	case <-f.stopC:
	default:
		close(f.stopC)
	}
}

// account ends the flow: every task has its result, and has run once, or at least once; nothing is left. It returns how many ran more
// than once.
func (f *flow) account(broker, results *redis.Client, exactly bool) (repeated int) {
	f.t.Helper()
	f.stop()
	f.group.Wait()
	if !f.allPublished() {
		f.t.Error("not all was published")
	}
	ctx := context.Background()
	eventually(f.t, "nothing is left", func() bool {
		return broker.LLen(ctx, "go").Val() == 0 && broker.HLen(ctx, "unacked").Val() == 0 && broker.ZCard(ctx, "unacked_index").Val() == 0
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, kind := range f.want {
		n := f.runs[id]
		if n == 0 || exactly && n > 1 {
			f.t.Errorf("%s %s ran %d times", kind, id, n)
		}
		if n > 1 {
			repeated++
		}
		state := celeryproto.StatusSuccess
		if kind == flowFails {
			state = celeryproto.StatusFailure
		}
		var text string
		eventually(f.t, "a result of "+kind+" "+id, func() bool { // one acked early has it last
			text = results.Get(ctx, "celery-task-meta-"+id).Val()
			return text != ""
		})
		if !strings.Contains(text, `"status": "`+state+`"`) {
			f.t.Errorf("%s: %s, want %s", id, text, state)
		}
	}
	f.t.Logf("%d tasks, %d of them more than once", len(f.want), repeated)
	return repeated
}

// quiet fails when anything was said more often than most.
func (f *flow) quiet(most int) {
	f.t.Helper()
	f.log.mu.Lock()
	defer f.log.mu.Unlock()
	for text, n := range f.log.count {
		if n > most && text != "task failed" { // on purpose
			f.t.Errorf("%d times in the log: %s", n, text)
		}
	}
	f.t.Logf("%v", f.log.count)
}

// outage is a Redis that fails.
type outage struct {
	*flow
	server *redistest.Server
	client *redis.Client
}

// TestOutages: whatever happens to Redis, a worker goes on by itself afterwards. Of the tasks that flow meanwhile none is lost and none
// runs twice, and the log tells of each outage once.
func TestOutages(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		strike  func(*outage)
		strikes int
	}{
		"connections cut": {(*outage).cut, 20},
		"hangs":           {(*outage).hang, 2},
		"killed":          {(*outage).kill, 3},
		"full":            {(*outage).fill, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.StartWith(t, redistest.Options{
				AppendOnly: true, Args: []string{"--appendfsync", "always", "--enable-debug-command", "yes", "--maxmemory-policy", "noeviction"},
			})
			settings := siteFor(t, server, map[string]any{
				"broker_transport_options": map[string]any{"socket_timeout": 1, "socket_connect_timeout": 1}, "redis_socket_timeout": 1,
			})
			client := redis.NewClient(&redis.Options{Addr: server.Addr, Protocol: 2, ReadTimeout: 10 * time.Second, MaxRetries: -1})
			t.Cleanup(func() { _ = client.Close() })
			o := &outage{startFlow(t, settings, ""), server, client}
			for range tc.strikes {
				tc.strike(o)
				o.progress()
			}
			results := redis.NewClient(&redis.Options{Addr: server.Addr, Protocol: 2, DB: 1})
			defer func() { _ = results.Close() }()
			o.account(server.Client(t), results, true)
			o.quiet(tc.strikes)
		})
	}
}

// cut closes all connections but the one that says so.
func (o *outage) cut() {
	for _, kind := range []string{"normal", "pubsub"} {
		if err := o.client.ClientKillByFilter(o.t.Context(), "TYPE", kind, "SKIPME", "yes").Err(); err != nil {
			o.t.Error(err)
		}
	}
}

// hang makes Redis answer nobody for longer than the socket timeout.
func (o *outage) hang() {
	if err := o.client.Do(o.t.Context(), "DEBUG", "SLEEP", "3").Err(); err != nil {
		o.t.Error(err)
	}
}

// kill ends Redis without a warning, and starts it again with what it had answered.
func (o *outage) kill() {
	o.server.Kill()
	o.server.StartAgain()
}

// fill lets Redis take no more, until the worker has tried in vain many times.
func (o *outage) fill() {
	ctx := o.t.Context()
	const room, tries = 1 << 20, 50
	var used int64
	if _, err := fmt.Sscan(o.client.InfoMap(ctx, "memory").Item("Memory", "used_memory"), &used); err != nil {
		o.t.Fatal(err)
	}
	if err := o.client.ConfigSet(ctx, "maxmemory", fmt.Sprint(used+room)).Err(); err != nil {
		o.t.Fatal(err)
	}
	refused := func() (n int) {
		text := o.client.InfoMap(ctx, "errorstats").Item("Errorstats", "errorstat_OOM")
		_, _ = fmt.Sscanf(text, "count=%d", &n) // there is none at first
		return n
	}
	before := refused()
	for o.client.RPush(ctx, "junk", strings.Repeat("x", room/4)).Err() == nil {
	}
	eventually(o.t, "much is refused", func() bool { return refused() > before+tries })
	if !o.log.has("OOM") {
		o.t.Error("the log does not say that Redis is full")
	}
	if err := errors.Join(o.client.ConfigSet(ctx, "maxmemory", "0").Err(), o.client.Del(ctx, "junk").Err()); err != nil {
		o.t.Error(err)
	}
}

// TestFailovers: the master dies, and later another one is made the master by hand. What Redis had acknowledged and not copied is
// Redis' loss: an ack among it makes a task run again, a message among it would be lost, so the publisher waits for the copy.
func TestFailovers(t *testing.T) {
	t.Parallel()
	const name, replicas = "m", 2
	servers := []*redistest.Server{redistest.Start(t)}
	for range replicas {
		servers = append(servers, redistest.StartWith(t, redistest.Options{ReplicaOf: servers[0]}))
	}
	sentinel := redistest.StartWith(t, redistest.Options{Sentinel: &redistest.Sentinel{MasterName: name, Master: servers[0]}})
	t.Cleanup(func() { // a master waits for its replicas before it ends
		for _, s := range servers {
			s.Kill()
		}
	})
	sentinel.AwaitReplica(name)
	url := "sentinel://" + sentinel.Addr + "/0"
	settings := siteFor(t, redistest.Start(t), map[string]any{
		"broker_url": url, "result_backend": url, "result_backend_transport_options": map[string]any{"master_name": name},
		"broker_transport_options": map[string]any{
			"master_name": name, "visibility_timeout": 5, "unacked_restore_interval": 1, "unacked_restore_throttle": 1,
		},
	})
	asks := sentinel.Client(t)
	master := func() *redistest.Server {
		addr, err := asks.Do(t.Context(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", name).StringSlice()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(servers, func(s *redistest.Server) bool { return s.Addr == net.JoinHostPort(addr[0], addr[1]) })
		return servers[i]
	}
	f := startFlow(t, settings, flowEarly) // whose acks may be copied without their results
	for _, failOver := range []func(){
		func() { master().Kill() },
		func() {
			sentinel.AwaitReplica(name)
			eventually(t, "a failover by hand", func() bool { return asks.Do(t.Context(), "SENTINEL", "FAILOVER", name).Err() == nil })
		},
	} {
		old := master()
		resume := f.pause()
		mustCopy(t, old)
		failOver()
		eventually(t, "another master", func() bool { return master() != old })
		eventually(t, "nobody writes to the old one", func() bool { return isLeft(t, old) })
		resume()
		f.progress()
	}
	client := master().Client(t)
	f.account(client, client, false)
	const clients, failovers = 3, 2 // of the messages, the results and the registry
	f.quiet(clients * failovers)
}

// isLeft tells whether only Sentinels and we are still connected to a server, or it is dead.
func isLeft(t testing.TB, s *redistest.Server) bool {
	if s.PID() == 0 {
		return true
	}
	list, err := s.Client(t).Do(t.Context(), "CLIENT", "LIST", "TYPE", "NORMAL").Text()
	if err != nil {
		return false // it has just closed the connection
	}
	for line := range strings.Lines(list) {
		if !strings.Contains(line, " name=sentinel-") && !strings.Contains(line, " cmd=client|list ") {
			return false
		}
	}
	return true
}

// mustCopy returns when a replica has all that a master had.
func mustCopy(t testing.TB, master *redistest.Server) {
	t.Helper()
	conn := master.Client(t).Conn() // it is about the writes of one connection
	defer func() { _ = conn.Close() }()
	eventually(t, "a copy", func() bool {
		if err := conn.Set(t.Context(), "copied", 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		want := conn.InfoMap(t.Context(), "replication").Item("Replication", "connected_slaves")
		n, err := conn.Wait(t.Context(), 2, 100*time.Millisecond).Result()
		return err == nil && n > 0 && fmt.Sprint(n) == want
	})
}
