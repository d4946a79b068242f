package gateway

import (
	"context"
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// Lines that a peer can cause at will are logged at most sampleRate times per second on average, sampleBurst at once.
const (
	sampleRate  = 1
	sampleBurst = 20
)

// samplers are one per kind of trouble, so that no kind hides another.
type samplers struct {
	frames, handshakes, publisher, layer, upstream, recheck, parked *sampler
}

func newSamplers() samplers {
	return samplers{newSampler(), newSampler(), newSampler(), newSampler(), newSampler(), newSampler(), newSampler()}
}

// sampler lets a log line through now and then and counts those that it holds back.
type sampler struct {
	limiter    *rate.Limiter
	suppressed atomic.Uint64
}

func newSampler() *sampler { return &sampler{limiter: rate.NewLimiter(sampleRate, sampleBurst)} }

// warn logs, or counts. The next line that is logged says how many were not.
func (s *sampler) warn(log *slog.Logger, msg string, args ...any) {
	s.log(log, slog.LevelWarn, msg, args)
}

// info is warn for what need not worry anybody.
func (s *sampler) info(log *slog.Logger, msg string, args ...any) {
	s.log(log, slog.LevelInfo, msg, args)
}

func (s *sampler) log(log *slog.Logger, level slog.Level, msg string, args []any) {
	if !s.limiter.Allow() {
		s.suppressed.Add(1)
		return
	}
	if n := s.suppressed.Swap(0); n > 0 {
		args = append(args, "suppressed", n)
	}
	log.Log(context.Background(), level, msg, args...)
}
