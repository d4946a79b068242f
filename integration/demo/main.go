// Command demo runs the whole loop on this machine: Redis, a Django site behind gunicorn, a Celery worker, the gateway and a
// Go worker, each on a free loopback port, and prints the URL. Ctrl-C stops them all.
//
// With -check it drives the loop in both directions instead, prints what it saw, stops everything, and ends with status 0
// when everything arrived.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/dfws/dfws/integration/harness"
)

// checkTimeout bounds the whole check after the start.
const checkTimeout = 60 * time.Second

func main() {
	check := flag.Bool("check", false, "drive the loop both ways, then stop")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *check)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check bool) (err error) {
	lab, err := harness.New(harness.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()
	gateway, err := start(ctx, lab)
	if err != nil {
		return err
	}
	if check {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		if err := drive(ctx, gateway); err != nil {
			showLogs(lab)
			return err
		}
		fmt.Println("demo-check: every answer and broadcast arrived, in both directions")
		return nil
	}
	fmt.Printf("\n  %s\n\nopen it in two windows. Users: alice, bob, staff, root; passwords pw-<user>; %slogin/?u=alice&p=pw-alice logs in.\n"+
		"Logs: %s\nmetrics: %s\nCtrl-C stops everything.\n", gateway.URL.JoinPath("/"), gateway.URL.JoinPath("/"), lab.Dir(), gateway.Admin.JoinPath("metrics"))
	return wait(ctx, lab)
}

// start starts the parts, each when the one before is ready, and says so.
func start(ctx context.Context, lab *harness.Lab) (*harness.Gateway, error) {
	site, err := lab.NewSite(ctx, harness.SiteOptions{})
	if err != nil {
		return nil, err
	}
	fmt.Println("redis           ", site.Redis.Addr)
	django, err := site.Gunicorn(ctx)
	if err != nil {
		return nil, err
	}
	fmt.Println("django, gunicorn", django.URL)
	if _, err := site.Celery(ctx, harness.CeleryOptions{}); err != nil {
		return nil, err
	}
	fmt.Println("celery worker    queues celery, slow, demo-queue")
	settings, err := site.ExportSettings(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := site.GoWorker(ctx, harness.GoWorkerOptions{Package: "cmd/demo-worker", App: "demo", Settings: settings}); err != nil {
		return nil, err
	}
	fmt.Println("go worker        queue go")
	gateway, err := site.Gateway(ctx, harness.GatewayOptions{Upstream: django.URL, Settings: settings})
	if err != nil {
		return nil, err
	}
	fmt.Println("gateway         ", gateway.URL)
	return gateway, nil
}

// wait returns when ctx ends, or with an error when one of the parts ends by itself.
func wait(ctx context.Context, lab *harness.Lab) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watchers sync.WaitGroup
	for _, p := range lab.Processes() {
		watchers.Go(func() {
			select {
			case <-p.Done():
				cancel(fmt.Errorf("%s has ended; its log: %s\n%s", p.Name, p.Log, p.Tail(20)))
			case <-ctx.Done():
			}
		})
	}
	<-ctx.Done()
	watchers.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func showLogs(lab *harness.Lab) {
	for _, p := range lab.Processes() {
		fmt.Fprintf(os.Stderr, "--- %s\n%s\n", p.Name, p.Tail(40))
	}
}
