package main

import (
	"context"
	"math/big"

	"github.com/redis/go-redis/v9"

	"github.com/dfws/dfws/celeryproto"
	"github.com/dfws/dfws/worker"
)

// effects is the Redis that tasks leave traces in for the tests.
type effects struct{ client *redis.Client }

func newEffects(addr string) *effects {
	return &effects{redis.NewClient(&redis.Options{Addr: addr})}
}

func (e *effects) close() { _ = e.client.Close() } // the process ends

// push appends a value to a list, as redis-py writes it.
func (e *effects) push(ctx context.Context, key string, value celeryproto.Raw) error {
	v, err := celeryproto.DecodeValue(value)
	if err != nil {
		return err
	}
	switch v := v.(type) {
	case string:
		return e.say(ctx, key, v)
	case []byte:
		return e.say(ctx, key, string(v))
	case int64, *big.Int, float64:
		return e.say(ctx, key, value.String())
	default:
		return &worker.Exception{Type: "DataError", Module: "redis.exceptions", Args: []any{
			"Invalid input of type: '" + className(v) + "'. Convert to a bytes, string, int or float first.",
		}}
	}
}

func (e *effects) say(ctx context.Context, key, text string) error {
	return e.client.RPush(ctx, key, text).Err()
}

const echoKey = "redis-echo"

// effectTasks are those that write to Redis.
func (s suite) effectTasks() {
	e := s.effects
	s.task("redis_echo", func(ctx context.Context, message celeryproto.Raw, key *string) error {
		return e.push(ctx, orDefault(key, echoKey), message)
	}, "message", "redis_key")
	s.task("redis_echo_group_id", func(ctx context.Context, call *worker.TaskCall, _ celeryproto.Raw, key *string) error {
		group := celeryproto.Raw("null")
		if id := call.Task.GroupID; id != "" {
			group = celeryproto.AppendString(nil, id)
		}
		return e.push(ctx, orDefault(key, "redis-group-ids"), group)
	}, "_", "redis_key")
	s.task("redis_count", func(ctx context.Context, key *string) error { return e.count(ctx, orDefault(key, "redis-count")) }, "redis_key")
	s.task("sum_and_record", func(ctx context.Context, call *worker.TaskCall, nums any, key string) (any, error) {
		total, err := sum(nums)
		if err != nil {
			return nil, err
		}
		return total, e.say(ctx, key, call.Task.ID)
	}, "values", "redis_key")
	s.task("errback_old_style", func(ctx context.Context, requestID string) (string, error) {
		return requestID, e.count(ctx, requestID)
	}, "request_id")
	s.task("errback_old_style_with_args", func(ctx context.Context, requestID string, label celeryproto.Raw) error {
		return e.push(ctx, requestID, label)
	}, "request_id", "label")
}

func (e *effects) count(ctx context.Context, key string) error { return e.client.Incr(ctx, key).Err() }

func orDefault(text *string, def string) string {
	if text == nil {
		return def
	}
	return *text
}
