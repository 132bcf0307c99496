package sim_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// lostUpdate fails if main, and then b, run between the two steps of a.
func lostUpdate(ctx context.Context) error {
	balance := 0
	deposit := func(ctx context.Context) error {
		seen := balance
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		balance = seen + 1
		return nil
	}
	a := start(ctx, "a", deposit)
	if err := yield(ctx, 2); err != nil {
		return err
	}
	b := start(ctx, "b", deposit)
	if _, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{a, b}); err != nil {
		return err
	}
	if balance != 2 {
		return fmt.Errorf("balance %d, want 2", balance)
	}
	return nil
}

func TestCheck_FindsAndMinimises(t *testing.T) {
	for _, s := range []sim.Strategy{sim.Random(), sim.PCT(2), sim.Exhaustive(0)} {
		r := sim.Check(lostUpdate, sim.WithStrategy(s), sim.Runs(1000))
		f := r.Failure
		if f == nil {
			t.Errorf("%v: not found: %s", s, r.Coverage)
			continue
		}
		if len(f.Deviations) != 1 || !strings.Contains(f.Minimal, "no schedule with fewer") || !strings.Contains(f.Error(), "balance 1, want 2") {
			t.Errorf("%v: %v", s, f)
		}
	}
}

func TestCheck_Failures(t *testing.T) {
	var lockA, lockB *asyncio.Lock
	for _, c := range []struct {
		name string
		main func(ctx context.Context) error
		want []string
	}{
		{"error", func(context.Context) error { return errors.New("wrong") }, []string{"main returned an error: wrong", "first in, first out everywhere"}},
		{"panic", func(ctx context.Context) error {
			start(ctx, "p", func(context.Context) error { panic("boom") })
			return yield(ctx, 2)
		}, []string{"panic in task: task 'p'", "boom"}},
		{"nobody retrieves", func(ctx context.Context) error {
			start(ctx, "p", func(context.Context) error { return errors.New("lonely") })
			return yield(ctx, 2)
		}, []string{"task 'p'", "lonely"}},
		{"deadlock", func(ctx context.Context) error {
			lockA, lockB = new(asyncio.Lock), new(asyncio.Lock)
			both := func(first, second *asyncio.Lock) func(context.Context) error {
				return func(ctx context.Context) error {
					if err := first.Acquire(ctx); err != nil {
						return err
					}
					defer first.Release()
					if err := asyncio.Sleep(ctx, 0); err != nil {
						return err
					}
					if err := second.Acquire(ctx); err != nil {
						return err
					}
					second.Release()
					return nil
				}
			}
			_, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{start(ctx, "ab", both(lockA, lockB)), start(ctx, "ba", both(lockB, lockA))})
			return err
		}, []string{"deadlock", "in a circle: 'ab' -> 'ba' -> 'ab'"}},
		{"livelock", func(ctx context.Context) error {
			for {
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
		}, []string{"livelock: 1000 steps at time 0s", "next was main"}},
		{"never ends", func(ctx context.Context) error {
			for {
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
			}
		}, []string{"main has not ended after 5000 steps"}},
		{"invariant", func(ctx context.Context) error {
			n := 0
			sim.Always(ctx, "n is small", func() error {
				if n > 2 {
					return fmt.Errorf("n is %d", n)
				}
				return nil
			})
			for range 5 {
				n++
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
			return errors.New("went on")
		}, []string{`invariant "n is small" does not hold: n is 3`}},
		{"invariant in the last step", func(ctx context.Context) error {
			n := 0
			sim.Always(ctx, "n", func() error {
				if n > 0 {
					return errors.New("changed")
				}
				return nil
			})
			n = 1
			return nil
		}, []string{`invariant "n" does not hold: changed`}},
		{"invariant panics", func(ctx context.Context) error {
			sim.Always(ctx, "odd", func() error { panic("oh") })
			return nil
		}, []string{`invariant "odd" does not hold`, "oh"}},
		{"at the end", func(ctx context.Context) error {
			open := 0
			sim.AtEnd(ctx, "all closed", func() error {
				if open != 0 {
					return fmt.Errorf("%d open", open)
				}
				return nil
			})
			start(ctx, "w", func(ctx context.Context) error {
				open++
				err := asyncio.Sleep(ctx, time.Hour)
				if err == nil {
					open--
				}
				return err
			})
			return yield(ctx, 2)
		}, []string{`invariant "all closed" does not hold: 1 open`}},
		{"eventually", func(ctx context.Context) error {
			return sim.Eventually(ctx, time.Minute, "a leader is there", func() bool { return false })
		}, []string{"a leader is there: not within 1m0s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := sim.Check(c.main, sim.Runs(3), sim.StepLimit(1000, 5000))
			if r.Failure == nil {
				t.Fatalf("not found: %s", r.Coverage)
			}
			for _, want := range c.want {
				if !strings.Contains(r.Failure.Error(), want) {
					t.Errorf("%v\nlacks %q", r.Failure, want)
				}
			}
			if len(r.Failure.Deviations) > 0 {
				t.Errorf("it fails in order, so no deviation is needed: %q", r.Failure.Deviations)
			}
		})
	}
}

// The memory of a run with Cancels does not grow with steps times tasks.
func TestAttack_CancelsOfManyTasks(t *testing.T) {
	used := func(opts ...sim.Option) uint64 {
		run := sim.Single(func(ctx context.Context) error {
			for range 300 {
				asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return yield(ctx, 30) }))
			}
			return asyncio.Sleep(ctx, time.Second)
		}, false, append(opts, sim.WithStrategy(sim.Random())))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := run(); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	used() // allocate the things that are made once
	without, with := used(), used(sim.Cancels())
	if with > 2*without {
		t.Errorf("a run allocates %d bytes, and with Cancels %d", without, with)
	}
}
