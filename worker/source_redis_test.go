package worker

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/dfws/dfws/compat/dispatch"
	"github.com/dfws/dfws/integration/redistest"
)

// What arrives after everything was given back goes back as well: no slot runs it, and the consumer would wait for it as
// long as handlers may take to stop.
func TestSourceGivesBackLateArrivals(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	settings := siteFor(t, server, nil)
	services, err := dispatch.Connect(t.Context(), dispatch.ServicesConfig{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := services.Close(); err != nil {
			t.Error(err)
		}
	}()
	cfg := Config{Settings: settings, App: "test", Concurrency: 1, SoftStopTimeout: time.Hour}.withDefaults()
	source, err := newRedisSource(services, []string{"go"}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group sync.WaitGroup
	defer group.Wait()
	doneC := make(chan error, 1)
	handledC := make(chan string, 10)
	group.Go(func() {
		doneC <- source.run(ctx, func(r received) { handledC <- r.queue })
	})
	client := clientFor(t, settings)
	mustSend(t, client, TaskMessage{Name: "first"})
	<-handledC
	if err := source.giveBackAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	redis := server.Client(t)
	// The first is taken again at once, and goes back each time until the consumer is told to stop.
	eventually(t, "it was taken again", func() bool { return redis.LLen(t.Context(), "go").Val() == 1 })
	cancel()
	select {
	case err := <-doneC:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the consumer waits for what nobody will settle")
	}
	if n, held := redis.LLen(t.Context(), "go").Val(), redis.HLen(t.Context(), "unacked").Val(); n != 1 || held != 0 || len(handledC) != 0 {
		t.Errorf("%d in the queue, %d unacked, %d handled late", n, held, len(handledC))
	}
}
