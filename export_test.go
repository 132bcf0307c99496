package asyncio

import "time"

// Parked reports whether the loop waits for events, for tests that must be foreign to it.
func Parked(l *EventLoop) bool { return l.guard.Load() == guardParked }

// Waits counts who is to be told of c's result.
func Waits[T any](c *ConcurrentFuture[T]) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waits)
}

// Impatient has Close give up sooner on deferred functions that block.
func Impatient(d time.Duration) (restore func()) {
	old := unwindLimit
	unwindLimit = d
	return func() { unwindLimit = old }
}
