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
			n := strings.Count(f.Schedule, "\nstep ") + strings.Count(f.Schedule, "\nkeep ") + strings.Count(f.Schedule, "\nfault ")
			for i := range n {
				if err := sim.Without(main, f.Schedule, i); err != nil {
					t.Errorf("%+v: without deviation %d it fails, too: %v\n%v", c, i, err, f)
				}
			}
			t.Logf("%+v: %d deviations, %s", c, n, f.Minimal)
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

// A callback that is kept back for long is one deviation.
func TestMinimise_KeptBack(t *testing.T) {
	const steps = 20
	main := func(ctx context.Context) error {
		done := false
		start(ctx, "t1", func(ctx context.Context) error {
			err := yield(ctx, steps)
			done = true
			return err
		})
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		if done {
			return errors.New("t1 ran to completion")
		}
		return nil
	}
	f := sim.Check(main, sim.WithStrategy(sim.PCT(1))).Failure
	if f == nil {
		t.Fatal("not found")
	}
	if want := "from step 3 to 22 'main' was kept back, and 't1' ran"; len(f.Deviations) != 1 || f.Deviations[0] != want || !strings.Contains(f.Schedule, "# first in, first out everywhere, except that\n#   "+want) {
		t.Errorf("%q, want %q in\n%s", f.Deviations, want, f.Schedule)
	}
	if want := "\nkeep 3 to 22 1/2 \"main\" for \"t1\"\nend\n"; !strings.Contains(f.Schedule, want) {
		t.Errorf("%s lacks %s", f.Schedule, want)
	}
}

// The search for the fewest deviations ends before a number of them for which its budget will not
// do.
func TestMinimise_EndsWhereItProvesNothing(t *testing.T) {
	runs := 0
	main := starved(8, 8)
	r := sim.Check(func(ctx context.Context) error { runs++; return main(ctx) }, sim.WithStrategy(sim.PCT(3)))
	if f := r.Failure; f == nil || !strings.Contains(f.Minimal, "without any one of them") || runs-r.Runs > 300 {
		t.Errorf("%d runs after %d: %v", runs-r.Runs, r.Runs, f)
	}
}

// An error that names something drawn is the same failure with another name.
func TestMinimise_DrawnNames(t *testing.T) {
	main := func(ctx context.Context) error {
		lost := ""
		for range 20 {
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			sim.Fault(ctx, "harmless", 0.3)
			if sim.Fault(ctx, "a crash", 0.05) {
				lost = fmt.Sprintf("%08x", asyncio.Rand(ctx).Uint32())
			}
			if sim.Fault(ctx, "it is named otherwise", 0.5) {
				_ = asyncio.Rand(ctx).Uint32()
			}
		}
		if lost != "" {
			return fmt.Errorf("order %s (of node-7f3a) is lost", lost)
		}
		return nil
	}
	f := sim.Check(main).Failure
	if f == nil || len(f.Deviations) != 1 || !strings.Contains(f.Deviations[0], "a crash") {
		t.Errorf("%v", f)
	}
	// Other words tell failures apart.
	other := sim.Check(func(ctx context.Context) error {
		one, two := sim.Fault(ctx, "one", 0.5), sim.Fault(ctx, "two", 0.5)
		switch {
		case one && two:
			return errors.New("both are lost")
		case one || two:
			return errors.New("one is lost")
		}
		return nil
	}, sim.Seed(3)).Failure
	if other == nil || strings.Contains(other.Error(), "both") != (len(other.Deviations) == 2) {
		t.Errorf("%v", other)
	}
}

// Delays that have only moved a fault to the moment at which it hurts are not part of the
// explanation, if there is such a moment without them.
func TestMinimise_AnotherMoment(t *testing.T) {
	main := func(ctx context.Context) error {
		sim.HostOf(ctx).Disk().SetLatency(0, 5*time.Millisecond)
		for range 20 {
			if err := asyncio.WriteFile(ctx, "x", nil, 0o666); err != nil {
				return err
			}
			if err := asyncio.Sleep(ctx, 10*time.Millisecond); err != nil {
				return err
			}
			if sim.Fault(ctx, "it hurts in the second tenth of a second", 0.1) && now(ctx) > 150*time.Millisecond && now(ctx) < 180*time.Millisecond {
				return errors.New("it hurts")
			}
		}
		return nil
	}
	for seed := range uint64(10) {
		f := sim.Check(main, sim.Seed(1+100*seed), sim.WithStrategy(sim.Random())).Failure
		if f == nil || len(f.Deviations) != 1 || !strings.Contains(f.Deviations[0], "it hurts in") {
			t.Errorf("%v", f)
		}
	}
}
