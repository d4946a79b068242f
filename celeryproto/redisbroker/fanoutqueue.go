package redisbroker

import (
	"context"
	"sync"
	"time"
)

// fanoutItem is a message that waits for the handler, or a gap before the next one.
type fanoutItem struct {
	queue   int // in SubscriberConfig.Queues
	payload string
	gap     *Gap
}

// fanoutQueue stands between the connection, which must be read lest Redis closes it, and the handler. It is bounded.
type fanoutQueue struct {
	maxItems int
	maxBytes int64
	wakeC    chan struct{} // add sends, take receives; capacity 1: take looks at everything

	mu    sync.Mutex
	items []fanoutItem
	bytes int64
	full  *Gap // messages are being dropped
}

func newFanoutQueue(maxItems int, maxBytes int64) *fanoutQueue {
	return &fanoutQueue{maxItems: maxItems, maxBytes: maxBytes, wakeC: make(chan struct{}, 1)}
}

// add reports false when there was no room.
func (q *fanoutQueue) add(item fanoutItem) bool {
	defer q.wake()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) > 0 && (len(q.items) >= q.maxItems || q.bytes+int64(len(item.payload)) > q.maxBytes) {
		if q.full == nil {
			q.full = &Gap{From: time.Now()}
		}
		q.full.Dropped++
		return false
	}
	q.endFull()
	q.items = append(q.items, item)
	q.bytes += int64(len(item.payload))
	return true
}

// addGap puts a gap in the place of the messages that are missing.
func (q *fanoutQueue) addGap(g Gap) {
	defer q.wake()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.endFull()
	q.appendGap(g)
}

// endFull notes that there is room again.
func (q *fanoutQueue) endFull() {
	if q.full != nil {
		q.full.To = time.Now()
		q.appendGap(*q.full)
		q.full = nil
	}
}

// appendGap makes one gap of those that follow each other, so that however often the connection is lost no memory is needed.
func (q *fanoutQueue) appendGap(g Gap) {
	if n := len(q.items); n > 0 && q.items[n-1].gap != nil {
		last := q.items[n-1].gap
		last.To, last.Dropped = g.To, last.Dropped+g.Dropped
		if g.Err != nil {
			last.Err = g.Err
		}
		return
	}
	q.items = append(q.items, fanoutItem{gap: &g})
}

func (q *fanoutQueue) wake() {
	select {
	case q.wakeC <- struct{}{}:
	default:
	}
}

// take waits for the next item; false when ctx has ended.
func (q *fanoutQueue) take(ctx context.Context) (fanoutItem, bool) {
	for ctx.Err() == nil {
		if item, ok := q.pop(); ok {
			return item, true
		}
		select {
		case <-ctx.Done():
		case <-q.wakeC:
		}
	}
	return fanoutItem{}, false
}

func (q *fanoutQueue) pop() (fanoutItem, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		if q.full == nil {
			return fanoutItem{}, false
		}
		q.endFull() // nothing came since
	}
	item := q.items[0]
	q.items[0] = fanoutItem{}
	q.items = q.items[1:]
	q.bytes -= int64(len(item.payload))
	if len(q.items) == 0 {
		q.items = nil // let go of the array
	}
	return item, true
}

// seenTags remembers the last delivery tags, as SentinelChannel._is_duplicate_fanout_message.
type seenTags struct {
	tags map[string]struct{}
	ring []string
	next int
}

// again reports whether a tag is known, and remembers it.
func (s *seenTags) again(tag string) bool {
	if _, known := s.tags[tag]; known {
		return true
	}
	if s.tags == nil {
		s.tags = make(map[string]struct{}, fanoutRemembered)
	}
	if len(s.ring) < fanoutRemembered {
		s.ring = append(s.ring, tag)
	} else {
		delete(s.tags, s.ring[s.next])
		s.ring[s.next] = tag
		s.next = (s.next + 1) % fanoutRemembered
	}
	s.tags[tag] = struct{}{}
	return false
}
