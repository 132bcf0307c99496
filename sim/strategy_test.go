package sim_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// PCT finds a bug of depth d, in a program of n tasks and k steps, with a probability of at least
// 1/(n*k^(d-1)).
func TestPCT_FindsByDepth(t *testing.T) {
	const long = 20
	program := func(hit *int) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			first, second := 0, 0 // steps of long at those of short
			n := 0
			a := start(ctx, "long", func(ctx context.Context) error {
				for range long {
					n++
					if err := asyncio.Sleep(ctx, 0); err != nil {
						return err
					}
				}
				return nil
			})
			b := start(ctx, "short", func(ctx context.Context) error {
				first = n
				err := asyncio.Sleep(ctx, 0)
				second = n
				return err
			})
			_, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{a, b})
			if first == 0 && second == long {
				*hit++
			}
			return err
		}
	}
	const runs, tasks, steps = 4000, 3, long + 10
	rate := func(s sim.Strategy) float64 {
		hit := 0
		r := sim.Check(program(&hit), sim.WithStrategy(s), sim.Runs(runs))
		if r.Failure != nil {
			t.Fatal(r.Failure)
		}
		return float64(hit) / float64(r.Runs)
	}
	if got, least := rate(sim.PCT(2)), 1.0/(tasks*steps); got < least {
		t.Errorf("PCT(2) finds it in %.4f of the runs, want at least %.4f", got, least)
	}
	if got := rate(sim.PCT(1)); got != 0 {
		t.Errorf("PCT(1) finds it in %.4f of the runs, but it takes two orderings", got)
	}
	if got := rate(sim.Random()); got > 0.001 {
		t.Errorf("Random finds it in %.4f of the runs: it is no test of PCT", got)
	}
}

func FuzzTape(f *testing.F) {
	f.Add([]byte{1, 1, 0, 2})
	f.Fuzz(func(t *testing.T, schedule []byte) {
		sim.Run(t, func(ctx context.Context) error {
			var mu asyncio.Lock
			inside := 0
			var all []asyncio.AnyFuture
			for i := range 3 {
				all = append(all, start(ctx, fmt.Sprint("t", i), func(ctx context.Context) error {
					if err := mu.Acquire(ctx); err != nil {
						return err
					}
					defer mu.Release()
					inside++
					defer func() { inside-- }()
					if inside != 1 {
						return fmt.Errorf("%d inside", inside)
					}
					return yield(ctx, 2)
				}))
			}
			_, _, err := asyncio.Wait(ctx, all)
			return err
		}, sim.WithStrategy(sim.Tape(schedule)))
	})
}

func TestTape_FollowsTheBytes(t *testing.T) {
	fails := 0
	for _, tape := range [][]byte{nil, {0, 0, 0}, {0, 0, 1, 1}, {0, 0, 3, 3}, {9, 9, 9, 9, 9}} {
		if r := sim.Check(lostUpdate, sim.WithStrategy(sim.Tape(tape)), sim.Runs(2)); r.Failure != nil {
			fails++
			if len(r.Failure.Deviations) != 1 {
				t.Errorf("%v: %v", tape, r.Failure)
			}
		}
	}
	if fails != 2 {
		t.Errorf("%d tapes fail, want 2", fails)
	}
}
