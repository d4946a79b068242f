//go:build !unix

package gateway

// tryFD leaves every write to a goroutine that may wait: there is no portable write that does not.
func (f *flusher) tryFD(uintptr) bool {
	f.err = errWouldBlock
	return true
}
