// Package driver is the seam between an event loop and the world: what time it
// is, how to wait, how to be woken, and which of several ready callbacks runs
// next. Two implementations exist: [Real] parks on the machine's clock, [Virtual]
// owns a clock that jumps. The loop cannot tell them apart.
//
// Only the asyncio package, its sim package and the conformance scenarios import this
// package; a test holds them to it.
//
// # Contract
//
//  1. Now never goes back. Durations count from the driver's start.
//  2. Wait returns when Wake was called since the last Wait returned, or when
//     Now has reached until, whichever is first. It may return early for no
//     reason; the loop looks again.
//  3. A Wake that comes before the Wait it is meant for is not lost. Any number
//     of them before one Wait count as one.
//  4. Wake, Hold and Release may be called from any goroutine and never block,
//     also after Close. Everything else belongs to the goroutine that runs the loop.
package driver

import (
	"errors"
	"math"
	"time"
)

// Never is a deadline that does not come.
const Never = time.Duration(math.MaxInt64)

// ErrStalled is Wait's answer when nothing in the driver's world can ever end it.
var ErrStalled = errors.New("nothing is ready, no timer is set and nothing outside can wake the loop")

// Driver is what a loop needs of the world.
type Driver interface {
	// Now is the time since the driver's start.
	Now() time.Duration

	// Start is the wall-clock time at which Now was zero. Deadlines of
	// contexts are given on this scale.
	Start() time.Time

	// Wait parks until a Wake or until the clock reaches until; see the
	// contract. It returns ErrStalled where that can be known to be for ever.
	Wait(until time.Duration) error

	// Wake ends the current or the next Wait.
	Wake()

	// Hold announces work outside the loop that will call Wake when it is
	// done, and Release takes that back. A virtual clock stands still while
	// any is held, because only real time can finish it.
	Hold()
	Release()

	// Polls reports whether the loop must look at the contexts that tasks
	// wait on in every iteration, instead of being told by a goroutine, whose
	// arrival would not be deterministic.
	Polls() bool

	// Close releases what the driver holds.
	Close() error
}

// Chooser is implemented by a driver that wants to decide the order of ready
// callbacks. Without it they run first in, first out.
type Chooser interface {
	// Choose picks one of n ready callbacks, n > 1, oldest first.
	Choose(n int) int
}

// Observer is implemented by a driver that wants to be told of every iteration. It is
// how traces are compared, iteration by iteration, without a callback that is always ready.
type Observer interface {
	// BeginIteration is called before the loop waits for or runs anything.
	BeginIteration()
}
