package asyncio_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// together runs n tasks of fn and waits until all have ended.
func together(t *testing.T, ctx context.Context, n int, fn func(ctx context.Context) error) {
	t.Helper()
	await(t, ctx, several(ctx, n, fn)...)
}

func several(ctx context.Context, n int, fn func(ctx context.Context) error) []*asyncio.Task[asyncio.None] {
	var tasks []*asyncio.Task[asyncio.None]
	for range n {
		tasks = append(tasks, start(ctx, fn))
	}
	return tasks
}

// pass waits at b and fails the test if that is refused.
func pass(t *testing.T, ctx context.Context, b *asyncio.Barrier) int {
	t.Helper()
	i, err := b.Wait(ctx)
	must(t, err)
	return i
}

// isBroken waits at b and reports whether b is broken.
func isBroken(t *testing.T, ctx context.Context, b *asyncio.Barrier) bool {
	t.Helper()
	_, err := b.Wait(ctx)
	if err != nil && !errors.Is(err, asyncio.ErrBrokenBarrier) {
		t.Error(err)
	}
	return err != nil
}

func atRest(t *testing.T, b *asyncio.Barrier, broken bool) {
	t.Helper()
	is(t, "NWaiting", b.NWaiting(), 0)
	is(t, "Broken", b.Broken(), broken)
	want := "[filling"
	if broken {
		want = "[broken"
	}
	if !strings.Contains(b.String(), want) {
		t.Errorf("%v, want %s", b, want)
	}
}

func TestBarrier_String(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(5)
		wait := func(ctx context.Context) error {
			_, err := b.Wait(ctx)
			return err
		}
		is(t, "new", b.String(), "<asyncio.Barrier [filling, waiters:0/5]>")
		all := several(ctx, 2, wait)
		iterate(t, ctx, 1)
		is(t, "two", b.String(), "<asyncio.Barrier [filling, waiters:2/5]>")
		s := b.Statistics()
		is(t, "parties", s.Parties, b.Parties())
		is(t, "waiting", s.Waiting, 2)
		equal(t, "waiters", s.Waiters, []asyncio.AnyTask{all[0], all[1]})
		all = append(all, several(ctx, 3, wait)...)
		iterate(t, ctx, 1)
		is(t, "all", b.String(), "<asyncio.Barrier [draining, waiters:0/5]>")
		all = append(all, several(ctx, 2, wait)...)
		iterate(t, ctx, 1)
		must(t, b.Reset(ctx))
		is(t, "reset", b.String(), "<asyncio.Barrier [resetting, waiters:0/5]>")
		all = append(all, several(ctx, 2, wait)...)
		iterate(t, ctx, 1)
		must(t, b.Abort(ctx))
		is(t, "aborted", b.String(), "<asyncio.Barrier [broken]>")
		is(t, "broken", b.Broken() && b.Statistics().Broken, true)
		_, _, err := asyncio.Wait(ctx, all)
		for _, task := range all {
			if err := task.Exception(); err != nil && !errors.Is(err, asyncio.ErrBrokenBarrier) {
				t.Error(err)
			}
		}
		return err
	})
}

func TestBarrier_NotMadeWithNewBarrier(t *testing.T) {
	run(t, func(ctx context.Context) error {
		if _, err := new(asyncio.Barrier).Wait(ctx); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("Wait = %v", err)
		}
		return nil
	})
}

func TestBarrier_EachGetsAnIndex(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(3)
		var got []int
		together(t, ctx, 3, func(ctx context.Context) error {
			got = append(got, pass(t, ctx, b))
			return nil
		})
		slices.Sort(got)
		equal(t, "indices", got, []int{0, 1, 2})
		atRest(t, b, false)
		return nil
	})
}

func TestBarrier_ForOne(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(1)
		tk := newTicker(t, ctx)
		iterate(t, ctx, 1)
		for range 2 {
			is(t, "iterations", tk.cost(func(ctx context.Context) error {
				is(t, "index", pass(t, ctx, b), 0)
				return nil
			}), 0)
			atRest(t, b, false)
		}
		tk.h.Cancel()
		return nil
	})
}

func TestBarrier_FillsTaskByTask(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(3)
		var all []*asyncio.Task[asyncio.None]
		for n := range 3 {
			is(t, "waiting", b.NWaiting(), n)
			all = append(all, several(ctx, 1, func(ctx context.Context) error { pass(t, ctx, b); return nil })...)
			iterate(t, ctx, 1)
		}
		await(t, ctx, all...)
		atRest(t, b, false)
		return nil
	})
}

func TestBarrier_Twice(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(5)
		first, second := 0, 0
		var got []int
		together(t, ctx, 5, func(ctx context.Context) error {
			pass(t, ctx, b)
			first++
			got = append(got, pass(t, ctx, b))
			is(t, "passed once before anyone passes twice", first, 5)
			second++
			return nil
		})
		is(t, "second", second, 5)
		slices.Sort(got)
		equal(t, "indices", got, []int{0, 1, 2, 3, 4})
		atRest(t, b, false)
		return nil
	})
}

// The barrier is draining until the last task has left (barrier 2).
func TestBarrier_Draining(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(5)
		var draining []bool
		together(t, ctx, 5, func(ctx context.Context) error {
			pass(t, ctx, b)
			draining = append(draining, strings.Contains(b.String(), "draining"))
			return nil
		})
		equal(t, "draining", draining, []bool{true, true, true, true, false})
		atRest(t, b, false)
		return nil
	})
}

// Two tasks come back at once. They must wait outside until the other three have left, so exactly
// those three pass the second barrier.
func TestBarrier_WhoComesBackWaitsOutside(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b, others := asyncio.NewBarrier(5), asyncio.NewBarrier(3)
		back := 2
		together(t, ctx, 5, func(ctx context.Context) error {
			pass(t, ctx, b)
			if back > 0 {
				back--
			} else {
				pass(t, ctx, others)
			}
			pass(t, ctx, b)
			return nil
		})
		atRest(t, b, false)
		return nil
	})
}

func TestBarrier_CancelledTaskIsReplaced(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(3)
		passed := 0
		start := func() *asyncio.Task[asyncio.None] {
			task := start(ctx, func(ctx context.Context) error {
				_, err := b.Wait(ctx)
				if err == nil {
					passed++
				}
				return err
			})
			iterate(t, ctx, 1)
			return task
		}
		t1 := start()
		is(t, "waiting", b.NWaiting(), 1)
		t2 := start()
		is(t, "waiting", b.NWaiting(), 2)
		t1.Cancel()
		iterate(t, ctx, 1)
		is(t, "waiting", b.NWaiting(), 1)
		endsCancelled(t, ctx, t1)
		t3 := start()
		is(t, "waiting", b.NWaiting(), 2)
		await(t, ctx, t2, t3, start())
		is(t, "passed", passed, 3)
		atRest(t, b, false)
		return nil
	})
}

// Tasks that pass have the indices from 0 up in the order they came, even when a task before them
// has left (barrier 5).
func TestBarrier_IndicesAfterOneHasLeft(t *testing.T) {
	for leaves := range 3 {
		run(t, func(ctx context.Context) error {
			b := asyncio.NewBarrier(4)
			var tasks []*asyncio.Task[int]
			start := func() {
				tasks = append(tasks, asyncio.CreateTask(ctx, b.Wait))
				iterate(t, ctx, 2)
			}
			start()
			start()
			start()
			tasks[leaves].Cancel()
			_, err := tasks[leaves].Await(ctx)
			asCancelled(t, err)
			tasks = slices.Delete(tasks, leaves, leaves+1)
			start()
			start()
			got, err := asyncio.Gather(ctx, tasks...)
			equal(t, "indices", got, []int{0, 1, 2, 3})
			atRest(t, b, false)
			return err
		})
	}
}

func TestBarrier_ContextEndsTheWait(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(2)
		limited, cancel := asyncio.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := b.Wait(limited); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait = %v", err)
		}
		atRest(t, b, false)
		together(t, ctx, 2, func(ctx context.Context) error { pass(t, ctx, b); return nil })
		return nil
	})
}

func TestBarrier_ResetAndAbortWhenNobodyWaits(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(1)
		must(t, b.Reset(ctx))
		atRest(t, b, false)
		must(t, b.Abort(ctx))
		atRest(t, b, true)
		is(t, "broken", isBroken(t, ctx, b), true)
		must(t, b.Reset(ctx))
		atRest(t, b, false)
		is(t, "broken", isBroken(t, ctx, b), false)
		return nil
	})
}

func TestBarrier_ResetBreaksItForThoseWhoWait(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(5)
		broken := 0
		tasks := several(ctx, 4, func(ctx context.Context) error {
			if isBroken(t, ctx, b) {
				broken++
			}
			return nil
		})
		iterate(t, ctx, 1)
		must(t, b.Reset(ctx))
		await(t, ctx, tasks...)
		is(t, "broken", broken, 4)
		atRest(t, b, false)
		return nil
	})
}

// The barrier is reset when half of the tasks have left. The other half finds it broken.
func TestBarrier_ResetWhileDraining(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(5)
		left, broken := 0, 0
		together(t, ctx, 5, func(ctx context.Context) error {
			if isBroken(t, ctx, b) {
				broken++
			} else if left++; left == 3 { // two are still inside
				return b.Reset(ctx)
			}
			return nil
		})
		is(t, "broken", broken, 2)
		atRest(t, b, false)
		return nil
	})
}

// The barrier is reset when some tasks have left, and everyone comes back. The reset does not
// affect those waiting outside.
func TestBarrier_ResetWhileDrainingAndSomeWaitOutside(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(5)
		left, broken := 0, 0
		together(t, ctx, 5, func(ctx context.Context) error {
			if isBroken(t, ctx, b) {
				broken++
			} else if left++; left > 2 {
				must(t, b.Reset(ctx))
			}
			pass(t, ctx, b)
			return nil
		})
		is(t, "broken", broken, 2)
		atRest(t, b, false)
		return nil
	})
}

func TestBarrier_ResetAndPassAgain(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(5)
		broken, passed := 0, 0
		tasks := several(ctx, 4, func(ctx context.Context) error {
			if isBroken(t, ctx, b) {
				broken++
			}
			pass(t, ctx, b)
			passed++
			return nil
		})
		start(ctx, b.Reset)
		iterate(t, ctx, 1)
		last := start(ctx, func(ctx context.Context) error {
			pass(t, ctx, b)
			passed++
			return nil
		})
		await(t, ctx, append(tasks, last)...)
		is(t, "broken", broken, 4)
		is(t, "passed", passed, 5)
		atRest(t, b, false)
		return nil
	})
}

// The last task to leave resets the barrier. Nobody is inside, so nobody is affected.
func TestBarrier_ResetByTheLastToLeave(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(5)
		left, again, last := 0, 0, 0
		together(t, ctx, 5, func(ctx context.Context) error {
			pass(t, ctx, b)
			if left++; left == 5 {
				must(t, b.Reset(ctx))
				pass(t, ctx, b)
			} else {
				pass(t, ctx, b)
				again++
			}
			pass(t, ctx, b)
			last++
			return nil
		})
		is(t, "again", again, 4)
		is(t, "last", last, 5)
		atRest(t, b, false)
		return nil
	})
}

// Two tasks have left and wait outside, and the third aborts. The barrier is broken for those
// inside and outside (barrier 4).
func TestBarrier_AbortWhileDrainingAndSomeWaitOutside(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(5)
		left, inside, outside := 0, 0, 0
		together(t, ctx, 5, func(ctx context.Context) error {
			if isBroken(t, ctx, b) {
				inside++
			} else if left++; left > 2 {
				return b.Abort(ctx)
			} else if isBroken(t, ctx, b) {
				outside++
			}
			return nil
		})
		is(t, "inside", inside, 2)
		is(t, "outside", outside, 2)
		atRest(t, b, true)
		return nil
	})
}

func TestBarrier_AbortAfterAFailure(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b := asyncio.NewBarrier(5)
		broken, passed := 0, 0
		together(t, ctx, 5, func(ctx context.Context) error {
			i, err := b.Wait(ctx)
			if err == nil && i == 2 {
				return b.Abort(ctx)
			}
			if err == nil {
				_, err = b.Wait(ctx)
			}
			if errors.Is(err, asyncio.ErrBrokenBarrier) {
				broken++
			} else {
				passed++
			}
			return nil
		})
		is(t, "broken", broken, 4)
		is(t, "passed", passed, 0)
		atRest(t, b, true)
		return nil
	})
}

// A second barrier gathers all tasks before and after the broken one is reset.
func TestBarrier_AbortThenReset(t *testing.T) {
	run(t, func(ctx context.Context) error {
		b, meeting := asyncio.NewBarrier(5), asyncio.NewBarrier(5)
		broken, passed := 0, 0
		together(t, ctx, 5, func(ctx context.Context) error {
			i, err := b.Wait(ctx)
			if err == nil && i == 2 {
				must(t, b.Abort(ctx))
			} else {
				if err == nil {
					_, err = b.Wait(ctx)
				}
				is(t, "broken", errors.Is(err, asyncio.ErrBrokenBarrier), true)
				broken++
			}
			if pass(t, ctx, meeting) == 2 {
				must(t, b.Reset(ctx))
			}
			pass(t, ctx, meeting)
			pass(t, ctx, b)
			passed++
			return nil
		})
		is(t, "broken", broken, 4)
		is(t, "passed", passed, 5)
		atRest(t, b, false)
		return nil
	})
}
