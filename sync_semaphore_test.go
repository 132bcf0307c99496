package asyncio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestSemaphore_NoPermits(t *testing.T) {
	is(t, "locked", asyncio.NewSemaphore(0).Locked(), true)
	is(t, "zero value locked", new(asyncio.Semaphore).Locked(), true)
}

func TestSemaphore_String(t *testing.T) {
	run(t, func(ctx context.Context) error {
		s, b := asyncio.NewSemaphore(1), asyncio.NewBoundedSemaphore(2)
		is(t, "new", s.String(), "<asyncio.Semaphore [unlocked, value:1]>")
		is(t, "new bounded", b.String(), "<asyncio.BoundedSemaphore [unlocked, value:2]>")
		must(t, s.Acquire(ctx))
		is(t, "acquired", s.String(), "<asyncio.Semaphore [locked]>")
		t1, t2 := start(ctx, s.Acquire), start(ctx, s.Acquire)
		iterate(t, ctx, 1)
		is(t, "contended", s.String(), "<asyncio.Semaphore [locked, waiters:2]>")
		equal(t, "waiters", s.Statistics().Waiters, []asyncio.AnyTask{t1, t2})
		s.Release()
		s.Release()
		await(t, ctx, t1, t2)
		return nil
	})
}

func TestSemaphore_AsManyAsPermits(t *testing.T) {
	run(t, func(ctx context.Context) error {
		s := asyncio.NewSemaphore(3)
		var got []int
		acquire := func(n int) *asyncio.Task[asyncio.None] {
			return start(ctx, func(ctx context.Context) error {
				err := s.Acquire(ctx)
				got = append(got, n)
				return err
			})
		}
		must(t, s.Acquire(ctx))
		must(t, s.Acquire(ctx))
		is(t, "locked", s.Locked(), false)
		t1, t2, t3 := acquire(1), acquire(2), acquire(3)
		iterate(t, ctx, 1)
		equal(t, "first", got, []int{1})
		is(t, "state", s.String(), "<asyncio.Semaphore [locked, waiters:2]>")
		t4 := acquire(4)
		s.Release()
		s.Release()
		is(t, "permits left", s.Statistics().Value, 0) // both permits are set aside
		iterate(t, ctx, 1)
		equal(t, "then", got, []int{1, 2, 3})
		is(t, "state", s.String(), "<asyncio.Semaphore [locked, waiters:1]>")
		s.Release()
		await(t, ctx, t1, t2, t3, t4)
		return nil
	})
}

func TestSemaphore_CancelledWaiterLeaves(t *testing.T) {
	run(t, func(ctx context.Context) error {
		s := asyncio.NewSemaphore(1)
		must(t, s.Acquire(ctx))
		task := start(ctx, s.Acquire)
		loop(t, ctx).CallSoon(func() { task.Cancel() })
		endsCancelled(t, ctx, task)
		is(t, "waiters", len(s.Statistics().Waiters), 0)
		return nil
	})
}

func TestSemaphore_ReleasePassesOverCancelledWaiters(t *testing.T) {
	run(t, func(ctx context.Context) error {
		s := asyncio.NewSemaphore(0)
		var tasks []*asyncio.Task[asyncio.None]
		for range 4 {
			tasks = append(tasks, start(ctx, s.Acquire))
		}
		iterate(t, ctx, 1)
		tasks[0].Cancel()
		tasks[1].Cancel()
		s.Release()
		iterate(t, ctx, 2)
		is(t, "third done", tasks[2].Done(), true)
		is(t, "fourth done", tasks[3].Done(), false)
		tasks[3].Cancel()
		iterate(t, ctx, 1)
		return nil
	})
}

func TestSemaphore_PermitOfACancelledWaiterGoesToTheNext(t *testing.T) {
	for name, act := range map[string]func(cancel func(...string) bool, release func()){
		"cancelled, then released": func(cancel func(...string) bool, release func()) { cancel(); release() },
		"released, then cancelled": func(cancel func(...string) bool, release func()) { release(); cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				s := asyncio.NewSemaphore(0)
				t1, t2 := start(ctx, s.Acquire), start(ctx, s.Acquire)
				iterate(t, ctx, 1)
				act(t1.Cancel, s.Release)
				iterate(t, ctx, 2)
				is(t, "first cancelled", t1.Cancelled(), true)
				is(t, "second done", t2.Done(), true)
				is(t, "locked", s.Locked(), true)
				return nil
			})
		})
	}
}

// The first task gives the permit to the second and cancels it. The permit must come back
// (primitive 2).
func TestSemaphore_CancelledByWhoReleased(t *testing.T) {
	run(t, func(ctx context.Context) error {
		s := asyncio.NewSemaphore(1)
		var second *asyncio.Task[asyncio.None]
		first := start(ctx, func(ctx context.Context) error {
			must(t, s.Acquire(ctx))
			must(t, asyncio.Sleep(ctx, 0))
			s.Release()
			second.Cancel()
			return nil
		})
		second = start(ctx, func(ctx context.Context) error {
			if err := s.Acquire(ctx); err != nil {
				return err
			}
			t.Error("acquired")
			return nil
		})
		await(t, ctx, first)
		endsCancelled(t, ctx, second)
		limited, cancel := asyncio.WithTimeout(ctx, time.Second)
		defer cancel()
		return s.Acquire(limited)
	})
}

func TestSemaphore_ContextEndsTheWait(t *testing.T) {
	run(t, func(ctx context.Context) error {
		s := asyncio.NewSemaphore(0)
		limited, cancel := asyncio.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := s.Acquire(limited); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Acquire = %v", err)
		}
		s.Release()
		is(t, "state", s.String(), "<asyncio.Semaphore [unlocked, value:1]>")
		return nil
	})
}

func TestBoundedSemaphore_ReleasedTooOften(t *testing.T) {
	s := asyncio.NewBoundedSemaphore(1)
	if err := panicOf(s.Release); !errors.Is(err, asyncio.ErrNotAcquired) {
		t.Errorf("Release = %v, want ErrNotAcquired", err)
	}
	is(t, "state", s.String(), "<asyncio.BoundedSemaphore [unlocked, value:1]>")
}

func TestSemaphore_ReleaseWithoutWaiters(t *testing.T) {
	run(t, func(ctx context.Context) error {
		s := asyncio.NewSemaphore(1)
		must(t, s.Acquire(ctx))
		is(t, "locked", s.Locked(), true)
		s.Release()
		is(t, "locked", s.Locked(), false)
		s.Release() // not bounded
		is(t, "permits", s.Statistics().Value, 2)
		return nil
	})
}

func TestSemaphore_TakingTurns(t *testing.T) {
	run(t, func(ctx context.Context) error {
		s := asyncio.NewSemaphore(1)
		var got []string
		var tasks []*asyncio.Task[asyncio.None]
		for _, name := range []string{"a", "b", "c"} {
			tasks = append(tasks, start(ctx, func(ctx context.Context) error {
				for _, round := range []string{"1", "2"} {
					must(t, s.Acquire(ctx))
					got = append(got, name+round)
					must(t, asyncio.Sleep(ctx, time.Second))
					s.Release()
				}
				return nil
			}))
		}
		await(t, ctx, tasks...)
		equal(t, "order", got, []string{"a1", "b1", "c1", "a2", "b2", "c2"})
		return nil
	})
}

// A task that releases and asks again goes behind the tasks that wait.
func TestSemaphore_AskingAgainGoesToTheEnd(t *testing.T) {
	run(t, func(ctx context.Context) error {
		s := asyncio.NewSemaphore(1)
		var got []int
		take := func(ctx context.Context, n int) {
			must(t, s.Acquire(ctx))
			got = append(got, n)
		}
		t1 := start(ctx, func(ctx context.Context) error { take(ctx, 1); return nil })
		t2 := start(ctx, func(ctx context.Context) error {
			take(ctx, 2)
			s.Release()
			take(ctx, 4)
			return nil
		})
		t3 := start(ctx, func(ctx context.Context) error { take(ctx, 3); return nil })
		iterate(t, ctx, 1)
		s.Release()
		s.Release()
		await(t, ctx, t1, t2, t3)
		equal(t, "order", got, []int{1, 2, 3, 4})
		return nil
	})
}

func TestSemaphore_OrderAfterACancel(t *testing.T) {
	run(t, func(ctx context.Context) error {
		s := asyncio.NewSemaphore(0)
		var got []int
		var tasks []*asyncio.Task[asyncio.None]
		for n := range 3 {
			tasks = append(tasks, start(ctx, func(ctx context.Context) error {
				if err := s.Acquire(ctx); err != nil {
					return err
				}
				got = append(got, n)
				return nil
			}))
		}
		iterate(t, ctx, 1)
		tasks[0].Cancel()
		iterate(t, ctx, 1)
		s.Release()
		s.Release()
		await(t, ctx, tasks[1:]...)
		equal(t, "order", got, []int{1, 2})
		return nil
	})
}

// Some tasks had to wait although permits were left, because another task was before them. That
// task wakes them when it resumes.
func TestSemaphore_TheFirstLetsTheOthersIn(t *testing.T) {
	run(t, func(ctx context.Context) error {
		s := asyncio.NewSemaphore(0)
		var got []int
		var fourth *asyncio.Task[asyncio.None]
		t1 := start(ctx, func(ctx context.Context) error {
			must(t, s.Acquire(ctx))
			is(t, "permits left", s.Statistics().Value, 0) // all permits are set aside
			fourth = start(ctx, func(context.Context) error { got = append(got, 4); return nil })
			got = append(got, 1)
			return nil
		})
		t2 := start(ctx, func(ctx context.Context) error {
			for range 3 {
				s.Release()
			}
			is(t, "permits", s.Statistics().Value, 2)
			is(t, "locked", s.Locked(), true) // the first has not resumed
			must(t, s.Acquire(ctx))
			got = append(got, 2)
			return nil
		})
		t3 := start(ctx, func(ctx context.Context) error {
			must(t, s.Acquire(ctx))
			is(t, "locked", s.Locked(), true)
			got = append(got, 3)
			return nil
		})
		iterate(t, ctx, 1)
		is(t, "state", s.String(), "<asyncio.Semaphore [locked, waiters:3]>")
		is(t, "permits", s.Statistics().Value, 2)
		iterate(t, ctx, 1)
		await(t, ctx, t1, t2, t3, fourth)
		equal(t, "order", got, []int{1, 2, 3, 4})
		return nil
	})
}
