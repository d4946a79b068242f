package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/channelslayer"
	"github.com/dfws/dfws/compat"
	"github.com/dfws/dfws/integration/harness"
	"github.com/dfws/dfws/integration/pages"
)

// What pages that lose their sockets are asked to do. The same for both servers: what counts is the share that arrives.
const (
	returningPages = 100
	returningEvery = 50 * time.Millisecond // between two messages to all pages
	returningTime  = 40 * time.Second
	cutEvery       = 10 * time.Second // on average; the script comes back after three seconds
	lastMessages   = 15 * time.Second // for what is still under way at the end, and for pages that are on their way back
)

// cutShare is the percentage of messages that arrive at pages which are cut every ten seconds for three.
func (b *gatewayBench) cutShare(ctx context.Context, host string) (float64, error) {
	set := pages.Open(ctx, pages.Options{URL: websocketURL(host), Cookies: b.cookies[:returningPages], CutEvery: cutEvery, Concurrency: 16})
	defer set.Close()
	return b.share(ctx, set, func(ctx context.Context) error {
		pause(ctx, returningTime)
		return ctx.Err()
	})
}

// restartShare is the percentage of messages that arrive at pages behind a balancer while two gateways are restarted in turn.
func (b *gatewayBench) restartShare(ctx context.Context) (share float64, err error) {
	start := func() (*harness.Gateway, error) {
		return b.site.Gateway(ctx, harness.GatewayOptions{Settings: b.settings, Args: []string{"--log-level", "warn", "--drain", "2s"}})
	}
	var gateways [2]*harness.Gateway
	for i := range gateways {
		if gateways[i], err = start(); err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, gateways[i].Stop()) }()
	}
	balancer, err := pages.NewBalancer(gateways[0].URL.Host, gateways[1].URL.Host)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, balancer.Close()) }()
	set := pages.Open(ctx, pages.Options{URL: websocketURL(balancer.Addr), Cookies: b.cookies[:returningPages], Concurrency: 16})
	defer set.Close()
	return b.share(ctx, set, func(context.Context) error {
		for i := range gateways {
			balancer.SetTargets(gateways[1-i].URL.Host) // the gateway is not ready any more
			if err := gateways[i].Stop(); err != nil {
				return err
			}
			if gateways[i], err = start(); err != nil {
				return err
			}
			balancer.SetTargets(gateways[0].URL.Host, gateways[1].URL.Host)
		}
		return nil
	})
}

// share sends messages to all pages while something happens to them, and returns the percentage that arrives in the end.
func (b *gatewayBench) share(ctx context.Context, set *pages.Set, happen func(context.Context) error) (float64, error) {
	err := harness.WaitFor(ctx, "the pages are connected", func(context.Context) error {
		if n := set.Connected(); n < returningPages {
			return fmt.Errorf("%d of %d", n, returningPages)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	var ids []string
	var sendErr error
	flowing, stop := context.WithCancel(ctx)
	var sender sync.WaitGroup
	sender.Go(func() {
		for flowing.Err() == nil && sendErr == nil {
			id := fmt.Sprintf("00000000-0000-4000-8000-%012d", len(ids))
			ids = append(ids, id)
			frame := compat.AppendServerFrame(nil, "bench.returning", celeryproto.Raw(`{"n": 1}`), id)
			sendErr = b.layer.GroupSend(ctx, compat.GroupName(compat.BroadcastTopic), channelslayer.Message{"type": "ws_message", "message": string(frame)})
			pause(flowing, returningEvery)
		}
	})
	err = happen(ctx)
	stop()
	sender.Wait()
	if err = errors.Join(err, sendErr); err != nil {
		return 0, err
	}
	total := 0
	for end := time.Now().Add(lastMessages); time.Now().Before(end); pause(ctx, 100*time.Millisecond) {
		if total, _ = set.Received(ids); total == len(ids)*returningPages {
			break
		}
	}
	return 100 * float64(total) / float64(len(ids)*returningPages), nil
}
