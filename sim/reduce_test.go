package sim_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// independent starts n tasks that touch nothing in common and yield k times, and waits for them.
func independent(declare bool, n, k int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		var all []asyncio.AnyFuture
		for i := range n {
			all = append(all, start(ctx, fmt.Sprint("t", i), func(ctx context.Context) error {
				if declare {
					sim.Touches(ctx, fmt.Sprint("variable ", i))
				}
				return yield(ctx, k)
			}))
		}
		_, _, err := asyncio.Wait(ctx, all)
		return err
	}
}

// Three independent tasks with two yields each have 34,650 orders. What is left are those in which
// the waiting task is told of their ends.
func TestTouches_IndependentTasks(t *testing.T) {
	for _, c := range []struct {
		declare             bool
		tasks, yields, want int
	}{{true, 3, 2, 6}, {true, 2, 2, 2}, {true, 4, 10, 24}, {false, 2, 2, 70}} {
		r := sim.Check(independent(c.declare, c.tasks, c.yields), sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(100_000))
		if r.Failure != nil || r.Runs != c.want || r.LeftOut > 0 != c.declare {
			t.Errorf("%+v: %s; %d choices left out; %v", c, r.Coverage, r.LeftOut, r.Failure)
		}
		if said := strings.Contains(r.Coverage, "in the order of steps that sim.Touches declares independent"); said != c.declare {
			t.Errorf("%+v: %s", c, r.Coverage)
		}
	}
}

// A lost update on a plain variable is found, whether its tasks declare what they touch or not.
func TestTouches_LostUpdate(t *testing.T) {
	for _, declare := range []int{0, 1, 2} { // how many of the two tasks do
		r := sim.Check(func(ctx context.Context) error {
			balance := 0
			add := func(name string, declare bool) asyncio.AnyFuture {
				return start(ctx, name, func(ctx context.Context) error {
					if declare {
						sim.Touches(ctx, "balance")
					}
					old := balance
					err := asyncio.Sleep(ctx, 0)
					balance = old + 1
					return err
				})
			}
			first := add("first", declare > 0)
			if err := yield(ctx, 2); err != nil {
				return err
			}
			if _, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{first, add("second", declare > 1)}); err != nil {
				return err
			}
			if balance != 2 {
				return errors.New("lost")
			}
			return nil
		}, sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(1000))
		if r.Failure == nil {
			t.Errorf("%d declare: not found: %s", declare, r.Coverage)
		}
	}
}

// A small program of random steps on shared variables, a lock and an event. What its steps do is
// declared; outcome is what came of one run.
type scribble struct {
	tasks      [][]stroke
	undeclared int  // a task that declares nothing, -1: none
	stateful   bool // it declares its state instead
}

type stroke struct{ kind, variable, yields int }

func newScribble(rng *rand.Rand) *scribble {
	s := &scribble{undeclared: max(-1, rng.IntN(12)-9)}
	for range 2 + rng.IntN(2) {
		var task []stroke
		for range 1 + rng.IntN(2) {
			task = append(task, stroke{rng.IntN(5), rng.IntN(3), rng.IntN(2)})
		}
		s.tasks = append(s.tasks, task)
	}
	return s
}

func (s *scribble) touches(i int) []string {
	var names []string
	for _, k := range s.tasks[i] {
		switch k.kind {
		case 3:
			names = append(names, "lock")
		case 2, 4:
			names = append(names, "event")
		}
		names = append(names, fmt.Sprint("variable ", k.variable))
	}
	return names
}

func (s *scribble) run(declare bool, outcomes map[string]int) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		variables := make([]string, 3)
		var lock asyncio.Lock
		var event asyncio.Event
		var all []asyncio.AnyFuture
		locals := make([]string, len(s.tasks))
		if declare && s.stateful {
			sim.State(ctx, func() any { return []any{variables, event.IsSet(), locals} })
		}
		for i := range s.tasks {
			all = append(all, start(ctx, fmt.Sprint("t", i), func(ctx context.Context) error {
				if declare && !s.stateful && i != s.undeclared {
					sim.Touches(ctx, s.touches(i)...)
				}
				for n, k := range s.tasks[i] {
					v := &variables[k.variable]
					old := *v
					locals[i] = fmt.Sprint(n, old)
					if k.kind == 3 {
						if err := lock.Acquire(ctx); err != nil {
							return err
						}
						old = *v
						locals[i] = fmt.Sprint(n, old)
					}
					if k.kind == 4 {
						event.Set()
					}
					if err := yield(ctx, k.yields); err != nil {
						return err
					}
					switch k.kind {
					case 0, 3, 4:
						*v = old + fmt.Sprint(i)
					case 1:
						*v += fmt.Sprint(i)
					case 2:
						if event.IsSet() {
							*v += "!"
						}
					}
					if k.kind == 3 {
						lock.Release()
					}
				}
				return nil
			}))
		}
		_, _, err := asyncio.Wait(ctx, all)
		outcomes[strings.Join(variables, " ")]++
		return err
	}
}

// scribbles is how many programs are explored in each way.
func scribbles() uint64 {
	if testing.Short() {
		return 15
	}
	return 60
}

// Whatever a program does, the reduced exploration has the same outcomes as the whole one.
func TestTouches_SameOutcomes(t *testing.T) {
	reduced, whole := 0, 0
	for seed := range scribbles() {
		s := newScribble(rand.New(rand.NewPCG(seed, 0)))
		all, some := map[string]int{}, map[string]int{}
		a := sim.Check(s.run(false, all), sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(1500))
		if !strings.Contains(a.Coverage, "every schedule there is") {
			continue
		}
		b := sim.Check(s.run(true, some), sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(1500))
		if a.Failure != nil || b.Failure != nil || !slices.Equal(slices.Sorted(maps.Keys(all)), slices.Sorted(maps.Keys(some))) {
			t.Errorf("%+v: %v (%d runs), want %v (%d runs); %v, %v", s, some, b.Runs, all, a.Runs, a.Failure, b.Failure)
		}
		whole += a.Runs
		reduced += b.Runs
	}
	t.Logf("%d runs instead of %d", reduced, whole)
	if reduced > whole*2/3 {
		t.Errorf("%d runs instead of %d", reduced, whole)
	}
}

// The ideas of shuttle's tests of its exhaustive scheduler (tests/basic/dfs.rs) and of loom's first
// example, with the number of runs; docs/simulation.md has the table.
func TestTouches_RunsOfKnownPrograms(t *testing.T) {
	tasks := func(n int, name string, body func(ctx context.Context, i int) error) func(ctx context.Context, declare bool) error {
		return func(ctx context.Context, declare bool) error {
			for i := range n {
				start(ctx, fmt.Sprint("t", i), func(ctx context.Context) error {
					if declare {
						sim.Touches(ctx, strings.ReplaceAll(name, "#", fmt.Sprint(i)))
					}
					return body(ctx, i)
				})
			}
			return asyncio.Sleep(ctx, time.Second) // out of the way
		}
	}
	yields := func(n int) func(ctx context.Context, i int) error {
		return func(ctx context.Context, _ int) error { return yield(ctx, n) }
	}
	for _, c := range []struct {
		name           string
		main           func(ctx context.Context, declare bool) error
		whole, reduced int // runs
		fails          bool
	}{
		{"one task that yields 4 times", tasks(1, "", yields(4)), 1, 1, false},
		{"two tasks that yield 4 times", tasks(2, "#", yields(4)), 252, 1, false},
		{"three tasks that yield 3 times", tasks(3, "#", yields(3)), 34_650, 1, false},
		{"two tasks that add one under a lock", func(ctx context.Context, declare bool) error {
			var lock asyncio.Lock
			counter := 0
			return tasks(2, "lock", func(ctx context.Context, _ int) error {
				if err := lock.Acquire(ctx); err != nil {
					return err
				}
				defer lock.Release()
				counter++
				return nil
			})(ctx, declare)
		}, 2, 2, false},
		{"two tasks that add one, with a yield between", func(ctx context.Context, declare bool) error {
			counter := 0
			err := tasks(2, "counter", func(ctx context.Context, _ int) error {
				old := counter
				err := asyncio.Sleep(ctx, 0)
				counter = old + 1
				return err
			})(ctx, declare)
			if counter != 2 {
				return errors.New("lost")
			}
			return err
		}, 1, 1, true},
	} {
		for _, declare := range []bool{false, true} {
			want := c.whole
			if declare {
				want = c.reduced
			}
			if testing.Short() && want > 1000 {
				continue
			}
			r := sim.Check(func(ctx context.Context) error { return c.main(ctx, declare) }, sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(100_000))
			if (r.Failure != nil) != c.fails || r.Runs != want {
				t.Errorf("%s, declared %v: %d runs, want %d: %s; %v", c.name, declare, r.Runs, want, r.Coverage, r.Failure)
			}
		}
	}
}
