package channelslayer

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dfws/dfws/integration/redistest"
)

func TestServer(t *testing.T) {
	t.Parallel()
	for name, backend := range map[string]string{"core": BackendCore, "pubsub": BackendPubSub} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			l := openLayer(t, Config{Backend: backend, Hosts: threeHosts(s)})
			var got inbasket
			var running, most atomic.Int64
			release := make(chan struct{})
			server := Server{Layer: l, Channels: []string{"a", "b"}, Concurrency: 3, Handle: func(_ context.Context, channel string, m Message) {
				most.Store(max(most.Load(), running.Add(1)))
				defer running.Add(-1)
				text, _ := m["message"].(string)
				got.mu.Lock()
				got.got = append(got.got, channel+":"+text)
				got.mu.Unlock()
				if text == "panic" {
					panic("a handler's mistake")
				}
				if text == "wait" {
					<-release
				}
			}}
			ctx, stop := context.WithCancel(t.Context())
			var g errgroup.Group
			g.Go(func() error { return server.Run(ctx) })
			send := func(channel, message string) {
				eventually(t, channel+":"+message, func() bool { // a pub/sub layer loses what comes before the subscription
					if err := l.Send(t.Context(), channel, text(message)); err != nil {
						return false
					}
					<-time.After(20 * time.Millisecond)
					return got.has(channel + ":" + message)
				})
			}
			send("a", "1")
			send("b", "panic")
			must(t, l.Send(t.Context(), "a", Message{"message": "no type"}))
			s.RestartEmpty()
			send("a", "2")
			send("b", "3")
			for range 5 {
				must(t, l.Send(t.Context(), "a", text("wait")))
			}
			eventually(t, "the calls that wait", func() bool { return running.Load() > 0 })
			stop()
			close(release)
			if err := g.Wait(); err != nil {
				t.Errorf("Run: %v", err)
			}
			if got.has("a:no type") || most.Load() > 3 {
				t.Errorf("%d at a time, got %q", most.Load(), got.list())
			}
		})
	}
}

func TestServerEnds(t *testing.T) {
	t.Parallel()
	var s Server
	err := s.Run(t.Context())
	for _, word := range []string{"Layer", "Handle", "Channels"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s is not in: %v", word, err)
		}
	}
	l := open(t, redistest.Shared(t), Config{})
	s = Server{Layer: l, Handle: func(context.Context, string, Message) {}, Channels: []string{"good", "bad name"}, Logger: slog.New(slog.DiscardHandler)}
	if err := s.Run(t.Context()); !errors.Is(err, ErrInvalidName) {
		t.Errorf("Run: %v", err)
	}
	s.Channels = []string{"good"}
	var g errgroup.Group
	g.Go(func() error { return s.Run(t.Context()) })
	must(t, l.Close())
	if err := g.Wait(); !errors.Is(err, ErrClosed) {
		t.Errorf("Run with a closed layer: %v", err)
	}
	// Handlers that do not end when they are asked to have their context ended.
	stuck := openLayer(t, Config{Hosts: []Host{{URL: redistest.Shared(t).URL}}})
	began := make(chan struct{})
	s = Server{Layer: stuck, Channels: []string{"c"}, StopTimeout: 10 * time.Millisecond, Handle: func(ctx context.Context, _ string, _ Message) {
		close(began)
		<-ctx.Done()
	}}
	ctx, stop := context.WithCancel(t.Context())
	var last errgroup.Group
	last.Go(func() error { return s.Run(ctx) })
	must(t, stuck.Send(t.Context(), "c", text("x")))
	<-began
	stop()
	must(t, last.Wait())
}
