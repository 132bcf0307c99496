package sim_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
		r := sim.Check(lostUpdate, sim.With(s), sim.Runs(1000))
		f := r.Failure
		if f == nil {
			t.Errorf("%v: not found: %s", s, r.Coverage)
			continue
		}
		if len(f.Deviations) != 2 || !strings.Contains(f.Minimal, "no schedule with fewer") || !strings.Contains(f.Error(), "balance 1, want 2") {
			t.Errorf("%v: %v", s, f)
		}
	}
}

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
		}, sim.With(sim.Exhaustive(0)), sim.Runs(10000))
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
		{0, 500, "at most 2 deviations from first in, first out, and some with 3; the others were not run"},
		{0, 1, "at most 0 deviations from first in, first out, and some with 1"},
	} {
		r := sim.Check(main, sim.With(sim.Exhaustive(c.bound)), sim.Runs(c.runs))
		if r.Failure != nil || r.Runs > c.runs || !strings.Contains(r.Coverage, c.want) {
			t.Errorf("bound %d, %d runs: %q, want %q; %v", c.bound, c.runs, r.Coverage, c.want, r.Failure)
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

func TestEventually_LooksAfterEveryStep(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		on := false
		start(ctx, "blink", func(ctx context.Context) error {
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			on = true
			if err := asyncio.Sleep(ctx, 0); err != nil {
				return err
			}
			on = false
			return nil
		})
		if err := sim.Eventually(ctx, time.Minute, "on", func() bool { return on }); err != nil {
			return err
		}
		l, err := asyncio.GetRunningLoop(ctx)
		if l.Time() != time.Second {
			return fmt.Errorf("at %v", l.Time())
		}
		return err
	})
}

func TestWaitIdle_AfterEverythingElse(t *testing.T) {
	sim.Explore(t, func(ctx context.Context) error {
		var order []string
		for _, name := range []string{"a", "b"} {
			start(ctx, name, func(ctx context.Context) error {
				if err := yield(ctx, 7); err != nil {
					return err
				}
				order = append(order, "busy")
				if err := sim.WaitIdle(ctx); err != nil {
					return err
				}
				order = append(order, "idle")
				if err := yield(ctx, 5); err != nil {
					return err
				}
				order = append(order, "done")
				return nil
			})
		}
		if err := sim.Advance(ctx, time.Second); err != nil {
			return err
		}
		if want := []string{"busy", "busy", "idle", "done", "idle", "done"}; !slices.Equal(order, want) {
			return fmt.Errorf("%q, want %q", order, want)
		}
		return nil
	}, sim.Runs(50))
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
