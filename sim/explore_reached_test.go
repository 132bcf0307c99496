package sim_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// An exploration fails if a condition given to Sometimes never holds, whatever the strategy.
func TestSometimes(t *testing.T) {
	never := func(ctx context.Context) error {
		sim.Sometimes(ctx, "the impossible", false)
		sim.Sometimes(ctx, "the certain", true)
		return threeTasks(ctx)
	}
	for _, s := range []sim.Strategy{sim.Random(), sim.PCT(2), sim.Exhaustive(0), sim.Exhaustive(1)} {
		for _, runs := range []int{1, 2, 50} {
			f := sim.Check(never, sim.WithStrategy(s), sim.Runs(runs)).Failure
			if f == nil || !strings.Contains(f.Error(), "'the impossible': sim.Sometimes has got false each of ") || strings.Contains(f.Error(), "'the certain': sim.") {
				t.Errorf("%v, %d runs: %v", s, runs, f)
			}
		}
	}
	sim.Run(t, never)
}

// A rare condition counts, wherever it holds.
func TestSometimes_Rare(t *testing.T) {
	rare := func(ctx context.Context) error {
		last := ""
		sim.Sometimes(ctx, "t1 is last", false)
		for _, name := range []string{"t1", "t2", "t3"} {
			start(ctx, name, func(ctx context.Context) error {
				err := yield(ctx, 2)
				last = name
				return err
			})
		}
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		if last == "t1" {
			sim.Sometimes(ctx, "t1 is last", true)
		}
		return nil
	}
	r := sim.Check(rare)
	if r.Failure != nil || len(r.Reached) != 1 {
		t.Fatalf("%+v", r)
	}
	got := r.Reached[0]
	if got.Name != "t1 is last" || got.Asked != r.Runs+got.Times || got.Times != got.Runs || got.Runs < 20 || got.Runs > 150 || !strings.Contains(r.Coverage, "\nreached "+got.String()) {
		t.Errorf("%v of %d runs: %s", got, r.Runs, r.Coverage)
	}
	if f := sim.Check(rare, sim.Runs(1)).Failure; f == nil {
		t.Error("the run in order has reached it")
	}
}

// A report says how often each fault happened, and could have.
func TestReport_Faults(t *testing.T) {
	main := func(ctx context.Context) error {
		h := sim.NewHost(ctx, "node2", func(ctx context.Context) error {
			if err := asyncio.WriteFile(ctx, "a", make([]byte, 3000), 0o666); err != nil {
				return err
			}
			return asyncio.Sleep(ctx, time.Hour)
		})
		for range 10 {
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			if sim.Fault(ctx, "retry 3", 0.1) {
				break
			}
			sim.Fault(ctx, "never", 0)
			sim.Fault(ctx, "always", 1)
		}
		h.Crash()
		return nil
	}
	r := sim.Check(main)
	if r.Failure != nil {
		t.Fatal(r.Failure)
	}
	var names []string
	for _, f := range r.Faults {
		names = append(names, f.Name)
		if f.Times == 0 || f.Runs == 0 || f.Runs > f.Times || f.Times >= f.Asked || f.Runs >= r.Runs {
			t.Errorf("%+v", f)
		}
		if !strings.Contains(r.Coverage, "\nfault "+f.String()) {
			t.Errorf("%v is not in %s", f, r.Coverage)
		}
	}
	if want := []string{"node2: keep the length that a had, N bytes, without the data", "node2: lose", "node2: tear", "retry N"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	again := sim.Check(main, sim.Parallel(0))
	if !slices.Equal(again.Faults, r.Faults) || again.Coverage != r.Coverage {
		t.Errorf("%v and %v", r.Faults, again.Faults)
	}
}
