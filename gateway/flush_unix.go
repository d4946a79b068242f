//go:build unix

package gateway

import "syscall"

// tryFD is the callback of RawConn.Write: it always returns true, so that the runtime never parks the goroutine.
func (f *flusher) tryFD(fd uintptr) bool {
	for len(f.pending) > 0 {
		n, err := syscall.Write(int(fd), f.pending)
		if n > 0 {
			f.pending = f.pending[n:]
		}
		switch err {
		case nil:
			if n == 0 {
				f.err = errWouldBlock
				return true
			}
		case syscall.EINTR:
		case syscall.EAGAIN:
			f.err = errWouldBlock
			return true
		default:
			f.err = err
			return true
		}
	}
	return true
}
