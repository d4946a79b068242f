package gateway

import (
	"errors"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"

	"github.com/dfws/dfws/compat"
)

const (
	// maxPooledFrame bounds the read buffers that are kept; larger ones are left to the garbage collector.
	maxPooledFrame = 64 << 10
	// smallFrame is what a window may keep as long as it likes.
	smallFrame = 4 << 10
	// largeFrame is what every window may receive at any time; what a frame holds beyond it is shared by all windows.
	largeFrame = 64 << 10
)

var (
	errFrameTooBig = errors.New("gateway: frame too big")
	errNoRoom      = errors.New("gateway: no room for a large frame")
	errNotUTF8     = errors.New("gateway: text frame is not UTF-8")
)

// readBuffers hold a frame while it is handled: an idle window owns none.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 0, smallFrame); return &b }}

// read handles what the browser sends until the connection ends. It is the window's only permanent goroutine and the only
// one that removes it.
func (w *window) read() {
	defer w.g.forget(w)
	defer w.linger()
	defer w.survive()
	for {
		kind, r, err := w.ws.NextReader()
		if err != nil {
			w.readEnded(err)
			return
		}
		w.seen.Store(time.Now().UnixNano())
		if w.deaf() {
			continue // the library skips what is not read
		}
		if err := w.handleFrame(kind, r); err != nil {
			w.readEnded(err)
			return
		}
	}
}

// survive keeps a mistake of ours in the handling of one window's frame from ending the process, and all windows with it.
func (w *window) survive() {
	if fault := recover(); fault != nil {
		w.g.log.Error("panic while a window was read; it is cut", "window", w.identity.window, "panic", fault, "stack", string(debug.Stack()))
		w.cut(CloseAbnormal)
	}
}

// handleFrame reads one frame and handles it. Only errors of the connection are returned.
func (w *window) handleFrame(kind int, r io.Reader) error {
	buf := readBuffers.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= maxPooledFrame {
			readBuffers.Put(buf)
		}
	}()
	in := incoming{w: w, r: r, limit: w.g.cfg.MaxFrameBytes, text: kind == websocket.TextMessage}
	data, err := in.readAll((*buf)[:0])
	defer in.release()
	*buf = data[:0]
	switch {
	case errors.Is(err, errFrameTooBig):
		w.g.countFrame(FrameTooBig)
		w.close(CloseTooBig)
		return nil
	case errors.Is(err, errNoRoom):
		w.g.countFrame(FrameNoRoom)
		if w.g.phase.Load() == phaseDraining { // nobody waits for room any more
			w.close(CloseGoingAway)
		} else {
			w.close(CloseTryAgain)
		}
		return nil
	case errors.Is(err, errNotUTF8):
		w.g.countFrame(FrameInvalidUTF8)
		w.close(CloseInvalidUTF8)
		return nil
	case err != nil:
		if in.timed && isTimeout(err) && !w.closing() {
			w.g.countFrame(FrameTooSlow)
			w.close(ClosePolicy)
		}
		return err
	case kind == websocket.BinaryMessage:
		w.g.countFrame(FrameBinary)
		w.g.logBadFrame(w, FrameBinary, len(data), nil)
	case string(data) == compat.HeartbeatFrame:
		w.g.countFrame(FrameHeartbeat)
		w.push(heartbeatFrame)
	default:
		w.g.intake(w, data)
	}
	w.throttle()
	return nil
}

// throttle lets a window, or a user, that sends too fast wait; nothing is lost, its TCP window fills.
func (w *window) throttle() {
	var delay time.Duration
	for _, limiter := range [...]*rate.Limiter{w.limiter, w.share.limiter()} {
		if limiter != nil {
			delay = max(delay, limiter.Reserve().Delay())
		}
	}
	if delay <= 0 {
		return
	}
	w.g.observer.throttled()
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.g.drainC:
	}
}

// readEnded records why the connection ended, unless the gateway ended it.
func (w *window) readEnded(err error) {
	if errors.Is(err, websocket.ErrReadLimit) { // a length of more than 63 bits, for which the library writes no close frame
		w.close(CloseProtocol)
	}
	if w.code.CompareAndSwap(0, uint32(CloseAbnormal)) {
		w.byBrowser = true
		w.g.log.Debug("connection lost", "window", w.identity.window, "err", err)
	}
}

// incoming is one frame on its way in.
type incoming struct {
	w     *window
	r     io.Reader
	limit int
	text  bool // must be UTF-8
	valid int  // bytes that are
	timed bool // has a read deadline
	held  bool // has a token of the gateway's largeFrameC
}

// readAll appends the frame to buf. A frame longer than limit gives errFrameTooBig; the buffer grows with what arrives, never with what
// a header promises.
func (in *incoming) readAll(buf []byte) ([]byte, error) {
	for {
		if len(buf) >= smallFrame {
			in.hurry() // by what has arrived: a pooled buffer may be larger
		}
		if len(buf) == cap(buf) {
			if len(buf) >= largeFrame && !in.held {
				if err := in.hold(); err != nil {
					return buf, err
				}
			}
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := in.r.Read(buf[len(buf):min(cap(buf), in.limit+1)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > in.limit:
			return buf, errFrameTooBig
		case in.text && !in.checkUTF8(buf, errors.Is(err, io.EOF)):
			return buf, errNotUTF8
		case errors.Is(err, io.EOF): // the end of the frame; the end of the connection is a *websocket.CloseError
			return buf, nil
		case err != nil:
			return buf, err
		}
	}
}

// hurry bounds the time to the end of a frame that is not small: who lets its fragments drip must not keep it.
func (in *incoming) hurry() {
	if in.timed {
		return
	}
	in.timed = true
	in.w.setReadDeadline(time.Now().Add(in.w.g.cfg.FrameTimeout))
}

// checkUTF8 says whether what has arrived can still become UTF-8, or with final, whether it is: a frame that cannot is not read to its end.
func (in *incoming) checkUTF8(buf []byte, final bool) bool {
	rest := buf[in.valid:]
	if !final {
		rest = rest[:len(rest)-cutRune(rest)]
	}
	in.valid += len(rest)
	return utf8.Valid(rest)
}

// cutRune returns how many bytes at the end of p are the beginning of a character whose rest may follow.
func cutRune(p []byte) int {
	for n := 1; n <= min(utf8.UTFMax-1, len(p)); n++ {
		if tail := p[len(p)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// hold takes room for the largest frame: whoever has a part of its room must not wait for the rest.
func (in *incoming) hold() error {
	select {
	case in.w.g.largeFrameC <- struct{}{}: // also while the gateway drains
	default:
		if err := in.waitForRoom(); err != nil {
			return err
		}
	}
	in.held = true
	in.w.setReadDeadline(time.Now().Add(in.w.g.cfg.FrameTimeout)) // begins again: it may have waited for room
	return nil
}

func (in *incoming) waitForRoom() error {
	timer := time.NewTimer(in.w.g.cfg.FrameTimeout)
	defer timer.Stop()
	select {
	case in.w.g.largeFrameC <- struct{}{}:
		return nil
	case <-timer.C:
	case <-in.w.g.drainC:
	}
	return errNoRoom
}

// isTimeout: the websocket library keeps of a deadline only that it was one.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// release gives the room back and takes the deadline away.
func (in *incoming) release() {
	if in.held {
		<-in.w.g.largeFrameC
		in.held = false
	}
	if in.timed {
		in.w.setReadDeadline(time.Time{})
	}
}
