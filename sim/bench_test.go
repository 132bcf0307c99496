package sim_test

import (
	"context"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// yielding makes tasks that do nothing but let others run.
func yielding(tasks, n int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		var all []asyncio.AnyFuture
		for range tasks {
			all = append(all, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return yield(ctx, n) })))
		}
		_, _, err := asyncio.Wait(ctx, all)
		return err
	}
}

// BenchmarkStep is the time of one step.
func BenchmarkStep(b *testing.B) {
	b.Run("no simulation", func(b *testing.B) {
		if _, err := asyncio.Run(context.Background(), asyncio.Do(yielding(4, b.N/4+1)), asyncio.HandleSIGINT(false)); err != nil {
			b.Fatal(err)
		}
	})
	for _, s := range []struct {
		name   string
		traced bool
		opts   []sim.Option
	}{
		{"in order", false, nil},
		{"traced", true, nil},
		{"Random", false, []sim.Option{sim.WithStrategy(sim.Random())}},
		{"PCT", false, []sim.Option{sim.WithStrategy(sim.PCT(3))}},
	} {
		b.Run(s.name, func(b *testing.B) {
			t := sim.Single(yielding(4, b.N/4+1), s.traced, append(s.opts, sim.StepLimit(2*b.N+1000, 2*b.N+1000)))
			b.ResetTimer()
			if err := t(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkSchedule is the time of one run of a small program.
func BenchmarkSchedule(b *testing.B) {
	b.Run("Random", func(b *testing.B) {
		if f := sim.Check(yielding(3, 3), sim.Runs(b.N)).Failure; f != nil {
			b.Fatal(f)
		}
	})
	b.Run("Exhaustive", func(b *testing.B) {
		if f := sim.Check(yielding(3, 3), sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(b.N)).Failure; f != nil {
			b.Fatal(f)
		}
	})
}
