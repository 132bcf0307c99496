package asyncio_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// On virtual time a task's random numbers depend on its name, not on the draws of other tasks.
// Tasks of equal name get different numbers. A derived context and a second call lead to the same
// source.
func TestRand_StreamsAreIndependent(t *testing.T) {
	draw := func(greedy int) (a, b, twin []uint64) {
		run(t, func(ctx context.Context) error {
			numbers := func(name string, n int) []uint64 {
				v, err := asyncio.CreateTask(ctx, func(ctx context.Context) ([]uint64, error) {
					var all []uint64
					for range n {
						derived, cancel := context.WithCancel(ctx)
						all = append(all, asyncio.Rand(derived).Uint64())
						cancel()
					}
					return all, nil
				}, asyncio.TaskName(name)).Await(ctx)
				must(t, err)
				return v
			}
			asyncio.Rand(ctx).Uint64()
			a = numbers("a", 3+greedy)[:3]
			b = numbers("b", 3)
			twin = numbers("b", 3)
			return nil
		})
		return a, b, twin
	}
	a1, b1, twin1 := draw(0)
	a2, b2, twin2 := draw(5)
	if !slices.Equal(a1, a2) || !slices.Equal(b1, b2) || !slices.Equal(twin1, twin2) {
		t.Errorf("what one task draws changes another's numbers: %v %v %v, %v %v %v", a1, b1, twin1, a2, b2, twin2)
	}
	if slices.Equal(a1, b1) || slices.Equal(b1, twin1) || a1[0] == a1[1] {
		t.Errorf("two tasks get the same numbers: %v %v %v", a1, b1, twin1)
	}
}

func TestRand_InProductionIsRandom(t *testing.T) {
	number := func(ctx context.Context) (uint64, error) { return asyncio.Rand(ctx).Uint64(), nil }
	a, err := asyncio.Run(t.Context(), number)
	must(t, err)
	b, err := asyncio.Run(t.Context(), number)
	must(t, err)
	if a == b {
		t.Errorf("two runs draw %d", a)
	}
}

func TestRand_InCallbacks(t *testing.T) {
	run(t, func(ctx context.Context) error {
		mine := asyncio.Rand(ctx)
		loop(t, ctx).CallSoon(func() {
			if asyncio.Rand(ctx) == mine || asyncio.Rand(ctx) != asyncio.Rand(ctx) {
				t.Error("a callback has no source of its own")
			}
		})
		return asyncio.Sleep(ctx, 0)
	})
}

// ExampleRand shows that a program draws the same numbers in every simulated run.
func ExampleRand() {
	roll := func(ctx context.Context) (int, error) { return 1 + asyncio.Rand(ctx).IntN(6), nil }
	for range 2 {
		ctx := asyncio.WithLoopFactory(context.Background(), sim.NewEventLoop)
		fmt.Println(asyncio.Run(ctx, roll))
	}
	// Output:
	// 6 <nil>
	// 6 <nil>
}
