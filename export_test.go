package asyncio

// Parked reports whether the loop waits for events, for tests that must be foreign to it.
func Parked(l *EventLoop) bool { return l.guard.Load() == guardParked }
