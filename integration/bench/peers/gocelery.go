package main

import (
	"time"

	"github.com/gocelery/gocelery"
	"github.com/gomodule/redigo/redis"
)

// goceleryPeer is gocelery on protocol 1, the only one it has. It always stores results and never acks; each of its workers takes
// at most one task in 100 ms.
type goceleryPeer struct{ client *gocelery.CeleryClient }

func newGocelery(o options) (*goceleryPeer, error) {
	pool := func(db int) *redis.Pool {
		return &redis.Pool{
			MaxIdle: o.concurrency + fillers, IdleTimeout: time.Minute,
			Dial: func() (redis.Conn, error) { return redis.Dial("tcp", o.redis, redis.DialDatabase(db)) },
		}
	}
	broker := gocelery.NewRedisBroker(pool(0))
	broker.QueueName = queue
	client, err := gocelery.NewCeleryClient(broker, gocelery.NewRedisBackend(pool(1)), o.concurrency)
	if err != nil {
		return nil, err
	}
	client.Register("bench.noop", func(x, _ int) int { return x })
	return &goceleryPeer{client: client}, nil
}

func (p *goceleryPeer) enqueue(i int) error {
	_, err := p.client.Delay("bench.noop", i, 2)
	return err
}

func (p *goceleryPeer) start() error {
	p.client.StartWorker()
	return nil
}

func (p *goceleryPeer) stop() { p.client.StopWorker() }
