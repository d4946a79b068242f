package gateway

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// flushBatch is how many bytes one write takes at most when it joins several frames. A larger frame is written alone.
const flushBatch = 32 << 10

// errWouldBlock is returned by tryWrite when the socket takes nothing more now.
var errWouldBlock = errors.New("gateway: socket would block")

// flusher writes a batch of frames to one socket at a time. It is pooled: idle windows own no write buffer.
type flusher struct {
	scratch []byte // joins small frames
	pending []byte // what attempt still has to write
	err     error
	attempt func(fd uintptr) bool // f.tryFD, bound once
}

var flushers = sync.Pool{New: func() any {
	f := &flusher{scratch: make([]byte, 0, flushBatch)}
	f.attempt = f.tryFD
	return f
}}

// joined returns the frames as one slice, without copying when there is one frame.
func (f *flusher) joined(frames []*frame, offset int) []byte {
	if len(frames) == 1 {
		return frames[0].wire[offset:]
	}
	f.scratch = append(f.scratch[:0], frames[0].wire[offset:]...)
	for _, frame := range frames[1:] {
		f.scratch = append(f.scratch, frame.wire...)
	}
	return f.scratch
}

// tryWrite writes as much of p as the socket takes without waiting.
func (f *flusher) tryWrite(raw syscall.RawConn, p []byte) (int, error) {
	f.pending, f.err = p, nil
	err := raw.Write(f.attempt)
	n := len(p) - len(f.pending)
	f.pending = nil
	if err == nil {
		err = f.err
	}
	return n, err
}

// release puts the flusher back.
func (f *flusher) release() {
	f.pending, f.err = nil, nil
	flushers.Put(f)
}

// flush writes what the outbox holds and never waits: what the socket does not take at once is left to a goroutine that
// does. The caller has the flush (see outbox).
func (w *window) flush() {
	if w.raw == nil { // TLS or a pipe: there is no write that does not wait
		w.g.conns.Go(w.flushWaiting)
		return
	}
	f := flushers.Get().(*flusher)
	defer f.release()
	for {
		frames, offset := w.out.take(flushBatch)
		if frames == nil {
			return
		}
		n, err := f.tryWrite(w.raw, f.joined(frames, offset))
		w.wrote(n)
		switch {
		case err == nil:
		case errors.Is(err, errWouldBlock):
			w.g.conns.Go(w.flushWaiting)
			return
		default:
			w.cut(CloseAbnormal)
			return
		}
	}
}

// flushWaiting writes what the outbox holds, waiting for the socket up to Config.WriteTimeout per flushBatch bytes: a large frame takes
// as long as it takes on a slow link.
func (w *window) flushWaiting() {
	f := flushers.Get().(*flusher)
	defer f.release()
	for {
		frames, offset := w.out.take(flushBatch)
		if frames == nil {
			return
		}
		p := f.joined(frames, offset)
		_ = w.conn.SetWriteDeadline(time.Now().Add(w.g.cfg.WriteTimeout)) // fails only on a closed socket, as Write does
		n, err := w.conn.Write(p[:min(len(p), flushBatch)])
		w.wrote(n)
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				w.cut(CloseSlowReader)
			} else {
				w.cut(CloseAbnormal)
			}
			return
		}
		_ = w.conn.SetWriteDeadline(time.Time{}) // flush must not find an old deadline
	}
}

// wrote accounts for n written bytes.
func (w *window) wrote(n int) {
	if frames := w.out.wrote(n, &w.g.outLimits); frames > 0 {
		w.g.stats.framesOut.Add(uint64(frames))
		w.g.observer.framesSent(frames, n)
	}
}
