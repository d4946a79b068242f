package celeryproto

import "sync"

// MaxClock is the highest value that a Clock takes over from others. Python's has no bound; the events of a peer whose clock is
// beyond it are not ordered any more, and nothing overflows.
const MaxClock = 1 << 62

// Clock is Lamport's logical clock, as kombu's LamportClock (kombu 5.7, clocks.py): messages of remote control and events carry
// it, so that they can be ordered. The zero value is a new clock. It is safe for concurrent use.
type Clock struct {
	mu    sync.Mutex
	value int64
}

// Forward is called before something is sent, and returns the value to send.
func (c *Clock) Forward() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value++
	return c.value
}

// Adjust is called with the value of a message that came, 0 when it had none, and returns the new value.
func (c *Clock) Adjust(other int64) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.value = max(c.value, min(other, MaxClock)) + 1
	return c.value
}

// Value is the present one.
func (c *Clock) Value() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value
}

// clockOf reads the clock of a message: a number. What is none counts as absent, beyond MaxClock as MaxClock.
func clockOf(r Raw) (clock int64, ok bool) {
	if r.Kind() != KindNumber {
		return 0, false
	}
	n, err := r.Number()
	if err != nil {
		return 0, false
	}
	switch n := n.(type) {
	case int64:
		return min(n, MaxClock), true
	case float64:
		if n >= 0 && n < MaxClock {
			return int64(n), true
		}
		return MaxClock, n >= MaxClock
	default: // of more than 64 bits
		return MaxClock, string(r)[0] != '-'
	}
}
