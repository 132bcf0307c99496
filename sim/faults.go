package sim

import (
	"context"
	"fmt"

	"github.com/goasyncio/asyncio"
)

// Faults: what goes wrong only because a schedule says so. The network, disks and hosts ask for
// theirs in the same way, by world.fault.

// Fault reports whether a fault happens now, which it does with the probability p; what names the
// fault in traces and reports. In the order of production no fault happens. An exploration makes
// faults happen at random, each by a stream of its own, and [Exhaustive] makes each happen in turn.
// They are recorded in the schedule, and minimised away where the failure does not need them.
//
//	if sim.Fault(ctx, "crash of node2", 0.01) {
//		node2.Crash()
//	}
//
// With a p of 1 it always happens, and is not recorded. It is for the loop only and does not
// suspend; it panics if ctx does not come from a simulation, or p is not from 0 to 1.
func Fault(ctx context.Context, what string, p float64) bool {
	w := worldOf(ctx, "Fault")
	mustBeProbability(p, "Fault")
	return w.fault(what, p)
}

// mustBeProbability refuses a p that is none, given to caller.
func mustBeProbability(p float64, caller string) {
	if !(p >= 0 && p <= 1) {
		panic(fmt.Errorf("%w: %v is not a probability; those are from 0 to 1 (in sim.%s)", asyncio.ErrInvalidArgument, p, caller))
	}
}

// StopFaults ends all faults: from now on [Fault] reports false, the network is as after
// [Network.Heal] without rules that act ([Network.AddRule]), and its links lose, repeat and reorder
// nothing, and disks work. Hosts that are off stay off, except those that [Host.SetCrashes] will
// turn on again. A pause goes on to its end, and clocks keep their rates. After StopFaults a
// liveness check with [Eventually] can demand what must happen in the end. It is for the loop only
// and does not suspend; it panics if ctx does not come from a simulation.
func StopFaults(ctx context.Context) {
	w := worldOf(ctx, "StopFaults")
	w.calm, w.net.calm = true, true
	w.net.endRules()
	(&Network{w.net}).Heal()
}
