package gateway

import (
	"io"
	"time"
)

const (
	// lingerTimeout bounds how long a connection that broke the protocol is kept so that its close frame arrives.
	lingerTimeout = time.Second
	// lingerStep is how often a close frame that waits for its socket is looked at. Most never wait.
	lingerStep = 2 * time.Millisecond
)

// linger lets the close frame reach the browser before the connection is closed. Over TLS, and where the socket is full, another
// goroutine is writing it. After an error of the protocol, or within a frame, more of the browser's bytes are on their way: closing
// a socket with unread bytes makes TCP reset the connection, and some systems then drop the close frame unread. RFC 6455, section 7.1.1.
func (w *window) linger() {
	code := CloseCode(w.code.Load())
	if code == CloseAbnormal || code == 0 {
		return // there is nobody to hear it
	}
	w.awaitFlushed()
	if code != CloseProtocol && code != ClosePolicy {
		return
	}
	half, ok := w.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if w.conn.SetReadDeadline(time.Now().Add(min(lingerTimeout, w.g.cfg.CloseTimeout))) == nil {
		_, _ = io.Copy(io.Discard, w.conn) // until the browser closes, or the deadline
	}
}

// awaitFlushed waits until the outbox is written or given up, but not longer than Config.CloseTimeout.
func (w *window) awaitFlushed() {
	if w.out.flushed() {
		return
	}
	deadline := time.NewTimer(w.g.cfg.CloseTimeout)
	defer deadline.Stop()
	tick := time.NewTicker(lingerStep)
	defer tick.Stop()
	for {
		select {
		case <-deadline.C:
			return
		case <-tick.C:
			if w.out.flushed() {
				return
			}
		}
	}
}
