package sim_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A fault that a program asks for happens in an exploration and is recorded. It is minimised away
// if it is not needed.
func TestFault(t *testing.T) {
	program := func(ctx context.Context) error {
		var bad []int
		for i := range 20 {
			if sim.Fault(ctx, "harmless", 0.5) {
				continue
			}
			if sim.Fault(ctx, "bad", 0.1) {
				bad = append(bad, i)
			}
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
		}
		if len(bad) >= 2 {
			return fmt.Errorf("bad at %v", bad)
		}
		return nil
	}
	sim.Run(t, program) // in order, no fault happens
	for _, s := range []sim.Strategy{sim.Random(), sim.PCT(2), sim.Exhaustive(0)} {
		r := sim.Check(program, sim.WithStrategy(s), sim.Runs(5000))
		f := r.Failure
		if f == nil || len(f.Deviations) != 2 || strings.Count(f.Error(), "there was a fault: bad") != 2 || strings.Contains(f.Trace, "harmless") {
			t.Fatalf("%v: %v %v", s, r.Coverage, f)
		}
		if again, err := sim.Reformat(f.Schedule); err != nil || again != f.Schedule {
			t.Errorf("%v: the schedule reads as %q, %v", s, again, err)
		}
		file := t.TempDir() + "/x.sim"
		if err := os.WriteFile(file, []byte(f.Schedule), 0o666); err != nil {
			t.Fatal(err)
		}
		if g := sim.Check(program, sim.Replay(file)).Failure; g == nil || g.Err.Error() != f.Err.Error() {
			t.Errorf("%v: replayed: %v, want %v", s, g, f.Err)
		}
	}
}

// Without faults nothing is lost, so there is nothing to probe for, and a program that waits for
// ever has a deadlock.
func TestHost_StopFaultsEndsProbes(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		_, conn, err := shouting(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		network := sim.NetworkOf(ctx)
		network.SetLink(sim.Link{Loss: 1})
		sim.StopFaults(ctx)
		if err := asyncio.Sleep(ctx, time.Hour); err != nil {
			return err
		}
		if got := network.Traffic("main", "server"); got.Delivered > 10 {
			return fmt.Errorf("an idle connection has sent %v", got)
		}
		return nil
	})
}
