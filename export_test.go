package asyncio

import (
	"sync/atomic"
	"time"
)

// Parked reports whether the loop waits for events, for tests of calls from foreign goroutines.
func Parked(l *EventLoop) bool { return l.guard.Load() == guardParked }

// Waits counts the waiters for c's result.
func Waits[T any](c *ConcurrentFuture[T]) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waits)
}

// Impatient makes Close give up sooner on deferred functions that block.
func Impatient(d time.Duration) (restore func()) {
	old := unwindLimit
	unwindLimit = d
	return func() { unwindLimit = old }
}

// Terse limits the size of the goroutine traces that the library looks at.
func Terse(n int) (restore func()) {
	old := maxTraces
	maxTraces = n
	return func() { maxTraces = old }
}

// PassedOver counts the entries that searches in lists of callbacks and waiters look at in vain
// while fn runs.
func PassedOver(fn func()) int {
	var n atomic.Int64
	passedOver = &n
	defer func() { passedOver = nil }()
	fn()
	return int(n.Load())
}

// WatchOften makes the watch over the errands of goroutines look more often.
func WatchOften(every time.Duration) (restore func()) {
	old := lookEvery
	lookEvery = every
	return func() { lookEvery = old }
}
