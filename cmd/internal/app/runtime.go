package app

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// quietTick is how often ReturnMemory looks.
	quietTick = 5 * time.Second
	// quietBytes is what a process may allocate in a tick and still be quiet.
	quietBytes = 4 << 20
)

// ReturnMemory gives memory back to the system after a storm (of connects, say), once the process is quiet: Go's own
// scavenger keeps a tenth and takes minutes, and what idle windows cost is what a gateway is sized by. It returns when ctx ends.
func ReturnMemory(ctx context.Context) {
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	allocated := func() uint64 {
		metrics.Read(samples)
		return samples[0].Value.Uint64()
	}
	ticker := time.NewTicker(quietTick)
	defer ticker.Stop()
	last, returned := allocated(), uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := allocated()
		if now-last < quietBytes && now-returned > quietBytes {
			debug.FreeOSMemory()
			returned = allocated()
		}
		last = now
	}
}

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
