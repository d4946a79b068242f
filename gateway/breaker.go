package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// breakerFailures is how many failures in a row make us stop asking.
	breakerFailures = 5
	// breakerFirstPause and breakerLastPause bound the time until somebody asks again; it doubles each time in vain.
	breakerFirstPause = time.Second
	breakerLastPause  = 30 * time.Second
)

// errBreakerOpen is wrapped by what allow returns while nobody asks.
var errBreakerOpen = errors.New("not asked, because it failed before")

// breaker keeps handshakes from waiting for somebody who does not answer. After some failures in a row everybody fails at once; one
// at a time tries again when the pause is over.
type breaker struct {
	log     *slog.Logger
	subject string
	now     func() time.Time

	mu       sync.Mutex
	failures int           // in a row
	pause    time.Duration // 0 while closed
	until    time.Time     // end of the pause
	since    time.Time     // when it opened
	probing  bool          // somebody tries
	reason   error         // the last failure
}

// allow returns nil if the caller may ask; it must call done then.
func (b *breaker) allow() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pause == 0 {
		return nil
	}
	if b.probing || b.now().Before(b.until) {
		return fmt.Errorf("%w: %w", errBreakerOpen, b.reason)
	}
	b.probing = true
	return nil
}

// skip takes an allow back that led to no answer and to no failure either.
func (b *breaker) skip() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
}

// done says how it went; nil is an answer.
func (b *breaker) done(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	if err == nil {
		if b.pause > 0 {
			b.log.Info(b.subject+" is asked again", "away", b.now().Sub(b.since).Round(time.Millisecond))
		}
		b.failures, b.pause, b.reason = 0, 0, nil
		return
	}
	b.failures++
	b.reason = err
	switch {
	case b.pause > 0 && b.now().Before(b.until): // asked before it opened
	case b.pause > 0:
		b.pause = min(2*b.pause, breakerLastPause)
		b.until = b.now().Add(b.pause)
		b.log.Warn(b.subject+" still fails", "pause", b.pause, "away", b.now().Sub(b.since).Round(time.Millisecond), "err", err)
	case b.failures >= breakerFailures:
		b.pause, b.since = breakerFirstPause, b.now()
		b.until = b.now().Add(b.pause)
		b.log.Error(b.subject+" fails and is not asked for a while", "failures", b.failures, "pause", b.pause, "err", err)
	}
}
