// Package sim runs asyncio programs under a virtual clock and a seed, finds the order of events
// that breaks them, and explains it. The programs are the same that run in production.
//
// Time stands still while anything can run, and jumps to the next deadline when nothing can. An
// hour of sleeping takes no time, every run takes the same course, and a program that can never go
// on ends with [asyncio.ErrDeadlock] instead of hanging.
//
// # In tests
//
// [Run] runs a program once, in the order of production. [Explore] runs it in many orders: any
// ready callback may be next, at random ([Random]), by priorities ([PCT]), or in every possible
// order ([Exhaustive]). With [Cancels] it also cancels tasks. State the conditions that must hold
// by an error that main returns, or with [Always], [AtEnd] and [Eventually], and those that an
// exploration must reach with [Sometimes].
//
//	func TestTransfer(t *testing.T) {
//		sim.Explore(t, func(ctx context.Context) error {
//			bank := NewBank()
//			sim.Always(ctx, "no money is made", bank.Balanced)
//			…
//		}, sim.WithStrategy(sim.PCT(3)), sim.Cancels())
//	}
//
// A failing run is repeated with ever fewer deviations from the order of production, until only the
// explanation is left: "first in, first out everywhere, except that at step 41 'writer' ran before
// 'reader'".
//
// # Services
//
// [NewHost] adds a host with a program, a network address, a disk and a clock of its own.
// asyncio.Dial, Listen, OpenConnection, StartServer and OpenFile, as they run in production, then
// reach the simulated network and disk. [Host.Crash], [Network.Partition], [Disk.SetFaults] and
// similar methods break things; [Fault] decides when.
//
// docs/simulation.md says what a simulation can see, and what it cannot.
//
// # Elsewhere
//
// A program that starts its own loop is put on the virtual clock from outside, through the context
// that it is started with:
//
//	ctx = asyncio.WithLoopFactory(ctx, sim.NewEventLoop)
//	err := program(ctx) // calls asyncio.Run
package sim

import (
	"context"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// NewEventLoop makes a loop whose clock is virtual and starts at zero, on 1 January 2000 UTC. While
// a job of [asyncio.ToThread] or an executor is under way the clock stands still. The loop does not
// wait for goroutines that it does not know of: if only such a goroutine could wake it, it ends
// with [asyncio.ErrDeadlock]. But where a task waits for a channel ([asyncio.Recv],
// [asyncio.Send]), the loop waits in real time once no timer is left.
//
// The loop is in debug mode (as loops in Python's IsolatedAsyncioTestCase are). So it refuses calls
// from other goroutines even where such a call could do no more harm than to confuse its own
// object.
//
// Any goroutine may call it. It has the form that [asyncio.WithLoopFactory] takes.
func NewEventLoop(ctx context.Context) *asyncio.EventLoop {
	clock := driver.NewVirtual()
	l := asyncio.NewEventLoop(driver.With(context.WithValue(ctx, clockKey{}, clock), clock))
	l.SetDebug(true)
	return l
}
