package gateway

import (
	"cmp"
	"slices"
	"time"
)

// merging knows, for a while after a hand-over, which messages a window has got, so that each comes once: until the groups are left
// elsewhere, the same message may arrive on two ways.
type merging struct {
	seen  map[string]struct{}
	until time.Time
}

// knows says whether the message was there before, and remembers it.
func (m *merging) knows(f *frame) bool {
	if m == nil {
		return false
	}
	id := f.signalID()
	if id == "" {
		id = string(f.text()) // no text of df_websockets: the same one again is a repeat, while it lasts
	}
	if _, ok := m.seen[id]; ok {
		return true
	}
	m.seen[id] = struct{}{}
	return false
}

// inherit puts messages, held, before everything that waits, and drops repeats from now until the given time. It is for an outbox that
// was not opened yet; false if it was, or is dead.
func (o *outbox) inherit(messages []*frame, until time.Time, l *outboxLimits) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != outboxHeld && o.state != outboxCut {
		return false
	}
	m := &merging{seen: make(map[string]struct{}, len(messages)+len(o.queue)), until: until}
	queue := make([]*frame, 0, len(messages)+len(o.queue))
	o.waiting, o.lasting = 0, 0
	for _, list := range [][]*frame{messages, o.queue} {
		for _, f := range list {
			if f.lasting && m.knows(f) {
				f.release(l.memory)
				continue
			}
			if f.lasting {
				o.lasting++
			}
			queue = append(queue, f)
			o.waiting += len(f.wire)
		}
	}
	// Of several outboxes that collected in turn, the one that ends last need not be the one with the last messages.
	slices.SortStableFunc(queue, func(a, b *frame) int { return cmp.Compare(a.number, b.number) })
	o.queue, o.merging, o.handed = queue, m, false
	return true
}

// alive says whether the outbox has a socket that is not about to close.
func (o *outbox) alive() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state != outboxCut && o.state != outboxDead && o.closing == nil
}

// answering says whether a goroutine has yet to write the close frame.
func (o *outbox) answering() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state == outboxFlushing && o.closing != nil && !o.closing.done
}

// ended says whether nobody comes back to the outbox: it is dead, or handed over.
func (o *outbox) ended() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state == outboxDead || o.handed
}

// abandoned says whether what is pushed reaches nobody.
func (o *outbox) abandoned() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state == outboxDead && o.heir == nil
}

// held says whether the socket is not open yet.
func (o *outbox) held() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state == outboxHeld
}

// merged ends the time in which repeats are dropped, once it is over.
func (o *outbox) merged(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.merging != nil && now.After(o.merging.until) {
		o.merging = nil
	}
}

// share returns the messages of an outbox without a socket, held once more.
func (o *outbox) share(l *outboxLimits) []*frame {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != outboxCut {
		return nil
	}
	for _, f := range o.queue {
		f.hold(l.memory)
	}
	return append([]*frame(nil), o.queue...)
}

// collect takes the messages, held, out of an outbox without a socket; it goes on collecting.
func (o *outbox) collect() []*frame {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != outboxCut {
		return nil
	}
	messages := o.queue
	o.handed = true
	o.gone += uint64(o.lasting)
	o.queue, o.waiting, o.lasting = nil, 0, 0
	return messages
}

// surrender ends an outbox without a socket and hands over its messages, held. What is pushed from now on is the heir's.
func (o *outbox) surrender(heir *window) []*frame {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != outboxCut {
		return nil
	}
	messages := o.queue
	o.state, o.heir = outboxDead, heir
	o.queue, o.waiting, o.lasting = nil, 0, 0
	return messages
}

// successor is who gets what is pushed to a dead outbox; nil if nobody.
func (o *outbox) successor() *window {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.heir
}

// kill drops everything, for good, and returns the number of messages that were never written.
func (o *outbox) kill(l *outboxLimits) (dropped int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state == outboxDead {
		return 0
	}
	for i, f := range o.queue {
		f.release(l.memory)
		if f.lasting && i >= o.written {
			dropped++
		}
	}
	o.state = outboxDead
	o.queue, o.closing, o.merging = nil, nil, nil // a flushing goroutine may still read the array
	o.written, o.inflight, o.offset, o.waiting, o.kept, o.lasting = 0, 0, 0, 0, 0, 0
	return dropped
}

// load returns the frames and bytes that wait.
func (o *outbox) load() (frames, bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue) - o.written, o.waiting
}
