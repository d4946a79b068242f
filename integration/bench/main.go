// Command bench measures the parts beside the Python programs that they replace, in one run, and prints ratios.
//
//	go run ./integration/bench gateway    dfws gateway beside daphne: connects, memory, broadcast, intake
//	go run ./integration/bench worker     Go worker beside Celery, asynq and gocelery: throughput, publishing, memory, latency
//
// gateway: both servers serve the same site on the same Redis. Each round starts the server anew. The load generator is a process of
// its own; its share of a processor core is printed, so that a run that measured it instead of the server shows. Everything
// that is expected is counted, and a short count fails the run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/harness"
)

// What each server is given per round: comparable rates, in a time that one has.
var (
	daphnePlan  = plan{windows: 2000, concurrency: 32, broadcasts: 5, signals: 3000}
	gatewayPlan = plan{windows: 2000, concurrency: 32, broadcasts: 30, signals: 60000}
)

func main() {
	rounds := flag.Int("rounds", 3, "rounds with each server or worker")
	tasks := flag.Int("tasks", 260_000, "worker: tasks that the Go worker runs in each round, published by Celery before")
	parts := flag.String("parts", "", "worker: only these parts, with commas between; publish always is the first")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, flag.Arg(0), *rounds, *tasks, *parts)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name string, rounds, tasks int, parts string) error {
	switch name {
	case "gateway":
		return runGateway(ctx, rounds)
	case "worker":
		return runWorker(ctx, rounds, tasks, parts)
	default:
		return fmt.Errorf("no benchmark %q; there are: gateway, worker", name)
	}
}

func runGateway(ctx context.Context, rounds int) (err error) {
	lab, err := harness.New(harness.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	b := &gatewayBench{lab: lab}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	var ours, theirs []*result
	for i := range rounds {
		fmt.Fprintf(os.Stderr, "round %d of %d\n", i+1, rounds)
		r, err := b.daphneRound(ctx)
		if err != nil {
			return fmt.Errorf("daphne: %w", err)
		}
		theirs = append(theirs, r)
		if r, err = b.gatewayRound(ctx); err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
		ours = append(ours, r)
	}
	fmt.Printf("%d cores, %d rounds; daphne with %+v, gateway with %+v\n\n", runtime.NumCPU(), rounds, daphnePlan, gatewayPlan)
	return report(os.Stdout, theirs, ours)
}

// gatewayBench is the site that both servers serve.
type gatewayBench struct {
	lab      *harness.Lab
	site     *harness.Site
	settings string
	binary   string // of the load generator
	cookies  []string
	broker   *redis.Client
	layer    *channelslayer.Core
}

func (b *gatewayBench) prepare(ctx context.Context) (err error) {
	if b.site, err = b.lab.NewSite(ctx, harness.SiteOptions{LogLevel: "ERROR"}); err != nil {
		return err
	}
	if b.binary, err = b.lab.Binary(ctx, "integration/bench/loadgen"); err != nil {
		return err
	}
	if b.settings, err = b.site.ExportSettings(ctx); err != nil {
		return err
	}
	count := max(daphnePlan.windows, gatewayPlan.windows)
	text, err := b.site.Manage(ctx, "bench_windows", fmt.Sprint(count))
	if err != nil {
		return err
	}
	if b.cookies = strings.Split(strings.TrimSpace(text), "\n"); len(b.cookies) != count {
		return fmt.Errorf("bench_windows made %d of %d windows", len(b.cookies), count)
	}
	b.broker = b.site.Database(harness.BrokerDB)
	b.layer, err = channelslayer.Open(channelslayer.Config{
		Hosts: []channelslayer.Host{{URL: fmt.Sprintf("redis://%s/%d", b.site.Redis.Addr, harness.LayerDB)}}})
	return err
}

func (b *gatewayBench) close() error { return errors.Join(b.layer.Close(), b.broker.Close()) }

func (b *gatewayBench) daphneRound(ctx context.Context) (*result, error) {
	// daphne's own limit of concurrent handshakes is its thread pool; ping settings are its defaults.
	daphne, err := b.site.Daphne(ctx)
	if err != nil {
		return nil, err
	}
	defer daphne.Kill() // daphne may hang on SIGTERM while consumers leave their groups
	return b.measure(ctx, server{"daphne", daphne.PID(), websocketURL(daphne.URL.Host)}, daphnePlan)
}

func (b *gatewayBench) gatewayRound(ctx context.Context) (r *result, err error) {
	gw, err := b.site.Gateway(ctx, harness.GatewayOptions{Settings: b.settings, Args: []string{"--log-level", "warn", "--drain", "1ms"}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, gw.Stop()) }()
	return b.measure(ctx, server{"gateway", gw.PID(), websocketURL(gw.URL.Host)}, gatewayPlan)
}

func websocketURL(host string) string { return "ws://" + host + "/ws/" }

func (b *gatewayBench) measure(ctx context.Context, s server, p plan) (r *result, err error) {
	gen, err := startGenerator(b.binary)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, gen.stop()) }()
	return round(ctx, gen, s, b, b.cookies, p)
}

// Broadcast implements site.
func (b *gatewayBench) Broadcast(ctx context.Context, opts string) error {
	frame := compat.AppendServerFrame(nil, "bench.broadcast", celeryproto.Raw(opts), "00000000-0000-4000-8000-000000000000")
	return b.layer.GroupSend(ctx, compat.GroupName(compat.BroadcastTopic), channelslayer.Message{"type": "ws_message", "message": string(frame)})
}

// QueueLength implements site.
func (b *gatewayBench) QueueLength(ctx context.Context) (int, error) {
	n, err := b.broker.LLen(ctx, intakeQueue).Result()
	return int(n), err
}

// EmptyQueue implements site.
func (b *gatewayBench) EmptyQueue(ctx context.Context) error {
	return b.broker.Del(ctx, intakeQueue).Err()
}

// intakeQueue is that of the signal bench.intake, which nobody consumes (integration/project/bench/signals.py).
const intakeQueue = "bench"
