package asyncio

import (
	"cmp"
	"math"
	"time"
)

// An Instant is a point in time on a loop's clock, as [EventLoop.Time] reads it. A [time.Duration]
// is a span of time: Sleep takes a span, TimeoutAt an Instant, and neither compiles in place of the
// other.
//
//	deadline := loop.Time().Add(time.Second)
//	left := deadline.Sub(loop.Time())
//
// The zero Instant is the making of the loop. So Instant{}.Add(d) is the Instant at which the loop
// is d old, which a test on virtual time may need; a program adds to loop.Time(). Each loop counts
// from its own making, so Instants of two loops say nothing about each other. The wall clock is
// [EventLoop.Now].
//
// Instants can be compared with == and be keys of a map. Any goroutine may call their methods, none
// of which suspends. Python: the float that loop.time() returns.
type Instant struct {
	age time.Duration // of the loop
}

// Forever is a duration that does not pass; [Never] is the Instant. Python: timeout=None.
const Forever time.Duration = 1<<63 - 1

// Never is the Instant that does not come: the deadline of a timeout that has none. Adding to it
// gives Never, and from any other Instant it is [Forever] away. Python: when=None.
var Never = Instant{Forever}

// Add returns the Instant when d has passed since i; if d is negative, the Instant that long before
// i. One that is too far away to be counted is Never, or the earliest Instant there is.
func (i Instant) Add(d time.Duration) Instant {
	switch age := i.age + d; {
	case i.age == Forever, d > 0 && age < i.age:
		return Instant{Forever}
	case d < 0 && age > i.age:
		return Instant{math.MinInt64}
	default:
		return Instant{age}
	}
}

// Sub returns the span from u to i, which is negative if u comes after i. If it is too long for a
// Duration, it is Forever, or -Forever.
func (i Instant) Sub(u Instant) time.Duration {
	switch span := i.age - u.age; {
	case i.age == u.age:
		return 0
	case i.age == Forever, u.age < 0 && span < i.age:
		return Forever
	case u.age == Forever, u.age > 0 && span > i.age, span == math.MinInt64:
		return -Forever
	default:
		return span
	}
}

// Before reports whether i comes before u.
func (i Instant) Before(u Instant) bool { return i.age < u.age }

// After reports whether i comes after u.
func (i Instant) After(u Instant) bool { return i.age > u.age }

// Compare returns -1 if i comes before u, 0 if they are the same, and +1 if i comes after u.
func (i Instant) Compare(u Instant) int { return cmp.Compare(i.age, u.age) }

// SinceStart returns how old the loop is at i, for traces and tests: i.Sub(Instant{}).
func (i Instant) SinceStart() time.Duration { return i.age }

// MarshalText returns what String does, for logs in JSON and the like.
func (i Instant) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// String returns how old the loop is at i, such as 1.5s. Never is "never".
func (i Instant) String() string {
	if i.age == Forever {
		return "never"
	}
	return i.age.String()
}
