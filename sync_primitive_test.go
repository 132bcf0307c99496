package asyncio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// A closing loop unwinds tasks in the middle of their waits. Deferred functions that then release
// something are not mistaken (primitive 4). Afterwards the primitives can serve another loop
// (primitive 3).
func TestLocks_LoopClosesOverTheirTasks(t *testing.T) {
	var l asyncio.Lock
	c := asyncio.NewCondition(&l)
	s := asyncio.NewBoundedSemaphore(1)
	lim := asyncio.NewCapacityLimiter(1)
	b := asyncio.NewBarrier(2)
	var e asyncio.Event
	var r reports
	first := newLoop(t)
	first.SetExceptionHandler(r.handle)
	_, err := asyncio.RunUntilComplete(first, asyncio.Do(func(ctx context.Context) error {
		for range 2 { // both wait for the notification, and the lock is free
			start(ctx, func(ctx context.Context) error {
				must(t, l.Acquire(ctx))
				defer l.Release()
				defer c.NotifyAll()
				return c.Wait(ctx)
			})
			start(ctx, func(ctx context.Context) error {
				must(t, s.Acquire(ctx))
				defer s.Release()
				return e.Wait(ctx)
			})
			start(ctx, func(ctx context.Context) error {
				must(t, lim.Acquire(ctx))
				defer lim.Release(ctx)
				return e.Wait(ctx)
			})
		}
		start(ctx, func(ctx context.Context) error {
			_, err := b.Wait(ctx)
			return err
		})
		iterate(t, ctx, 3)
		start(ctx, func(ctx context.Context) error { // sleeps while it holds the lock
			must(t, l.Acquire(ctx))
			defer l.Release()
			return asyncio.Sleep(ctx, time.Hour)
		})
		iterate(t, ctx, 1)
		return nil
	}))
	must(t, err)
	must(t, first.Close())
	for _, c := range r.all {
		if c.Message != "Task was destroyed but it is pending!" {
			t.Errorf("exception handler: %s: %v", c.Message, c.Exception)
		}
	}
	is(t, "lock", l.String(), "<asyncio.Lock [unlocked]>")
	is(t, "condition", c.String(), "<asyncio.Condition [unlocked]>")
	is(t, "semaphore", s.String(), "<asyncio.BoundedSemaphore [unlocked, value:1]>")
	is(t, "limiter", lim.String(), "<asyncio.CapacityLimiter [borrowed:0/1]>")
	is(t, "barrier", b.String(), "<asyncio.Barrier [filling, waiters:0/2]>")
	is(t, "event", e.String(), "<asyncio.Event [unset]>")
	if err := panicOf(l.Release); !errors.Is(err, asyncio.ErrNotAcquired) {
		t.Errorf("Release after Close = %v", err)
	}
	run(t, func(ctx context.Context) error {
		must(t, l.Acquire(ctx))
		task := start(ctx, func(ctx context.Context) error {
			if err := l.Acquire(ctx); err != nil {
				return err
			}
			defer l.Release()
			return c.Wait(ctx)
		})
		iterate(t, ctx, 1)
		l.Release()
		iterate(t, ctx, 1)
		must(t, l.Acquire(ctx))
		c.Notify(1)
		l.Release()
		await(t, ctx, task)
		return nil
	})
}

// The loop is closed after a waiter was given something and before the waiter has resumed
// (primitive 4).
func TestLocks_LoopClosesBeforeAWokenTaskResumes(t *testing.T) {
	s := asyncio.NewSemaphore(1)
	lim := asyncio.NewCapacityLimiter(1)
	l := newLoop(t)
	l.SetExceptionHandler(new(reports).handle)
	_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
		must(t, s.Acquire(ctx))
		must(t, lim.AcquireOnBehalfOf(ctx, "main"))
		for range 2 {
			start(ctx, s.Acquire)
			start(ctx, lim.Acquire)
		}
		iterate(t, ctx, 1)
		l.Stop()
		iterate(t, ctx, 1)
		return nil
	}))
	is(t, "stopped", errors.Is(err, asyncio.ErrLoopStopped), true)
	s.Release()
	lim.ReleaseOnBehalfOf("main")
	is(t, "woken", lim.BorrowedTokens(), 1)
	must(t, l.Close())
	is(t, "semaphore", s.String(), "<asyncio.Semaphore [unlocked, value:1]>")
	is(t, "limiter", lim.String(), "<asyncio.CapacityLimiter [borrowed:0/1]>")
}

func TestLocks_TwoLoopsAtOnce(t *testing.T) {
	var l, held asyncio.Lock
	var e asyncio.Event
	c := asyncio.NewCondition(nil)
	onUsed := asyncio.NewCondition(&l)
	s := asyncio.NewSemaphore(0)
	lim := asyncio.NewCapacityLimiter(0)
	b := asyncio.NewBarrier(2)
	first := newLoop(t)
	first.SetExceptionHandler(new(reports).handle)
	_, err := asyncio.RunUntilComplete(first, asyncio.Do(func(ctx context.Context) error {
		must(t, l.Acquire(ctx))
		must(t, held.Acquire(ctx)) // its owner's loop has no task that waits for it
		start(ctx, l.Acquire)
		start(ctx, e.Wait)
		start(ctx, s.Acquire)
		start(ctx, lim.Acquire)
		start(ctx, func(ctx context.Context) error {
			must(t, c.Acquire(ctx))
			return c.Wait(ctx)
		})
		start(ctx, func(ctx context.Context) error {
			_, err := b.Wait(ctx)
			return err
		})
		iterate(t, ctx, 1)
		return nil
	}))
	must(t, err)
	run(t, func(ctx context.Context) error {
		must(t, c.Acquire(ctx)) // it need not wait, so any loop will do
		conditionErr := c.Wait(ctx)
		is(t, "condition still locked", c.Locked(), true)
		c.Release()
		lockErr, onUsedErr := l.Acquire(ctx), onUsed.Wait(ctx)
		_, barrierErr := asyncio.NewBarrier(1).Wait(ctx)
		must(t, barrierErr)
		for name, err := range map[string]error{
			"Lock": lockErr, "held Lock": held.Acquire(ctx), "Event": e.Wait(ctx), "Semaphore": s.Acquire(ctx),
			"CapacityLimiter": lim.Acquire(ctx), "Condition": conditionErr, "Condition on a used Lock": onUsedErr,
		} {
			if !errors.Is(err, asyncio.ErrDifferentLoop) {
				t.Errorf("%s: %v, want ErrDifferentLoop", name, err)
			}
		}
		return nil
	})
}

func TestLocks_Misuse(t *testing.T) {
	var nilCtx context.Context
	operations := map[string]func(ctx context.Context) error{
		"Lock.Acquire":      new(asyncio.Lock).Acquire,
		"Event.Wait":        new(asyncio.Event).Wait,
		"Condition.Acquire": new(asyncio.Condition).Acquire,
		"Condition.Wait":    new(asyncio.Condition).Wait,
		"Condition.WaitFor": func(ctx context.Context) error {
			return new(asyncio.Condition).WaitFor(ctx, func() bool { return true })
		},
		"Semaphore.Acquire":       asyncio.NewSemaphore(1).Acquire,
		"CapacityLimiter.Acquire": asyncio.NewCapacityLimiter(1).Acquire,
		"CapacityLimiter.AcquireOnBehalfOf": func(ctx context.Context) error {
			return asyncio.NewCapacityLimiter(1).AcquireOnBehalfOf(ctx, "x")
		},
		"Barrier.Wait": func(ctx context.Context) error {
			_, err := asyncio.NewBarrier(1).Wait(ctx)
			return err
		},
		"Barrier.Reset": asyncio.NewBarrier(1).Reset,
		"Barrier.Abort": asyncio.NewBarrier(1).Abort,
	}
	run(t, func(ctx context.Context) error {
		done, cancel := asyncio.WithCancel(ctx)
		cancel()
		for name, op := range operations {
			if err := op(nilCtx); !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("%s with a nil ctx: %v", name, err)
			}
			if err := op(t.Context()); !errors.Is(err, asyncio.ErrNoRunningLoop) {
				t.Errorf("%s without a loop: %v", name, err)
			}
			if err := op(done); !errors.Is(err, context.Canceled) {
				t.Errorf("%s with a done ctx: %v", name, err)
			}
			loop(t, ctx).CallSoon(func() {
				if err := op(ctx); !errors.Is(err, asyncio.ErrNotInTask) {
					t.Errorf("%s in a callback: %v", name, err)
				}
			})
		}
		iterate(t, ctx, 1)
		return nil
	})
	for name, err := range map[string]error{
		"NewSemaphore":        panicOf(func() { asyncio.NewSemaphore(-1) }),
		"NewBoundedSemaphore": panicOf(func() { asyncio.NewBoundedSemaphore(-1) }),
		"NewBarrier(0)":       panicOf(func() { asyncio.NewBarrier(0) }),
		"NewBarrier(-4)":      panicOf(func() { asyncio.NewBarrier(-4) }),
		"NewCapacityLimiter":  panicOf(func() { asyncio.NewCapacityLimiter(-1) }),
		"SetTotalTokens":      panicOf(func() { asyncio.NewCapacityLimiter(1).SetTotalTokens(-1) }),
	} {
		if !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("%s: %v, want ErrInvalidArgument", name, err)
		}
	}
}

// A primitive that has served a loop belongs to it until the loop is closed (primitive 3). In debug
// mode a foreign call is refused even while no task waits. Queues do the same.
func TestLocks_ForeignGoroutineWithoutWaiters(t *testing.T) {
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		var never, l asyncio.Lock
		var e asyncio.Event
		c := asyncio.NewCondition(nil)
		s := asyncio.NewSemaphore(0)
		bounded := asyncio.NewBoundedSemaphore(1)
		lim := asyncio.NewCapacityLimiter(1)
		q := asyncio.NewQueue[int](0)
		must(t, l.Acquire(ctx))
		must(t, bounded.Acquire(ctx))
		must(t, lim.AcquireOnBehalfOf(ctx, 1))
		var tasks []*asyncio.Task[asyncio.None]
		for _, wait := range []func(context.Context) error{l.Acquire, e.Wait, s.Acquire, bounded.Acquire, lim.Acquire, q.Join,
			func(ctx context.Context) error { _, err := q.Get(ctx); return err }} {
			tasks = append(tasks, start(ctx, wait))
		}
		must(t, q.PutNowait(1))
		iterate(t, ctx, 1)
		for _, task := range tasks {
			task.Cancel()
		}
		iterate(t, ctx, 2)
		must(t, never.Acquire(ctx)) // its owner has a loop
		must(t, c.Acquire(ctx))
		_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
			for name, fn := range map[string]func(){
				"Lock": l.Release, "Lock nobody waited for": never.Release, "Event": e.Set, "Clear": e.Clear, "Semaphore": s.Release,
				"BoundedSemaphore": bounded.Release, "CapacityLimiter": func() { lim.ReleaseOnBehalfOf(1) },
				"SetTotalTokens": func() { lim.SetTotalTokens(5) }, "Notify": func() { c.Notify(1) }, "NotifyAll": c.NotifyAll,
				"TaskDone": q.TaskDone, "Shutdown": func() { q.Shutdown(false) },
			} {
				if err := panicOf(fn); !errors.Is(err, asyncio.ErrForeignGoroutine) {
					t.Errorf("%s: %v, want ErrForeignGoroutine", name, err)
				}
			}
			return asyncio.None{}, nil
		})
		is(t, "locked", l.Locked() && never.Locked() && c.Locked(), true)
		l.Release()
		never.Release()
		c.Release()
		bounded.Release()
		return err
	}), asyncio.DebugMode(true))
	must(t, err)
}

// A foreign goroutine may not wake a task of a waiting loop: the call is refused (foreign 1).
func TestLocks_ForeignGoroutine(t *testing.T) {
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		var l asyncio.Lock
		var e asyncio.Event
		c := asyncio.NewCondition(nil)
		s := asyncio.NewSemaphore(0)
		lim := asyncio.NewCapacityLimiter(1)
		must(t, l.Acquire(ctx))
		must(t, lim.AcquireOnBehalfOf(ctx, 1))
		tasks := []*asyncio.Task[asyncio.None]{
			start(ctx, l.Acquire), start(ctx, e.Wait), start(ctx, s.Acquire), start(ctx, lim.Acquire),
			start(ctx, func(ctx context.Context) error {
				must(t, c.Acquire(ctx))
				return c.Wait(ctx)
			}),
		}
		iterate(t, ctx, 1)
		must(t, c.Acquire(ctx))
		_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
			for name, fn := range map[string]func(){
				"Lock": l.Release, "Event": e.Set, "Semaphore": s.Release, "CapacityLimiter": func() { lim.ReleaseOnBehalfOf(1) },
				"SetTotalTokens": func() { lim.SetTotalTokens(5) }, "Notify": func() { c.Notify(1) }, "NotifyAll": c.NotifyAll,
			} {
				if err := panicOf(fn); !errors.Is(err, asyncio.ErrForeignGoroutine) {
					t.Errorf("%s: %v, want ErrForeignGoroutine", name, err)
				}
			}
			return asyncio.None{}, nil
		})
		for _, task := range tasks {
			is(t, task.String()+" woken", task.Done(), false)
		}
		c.Release()
		for _, task := range tasks {
			task.Cancel()
		}
		return err
	}), asyncio.DebugMode(true))
	must(t, err)
}
