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

// TestCost: in a bubble in which the program has opened no door, the world does not wait for
// goroutines, whatever tasks do; with one it does, between any two steps. The program is tasks that
// take turns, and sleep now and then. The times of a step are a machine's, and only shown.
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
	waits, stop := simtest.CountWaits()
	defer stop()
	measure := func(main func(ctx context.Context) error, opts ...sim.Option) (step time.Duration, waitsOfARun int64) {
		waits.Store(0)
		made := int64(0)
		var all []time.Duration
		for range 5 {
			began := time.Now()
			r := sim.Check(main, append(opts, sim.Runs(runs))...)
			if r.Failure != nil {
				t.Fatal(r.Failure)
			}
			all = append(all, time.Since(began)/time.Duration(r.Steps))
			made += int64(r.Runs)
		}
		return slices.Min(all), waits.Load() / made
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, c := range []struct {
		name   string
		sleeps int
	}{{"no sleeps", 0}, {"a sleep of 20 steps", 20}, {"every step a sleep", 1}} {
		without, _ := measure(program(false, c.sleeps))
		closed, ofClosed := measure(program(false, c.sleeps), simtest.Bubble(t))
		open, ofOpen := measure(program(true, c.sleeps), simtest.Bubble(t))
		t.Logf("%s: %v a step, in a bubble %.2f times that and %d waits a run, with an open door %.2f times and %d waits", c.name, without,
			float64(closed)/float64(without), ofClosed, float64(open)/float64(without), ofOpen)
		if ofClosed > 10 || ofOpen < steps {
			t.Errorf("%s: the world waits for goroutines %d times in a run of %d steps with no open door, and %d times with one", c.name, ofClosed, steps, ofOpen)
		}
	}
}
