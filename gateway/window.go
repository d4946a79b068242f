package gateway

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/time/rate"
)

// window is one open websocket: a page of df_websockets' script, or a program that speaks as one.
type window struct {
	g        *Gateway
	conn     net.Conn        // what was hijacked; written by flush and flushWaiting only
	raw      syscall.RawConn // of conn, nil if conn has none
	ws       *websocket.Conn // reads conn; used by the reader goroutine only
	identity identity
	out      outbox
	flow     flow

	groups   []membership // indexes are guarded by the hub's shards
	share    share
	controls controls
	limiter  *rate.Limiter // nil without Config.FramesPerSecond
	parked   *parked       // not nil while the window has no socket and waits for the next one; guarded by the parking
	page     pageKey       // zero for a window that cannot come back
	pageSlot int           // index of the page's group in groups
	since    atomic.Int64  // Unix nanoseconds of its opening

	index int // in its shard of the window set; guarded by it
	shard uint8

	seen   atomic.Int64  // Unix nanoseconds of the last frame or pong
	pinged int64         // Unix nanoseconds of the last ping; heartbeat goroutine only
	code   atomic.Uint32 // the first close code, 0 while open

	deadline struct {
		sync.Mutex
		final bool // awaitClose has set the last read deadline
	}

	byBrowser bool // the browser began the close; reader goroutine only
}

// socket is the connection that the websocket library sees. Once the window is open, what the library writes by itself
// (the close frame of a protocol error) goes through the outbox like everything else, so that frames never mix.
type socket struct {
	net.Conn
	w    *window
	open bool // set by the reader goroutine before its first read; the library writes from that goroutine only
}

func (s *socket) Write(p []byte) (int, error) {
	if !s.open {
		return s.Conn.Write(p)
	}
	s.w.sealWith(CloseProtocol, append([]byte(nil), p...), false)
	return len(p), nil
}

// SetWriteDeadline does nothing once the window is open: deadlines belong to flushWaiting.
func (s *socket) SetWriteDeadline(t time.Time) error {
	if s.open {
		return nil
	}
	return s.Conn.SetWriteDeadline(t)
}

// push queues a frame and writes it if the socket takes it at once. A window that does not keep up is closed; its messages are kept
// for its next socket.
func (w *window) push(f *frame) {
	flush, dropped, err := w.out.push(f, &w.g.outLimits)
	switch {
	case errors.Is(err, errOutboxFull):
		w.close(CloseSlowReader)
		if f.lasting {
			w.push(f) // behind the close frame
		}
	case err != nil:
		if heir := w.out.successor(); heir != nil && f.lasting {
			heir.push(f) // the window has another socket since the message was on its way to this one
		}
	case flush:
		w.flush()
	}
	if dropped > 0 {
		w.g.observer.framesDropped(w.identity.window, DroppedOverflow, dropped)
	}
}

// ping asks the browser for a sign of life, which also proves that everything before it has arrived.
func (w *window) ping() {
	if w.out.ping() {
		w.flush()
	}
}

// close ends the window with a close frame: at once when what is queued is worthless to it, else after what is queued.
// The reader ends when the browser answers, or after Config.CloseTimeout.
func (w *window) close(code CloseCode) {
	discard := code == CloseSlowReader || code == CloseRevoked || code == CloseNoPong
	w.sealWith(code, code.frame(), discard)
}

func (w *window) sealWith(code CloseCode, frame []byte, discard bool) {
	s := w.out.seal(frame, discard)
	if !s.first {
		return
	}
	w.code.CompareAndSwap(0, uint32(code))
	if s.held {
		return // there is no socket yet: opened goes on
	}
	w.awaitClose()
	if s.flush {
		w.flush()
	}
}

// awaitClose bounds the time for the browser's answer to a close frame.
func (w *window) awaitClose() {
	w.deadline.Lock()
	defer w.deadline.Unlock()
	w.deadline.final = true
	_ = w.conn.SetReadDeadline(time.Now().Add(w.g.cfg.CloseTimeout)) // fails only on a closed socket
}

// setReadDeadline sets the deadline of a frame, but never over the one of awaitClose.
func (w *window) setReadDeadline(t time.Time) {
	w.deadline.Lock()
	defer w.deadline.Unlock()
	if !w.deadline.final {
		_ = w.conn.SetReadDeadline(t) // fails only on a closed socket
	}
}

// opened lets what was queued during the handshake go out.
func (w *window) opened() {
	now := time.Now().UnixNano()
	w.since.Store(now)
	w.seen.Store(now)
	flush, sealed := w.out.open()
	if sealed {
		w.awaitClose()
	}
	if flush {
		w.flush()
	}
}

// cut ends the window without a close frame.
func (w *window) cut(code CloseCode) {
	w.code.CompareAndSwap(0, uint32(code))
	w.out.cut()
	_ = w.conn.Close() // ends the reader
}

// onPing answers a ping of the browser's side.
func (w *window) onPing(data string) error {
	w.seen.Store(time.Now().UnixNano())
	if err := w.countControl(); err != nil {
		return err
	}
	w.push(newFrame(websocket.PongMessage, data))
	return nil
}

func (w *window) onPong(data string) error {
	w.seen.Store(time.Now().UnixNano())
	if queued, ok := provenBy(data); ok {
		w.out.proven(queued, &w.g.outLimits)
	}
	return w.countControl()
}

// onClose answers the browser's close frame with 1000, whatever it says, as daphne does; or takes it as the answer to ours.
func (w *window) onClose(code int, _ string) error {
	w.byBrowser = w.code.CompareAndSwap(0, uint32(boundedCode(code)))
	if !w.byBrowser && w.code.Load() == uint32(code) {
		w.out.closeAnswered(&w.g.outLimits)
	}
	w.sealWith(CloseNormal, CloseNormal.frame(), true)
	return nil
}

// boundedCode keeps browsers from making up labels: what RFC 6455 names stays, the rest is counted as 4000.
func boundedCode(code int) CloseCode {
	if code >= 1000 && code < 1016 {
		return CloseCode(code)
	}
	return CloseOther
}

// closing says whether a close frame was queued or the socket cut.
func (w *window) closing() bool { return w.code.Load() != 0 }

// deaf says whether the window's frames are not handled any more. While the gateway drains they are, until the browser has answered
// the close: it sent them before it knew, and the publisher waits for them. In all other cases they would come after a gap.
func (w *window) deaf() bool {
	code := CloseCode(w.code.Load())
	return code != 0 && code != CloseGoingAway
}
