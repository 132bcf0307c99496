package simtest_test

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
	"github.com/goasyncio/asyncio/sim/simtest"
)

// TestCost compares the time of a step in a bubble with that of a step outside, in explorations of
// tasks that take turns, and sleep now and then. The times are a machine's, and only shown. But on
// every machine a bubble in which no door is open must cost less than one in which the world waits
// for goroutines: by a factor of two and more.
func TestCost(t *testing.T) {
	const steps = 4_000
	runs := 10
	if everything() {
		runs = 60
	}
	program := func(open bool, sleeps int) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			if open {
				asyncio.NetOf(ctx)
			}
			var all []asyncio.AnyFuture
			for range 4 {
				all = append(all, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
					for i := range steps / 4 {
						d := time.Duration(0)
						if sleeps > 0 && i%sleeps == 0 {
							d = time.Millisecond
						}
						if err := asyncio.Sleep(ctx, d); err != nil {
							return err
						}
					}
					return nil
				})))
			}
			_, _, err := asyncio.Wait(ctx, all)
			return err
		}
	}
	measure := func(main func(ctx context.Context) error, opts ...sim.Option) time.Duration {
		var all []time.Duration
		for range 5 {
			began := time.Now()
			r := sim.Check(main, append(opts, sim.Runs(runs))...)
			if r.Failure != nil {
				t.Fatal(r.Failure)
			}
			all = append(all, time.Since(began)/time.Duration(r.Steps))
		}
		return slices.Min(all)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, c := range []struct {
		name   string
		sleeps int
	}{{"no sleeps", 0}, {"a sleep of 20 steps", 20}, {"every step a sleep", 1}} {
		without := measure(program(false, c.sleeps))
		closed := measure(program(false, c.sleeps), simtest.Bubble(t))
		open := measure(program(true, c.sleeps), simtest.Bubble(t))
		t.Logf("%s: %v a step, in a bubble %.2f times that, with an open door %.2f times", c.name, without, float64(closed)/float64(without), float64(open)/float64(without))
		if closed >= open {
			t.Errorf("%s: a step takes %v in a bubble with no open door, and %v with one", c.name, closed, open)
		}
	}
}
