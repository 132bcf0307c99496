// Package driver is the seam between an event loop and the world: the time, waiting, waking, and
// the choice among several ready callbacks. [Real] parks on the machine's clock, and [Virtual] owns
// a clock that jumps. Package sim has a third driver, which also chooses, and whose clock many
// loops share. The loop recognises a driver's abilities by the interfaces that it implements
// besides [Driver]: [Chooser], [Jumper], [Executor], [Performer], [Seeder], [Observer], [Turns],
// [Sockets], [Network] and [Storage] are optional.
//
// Only the asyncio package, its sim package and the conformance scenarios import this package; a
// test holds them to it. [With] makes a context that tells asyncio.NewEventLoop which
// driver to use.
//
// # Contract
//
//  1. Now never goes back. Durations count from the driver's start.
//  2. Wait returns when Wake was called since the last Wait returned, or when
//     Now has reached until, whichever is first. It may return early for no
//     reason; the loop looks again.
//  3. A Wake that comes before the Wait it is meant for is not lost. Any number
//     of them before one Wait count as one.
//  4. Wake, Hold and Release may be called from any goroutine and never block, also after Close. So
//     may Now, Wall, Start and Polls. Everything else belongs to the goroutine that runs the loop.
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

// ErrStalled is returned by Wait when nothing in the driver's world can ever end it.
var ErrStalled = errors.New("nothing is ready, no timer is set and nothing outside can wake the loop")

// ErrKilled is returned by Wait when the run of the loop is over, even if the loop has work left.
var ErrKilled = errors.New("the loop was killed")

// Killed is returned by Choose to end the run.
const Killed = -1

// Driver is everything that a loop needs from the world.
type Driver interface {
	// Now is the time since the driver's start.
	Now() time.Duration

	// Start is the wall-clock time at which Now was zero; if the wall clock was set since, it is
	// that time on the new setting. Deadlines of contexts are given on this scale.
	Start() time.Time

	// Wall is the wall-clock time.
	Wall() time.Time

	// Wait parks until a Wake or until the clock reaches until; see the contract. It returns
	// ErrStalled if it can tell that the wait would be for ever, and ErrKilled if the run is to end
	// here.
	Wait(until time.Duration) error

	// Wake ends the current or the next Wait.
	Wake()

	// Hold announces work outside the loop that will call Wake when it is done, and Release takes
	// that back. While any hold is open a virtual clock stands still, because only real time can
	// finish the work.
	Hold()
	Release()

	// Polls reports whether the loop must look at the contexts that tasks wait on in every
	// iteration. Otherwise a goroutine tells the loop, at a time that is not deterministic.
	Polls() bool

	// Close releases the driver's resources.
	Close() error
}

// Jumper is implemented by a driver whose Wait may take no real time.
type Jumper interface {
	// Jumps reports whether Wait until a finite time would return at once, as things stand.
	Jumps() bool
}

// Chooser is implemented by a driver that decides the order of ready callbacks. Without it
// they run first in, first out.
type Chooser interface {
	// Attach is called once, with the loop, before anything else.
	Attach(Loop)

	// Choose is called before each callback, and picks it: one of the first n ready callbacks, n >
	// 0. The first todo of them are left of the current iteration. Picking one behind these ends
	// the iteration, and the rest of it is held over to the next. Killed ends the run: nothing more
	// is run.
	//
	// Choose runs on the loop, between two callbacks, and may do to the loop what a callback may.
	// Callbacks that become ready through this come behind the first n.
	Choose(todo, n int) int
}

// Loop is a loop as its driver sees it: the queue of ready callbacks, the oldest at 0, and a way to
// act on it. Its methods may be called in Choose and Wait, and by another goroutine while the loop
// is in one of these and its driver permits it.
type Loop interface {
	// Len is how many callbacks are ready.
	Len() int

	// Task returns the task, an asyncio.AnyTask, of callback i, nil if it has none. resumes is true
	// if the callback continues the task, and false if it is a timer of it.
	Task(i int) (task any, resumes bool)

	// Awaiters returns the tasks, asyncio.AnyTask, for which callback i notes that what they wait
	// for is done. There are none if it does anything else.
	Awaiters(i int) (tasks []any)

	// Name describes callback i, in the same words in every run of a program.
	Name(i int) string

	// Calls returns the program counters of the calls in which a suspended task, an
	// asyncio.AnyTask, waits. The same calls have the same ones.
	Calls(task any) []uintptr

	// Park says, in Choose or Wait, that another loop has the turn, and that this one has it again;
	// see [Turns]. Do may be called meanwhile.
	Park(parked bool)

	// IsOwn reports whether the library has made a task, an asyncio.AnyTask, for itself, as the one
	// that accepts a server's connections.
	IsOwn(task any) bool

	// Do calls fn, which may do to the loop what a callback may. If that makes something ready
	// during Wait, Wait must return.
	Do(fn func())

	// ContextEnded reports whether a context that a task waits with has ended without any iteration
	// having seen it. It is asked during Wait.
	ContextEnded() bool
}

// Executor is implemented by a driver that runs the jobs of the default executor itself. It is
// an asyncio.Executor.
type Executor interface {
	Submit(job func()) error
	Shutdown(wait bool)
}

// Performer is implemented by an Executor that runs a thread function as a step of the loop. Such a
// function must be able to wait for the loop.
type Performer interface {
	// Performing returns the thread function that the calling goroutine runs, nil if it runs none.
	Performing() Performance
}

// A Performance is a thread function that runs as a step.
type Performance interface {
	// Pause is called by the goroutine of the function, when it has posted what it is going to wait
	// for. It ends the step.
	Pause()

	// Resume is called on the loop when the goroutine can go on, which release makes it do. From
	// then on the function is a step again: the next one, or this one if the loop is closing.
	Resume(release func(), closing bool)
}

// Turns is implemented by a driver whose loops have the turn one after the other. It calls Park
// whenever one of them gives the turn away in Choose or Wait, and when it gets it back.
type Turns interface{ TakesTurns() }

// Seeder is implemented by a driver whose world has no true randomness.
type Seeder interface {
	// Seed returns the seed of the random numbers of one consumer. It depends on the name alone, so
	// one consumer's draws do not change another's numbers.
	Seed(consumer string) (uint64, uint64)
}

// Derive is the only way from a seed to the seeds of its consumers.
func Derive(seed uint64, consumer string) (uint64, uint64) {
	h := fnv.New128a()
	_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, seed))
	_, _ = h.Write([]byte(consumer))
	sum := h.Sum(nil)
	return binary.LittleEndian.Uint64(sum), binary.LittleEndian.Uint64(sum[8:])
}

// Observer is implemented by a driver that wants to be told of every iteration: to compare traces
// iteration by iteration without a callback that is always ready, or to let several loops take
// turns.
type Observer interface {
	// BeginIteration is called before the loop waits for or runs anything.
	BeginIteration()
}
