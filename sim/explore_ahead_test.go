package sim_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// However many runs are made at a time, an exploration makes the same runs, and finds and says the
// same.
func TestParallel_TheSame(t *testing.T) {
	fails := func(one int) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			if asyncio.Rand(ctx).IntN(one) == 0 {
				return errors.New("a rare number")
			}
			return yield(ctx, asyncio.Rand(ctx).IntN(20))
		}
	}
	for name, c := range map[string]struct {
		main func(ctx context.Context) error
		opts []sim.Option
	}{
		"passes":              {fails(1 << 30), []sim.Option{sim.Runs(100)}},
		"one run":             {fails(1 << 30), []sim.Option{sim.Runs(1)}},
		"two runs":            {fails(1 << 30), []sim.Option{sim.Runs(2)}},
		"three runs":          {fails(1 << 30), []sim.Option{sim.Runs(3)}},
		"fails early":         {fails(3), nil},
		"fails late":          {fails(60), []sim.Option{sim.Seed(1000)}},
		"lost update":         {transfer, nil},
		"starved":             {starved(4, 4), []sim.Option{sim.WithStrategy(sim.PCT(3)), sim.Runs(1000)}},
		"every schedule":      {threeTasks, []sim.Option{sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(10000)}},
		"some schedules":      {threeTasks, []sim.Option{sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(500)}},
		"two deviations":      {threeTasks, []sim.Option{sim.WithStrategy(sim.Exhaustive(2)), sim.Runs(500)}},
		"exhaustive, fails":   {transfer, []sim.Option{sim.WithStrategy(sim.Exhaustive(0))}},
		"exhaustive, cancels": {threeTasks, []sim.Option{sim.WithStrategy(sim.Exhaustive(1)), sim.Cancels(), sim.Runs(500)}},
		"other seeds":         {fails(20), []sim.Option{sim.WithStrategy(sim.Exhaustive(0))}},
	} {
		t.Run(name, func(t *testing.T) {
			want := reportOf(sim.Check(c.main, c.opts...))
			for _, n := range []int{0, 1, 2, 7} {
				if got := reportOf(sim.Check(c.main, append(c.opts, sim.Parallel(n))...)); got != want {
					t.Errorf("%d at a time:\n%s\nwant\n%s", n, got, want)
				}
			}
		})
	}
}

func reportOf(r *sim.Report) string {
	s := fmt.Sprintf("%d runs, %d steps, %s", r.Runs, r.Steps, r.Coverage)
	if r.Failure != nil {
		s += "\n" + r.Failure.Error() + r.Failure.Schedule
	}
	return s
}

func threeTasks(ctx context.Context) error {
	for _, name := range []string{"a", "b", "c"} {
		start(ctx, name, func(ctx context.Context) error { return yield(ctx, 2) })
	}
	return asyncio.Sleep(ctx, time.Second)
}

// transfer loses an update if another task comes in between.
func transfer(ctx context.Context) error {
	balance := 0
	add := func(ctx context.Context) error {
		before := balance
		if asyncio.Rand(ctx).IntN(2) == 0 {
			if err := yield(ctx, 1); err != nil {
				return err
			}
		}
		balance = before + 1
		return nil
	}
	if err := all(ctx, add, add); err != nil {
		return err
	}
	if balance != 2 {
		return fmt.Errorf("balance %d, want 2", balance)
	}
	return nil
}

// At most n runs are under way.
func TestParallel_Bound(t *testing.T) {
	const n = 3
	const alone = 3 // the run in order, the first of the strategy, and that again
	var calls, now, most atomic.Int32
	r := sim.Check(func(ctx context.Context) error {
		defer now.Add(-1)
		m := now.Add(1)
		for old := most.Load(); m > old && !most.CompareAndSwap(old, m); {
			old = most.Load()
		}
		if calls.Add(1) > alone {
			for end := time.Now().Add(5 * time.Second); most.Load() < 2 && time.Now().Before(end); {
				runtime.Gosched()
			}
		}
		return yield(ctx, 100)
	}, sim.Parallel(n))
	if r.Failure != nil || most.Load() < 2 || most.Load() > n {
		t.Errorf("%d at a time, want at most %d; %v", most.Load(), n, r.Failure)
	}
}

// A run that blocks for ever is given up, and the exploration ends with it, wherever it was made.
func TestParallel_GivenUp(t *testing.T) {
	defer sim.GivingUp(200 * time.Millisecond)()
	release := make(chan struct{})
	defer close(release)
	r := sim.Check(func(ctx context.Context) error {
		if asyncio.Rand(ctx).IntN(20) == 0 {
			<-release
		}
		return nil
	}, sim.Parallel(2))
	if f := r.Failure; f == nil || f.Run < 3 || !strings.Contains(f.Error(), "was given up") {
		t.Errorf("%d runs: %v", r.Runs, f)
	}
}
