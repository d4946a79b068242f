package redisbroker

import (
	"sync"
	"time"
)

// maxRest is the longest that a consumer leaves a queue alone at a stretch, however many requeues ask for it.
const maxRest = 2 * time.Second

// rests are the queues that a consumer leaves alone for a while: RequeueOptions.Rest. A queue rests from before the push, so
// that the consumer cannot be faster than the push is answered, until the time asked for has passed since. Then it is
// consumed for at least as long as it rested: a stream of requeues takes at most half of the consumer's time for the queue.
type rests struct {
	mu     sync.Mutex
	queues map[string]*rest
}

// rest is the last or current one of a queue.
type rest struct {
	start, until time.Time
	pushing      int // pushes under way that asked for it
}

func (r *rest) end() time.Time {
	if r.pushing > 0 {
		return r.start.Add(maxRest)
	}
	return r.until
}

// begin is called before a push; false means that it is the consumer's turn. Otherwise pushed must follow.
func (s *rests) begin(queue string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.queues[queue]
	if r == nil {
		r = &rest{}
		if s.queues == nil {
			s.queues = make(map[string]*rest)
		}
		s.queues[queue] = r
	}
	switch end := r.end(); {
	case now.Before(end): // it goes on
	case now.Before(end.Add(end.Sub(r.start))):
		return false
	default:
		r.start, r.until = now, now
	}
	r.pushing++
	return true
}

// pushed is called when Redis has answered, with the time to rest from now on; 0 when nothing was pushed.
func (s *rests) pushed(queue string, d time.Duration, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.queues[queue]
	r.pushing--
	until := now.Add(d)
	if last := r.start.Add(maxRest); until.After(last) {
		until = last
	}
	if d > 0 && until.After(r.until) {
		r.until = until
	}
}

// resting reports whether the queue is to be left alone.
func (s *rests) resting(queue string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.queues[queue]
	return r != nil && now.Before(r.end())
}

// next is the time until a rest ends, at most limit.
func (s *rests) next(now time.Time, limit time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.queues {
		if left := r.end().Sub(now); left > 0 {
			limit = min(limit, left)
		}
	}
	return limit
}

// awake lists the queues that do not rest, in their order.
func (s *rests) awake(queues []string, now time.Time) []string {
	awake := make([]string, 0, len(queues))
	for _, q := range queues {
		if !s.resting(q, now) {
			awake = append(awake, q)
		}
	}
	return awake
}
