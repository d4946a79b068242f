package gateway

import (
	"errors"
	"slices"
	"sync"
)

var (
	// errOutboxFull is returned by push when the window does not read fast enough.
	errOutboxFull = errors.New("gateway: outbox full")
	// errOutboxSealed is returned by push for what means nothing after the close frame, and for everything once the outbox is dead.
	errOutboxSealed = errors.New("gateway: outbox sealed")
)

type outboxState uint8

const (
	outboxHeld     outboxState = iota // the socket is not open yet: frames wait
	outboxIdle                        // nothing to write
	outboxFlushing                    // exactly one goroutine is writing
	outboxCut                         // no socket any more: messages are kept for the next one
	outboxDead                        // everything is dropped, or goes to the heir
)

// outboxLimits bound what an outbox holds.
type outboxLimits struct {
	frames, bytes         int // of what waits for an open socket
	keptFrames, keptBytes int // of what was written and not proven, and of everything when there is no socket
	memory                *memory
}

// outbox is the bounded queue between those who have frames for a window (hub, heartbeat, reader) and its socket.
// Nothing in it ever waits. Who makes it go from idle to flushing must write until take returns nothing: so one goroutine
// at a time writes to the socket, and none exists for a window that is silent.
//
// What was written stays until the browser is known to have it: a socket that broke without a sign swallows what it is given.
type outbox struct {
	mu       sync.Mutex
	queue    []*frame // oldest first: written and not proven, being written, waiting; the array is read by the flushing goroutine
	written  int      // frames at the head of queue that are on the wire whole
	inflight int      // frames after them that the flushing goroutine is writing
	offset   int      // bytes of the next frame, or of the close frame, that are on the wire
	waiting  int      // bytes in queue[written:]
	kept     int      // bytes in queue[:written]
	gone     uint64   // messages that have left the queue
	forgot   int      // of those, the ones that were let go without proof, since the last proof
	lasting  int      // messages in queue
	state    outboxState
	handed   bool      // cut, and another gateway has its messages: what comes now is sent after
	closing  *closing  // not nil: sealed
	merging  *merging  // not nil for a while after a hand-over
	heir     *window   // of a dead outbox: who has got its messages, if anybody
	first    [1]*frame // the array of a queue with one frame, which is what most windows ever have
}

// closing is the end of what goes to a socket.
type closing struct {
	frame  [1]*frame
	before int  // frames of queue[written:] that go out first
	done   bool // on the wire
}

// push queues one frame. flush means that the caller must flush now; dropped is how many older messages had to go for it.
func (o *outbox) push(f *frame, l *outboxLimits) (flush bool, dropped int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.state == outboxDead:
		return false, 0, errOutboxSealed
	case o.state == outboxCut || o.closing != nil:
		if !f.lasting || l.keptFrames == 0 {
			return false, 0, errOutboxSealed
		}
		if o.merging.knows(f) {
			return false, 0, nil
		}
		o.append(f, l)
		return false, o.trim(l), nil
	}
	// A frame that waits alone is always taken: the limit is for what piles up.
	if n := len(o.queue) - o.written; n > 0 && (n >= l.frames || o.waiting+len(f.wire) > l.bytes) {
		return false, 0, errOutboxFull
	}
	if f.lasting && o.merging.knows(f) {
		return false, 0, nil
	}
	o.append(f, l)
	return o.claim(), 0, nil
}

// ping queues a ping whose answer proves everything before it. flush as in push; there is none before the socket is open or after it
// was sealed.
func (o *outbox) ping() (flush bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != outboxIdle && o.state != outboxFlushing || o.closing != nil {
		return false
	}
	f := pingFrame(o.gone + uint64(o.lasting))
	o.queue = append(o.queue, f)
	o.waiting += len(f.wire)
	return o.claim()
}

// flushed tells that nothing more goes to the socket, the close frame of a sealed outbox included: all is on the wire, or given up.
func (o *outbox) flushed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.state == outboxDead || o.state == outboxCut:
		return true
	case o.closing != nil:
		return o.closing.done
	default:
		return o.written == len(o.queue)
	}
}

// append queues a frame. The caller holds mu.
func (o *outbox) append(f *frame, l *outboxLimits) {
	f.hold(l.memory)
	o.queue = append(o.queue, f)
	o.waiting += len(f.wire)
	if f.lasting {
		o.lasting++
	}
}

// claim claims the flush if nobody has it. The caller holds mu.
func (o *outbox) claim() bool {
	if o.state == outboxIdle {
		o.state = outboxFlushing
		return true
	}
	return false
}

// sealing is what came of seal.
type sealing struct {
	first bool // the outbox was not sealed before
	held  bool // the socket is not open yet: open will tell that the outbox is sealed
	flush bool // the caller must flush now
}

// seal makes the close frame the last one on the socket. With discard it does not wait for what nobody is writing yet. Messages that do
// not go out before it are kept.
func (o *outbox) seal(closeFrame []byte, discard bool) sealing {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing != nil || o.state == outboxCut || o.state == outboxDead {
		return sealing{}
	}
	before := len(o.queue) - o.written
	if discard {
		before = o.busy()
	}
	o.closing = &closing{frame: [1]*frame{{wire: closeFrame}}, before: before}
	held := o.state == outboxHeld
	return sealing{first: true, held: held, flush: o.claim()}
}

// busy is how many frames after the written ones a socket has begun with.
func (o *outbox) busy() int {
	if o.offset > 0 && (o.closing == nil || o.closing.before > 0) {
		return max(o.inflight, 1)
	}
	return o.inflight
}

// open ends the time of the handshake: what was queued meanwhile may be written. flush as in push.
func (o *outbox) open() (flush, sealed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != outboxHeld {
		return false, o.closing != nil
	}
	o.state = outboxIdle
	o.settle()
	if len(o.queue) > 0 || o.closing != nil {
		flush = o.claim()
	}
	return flush, o.closing != nil
}

// take returns the frames to write next, at most limit bytes but at least one frame, and how many bytes of the first are
// written already. Without frames it gives the flush back and returns nothing.
func (o *outbox) take(limit int) (frames []*frame, offset int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != outboxFlushing {
		return nil, 0
	}
	todo := o.queue[o.written:]
	if o.closing != nil {
		todo = todo[:min(len(todo), o.closing.before)]
		if len(todo) == 0 && !o.closing.done {
			return o.closing.frame[:], o.offset
		}
	}
	if len(todo) == 0 {
		o.state = outboxIdle
		o.settle()
		return nil, 0
	}
	n, size := 1, len(todo[0].wire)-o.offset
	for n < len(todo) && size+len(todo[n].wire) <= limit {
		size += len(todo[n].wire)
		n++
	}
	o.inflight = n
	return todo[:n:n], o.offset
}

// settle lets an empty outbox keep no other array, and no frame. The caller holds mu.
func (o *outbox) settle() {
	if len(o.queue) == 0 && o.inflight == 0 {
		o.first[0] = nil
		o.queue = o.first[:0]
	}
}

// wrote accounts for n bytes of what take returned. frames is how many frames were finished.
func (o *outbox) wrote(n int, l *outboxLimits) (frames int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != outboxFlushing {
		return 0
	}
	n += o.offset
	if o.inflight == 0 { // the close frame
		if o.offset = n; n < len(o.closing.frame[0].wire) {
			return 0
		}
		o.offset, o.closing.done = 0, true
		return 1
	}
	o.inflight = 0
	for o.written < len(o.queue) && n >= len(o.queue[o.written].wire) {
		n -= len(o.queue[o.written].wire)
		o.finish()
		frames++
	}
	o.offset = n
	if o.written == len(o.queue) {
		o.dropTail()
	}
	o.forget(l)
	return frames
}

// finish moves the next frame to the written ones. The caller holds mu.
func (o *outbox) finish() {
	f := o.queue[o.written]
	o.waiting -= len(f.wire)
	if o.closing != nil {
		o.closing.before--
	}
	if !f.lasting && o.written == 0 {
		o.queue = o.queue[1:]
		return
	}
	o.written++
	o.kept += len(f.wire)
}

// dropTail lets go of what is no message at the end of a queue that is written whole. The caller holds mu.
func (o *outbox) dropTail() {
	for n := len(o.queue); n > 0 && !o.queue[n-1].lasting; n-- {
		o.kept -= len(o.queue[n-1].wire)
		o.queue[n-1] = nil
		o.queue = o.queue[:n-1]
		o.written--
	}
}

// forget keeps what was written and not proven within its limits. The caller holds mu.
func (o *outbox) forget(l *outboxLimits) {
	for o.written > 0 && (o.written > l.keptFrames || o.written > 1 && o.kept > l.keptBytes || l.memory.full()) {
		if o.dropHead(l) {
			o.forgot++
		}
	}
}

// dropHead drops the oldest frame, which is written, and says whether it is a message. The caller holds mu.
func (o *outbox) dropHead(l *outboxLimits) (message bool) {
	f := o.queue[0]
	o.queue[0] = nil // the array keeps no frame alive
	o.queue = o.queue[1:]
	o.written--
	o.kept -= len(f.wire)
	if f.lasting {
		o.lasting--
		o.gone++
	}
	f.release(l.memory)
	return f.lasting
}

// proven lets go of the messages that the browser has: the first queued ones.
func (o *outbox) proven(queued uint64, l *outboxLimits) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state == outboxCut || o.state == outboxDead {
		return
	}
	for o.written > 0 && (o.gone < queued || !o.queue[0].lasting) {
		o.dropHead(l)
	}
	if queued >= o.gone {
		o.forgot = 0
	}
	if o.state == outboxIdle {
		o.settle()
	}
}

// closeAnswered lets go of everything that was written: the browser has answered the close frame after it.
func (o *outbox) closeAnswered(l *outboxLimits) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closing == nil || !o.closing.done {
		return
	}
	for o.written > 0 {
		o.dropHead(l)
	}
	o.forgot = 0
}

// unproven says whether messages were written that the browser is not known to have.
func (o *outbox) unproven() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.written > 0 && o.lasting > 0
}

// trim drops the oldest messages that will not go to the present socket until the limits hold. The caller holds mu.
func (o *outbox) trim(l *outboxLimits) (dropped int) {
	for {
		n := len(o.queue)
		if n == 0 || n <= l.keptFrames && (n == 1 || o.waiting+o.kept <= l.keptBytes) && !l.memory.full() {
			return dropped
		}
		if o.written > 0 {
			if o.dropHead(l) {
				dropped++
			}
			continue
		}
		i := o.busy()
		if o.closing != nil {
			i = max(i, o.closing.before)
		}
		if i >= n {
			return dropped
		}
		f := o.queue[i]
		o.queue = slices.Delete(o.queue, i, i+1) // behind what the flushing goroutine reads
		o.waiting -= len(f.wire)
		if f.lasting {
			o.lasting--
			o.gone++
			dropped++
		}
		f.release(l.memory)
	}
}

// cut ends the time of the socket. Messages are kept: park or kill decide about them.
func (o *outbox) cut() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state != outboxDead {
		o.state = outboxCut
	}
}

// park gets the outbox ready for another socket: every message that the browser may not have waits again, in order, also the one
// that was cut in the middle. dropped are those for which there was no room; forgot, those that were written and let go without proof.
func (o *outbox) park(l *outboxLimits) (dropped, forgot int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.state == outboxDead {
		return 0, 0
	}
	o.state = outboxCut
	queue := make([]*frame, 0, o.lasting) // a flushing goroutine may still read the old array
	o.waiting = 0
	for _, f := range o.queue {
		if f.lasting {
			queue = append(queue, f)
			o.waiting += len(f.wire)
		}
	}
	o.queue, o.first[0] = queue, nil
	o.written, o.inflight, o.offset, o.kept, o.closing, o.merging = 0, 0, 0, 0, nil, nil
	return o.trim(l), o.forgot
}
