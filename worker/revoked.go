package worker

import (
	"container/list"
	"slices"
	"sync"
	"time"

	"github.com/dfws/dfws/celeryproto"
)

// Bounds of the revoked tasks that a worker remembers (celery 5.7, worker/state.py): beyond revokedMax those older than
// revokedExpires are forgotten, and beyond that the oldest.
const (
	revokedMax     = 50_000
	revokedExpires = 3 * time.Hour
	// maxRevokedLength is the longest ID or stamp that is remembered, maxRevokedStamps how many names of stamps are.
	maxRevokedLength = 4096
	maxRevokedStamps = 1000
)

// revokedSet are the IDs of tasks that are not to be run, and the stamps of such tasks.
type revokedSet struct {
	mu     sync.Mutex // guards all
	byID   map[string]*list.Element
	order  list.List // of revokedID, the oldest first
	stamps map[string]rawSet
}

type revokedID struct {
	id string
	at time.Time
}

func newRevokedSet() *revokedSet {
	return &revokedSet{byID: map[string]*list.Element{}, stamps: map[string]rawSet{}}
}

// add notes IDs.
func (s *revokedSet) add(now time.Time, ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if len(id) > maxRevokedLength {
			continue
		}
		if e, there := s.byID[id]; there {
			s.order.MoveToBack(e)
			e.Value = revokedID{id, now}
			continue
		}
		s.byID[id] = s.order.PushBack(revokedID{id, now})
	}
	for s.order.Len() > revokedMax {
		oldest := s.order.Front()
		delete(s.byID, oldest.Value.(revokedID).id)
		s.order.Remove(oldest)
	}
	for e := s.order.Front(); e != nil && now.Sub(e.Value.(revokedID).at) > revokedExpires; e = s.order.Front() {
		delete(s.byID, e.Value.(revokedID).id)
		s.order.Remove(e)
	}
}

// addStamps notes the values of a stamp.
func (s *revokedSet) addStamps(name string, values []celeryproto.Raw) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.stamps[name]; !known && len(s.stamps) >= maxRevokedStamps || len(name) > maxRevokedLength {
		return
	}
	if s.stamps[name] == nil {
		s.stamps[name] = rawSet{}
	}
	for _, value := range values {
		if len(value) <= maxRevokedLength && len(s.stamps[name]) < revokedMax {
			s.stamps[name].add(value)
		}
	}
}

// has tells whether a task was revoked, by its ID or by a stamp.
func (s *revokedSet) has(t *celeryproto.Task) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.byID[t.ID]; there {
		return true
	}
	if len(s.stamps) == 0 || len(t.StampedHeaders) == 0 || len(t.Stamps) == 0 {
		return false
	}
	return s.stampRevoked(t)
}

// stampRevoked is Request.revoked of celery 5.7 for stamps.
func (s *revokedSet) stampRevoked(t *celeryproto.Task) bool {
	names, err := t.StampedHeaders.Array()
	if err != nil {
		return false
	}
	stamps, err := t.Stamps.Object()
	if err != nil {
		return false
	}
	for _, raw := range names {
		name, err := raw.Text()
		if err != nil || len(s.stamps[name]) == 0 {
			continue
		}
		value, there := stamps.Get(name)
		if !there || value.IsNull() {
			continue
		}
		if slices.ContainsFunc(stampValues(value), s.stamps[name].has) {
			return true
		}
	}
	return false
}

// rawSet are JSON values, whoever wrote them.
type rawSet map[string]struct{}

// add reports whether a value is new.
func (s rawSet) add(v celeryproto.Raw) bool {
	key := string(canonical(v))
	_, there := s[key]
	s[key] = struct{}{}
	return !there
}

func (s rawSet) has(v celeryproto.Raw) bool {
	_, there := s[string(canonical(v))]
	return there
}

// canonical is a value in the one form in which this package writes it.
func canonical(r celeryproto.Raw) celeryproto.Raw {
	v, err := celeryproto.DecodeValue(r)
	if err != nil {
		return r
	}
	again, err := celeryproto.EncodeValue(v)
	if err != nil {
		return r
	}
	return again
}

// ids are the revoked IDs, the oldest first.
func (s *revokedSet) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, s.order.Len())
	for e := s.order.Front(); e != nil; e = e.Next() {
		ids = append(ids, e.Value.(revokedID).id)
	}
	return ids
}

// clearStamps forgets the stamps.
func (s *revokedSet) clearStamps() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.stamps)
}
