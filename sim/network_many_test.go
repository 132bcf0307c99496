package sim_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// Many hosts cost what each of them uses, not a wire for every two.
func TestNetwork_ManyHosts(t *testing.T) {
	allocated := func(hosts int) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		sim.Run(t, func(ctx context.Context) error {
			for i := range hosts {
				sim.NewHost(ctx, fmt.Sprint("h", i), silent)
			}
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			for i := range hosts {
				c, err := asyncio.Dial(ctx, "tcp", fmt.Sprintf("h%d:1", i))
				if err != nil {
					return err
				}
				if err := c.Close(); err != nil {
					return err
				}
			}
			return nil
		})
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	few, many := allocated(50), allocated(400)
	if per := float64(many) / float64(few) / 8; per > 1.5 {
		t.Errorf("a host of 400 allocates %.1f times as much as one of 50: %d and %d bytes", per, few, many)
	}
}

// A partition, and a host that is cut off, hold also between hosts that have not talked before.
func TestNetwork_ApartBeforeTheFirstPacket(t *testing.T) {
	reaches := func(ctx context.Context, host string) bool {
		return asyncio.Timeout(ctx, 10*time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			c, err := asyncio.Dial(ctx, "tcp", host+":1")
			if err != nil {
				return err
			}
			return c.Close()
		}) == nil
	}
	sim.Run(t, func(ctx context.Context) error {
		for _, name := range []string{"a", "b", "c"} {
			sim.NewHost(ctx, name, silent)
		}
		network := sim.NetworkOf(ctx)
		check := func(what string, a, b, c bool) {
			t.Helper()
			if got, want := []bool{reaches(ctx, "a"), reaches(ctx, "b"), reaches(ctx, "c")}, []bool{a, b, c}; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: reaches %v, want %v", what, got, want)
			}
		}
		network.Partition([]string{"main", "a"}, []string{"b"})
		check("a partition", true, false, true)
		network.Isolate("c")
		check("and an isolated host", true, false, false)
		network.Partition([]string{"main"}, []string{"a"})
		check("another partition", false, true, false)
		network.Heal()
		check("healed", true, true, true)
		network.Partition([]string{"main"}, []string{"a"})
		sim.NewHost(ctx, "d", silent)
		if !reaches(ctx, "d") {
			t.Error("a host that is made later is in no group")
		}
		network.Partition()
		check("no partition", true, true, true)
		return nil
	})
}
