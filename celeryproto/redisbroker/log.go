package redisbroker

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// LogTo sends what go-redis prints by itself (each refused connection) to a logger, at debug level, for the whole process. The parts of
// this package log an outage once.
func LogTo(logger *slog.Logger) { redis.SetLogger(driverLog{logger}) }

type driverLog struct{ logger *slog.Logger }

// Printf implements go-redis' logging interface.
func (l driverLog) Printf(ctx context.Context, format string, v ...any) {
	if l.logger.Enabled(ctx, slog.LevelDebug) {
		l.logger.DebugContext(ctx, "go-redis", "text", fmt.Sprintf(format, v...))
	}
}
