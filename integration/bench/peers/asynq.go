package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
)

// queue of the benchmark; the counts are read from its keys.
const queue = "bench"

// asynqPeer is asynq with its defaults. With results, a finished task is retained with what its handler wrote: what comes nearest to
// Celery's result backend.
type asynqPeer struct {
	options
	client *asynq.Client
	server *asynq.Server
}

func newAsynq(o options) *asynqPeer {
	redis := asynq.RedisClientOpt{Addr: o.redis}
	return &asynqPeer{
		options: o, client: asynq.NewClient(redis),
		server: asynq.NewServer(redis, asynq.Config{
			Concurrency: o.concurrency, Queues: map[string]int{queue: 1}, LogLevel: asynq.ErrorLevel,
		}),
	}
}

func (p *asynqPeer) enqueue(i int) error {
	opts := []asynq.Option{asynq.Queue(queue)}
	if p.results {
		opts = append(opts, asynq.Retention(24*time.Hour))
	}
	_, err := p.client.Enqueue(asynq.NewTask("bench.noop", fmt.Appendf(nil, "[%d, 2]", i)), opts...)
	return err
}

func (p *asynqPeer) start() error {
	return p.server.Start(asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
		var args [2]int
		if err := json.Unmarshal(t.Payload(), &args); err != nil {
			return err
		}
		if !p.results {
			return nil
		}
		_, err := fmt.Fprint(t.ResultWriter(), args[0])
		return err
	}))
}

func (p *asynqPeer) stop() { p.server.Shutdown() }
