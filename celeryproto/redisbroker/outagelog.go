package redisbroker

import (
	"log/slog"
	"time"
)

// outageQuiet is how long an outage is not told of again: a Redis at its memory limit refuses and accepts by turns, many times a second.
const outageQuiet = 10 * time.Second

// outageLog tells of an outage once, and of its end. One goroutine uses it.
type outageLog struct {
	logger *slog.Logger
	what   string // "taking messages"

	failing bool
	told    bool      // of the failure that lasts, or was the last one
	last    time.Time // when it was told of one
}

// failed notes a failure.
func (o *outageLog) failed(err error) {
	if o.failing {
		return
	}
	o.failing = true
	if now := time.Now(); now.Sub(o.last) >= outageQuiet {
		o.told, o.last = true, now
		o.logger.Warn("redisbroker: "+o.what+" fails, trying again", "err", err)
	}
}

// worked notes a success.
func (o *outageLog) worked() {
	if !o.failing {
		return
	}
	o.failing = false
	if o.told {
		o.told = false
		o.logger.Info("redisbroker: " + o.what + " works again")
	}
}
