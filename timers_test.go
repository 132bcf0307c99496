package asyncio_test

import (
	"math"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestLoop_DeadlinesLongPast(t *testing.T) {
	for _, when := range []time.Duration{math.MinInt64, math.MinInt64 + time.Second} {
		l := asyncio.NewEventLoop(t.Context())
		l.CallAt(when, l.Stop)
		must(t, l.RunForever()) // hangs if the wait is 292 years too long
		l.CallLater(when, l.Stop)
		must(t, l.RunForever())
		must(t, l.Close())
	}
}
