package asyncio

import (
	"context"
	"math/rand/v2"
	"strconv"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Rand returns the random numbers of the running task. Make jitter, identifiers and shuffles with
// it, so that a simulation can repeat them. In production the system seeds the source. On a loop of
// package sim the run's seed and the name of the task seed it, so a task gets the same numbers,
// however many other tasks draw.
//
// ctx may be derived from the one that the coroutine was given; Rand uses it only to find the loop.
// The same task always gets the same source, which is for that task alone: pass values to a
// goroutine of [ToThread]. In a callback, which runs in no task, Rand returns the loop's source. Do
// not use it for secrets.
//
// Rand is for the loop only and does not suspend. It panics with [ErrNoRunningLoop] if ctx leads to
// no loop. Python's nearest is the module random, which tasks share.
func Rand(ctx context.Context) *rand.Rand {
	l := mustLoop(ctx, "Rand")
	source, name := &loopRand.of(l).source, ""
	if l.current != nil {
		source, name = &l.current.rand, l.current.GetName()
	}
	if *source == nil {
		*source = l.newRand(name)
	}
	return *source
}

// randNumbers is what a loop keeps for Rand.
type randNumbers struct {
	source *rand.Rand     // for callbacks
	users  map[string]int // how often each name has been given a source
}

var loopRand = newPart[randNumbers]()

func (l *EventLoop) newRand(consumer string) *rand.Rand {
	s, ok := l.drv.(driver.Seeder)
	if !ok {
		return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	r := loopRand.of(l)
	if r.users == nil {
		r.users = make(map[string]int)
	}
	before := r.users[consumer] // tasks of the same name get different numbers
	r.users[consumer]++
	return rand.New(rand.NewPCG(s.Seed("task " + consumer + " " + strconv.Itoa(before))))
}
