package worker

import (
	"sync"
	"time"
)

// limiter holds back the jobs of one task that come faster than its rate: Celery's token bucket with a capacity of one token
// (kombu 5.7, utils/limits.py). Held jobs are unacked and count as held: they keep others from being taken, as in Celery.
type limiter struct {
	due func(*job) // takes a job whose time has come; called without the lock

	mu     sync.Mutex
	rate   float64 // per second, 0 for no limit
	tokens float64
	at     time.Time // of tokens
	jobs   []*job    // oldest first
	timer  *time.Timer
	closed bool
}

func newLimiter(rate float64, due func(*job)) *limiter {
	return &limiter{due: due, rate: rate, tokens: 1}
}

// setRate changes the rate; what waits goes on by the new one.
func (l *limiter) setRate(rate float64) {
	l.mu.Lock()
	l.refill(time.Now())
	l.rate = rate
	l.mu.Unlock()
	l.release()
}

// add passes a job on at once, or when its turn comes.
func (l *limiter) add(j *job) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return // the stop gives it back with everything that is held
	}
	l.jobs = append(l.jobs, j)
	l.mu.Unlock()
	l.release()
}

func (l *limiter) refill(now time.Time) {
	if l.rate > 0 && !l.at.IsZero() {
		l.tokens = min(1, l.tokens+l.rate*now.Sub(l.at).Seconds())
	}
	l.at = now
}

// take removes the next job when there is a token for it.
func (l *limiter) take(now time.Time) *job {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.jobs) == 0 {
		return nil
	}
	l.refill(now)
	if l.rate > 0 {
		const almost = 1 - 1e-9 // what floating point leaves of a token
		if l.tokens < almost {
			l.wakeIn(time.Duration(min((1-l.tokens)/l.rate, maxWake.Seconds()) * float64(time.Second)))
			return nil
		}
		l.tokens = max(0, l.tokens-1)
	}
	j := l.jobs[0]
	l.jobs[0] = nil
	l.jobs = l.jobs[1:]
	return j
}

// maxWake is the longest sleep of a limiter: a slower one looks again after it.
const maxWake = time.Hour

func (l *limiter) wakeIn(d time.Duration) {
	if l.timer == nil {
		l.timer = time.AfterFunc(d, l.release)
		return
	}
	l.timer.Reset(d)
}

func (l *limiter) release() {
	for j := l.take(time.Now()); j != nil; j = l.take(time.Now()) {
		l.due(j)
	}
}

// close returns the jobs that wait.
func (l *limiter) close() []*job {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
	jobs := l.jobs
	l.jobs = nil
	return jobs
}
