package duration

import "github.com/goasyncio/asyncio"

// In a test a nanosecond can be meant.
func inTest(l *asyncio.EventLoop) { l.CallLater(1, func() {}) }
