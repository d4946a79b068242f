package gateway

import (
	"errors"
	"slices"
	"sync"
)

var (
	// errOutboxFull is returned by push when the window does not read fast enough.
	errOutboxFull = errors.New("gateway: outbox full")
	// errOutboxSealed is returned by push after a close frame was queued or the socket failed.
	errOutboxSealed = errors.New("gateway: outbox sealed")
)

type outboxState uint8

const (
	outboxHeld     outboxState = iota // the handshake is not answered yet: frames wait
	outboxIdle                        // nothing to write
	outboxFlushing                    // exactly one goroutine is writing
	outboxDead                        // the socket failed or is gone: everything is dropped
)

// outboxLimits bound what waits for one window.
type outboxLimits struct {
	frames int
	bytes  int
}

// outbox is the bounded queue between those who have frames for a window (hub, heartbeat, reader) and its socket.
// Nothing in it ever waits. Who makes it go from idle to flushing must write until take returns nothing: so one goroutine
// at a time writes to the socket, and none exists for a window that is silent.
type outbox struct {
	mu       sync.Mutex
	queue    [][]byte // whole frames, oldest first; shared with other windows, never modified
	inflight int      // frames at the head of queue that the flushing goroutine is writing
	offset   int      // bytes of queue[0] that are written already
	bytes    int      // bytes in queue
	state    outboxState
	sealed   bool      // a close frame is the last one
	first    [1][]byte // the array of a queue with one frame, which is what most windows ever have
}

// push queues one frame. flush means that the caller must flush now.
func (o *outbox) push(frame []byte, limits outboxLimits) (flush bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed || o.state == outboxDead {
		return false, errOutboxSealed
	}
	// A frame that is alone in the outbox is always taken: the limit is for what piles up.
	if len(o.queue) > 0 && (len(o.queue) >= limits.frames || o.bytes+len(frame) > limits.bytes) {
		return false, errOutboxFull
	}
	return o.append(frame), nil
}

// sealing is what came of seal.
type sealing struct {
	first bool // the outbox was not sealed before
	held  bool // the handshake is not answered yet: open will tell that the outbox is sealed
	flush bool // the caller must flush now
}

// seal queues the close frame as the last one; with discard, what is not being written yet is dropped before it.
func (o *outbox) seal(closeFrame []byte, discard bool) sealing {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sealed || o.state == outboxDead {
		return sealing{}
	}
	o.sealed = true
	if discard {
		keep := o.inflight
		if o.offset > 0 {
			keep = max(keep, 1) // half of it is on the wire
		}
		for _, frame := range o.queue[keep:] {
			o.bytes -= len(frame)
		}
		// The clip keeps append from writing into the array that the flushing goroutine reads.
		o.queue = slices.Clip(o.queue[:keep])
	}
	held := o.state == outboxHeld
	return sealing{first: true, held: held, flush: o.append(closeFrame)}
}

// append queues a frame and claims the flush if nobody has it. The caller holds mu.
func (o *outbox) append(frame []byte) (flush bool) {
	o.queue = append(o.queue, frame)
	o.bytes += len(frame)
	if o.state == outboxIdle {
		o.state = outboxFlushing
		return true
	}
	return false
}

// open ends the time of the handshake: what was queued meanwhile may be written. flush as in push.
func (o *outbox) open() (flush, sealed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != outboxHeld {
		return false, o.sealed
	}
	if len(o.queue) == 0 {
		o.state = outboxIdle
		o.queue = o.first[:0]
		return false, o.sealed
	}
	o.state = outboxFlushing
	return true, o.sealed
}

// take returns the frames to write next, at most limit bytes but at least one frame, and how many bytes of the first are
// written already. Without frames it gives the flush back and returns nothing.
func (o *outbox) take(limit int) (frames [][]byte, offset int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state == outboxDead {
		return nil, 0
	}
	if len(o.queue) == 0 {
		o.state = outboxIdle
		o.first[0] = nil
		o.queue = o.first[:0] // an idle window keeps no other array, and no frame
		return nil, 0
	}
	n, size := 1, len(o.queue[0])-o.offset
	for n < len(o.queue) && size+len(o.queue[n]) <= limit {
		size += len(o.queue[n])
		n++
	}
	o.inflight = n
	return o.queue[:n:n], o.offset
}

// wrote accounts for n bytes of what take returned. frames is how many frames were finished.
func (o *outbox) wrote(n int) (frames int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state == outboxDead {
		return 0
	}
	o.inflight = 0
	n += o.offset
	for frames < len(o.queue) && n >= len(o.queue[frames]) {
		n -= len(o.queue[frames])
		o.bytes -= len(o.queue[frames])
		frames++
	}
	o.offset = n
	o.queue = o.queue[frames:]
	return frames
}

// kill drops everything, for good, and returns the number of frames that were never written.
func (o *outbox) kill() (dropped int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	dropped = len(o.queue)
	if o.state != outboxFlushing { // else the flushing goroutine may be reading it
		o.first[0] = nil
	}
	o.state = outboxDead
	o.queue, o.bytes, o.offset, o.inflight = nil, 0, 0, 0
	return dropped
}

// waiting returns the frames and bytes that wait.
func (o *outbox) waiting() (frames, bytes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue), o.bytes
}
