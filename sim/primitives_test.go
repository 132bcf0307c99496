package sim_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// all starts tasks a, b, … and waits for them.
func all(ctx context.Context, fns ...func(ctx context.Context) error) error {
	var tasks []asyncio.AnyFuture
	for i, fn := range fns {
		tasks = append(tasks, start(ctx, string(rune('a'+i)), func(ctx context.Context) error {
			if err := fn(ctx); !errors.Is(err, asyncio.ErrCancelled) {
				return err
			}
			return asyncio.ErrCancelled
		}))
	}
	_, _, err := asyncio.Wait(ctx, tasks)
	for _, t := range tasks {
		if t.Done() && !t.Cancelled() && err == nil {
			err = t.Exception()
		}
	}
	return err
}

// The primitives, three tasks each. A lost wake-up is a deadlock.
var primitives = map[string]func(ctx context.Context) error{
	"Lock": func(ctx context.Context) error {
		var mu asyncio.Lock
		inside := 0
		sim.Always(ctx, "one inside", func() error {
			if inside > 1 {
				return fmt.Errorf("%d", inside)
			}
			return nil
		})
		sim.AtEnd(ctx, "unlocked", func() error {
			if mu.Locked() {
				return errors.New("locked")
			}
			return nil
		})
		work := func(ctx context.Context) error {
			if err := mu.Acquire(ctx); err != nil {
				return err
			}
			defer mu.Release()
			inside++
			defer func() { inside-- }()
			return yield(ctx, 1)
		}
		return all(ctx, work, work, work)
	},
	"Semaphore": func(ctx context.Context) error {
		s := asyncio.NewSemaphore(2)
		sim.AtEnd(ctx, "permits", func() error {
			if v := s.Statistics().Value; v != 2 {
				return fmt.Errorf("%d left of 2", v)
			}
			return nil
		})
		work := func(ctx context.Context) error {
			if err := s.Acquire(ctx); err != nil {
				return err
			}
			defer s.Release()
			return yield(ctx, 1)
		}
		return all(ctx, work, work, work)
	},
	"Condition": func(ctx context.Context) error {
		c := asyncio.NewCondition(nil)
		items, waiting := 0, 0
		take := within(func(ctx context.Context) error {
			if err := c.Acquire(ctx); err != nil {
				return err
			}
			defer c.Release()
			for items == 0 {
				waiting++
				err := c.Wait(ctx)
				waiting--
				if err != nil {
					if items > 0 {
						c.Notify(1) // the wake-up may have been for this one
					}
					return err
				}
			}
			items--
			return nil
		}, func() bool { return items > 0 && waiting > 0 })
		return all(ctx, take, take, func(ctx context.Context) error {
			for range 2 {
				if err := c.Acquire(ctx); err != nil {
					return err
				}
				items++
				c.Notify(1)
				c.Release()
			}
			return nil
		})
	},
	"Queue": func(ctx context.Context) error {
		q := asyncio.NewQueue[int](1)
		put, got := 0, 0
		sim.AtEnd(ctx, "nothing is lost", func() error {
			if put != got+q.Qsize() {
				return fmt.Errorf("put %d, got %d, left %d", put, got, q.Qsize())
			}
			return nil
		})
		return all(ctx,
			within(func(ctx context.Context) error {
				for range 2 {
					if _, err := q.Get(ctx); err != nil {
						return err
					}
					got++
				}
				return nil
			}, func() bool { return !q.Empty() }),
			within(func(ctx context.Context) error {
				for i := range 2 {
					if err := q.Put(ctx, i); err != nil {
						return err
					}
					put++
				}
				return nil
			}, func() bool { return !q.Full() }))
	},
}

// within gives fn a second. Taking longer is an error only if fn could have gone on.
func within(fn func(ctx context.Context) error, could func() bool) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		err := asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return fn(ctx) })
		switch {
		case !errors.Is(err, asyncio.ErrTimeout):
			return err
		case could():
			return errors.New("a wake-up was lost")
		}
		return nil
	}
}

// TestPrimitives runs the primitives in orders that differ little from that of production, with
// each task cancelled before each step. It covers orders beyond those within iterations, which
// TestExplore of the root package exhausts. If ASYNCIO_EXPLORE is all, it goes on for minutes.
func TestPrimitives(t *testing.T) {
	runs := 3000
	if os.Getenv("ASYNCIO_EXPLORE") == "all" {
		runs = 2_000_000
	}
	for name, main := range primitives {
		t.Run(name, func(t *testing.T) {
			sim.Explore(t, main, sim.WithStrategy(sim.Exhaustive(0)), sim.Cancels(), sim.Runs(runs))
			sim.Explore(t, main, sim.WithStrategy(sim.PCT(3)), sim.Cancels(), sim.Runs(500))
		})
	}
}

// Cancels with Exhaustive(1) reaches every await of every task, and cancels it there once or more;
// never two tasks in one run.
func TestCancels_ReachEveryAwait(t *testing.T) {
	hit := map[string]int{}
	const awaits = 4
	r := sim.Check(func(ctx context.Context) error {
		cancelled := 0
		work := func(name string) func(ctx context.Context) error {
			return func(ctx context.Context) error {
				for i := range awaits {
					d := time.Duration(i%2) * time.Millisecond // yields and sleeps in turn
					if err := asyncio.Sleep(ctx, d); err != nil {
						hit[fmt.Sprint(name, i)]++
						cancelled++
						return err
					}
				}
				return nil
			}
		}
		sim.AtEnd(ctx, "one cancel", func() error {
			if cancelled > 1 {
				return fmt.Errorf("%d", cancelled)
			}
			return nil
		})
		a, b := start(ctx, "a", work("a")), start(ctx, "b", work("b"))
		if _, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{a, b}); err != nil {
			hit["main"]++
			// so that the others are not cancelled with it
			return asyncio.Cleanup(ctx, time.Minute, func(ctx context.Context) error {
				_, _, waitErr := asyncio.Wait(ctx, []asyncio.AnyFuture{a, b})
				return errors.Join(err, waitErr)
			})
		}
		return nil
	}, sim.WithStrategy(sim.Exhaustive(1)), sim.Cancels(), sim.Runs(5000))
	if r.Failure != nil {
		t.Fatal(r.Failure)
	}
	for _, name := range []string{"a", "b"} {
		for i := range awaits {
			if at := fmt.Sprint(name, i); hit[at] == 0 {
				t.Errorf("no cancel at await %d of %s: %v", i, name, hit)
			}
		}
	}
	if hit["main"] == 0 {
		t.Error("main is not cancelled")
	}
}

// A task that the library has made for itself is not cancelled, and with functions only those are
// that one of them chooses.
func TestCancels_Whom(t *testing.T) {
	hit := map[string]bool{}
	main := func(ctx context.Context) error {
		for _, host := range []string{"db", "web"} {
			sim.NewHost(ctx, host, func(ctx context.Context) error {
				s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
					_, err := r.Read(ctx, -1)
					hit[host+"/handler"] = hit[host+"/handler"] || errors.Is(err, asyncio.ErrCancelled)
					return w.Close(ctx)
				}, ":1")
				if err != nil {
					return err
				}
				start(ctx, "worker", func(ctx context.Context) error {
					err := asyncio.Sleep(ctx, time.Hour)
					hit[host+"/worker"] = hit[host+"/worker"] || errors.Is(err, asyncio.ErrCancelled)
					return err
				})
				err = s.Serve(ctx)
				hit[host+"/main"] = hit[host+"/main"] || errors.Is(err, asyncio.ErrCancelled)
				return err
			})
		}
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			hit["main"] = true
			return err
		}
		_, w, err := asyncio.OpenConnection(ctx, "db:1")
		if err != nil {
			return nil // db has been cancelled
		}
		if err := w.WriteSoon(bytes.Repeat([]byte("x"), 200<<10)); err != nil {
			return err
		}
		_ = w.Close(ctx) // db may be gone
		return nil
	}
	all := []string{"db/handler", "db/main", "db/worker", "main", "web/main", "web/worker"}
	for _, c := range []struct {
		cancels sim.Option
		want    []string
	}{
		{sim.Cancels(), all},
		{sim.Cancels(func(task string) bool { return task == "db/worker" }), []string{"db/worker"}},
		{sim.Cancels(
			func(task string) bool { return task == "main" },
			func(task string) bool { return strings.HasPrefix(task, "web/") },
		), []string{"main", "web/main", "web/worker"}},
		{sim.Cancels(func(string) bool { return false }), nil},
	} {
		clear(hit)
		r := sim.Check(main, sim.WithStrategy(sim.Exhaustive(1)), c.cancels, sim.Runs(400))
		if r.Failure != nil {
			t.Error(r.Failure)
		}
		maps.DeleteFunc(hit, func(_ string, yes bool) bool { return !yes })
		if got := slices.Sorted(maps.Keys(hit)); !slices.Equal(got, c.want) {
			t.Errorf("cancelled %v, want %v; %s", got, c.want, r.Coverage)
		}
	}
}
