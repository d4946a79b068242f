package redisconn

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/redis/go-redis/v9"
)

// transientReplies are the first words of Redis' errors that pass by themselves: loading, failing over, short of memory or
// of disk, busy with a script.
var transientReplies = []string{
	"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "OOM", "MISCONF", "NOREPLICAS", "UNBLOCKED",
	"max number of clients",
}

// Transient reports whether the same exchange with Redis may succeed later without anybody changing anything: Redis was away, slow,
// loading or full. It is false for cancelled contexts, closed clients and refused credentials.
func Transient(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, redis.ErrClosed) {
		return false
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) {
		return true
	}
	if _, ok := errors.AsType[redis.Error](err); ok {
		for _, word := range transientReplies {
			if redis.HasErrorPrefix(err, word) {
				return true
			}
		}
		return false
	}
	_, ok := errors.AsType[net.Error](err)
	return ok
}
