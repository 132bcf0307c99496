package sim_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

var everyStrategy = []sim.Strategy{sim.Random(), sim.PCT(1), sim.PCT(3), sim.Guided(), sim.Exhaustive(1), sim.Exhaustive(2)}

// A task that spins until another has done its work is slow, and no livelock: a schedule that lets
// it spin for ever is not fair.
func TestKeep_SchedulesAreFair(t *testing.T) {
	spins := func(never bool) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			done := false
			work := start(ctx, "work", func(ctx context.Context) error {
				err := yield(ctx, 2)
				done = !never
				return err
			})
			for !done {
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
			if _, err := work.Await(ctx); err != nil {
				return err
			}
			return sim.Eventually(ctx, time.Second, "it is done", func() bool { return done })
		}
	}
	for _, s := range everyStrategy {
		for _, limit := range []int{100, 2000} {
			opts := []sim.Option{sim.WithStrategy(s), sim.Runs(100), sim.StepLimit(limit, 1_000_000)}
			if r := sim.Check(spins(false), opts...); r.Failure != nil {
				t.Errorf("%v, limit %d: %v", s, limit, r.Failure)
			}
			if r := sim.Check(spins(true), opts...); r.Failure == nil || !strings.Contains(r.Failure.Error(), "livelock") {
				t.Errorf("%v, limit %d: %s", s, limit, r.Coverage)
			}
		}
	}
	r := sim.Check(spins(false), sim.WithStrategy(sim.Exhaustive(1)), sim.Runs(5000))
	if r.Failure != nil || !strings.Contains(r.Coverage, "no callback is kept back for more than 256 steps") {
		t.Errorf("%s; %v", r.Coverage, r.Failure)
	}
}

// Eventually does not accuse a schedule that keeps a task back while others go on for ever.
func TestKeep_EventuallyIsFair(t *testing.T) {
	main := func(ctx context.Context) error {
		done := false
		start(ctx, "work", func(ctx context.Context) error {
			done = true
			return nil
		})
		busy := start(ctx, "busy", func(ctx context.Context) error {
			for {
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
		})
		err := sim.Eventually(ctx, time.Second, "it is done", func() bool { return done })
		busy.Cancel()
		return err
	}
	for _, s := range everyStrategy {
		if r := sim.Check(main, sim.WithStrategy(s), sim.Runs(100), sim.StepLimit(1000, 1_000_000)); r.Failure != nil {
			t.Errorf("%v: %v", s, r.Failure)
		}
	}
}

// Whatever is kept back, and however long: what a strategy has done is run again from its schedule.
func TestKeep_Replays(t *testing.T) {
	for seed := range uint64(40) {
		main := func(ctx context.Context) error {
			var order []string
			var all []asyncio.AnyFuture
			for i := range 4 {
				name := fmt.Sprint("t", i)
				all = append(all, start(ctx, name, func(ctx context.Context) error {
					for range 5 {
						order = append(order, name)
						if err := asyncio.Sleep(ctx, 0); err != nil {
							return err
						}
					}
					return nil
				}))
			}
			if _, _, err := asyncio.Wait(ctx, all); err != nil {
				return err
			}
			if s := strings.Join(order, " "); !strings.HasPrefix(s, "t0 t1 t2 t3 t0 t1") {
				return errors.New(s)
			}
			return nil
		}
		for _, s := range []sim.Strategy{sim.Random(), sim.PCT(3)} {
			r := sim.Check(main, sim.WithStrategy(s), sim.Seed(seed+1), sim.Runs(5))
			if r.Failure == nil {
				continue
			}
			file := t.TempDir() + "/s.sim"
			write(t, file, r.Failure.Schedule)
			if again := sim.Check(main, sim.Replay(file)).Failure; again == nil || again.Err.Error() != r.Failure.Err.Error() || again.Trace != r.Failure.Trace {
				t.Fatalf("%v, seed %d:\n%v\nagain:\n%v", s, seed, r.Failure, again)
			}
		}
	}
}
