package app

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/redis/go-redis/v9"
)

// idleGCPercent trades a little processor time for memory: what a gateway holds is mostly idle windows.
const idleGCPercent = 50

// TuneRuntime sets the garbage collector for many idle windows, unless the operator has set GOGC.
func TuneRuntime(lookupEnv func(string) (string, bool)) {
	if _, set := lookupEnv("GOGC"); !set {
		debug.SetGCPercent(idleGCPercent)
	}
}

// QuietRedis sends what go-redis prints by itself (each refused connection) to logger at debug level; the packages that use it
// log an outage once.
func QuietRedis(logger *slog.Logger) { redis.SetLogger(redisLog{logger}) }

type redisLog struct{ logger *slog.Logger }

// Printf implements go-redis' logging interface.
func (l redisLog) Printf(ctx context.Context, format string, v ...any) {
	if l.logger.Enabled(ctx, slog.LevelDebug) {
		l.logger.DebugContext(ctx, "go-redis", "text", fmt.Sprintf(format, v...))
	}
}
