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

// starved fails if main overtakes each of n tasks: that takes a deviation for each of the steps
// that those tasks would have made before main.
func starved(tasks, yields int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		done := 0
		for i := range tasks {
			start(ctx, fmt.Sprint("t", i), func(ctx context.Context) error {
				err := yield(ctx, 1)
				done++
				return err
			})
		}
		if err := yield(ctx, yields); err != nil {
			return err
		}
		if done == 0 {
			return errors.New("starved")
		}
		return nil
	}
}

// The result of minimising is 1-minimal: without any one of its deviations the run does not fail.
func TestMinimise_OneMinimal(t *testing.T) {
	for _, c := range []struct {
		tasks, yields int
		seeds         uint64
	}{{1, 3, 3}, {2, 4, 3}, {4, 4, 3}, {6, 6, 2}} {
		main := starved(c.tasks, c.yields)
		for seed := range c.seeds {
			f := sim.Check(main, sim.WithStrategy(sim.PCT(3)), sim.Seed(1+100*seed), sim.Runs(1000)).Failure
			if f == nil {
				t.Fatalf("%+v: not found", c)
			}
			for i := range f.Deviations {
				if err := sim.Without(main, f.Schedule, i); err != nil {
					t.Errorf("%+v: without %s it fails, too: %v\n%v", c, f.Deviations[i], err, f)
				}
			}
			t.Logf("%+v: %d deviations, %s", c, len(f.Deviations), f.Minimal)
		}
	}
}

// A long run has too many schedules to try all those with few deviations, so none is tried only to
// see whether it is one of the fewest.
func TestExplore_MinimisesLongRuns(t *testing.T) {
	runs := 0
	r := sim.Check(func(ctx context.Context) error {
		runs++
		broken := 0
		for range 2 {
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				for {
					if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
						return err
					}
					if sim.Fault(ctx, "it breaks", 0.001) {
						broken++
					}
				}
			}))
		}
		if err := asyncio.Sleep(ctx, 2*time.Second); err != nil {
			return err
		}
		if broken > 1 {
			return errors.New("broken twice")
		}
		return nil
	})
	f := r.Failure
	if f == nil || len(f.Deviations) != 2 || !strings.Contains(f.Minimal, "without any one of them") {
		t.Fatalf("%v", f)
	}
	if spent := runs - r.Runs; spent > 100 {
		t.Errorf("%d runs to find out which two of %d deviations it takes", spent, f.Found)
	}
}
