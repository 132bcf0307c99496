package sim

import (
	"math"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Arithmetic on times: a sum that does not overflow, and the clock of a host, which need not go at
// the world's rate.

// SetClock sets the host's wall clock to t, and its time zone to that of t, which is the location
// of the times that [asyncio.EventLoop.Now] returns on the host. [Epoch] does that for all hosts
// when a run begins. Timers, which are monotonic, do not notice. SetClock is for the loop only.
func (h *Host) SetClock(t time.Time) {
	t = t.Round(0)
	h.zone = t.Location()
	if h.life == nil {
		h.skew = t.Sub(h.w.epoch.Add(h.w.time()))
		return
	}
	h.setClock(func(c *clock) { c.start = t.Add(-h.life.Now()) })
}

// later is d after t, or never.
func later(t, d time.Duration) time.Duration {
	if d > driver.Never-t {
		return driver.Never
	}
	return t + d
}

// A clock maps the world's time to a loop's.
type clock struct {
	rate  float64
	world time.Duration // the world time from which this rate holds,
	local time.Duration // and the local time at that moment
	start time.Time     // the wall-clock time at which it showed zero
}

func (c *clock) at(world time.Duration) time.Duration {
	if c.rate == 1 {
		return later(c.local, world-c.world)
	}
	f := c.rate * float64(world-c.world)
	if f >= math.MaxInt64 {
		return driver.Never
	}
	return later(c.local, time.Duration(f))
}

// reaches returns when, on the world's clock, the clock shows local.
func (c *clock) reaches(local time.Duration) time.Duration {
	switch {
	case local == driver.Never:
		return driver.Never
	case local <= c.local:
		return c.world
	case c.rate == 1:
		return later(c.world, local-c.local)
	}
	f := float64(local-c.local) / c.rate
	if f >= float64(math.MaxInt64-c.world) {
		return driver.Never
	}
	world := c.world + time.Duration(f)
	for c.at(world) < local { // rounding
		world++
	}
	return world
}
