package djangoresults

import "time"

// Waiting is how many calls of Wait there are.
func Waiting(b *Backend) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, waiters := range b.waiters {
		n += len(waiters)
	}
	return n
}

// Polling tells whether the poller runs.
func Polling(b *Backend) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.polling
}

// Asked tells whether everybody who waits has been looked for once, and makes all of them wait for an hour.
func Asked(b *Backend) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, waiters := range b.waiters {
		for w := range waiters {
			if w.pause == 0 {
				return false
			}
			w.due = time.Now().Add(time.Hour)
		}
	}
	return len(b.waiters) > 0
}
