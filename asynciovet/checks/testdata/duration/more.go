package duration

import (
	"context"
	"time"

	"github.com/goasyncio/asyncio"
)

const (
	limit                = 10
	second               = 1 * time.Second
	tick   time.Duration = 5
)

func durations(ctx context.Context, l *asyncio.EventLoop, n int) {
	l.CallLater(1, func() {})                  // want `1 is 1ns: give it a unit`
	asyncio.OnTimeout(limit)                   // want `limit is 10ns: give it a unit`
	asyncio.WithTimeout(ctx, time.Duration(5)) // want `time.Duration\(5\) is 5ns: give it a unit`
	asyncio.ShutdownTimeout(60)                // want `60 is 60ns: give it a unit`
	l.Time().Add(1)                            // want `1 is 1ns: give it a unit`

	l.CallLater(0, func() {})
	l.CallLater(-1, func() {})
	l.CallLater(1*time.Nanosecond, func() {})
	l.CallLater(limit*time.Second, func() {})
	l.CallLater(second, func() {})
	l.CallLater(tick, func() {})
	l.CallLater(1e9, func() {}) // somebody has counted the nanoseconds
	l.CallLater(time.Duration(n), func() {})
	l.CallLater(asyncio.Forever, func() {})
	l.CallLater(3, func() {}) //asynciovet:allow duration three nanoseconds are meant
	time.Sleep(1)
}
