package sim_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// TestExhaustive_EveryScheduleOnce: n tasks of k steps have (n*k)!/(k!)^n interleavings, and each
// is run once.
func TestExhaustive_EveryScheduleOnce(t *testing.T) {
	for _, c := range []struct{ tasks, steps, want int }{{1, 3, 1}, {2, 1, 2}, {2, 2, 6}, {2, 3, 20}, {2, 4, 70}, {3, 2, 90}, {4, 2, 2520}, {3, 3, 1680}} {
		seen := map[string]int{}
		r := sim.Check(func(ctx context.Context) error {
			var order []byte
			for i := range c.tasks {
				start(ctx, string(rune('a'+i)), func(ctx context.Context) error {
					for n := range c.steps {
						if n > 0 {
							if err := asyncio.Sleep(ctx, 0); err != nil {
								return err
							}
						}
						order = append(order, byte('a'+i))
					}
					return nil
				})
			}
			err := asyncio.Sleep(ctx, time.Second) // out of the way
			seen[string(order)]++
			return err
		}, sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(10000))
		if r.Failure != nil {
			t.Fatal(r.Failure)
		}
		if seen[strings.Repeat("a", c.steps)] > 0 {
			seen[strings.Repeat("a", c.steps)] -= 2 // the first run is made twice, for its trace
		} else {
			var fifo string
			for range c.steps {
				for i := range c.tasks {
					fifo += string(rune('a' + i))
				}
			}
			seen[fifo] -= 2
		}
		for order, n := range seen {
			if n != 1 {
				t.Errorf("%d tasks of %d steps: %s came %d times", c.tasks, c.steps, order, n)
			}
		}
		if len(seen) != c.want || r.Runs != c.want || !strings.Contains(r.Coverage, "every schedule there is") {
			t.Errorf("%d tasks of %d steps: %d orders, want %d; %s", c.tasks, c.steps, len(seen), c.want, r.Coverage)
		}
	}
}

func TestExhaustive_SaysWhatWasNotCovered(t *testing.T) {
	main := func(ctx context.Context) error {
		for _, name := range []string{"a", "b", "c"} {
			start(ctx, name, func(ctx context.Context) error { return yield(ctx, 3) })
		}
		return asyncio.Sleep(ctx, time.Second)
	}
	for _, c := range []struct {
		bound, runs int
		want        string
	}{
		{1, 1000, "at most 1 deviations from first in, first out, and none with more"},
		{0, 5000, "at most 2 deviations from first in, first out, and some with 3; the others were not run"},
		{0, 1, "at most 0 deviations from first in, first out, and some with 1"},
	} {
		r := sim.Check(main, sim.WithStrategy(sim.Exhaustive(c.bound)), sim.Runs(c.runs))
		if r.Failure != nil || r.Runs > c.runs || !strings.Contains(r.Coverage, c.want) {
			t.Errorf("bound %d, %d runs: %q, want %q; %v", c.bound, c.runs, r.Coverage, c.want, r.Failure)
		}
	}
}

// What is drawn depends on the seed, so one seed's schedules are not all there are.
func TestExhaustive_GoesOnWithOtherSeeds(t *testing.T) {
	draws := func(ctx context.Context) error {
		if asyncio.Rand(ctx).IntN(20) == 0 {
			return errors.New("a rare number")
		}
		return nil
	}
	if r := sim.Check(draws, sim.WithStrategy(sim.Exhaustive(0))); r.Failure == nil || r.Failure.Seed == 0 {
		t.Errorf("not found by another seed: %s %v", r.Coverage, r.Failure)
	}
	network := func(ctx context.Context) error {
		s, err := asyncio.ListenPacket(ctx, "udp", ":1")
		if err != nil {
			return err
		}
		defer s.Close()
		sim.NewHost(ctx, "h", func(ctx context.Context) error {
			c, err := asyncio.DialPacket(ctx, "udp", "main:1")
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("hello"))
			return err
		})
		_, _, err = s.ReadFrom(make([]byte, 10))
		return err
	}
	disk := func(ctx context.Context) error {
		sim.HostOf(ctx).Disk().SetLatency(time.Millisecond, time.Second)
		return asyncio.WriteFile(ctx, "a", nil, 0o666)
	}
	number := func(ctx context.Context) error {
		return asyncio.Sleep(ctx, time.Duration(asyncio.Rand(ctx).IntN(1000)))
	}
	orders := func(ctx context.Context) error {
		for _, name := range []string{"a", "b", "c"} {
			start(ctx, name, func(ctx context.Context) error { return yield(ctx, asyncio.Rand(ctx).IntN(3)) })
		}
		return asyncio.Sleep(ctx, time.Second)
	}
	for _, c := range []struct {
		main func(context.Context) error
		runs int
		want string
	}{
		{func(ctx context.Context) error { return asyncio.Sleep(ctx, 1) }, 10, "1 runs, 4 steps: every schedule there is"},
		{number, 5, "every schedule there is, for the seeds 0 to 4: the program, the network or a disk draws numbers"},
		{number, 1, "every schedule there is, for seed 0: the program, the network or a disk draws numbers"},
		{disk, 100, "every schedule there is; so does a time or size"},
		{network, 100, "2 runs"},
		{orders, 2, "some with 1; the others were not run (see Runs), for seed 0: "},
	} {
		if r := sim.Check(c.main, sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(c.runs)); r.Failure != nil || !strings.Contains(r.Coverage, c.want) {
			t.Errorf("%q, want %q; %v", r.Coverage, c.want, r.Failure)
		}
	}
}
