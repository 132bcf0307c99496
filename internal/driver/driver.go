// Package driver is the seam between an event loop and the world: what time it is, how to wait, how
// to be woken, and which of several ready callbacks runs next. [Real] parks on the machine's clock,
// [Virtual] owns a clock that jumps, and package sim has a third, which also chooses, and whose
// clock many loops share. The loop knows them by what they implement besides [Driver]: [Chooser],
// [Jumper], [Executor], [Seeder], [Observer], [Sockets], [Network] and [Storage] are optional.
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
	"encoding/binary"
	"errors"
	"hash/fnv"
	"math"
	"time"
)

// Never is a deadline that does not come.
const Never = time.Duration(math.MaxInt64)

// ErrStalled is Wait's answer when nothing in the driver's world can ever end it.
var ErrStalled = errors.New("nothing is ready, no timer is set and nothing outside can wake the loop")

// ErrKilled is Wait's answer when the run of the loop is over, whatever it has still to do.
var ErrKilled = errors.New("the loop was killed")

// Killed is Choose's.
const Killed = -1

// Driver is what a loop needs of the world.
type Driver interface {
	// Now is the time since the driver's start.
	Now() time.Duration

	// Start is the wall-clock time at which Now was zero, or would have been as the wall clock is
	// set now. Deadlines of contexts are given on this scale.
	Start() time.Time

	// Wall is the wall-clock time.
	Wall() time.Time

	// Wait parks until a Wake or until the clock reaches until; see the
	// contract. It returns ErrStalled where that can be known to be for ever, and
	// ErrKilled if the run is to end here.
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

// Jumper is implemented by a driver whose Wait may take no real time.
type Jumper interface {
	// Jumps reports whether Wait for a time that comes would return at once, as things stand.
	Jumps() bool
}

// Chooser is implemented by a driver that decides the order of ready callbacks. Without it
// they run first in, first out.
type Chooser interface {
	// Attach is called once, before anything else, with the loop.
	Attach(Loop)

	// Choose is called before each callback, and picks it: one of the first n that are ready, n >
	// 0. The first todo of them are left of the iteration that is under way. To pick one behind
	// these ends the iteration, and what was left of it is held over to the next. Killed ends the
	// run: nothing more is run.
	//
	// It runs on the loop, between two callbacks, and may do to the loop what a callback may.
	// What that makes ready comes behind the first n.
	Choose(todo, n int) int
}

// Loop is a loop as its driver sees it: the queue of ready callbacks, the oldest at 0, and a way to
// act on it. Its methods may be called in Choose and Wait, and by another goroutine while the loop
// is in one of these and its driver says so.
type Loop interface {
	// Len is how many callbacks are ready.
	Len() int

	// Task returns the task, an asyncio.AnyTask, that callback i goes on with or is a timer of,
	// nil if it is something else. resumes tells the first case.
	Task(i int) (task any, resumes bool)

	// Name says what callback i is, in the same words in every run of a program.
	Name(i int) string

	// Do calls fn, which may do to the loop what a callback may. If that makes something ready
	// during Wait, Wait must return.
	Do(fn func())

	// ContextEnded reports whether a context that a task waits with has ended, and no iteration has
	// seen it yet. It is asked during Wait.
	ContextEnded() bool
}

// Executor is implemented by a driver that runs the jobs of the default executor itself. It is
// an asyncio.Executor.
type Executor interface {
	Submit(job func()) error
	Shutdown(wait bool)
}

// Seeder is implemented by a driver whose world has no true randomness.
type Seeder interface {
	// Seed returns the seed of the random numbers of one consumer. It depends on the name
	// alone, so who draws how many numbers does not change what another gets.
	Seed(consumer string) (uint64, uint64)
}

// Derive is the one way from a seed to those of its consumers.
func Derive(seed uint64, consumer string) (uint64, uint64) {
	h := fnv.New128a()
	_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, seed))
	_, _ = h.Write([]byte(consumer))
	sum := h.Sum(nil)
	return binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])
}

// Observer is implemented by a driver that wants to be told of every iteration: to compare traces,
// iteration by iteration, without a callback that is always ready, or to let several loops take
// turns.
type Observer interface {
	// BeginIteration is called before the loop waits for or runs anything.
	BeginIteration()
}
