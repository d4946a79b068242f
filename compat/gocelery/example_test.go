package gocelery_test

import (
	"fmt"
	"log"
	"time"

	theirs "github.com/gocelery/gocelery"
	"github.com/gomodule/redigo/redis"

	"github.com/dfws/dfws/compat/gocelery"
)

func add(a, b int) int { return a + b }

// before is the program of gocelery's README: worker and client in one.
func before(url string) (any, error) {
	redisPool := &redis.Pool{
		Dial: func() (redis.Conn, error) { return redis.DialURL(url) },
	}
	defer redisPool.Close()
	cli, err := theirs.NewCeleryClient(theirs.NewRedisBroker(redisPool), &theirs.RedisCeleryBackend{Pool: redisPool}, 5)
	if err != nil {
		return nil, err
	}
	cli.Register("worker.add", add)
	cli.StartWorker()
	defer cli.StopWorker()

	asyncResult, err := cli.Delay("worker.add", 3, 5)
	if err != nil {
		return nil, err
	}
	return asyncResult.Get(10 * time.Second)
}

// after is the same program here: another import and another constructor.
func after(url string) (any, error) {
	cli, err := gocelery.NewCeleryClient(gocelery.NewRedisCeleryBroker(url), gocelery.NewRedisCeleryBackend(url), 5)
	if err != nil {
		return nil, err
	}
	defer cli.Close()
	cli.Register("worker.add", add)
	cli.StartWorker()
	defer cli.StopWorker()

	asyncResult, err := cli.Delay("worker.add", 3, 5)
	if err != nil {
		return nil, err
	}
	return asyncResult.Get(10 * time.Second)
}

// Needs a Redis, so its output is not compared here: TestExample does it.
func Example() {
	for _, program := range []func(url string) (any, error){before, after} {
		sum, err := program("redis://localhost:6379/0")
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(sum) // 8
	}
}
