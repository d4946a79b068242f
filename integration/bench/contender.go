package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dfws/dfws/integration/bench/loadproto"
	"github.com/dfws/dfws/integration/harness"
)

// contender is a server of websockets with the worker that answers its signals.
type contender struct {
	name       string
	steps      []int // how many windows are open, one step after the other
	broadcasts int   // at each step
	signals    int   // into the queue
	calls      int   // there and back
	callSignal string
	// serve starts the server, and work a worker.
	serve func(ctx context.Context) (*harness.Server, error)
	work  func(ctx context.Context) (*harness.Process, error)
}

// The slower server is given fewer pieces: rates and costs for each are compared.
func (b *gatewayBench) contenders() []contender {
	celery := func(ctx context.Context) (*harness.Process, error) {
		return b.site.Celery(ctx, harness.CeleryOptions{Pool: "prefork", Concurrency: celeryPrefork,
			Env: []string{"DFWS_TEST_LOG_LEVEL=INFO"}}) // it says in the log when it is ready
	}
	return []contender{
		{
			name: nameDaphne, steps: []int{1000, 5000}, broadcasts: 4, signals: 3000, calls: 800, callSignal: "bench.ping",
			serve: func(ctx context.Context) (*harness.Server, error) { return b.site.Daphne(ctx) }, work: celery,
		},
		{
			name: nameUvicorn, steps: []int{1000}, broadcasts: 4, signals: 3000, calls: 800, callSignal: "bench.ping",
			serve: func(ctx context.Context) (*harness.Server, error) {
				return b.site.Uvicorn(ctx, "--log-level", "error")
			}, work: celery,
		},
		{
			name: nameGateway, steps: []int{1000, 5000, 15000}, broadcasts: 30, signals: 60000, calls: 20000, callSignal: "bench.go_ping",
			serve: func(ctx context.Context) (*harness.Server, error) {
				gw, err := b.site.Gateway(ctx, harness.GatewayOptions{Settings: b.settings, Args: []string{"--log-level", "warn", "--drain", "1ms", "--drain-linger", "0",
					"--windows-per-user", "-1"}})
				if err != nil {
					return nil, err
				}
				return &gw.Server, nil
			},
			work: func(ctx context.Context) (*harness.Process, error) {
				return b.site.GoWorker(ctx, harness.GoWorkerOptions{Package: "integration/bench/signalworker", App: "bench", Settings: b.settings})
			},
		},
	}
}

const (
	nameDaphne  = "daphne"
	nameUvicorn = "uvicorn"
	nameGateway = "gateway"
)

// run measures one contender once, from an empty server to the last of its steps.
func (b *gatewayBench) run(ctx context.Context, c contender) (m *measured, err error) {
	server, err := c.serve(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if c.name == nameGateway {
			err = errors.Join(err, server.Stop())
			return
		}
		server.Kill() // daphne may hang on SIGTERM while consumers leave their groups
	}()
	gen, err := startGenerator(b.generator)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, gen.stop()) }()
	m = &measured{}
	l := &windowLap{bench: b, contender: c, pid: server.PID(), url: websocketURL(server.URL.Host), gen: gen, m: m}
	if err := l.warmUp(ctx); err != nil {
		return nil, fmt.Errorf("warm-up: %w", err)
	}
	for _, windows := range c.steps {
		if err := l.step(ctx, windows); err != nil {
			return nil, fmt.Errorf("%d windows: %w", windows, err)
		}
	}
	if err := l.intake(ctx); err != nil {
		return nil, fmt.Errorf("signals: %w", err)
	}
	if err := l.roundTrips(ctx); err != nil {
		return nil, fmt.Errorf("there and back: %w", err)
	}
	if _, err := gen.ask(loadproto.Command{Do: "close"}); err != nil {
		return nil, err
	}
	if m.cutShare, err = b.cutShare(ctx, server.URL.Host); err != nil {
		return nil, fmt.Errorf("windows that are cut: %w", err)
	}
	progress("  %s: %.2f %% delivered to windows that are cut", c.name, m.cutShare)
	return m, nil
}
