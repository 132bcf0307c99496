package asyncio

import (
	"context"
	"math/rand/v2"
	"strconv"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Rand returns the random numbers of the task that is running: what jitter, identifiers and
// shuffles should be made with, so that a simulation can repeat them. In production the source is
// seeded by the system. On a loop of package sim it is seeded by the run's seed and the name of the
// task, so a task gets the same numbers whatever others draw.
//
// ctx may be derived from the one the coroutine was given: who is asked is the loop. The same task
// always gets the same source. It is for that task alone: a goroutine of [ToThread] gets what it
// needs passed on. In a callback, which runs in no task, it is the loop's. It must not be used for
// secrets.
//
// It is for the loop only and does not suspend. It panics with [ErrNoRunningLoop] if ctx leads to
// no loop. Python's nearest is the module random, which tasks share.
func Rand(ctx context.Context) *rand.Rand {
	l := mustLoop(ctx, "Rand")
	source, name := &l.rand, ""
	if l.current != nil {
		source, name = &l.current.rand, l.current.GetName()
	}
	if *source == nil {
		*source = l.newRand(name)
	}
	return *source
}

func (l *EventLoop) newRand(consumer string) *rand.Rand {
	s, ok := l.drv.(driver.Seeder)
	if !ok {
		return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if l.randUsers == nil {
		l.randUsers = make(map[string]int)
	}
	before := l.randUsers[consumer] // tasks of the same name get different numbers
	l.randUsers[consumer]++
	return rand.New(rand.NewPCG(s.Seed("task " + consumer + " " + strconv.Itoa(before))))
}
