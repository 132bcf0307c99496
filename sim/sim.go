// Package sim runs asyncio programs on a virtual clock: time stands still while anything
// can run and jumps to the next deadline when nothing can. An hour of sleeping takes
// no time, every run takes the same course, and a program that can never go on ends with
// [asyncio.ErrDeadlock] instead of hanging.
//
// A program is put on it from outside, by the context it is started with:
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
// The loop is in debug mode (as loops in Python's IsolatedAsyncioTestCase are), so a goroutine
// that touches it from outside is told.
//
// Any goroutine may call it. It has the form that [asyncio.WithLoopFactory] takes.
func NewEventLoop(ctx context.Context) *asyncio.EventLoop {
	l := asyncio.NewEventLoop(ctx, asyncio.Driver(driver.NewVirtual()))
	l.SetDebug(true)
	return l
}
