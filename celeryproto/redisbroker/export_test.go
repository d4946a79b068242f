package redisbroker

import "time"

// MatchGlob is for a comparison with Redis.
var MatchGlob = matchGlob

// AgeRestoreLock makes the restore lock that was seen last look as if it had been held for a while longer.
func (b *Broker) AgeRestoreLock(d time.Duration) {
	b.lockMu.Lock()
	defer b.lockMu.Unlock()
	b.lockSince = b.lockSince.Add(-d)
}
