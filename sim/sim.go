// Package sim runs asyncio programs under a virtual clock and a seed, finds the order of events
// that breaks them, and explains it. The programs are the same that run in production.
//
// Time stands still while anything can run and jumps to the next deadline when nothing can. An hour
// of sleeping takes no time, every run takes the same course, and a program that can never go on
// ends with [asyncio.ErrDeadlock] instead of hanging.
//
// # In tests
//
// [Run] runs a program once, in the order of production. [Explore] runs it in many orders: of what
// is ready, any callback may be next, at random ([Random]), by priorities ([PCT]), or in every
// order there is ([Exhaustive]); with [Cancels] it also cancels tasks. What must hold is said by an
// error that main returns, or by [Always], [AtEnd] and [Eventually].
//
//	func TestTransfer(t *testing.T) {
//		sim.Explore(t, func(ctx context.Context) error {
//			bank := NewBank()
//			sim.Always(ctx, "no money is made", bank.Balanced)
//			…
//		}, sim.With(sim.PCT(3)), sim.Cancels())
//	}
//
// A run that fails is made again with ever fewer deviations from the order of production, until
// what is left is the explanation: "first in, first out everywhere, except that at step 41 'writer'
// ran before 'reader'".
//
// # Services
//
// [NewHost] adds a host with a program, a network address, a disk and a clock of its own.
// asyncio.Dial, Listen, OpenConnection, StartServer and OpenFile, as they run in production, then
// reach the simulated network and disk. [Host.Crash], [Network.Partition], [Disk.SetFaults] and
// their kin break things, [Fault] says when.
//
// What a simulation can see, and what it cannot, is in docs/simulation.md.
//
// # Elsewhere
//
// A program that starts its own loop is put on the virtual clock from outside, by the context it is
// started with:
//
//	ctx = asyncio.WithLoopFactory(ctx, sim.NewEventLoop)
//	err := program(ctx) // calls asyncio.Run
package sim

import (
	"context"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// NewEventLoop makes a loop whose clock is virtual and starts at zero, on 1 January 2000
// UTC. While a job of [asyncio.ToThread] or an executor is under way the clock stands still.
// Goroutines that the loop does not know of are not waited for: if all that is left is to
// be woken by one, the loop ends with [asyncio.ErrDeadlock]. Where a task waits for a channel
// ([asyncio.Recv], [asyncio.Send]) it waits in real time instead, once no timer is left.
//
// The loop is in debug mode (as loops in Python's IsolatedAsyncioTestCase are), so a goroutine that
// touches it from outside is refused also where it could do no more harm than to confuse its own
// object.
//
// Any goroutine may call it. It has the form that [asyncio.WithLoopFactory] takes.
func NewEventLoop(ctx context.Context) *asyncio.EventLoop {
	l := asyncio.NewEventLoop(ctx, asyncio.Driver(driver.NewVirtual()))
	l.SetDebug(true)
	return l
}
