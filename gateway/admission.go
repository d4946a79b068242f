package gateway

import (
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/time/rate"
)

// retrySpread is over how many seconds those are spread that are told to come back later.
const retrySpread = 5

// admission spreads handshakes: when everybody comes back at once, ticket store and channel layer see Config.AdmitRate of them per second.
type admission struct {
	limiter *rate.Limiter // nil without a limit
	wait    time.Duration
	closedC <-chan struct{}
}

func newAdmission(cfg *Config, closedC <-chan struct{}) *admission {
	a := &admission{wait: max(cfg.AdmitWait, 0), closedC: closedC}
	if cfg.AdmitRate != Off {
		a.limiter = rate.NewLimiter(rate.Limit(cfg.AdmitRate), cfg.AdmitBurst)
	}
	return a
}

// enter waits for the handshake's turn. It refuses those whose turn does not come soon.
//
// The script comes back after three seconds, refused or not, all of a storm together. Waiting lets the time in between be used.
func (a *admission) enter(ctx context.Context) *refusal {
	if a.limiter == nil {
		return nil
	}
	turn := a.limiter.Reserve()
	delay := turn.Delay()
	switch {
	case delay <= 0:
		return nil
	case delay > a.wait:
		turn.Cancel()
		seconds := int(math.Ceil(delay.Seconds())) + rand.IntN(retrySpread)
		return &refusal{status: http.StatusServiceUnavailable, reason: RefusedRate, text: "too many windows at once",
			retryAfter: strconv.Itoa(seconds)}
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		turn.Cancel()
		return &refusal{reason: RefusedConnection}
	case <-a.closedC:
		return nil // whoever counts the windows says so
	}
}
