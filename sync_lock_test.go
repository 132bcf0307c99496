package asyncio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// locker is the common interface of Lock, Condition and the semaphores.
type locker interface {
	Acquire(context.Context) error
	Release()
	Locked() bool
	String() string
}

func TestLock_String(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var l asyncio.Lock
		is(t, "new", l.String(), "<asyncio.Lock [unlocked]>")
		must(t, l.Acquire(ctx))
		is(t, "acquired", l.String(), "<asyncio.Lock [locked]>")
		a, b := start(ctx, l.Acquire), start(ctx, l.Acquire)
		iterate(t, ctx, 1)
		is(t, "contended", l.String(), "<asyncio.Lock [locked, waiters:2]>")
		l.Release()
		is(t, "handed over", l.String(), "<asyncio.Lock [unlocked, waiters:2]>")
		await(t, ctx, a)
		l.Release()
		await(t, ctx, b)
		return nil
	})
}

func TestLock_AcquireAndDeferredRelease(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, l := range []locker{new(asyncio.Lock), asyncio.NewCondition(nil), asyncio.NewSemaphore(1), asyncio.NewBoundedSemaphore(1)} {
			is(t, l.String()+" locked at first", l.Locked(), false)
			func() {
				must(t, l.Acquire(ctx))
				defer l.Release()
				is(t, l.String()+" locked", l.Locked(), true)
			}()
			is(t, l.String()+" locked at last", l.Locked(), false)
		}
		return nil
	})
}

func TestLock_OneAtATimeInOrderOfAsking(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var l asyncio.Lock
		var got []int
		acquire := func(n int) *asyncio.Task[asyncio.None] {
			return start(ctx, func(ctx context.Context) error {
				err := l.Acquire(ctx)
				got = append(got, n)
				return err
			})
		}
		must(t, l.Acquire(ctx))
		t1, t2 := acquire(1), acquire(2)
		iterate(t, ctx, 1)
		equal(t, "while locked", got, nil)
		l.Release()
		iterate(t, ctx, 1)
		equal(t, "after one release", got, []int{1})
		iterate(t, ctx, 1)
		equal(t, "and later", got, []int{1})
		t3 := acquire(3)
		l.Release()
		iterate(t, ctx, 1)
		equal(t, "after two", got, []int{1, 2})
		l.Release()
		iterate(t, ctx, 1)
		equal(t, "after three", got, []int{1, 2, 3})
		is(t, "all done", t1.Done() && t2.Done() && t3.Done(), true)
		return nil
	})
}

func TestLock_CancelledWaiterLeaves(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var l asyncio.Lock
		must(t, l.Acquire(ctx))
		task := start(ctx, l.Acquire)
		loop(t, ctx).CallSoon(func() { task.Cancel() })
		endsCancelled(t, ctx, task)
		is(t, "waiters", len(l.Statistics().Waiters), 0)
		return nil
	})
}

// The lock is released while the first waiter is cancelled but still in the queue (waiter 1).
func TestLock_ReleaseMeetsACancelledWaiter(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var l asyncio.Lock
		f := asyncio.CreateFuture[int](ctx)
		hold := func(f *asyncio.Future[int]) *asyncio.Task[asyncio.None] {
			task := start(ctx, func(ctx context.Context) error {
				if err := l.Acquire(ctx); err != nil {
					return err
				}
				defer l.Release()
				if f != nil {
					_, err := f.Await(ctx)
					return err
				}
				return nil
			})
			iterate(t, ctx, 1)
			return task
		}
		a := hold(f)
		is(t, "locked", l.Locked(), true)
		b, c := hold(nil), hold(nil)
		is(t, "waiters", len(l.Statistics().Waiters), 2)

		must(t, f.SetResult(1))
		b.Cancel()
		iterate(t, ctx, 1)
		is(t, "locked between the two", l.Locked(), false)
		is(t, "a done", a.Done(), true)
		is(t, "b cancelled", b.Cancelled(), true)
		await(t, ctx, c)
		return nil
	})
}

// One callback cancels the second waiter and releases the lock. One task gets the lock, not two.
func TestLock_CancelAndReleaseLetOneIn(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var l asyncio.Lock
		asked, acquired := 0, 0
		acquire := func(ctx context.Context) error {
			asked++
			if err := l.Acquire(ctx); err != nil {
				return err
			}
			acquired++
			return nil
		}
		must(t, l.Acquire(ctx))
		t1, t2, t3 := start(ctx, acquire), start(ctx, acquire), start(ctx, acquire)
		iterate(t, ctx, 1)
		loop(t, ctx).CallSoon(func() {
			t1.Cancel()
			l.Release()
		})
		endsCancelled(t, ctx, t1)
		iterate(t, ctx, 1)
		is(t, "acquired", acquired, 1)
		is(t, "asked", asked, 3)
		is(t, "t2 done", t2.Done(), true)
		t3.Cancel()
		endsCancelled(t, ctx, t3)
		return nil
	})
}

// A waiter is cancelled and the lock is handed on, in either order. The next waiter must be woken
// (primitive 2).
func TestLock_CancelledWaiterPassesItsTurnOn(t *testing.T) {
	for name, act := range map[string]func(cancel func(...string) bool, release func()){
		"cancelled, then woken": func(cancel func(...string) bool, release func()) { cancel(); release() },
		"woken, then cancelled": func(cancel func(...string) bool, release func()) { release(); cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				var l asyncio.Lock
				must(t, l.Acquire(ctx))
				b := start(ctx, l.Acquire)
				iterate(t, ctx, 1)
				is(t, "waiters", len(l.Statistics().Waiters), 1)
				c := start(ctx, l.Acquire)
				iterate(t, ctx, 1)
				act(b.Cancel, l.Release)
				iterate(t, ctx, 2)
				is(t, "locked", l.Locked(), true)
				is(t, "b cancelled", b.Cancelled(), true)
				await(t, ctx, c)
				return nil
			})
		})
	}
}

func TestLock_ContextEndsTheWait(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var l asyncio.Lock
		must(t, l.Acquire(ctx))
		limited, cancel := asyncio.WithTimeout(ctx, time.Second)
		defer cancel()
		b, c := start(limited, l.Acquire), start(ctx, l.Acquire)
		if _, err := b.Await(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Acquire = %v", err)
		}
		is(t, "waiters", len(l.Statistics().Waiters), 1)
		l.Release()
		await(t, ctx, c)
		l.Release()
		if err := l.Acquire(limited); !errors.Is(err, context.DeadlineExceeded) || l.Locked() {
			t.Errorf("of a free lock with a done context: %v, %v", err, &l)
		}
		return nil
	})
}

// The context of the first waiter ends, and the lock is released before that waiter has left the
// queue.
func TestLock_ReleaseMeetsAWaiterWhoseContextEnded(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var l asyncio.Lock
		must(t, l.Acquire(ctx))
		limited, cancel := asyncio.WithTimeout(ctx, time.Second)
		defer cancel()
		b, c := start(limited, l.Acquire), start(ctx, l.Acquire)
		iterate(t, ctx, 1)
		loop(t, ctx).CallAt(loop(t, ctx).Time().Add(time.Second), l.Release)
		await(t, ctx, c)
		if !errors.Is(b.Exception(), context.DeadlineExceeded) {
			t.Errorf("b: %v", b)
		}
		return nil
	})
}

// A cancel that was taken back before it was delivered leaves the task with the lock it was given.
func TestLock_UncancelledWaiterKeepsItsTurn(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var l asyncio.Lock
		must(t, l.Acquire(ctx))
		b := start(ctx, l.Acquire)
		iterate(t, ctx, 1)
		l.Release()
		b.Cancel()
		b.Uncancel()
		await(t, ctx, b)
		is(t, "locked", l.Locked(), true)
		return nil
	})
}

func TestLock_ReleaseUnlocked(t *testing.T) {
	var l asyncio.Lock
	if err := panicOf(l.Release); !errors.Is(err, asyncio.ErrNotAcquired) {
		t.Errorf("Release = %v, want ErrNotAcquired", err)
	}
}

func TestLock_ReleaseWithoutWaiters(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var l asyncio.Lock
		must(t, l.Acquire(ctx))
		is(t, "locked", l.Locked(), true)
		l.Release()
		is(t, "locked", l.Locked(), false)
		return nil
	})
}

func TestLock_Statistics(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var l asyncio.Lock
		s := l.Statistics()
		is(t, "owner of a free lock", s.Owner, nil)
		must(t, l.Acquire(ctx))
		b, c := start(ctx, l.Acquire), start(ctx, l.Acquire)
		iterate(t, ctx, 1)
		s = l.Statistics()
		is(t, "locked", s.Locked, true)
		is(t, "owner", s.Owner, asyncio.CurrentTask(ctx))
		equal(t, "waiters", s.Waiters, []asyncio.AnyTask{b, c})
		l.Release()
		await(t, ctx, b)
		is(t, "owner", l.Statistics().Owner, asyncio.AnyTask(b))
		l.Release()
		await(t, ctx, c)
		return nil
	})
}
