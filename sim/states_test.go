package sim_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// counting makes n tasks that add one to a counter, k times each.
func counting(declare bool, n, k int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		counter, done := 0, make([]int, n)
		if declare {
			sim.State(ctx, func() any { return []any{counter, done} })
		}
		var all []asyncio.AnyFuture
		for i := range n {
			all = append(all, start(ctx, fmt.Sprint("t", i), func(ctx context.Context) error {
				for done[i] < k {
					counter++
					done[i]++
					if err := asyncio.Sleep(ctx, 0); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		_, _, err := asyncio.Wait(ctx, all)
		return err
	}
}

// n tasks of k steps have exponentially many orders, and polynomially many states.
func TestState_SeenBefore(t *testing.T) {
	for _, c := range []struct {
		declare  bool
		tasks, k int
		most     int
	}{{false, 2, 2, 70}, {true, 2, 2, 36}, {true, 3, 2, 800}, {true, 2, 10, 500}} {
		r := sim.Check(counting(c.declare, c.tasks, c.k), sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(50_000))
		t.Logf("%+v: %d states, %s", c, r.States, r.Coverage)
		if r.Failure != nil || r.Runs > c.most || (r.States > 0) != c.declare || strings.Contains(r.Coverage, "that sim.State tells apart") != c.declare {
			t.Errorf("%+v: %d states, %s; %v", c, r.States, r.Coverage, r.Failure)
		}
	}
}

// What comes of a program is the same, whether its states are told apart or not.
func TestState_SameOutcomes(t *testing.T) {
	some, whole := 0, 0
	for seed := range scribbles() {
		s := newScribble(rand.New(rand.NewPCG(seed, 0)))
		s.stateful = true
		all, seen := map[string]int{}, map[string]int{}
		a := sim.Check(s.run(false, all), sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(1500))
		if !strings.Contains(a.Coverage, "every schedule there is") {
			continue
		}
		s.stateful = true
		b := sim.Check(s.run(true, seen), sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(1500))
		if a.Failure != nil || b.Failure != nil || !slices.Equal(slices.Sorted(maps.Keys(all)), slices.Sorted(maps.Keys(seen))) {
			t.Errorf("%+v: %v (%d runs), want %v (%d runs); %v, %v", s, seen, b.Runs, all, a.Runs, a.Failure, b.Failure)
		}
		whole += a.Runs
		some += b.Runs
	}
	t.Logf("%d runs instead of %d", some, whole)
	if some > whole/2 {
		t.Errorf("%d runs instead of %d", some, whole)
	}
}
