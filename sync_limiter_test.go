package asyncio_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestCapacityLimiter_TasksBorrow(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCapacityLimiter(2)
		now, most := 0, 0
		var tasks []*asyncio.Task[asyncio.None]
		for range 10 {
			tasks = append(tasks, start(ctx, func(ctx context.Context) error {
				must(t, c.Acquire(ctx))
				defer c.Release(ctx)
				now++
				most = max(most, now)
				err := asyncio.Sleep(ctx, time.Second)
				now--
				return err
			}))
		}
		iterate(t, ctx, 1)
		is(t, "state", c.String(), "<asyncio.CapacityLimiter [borrowed:2/2, waiters:8]>")
		s := c.Statistics()
		equal(t, "borrowers", s.Borrowers, []any{tasks[0], tasks[1]})
		is(t, "first waiter", s.Waiters[0], asyncio.AnyTask(tasks[2]))
		is(t, "borrowed", s.BorrowedTokens, 2)
		is(t, "total", s.TotalTokens, 2)
		await(t, ctx, tasks...)
		is(t, "most at a time", most, 2)
		is(t, "time", loop(t, ctx).Time().SinceStart(), 5*time.Second)
		is(t, "available", c.AvailableTokens(), 2)
		return nil
	})
}

func TestCapacityLimiter_OneTokenForEachBorrower(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCapacityLimiter(3)
		must(t, c.Acquire(ctx))
		must(t, c.AcquireOnBehalfOf(ctx, "job"))
		me := asyncio.CurrentTask(ctx)
		for name, err := range map[string]error{
			"Acquire":                         c.Acquire(ctx),
			"AcquireNowait":                   c.AcquireNowait(ctx),
			"AcquireOnBehalfOf":               c.AcquireOnBehalfOf(ctx, "job"),
			"AcquireOnBehalfOfNowait":         c.AcquireOnBehalfOfNowait("job"),
			"AcquireOnBehalfOf the task":      c.AcquireOnBehalfOf(ctx, me),
			"AcquireOnBehalfOfNowait, itself": c.AcquireOnBehalfOfNowait(me),
		} {
			if !errors.Is(err, asyncio.ErrInvalidState) {
				t.Errorf("%s: %v, want ErrInvalidState", name, err)
			}
		}
		must(t, c.AcquireOnBehalfOfNowait("third"))
		task := start(ctx, func(ctx context.Context) error { return c.AcquireOnBehalfOf(ctx, "fourth") })
		iterate(t, ctx, 1)
		if err := c.AcquireOnBehalfOf(ctx, "fourth"); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("of one that is waited for: %v", err)
		}
		c.ReleaseOnBehalfOf(me)
		await(t, ctx, task)
		equal(t, "borrowers", c.Statistics().Borrowers, []any{"job", "third", "fourth"})
		return nil
	})
}

func TestCapacityLimiter_Misuse(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCapacityLimiter(1)
		for name, borrower := range map[string]any{"nil": nil, "slice": []int{1}, "not a number": math.NaN()} {
			if err := c.AcquireOnBehalfOf(ctx, borrower); !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("%s: %v, want ErrInvalidArgument", name, err)
			}
			if err := panicOf(func() { c.ReleaseOnBehalfOf(borrower) }); !errors.Is(err, asyncio.ErrNotAcquired) {
				t.Errorf("%s: %v, want ErrNotAcquired", name, err)
			}
		}
		if err := panicOf(func() { c.Release(ctx) }); !errors.Is(err, asyncio.ErrNotAcquired) {
			t.Errorf("Release = %v", err)
		}
		if err := panicOf(func() { c.Release(t.Context()) }); !errors.Is(err, asyncio.ErrNoRunningLoop) {
			t.Errorf("Release without a loop = %v", err)
		}
		if err := c.AcquireNowait(t.Context()); !errors.Is(err, asyncio.ErrNoRunningLoop) {
			t.Errorf("AcquireNowait without a loop = %v", err)
		}
		loop(t, ctx).CallSoon(func() {
			if err := panicOf(func() { c.Release(ctx) }); !errors.Is(err, asyncio.ErrNotInTask) {
				t.Errorf("Release in a callback = %v", err)
			}
			must(t, c.AcquireOnBehalfOfNowait("callback"))
			c.ReleaseOnBehalfOf("callback")
		})
		iterate(t, ctx, 1)
		must(t, c.AcquireNowait(ctx))
		if err := c.AcquireOnBehalfOfNowait("x"); !errors.Is(err, asyncio.ErrWouldBlock) {
			t.Errorf("without a token left: %v, want ErrWouldBlock", err)
		}
		c.Release(ctx)
		return nil
	})
}

func TestCapacityLimiter_TotalCanChange(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCapacityLimiter(0)
		var got []int
		var tasks []*asyncio.Task[asyncio.None]
		for n := range 6 {
			tasks = append(tasks, start(ctx, func(ctx context.Context) error {
				must(t, c.AcquireOnBehalfOf(ctx, n))
				got = append(got, n)
				return nil
			}))
		}
		iterate(t, ctx, 1)
		equal(t, "none", got, nil)
		c.SetTotalTokens(3)
		iterate(t, ctx, 1)
		equal(t, "three", got, []int{0, 1, 2})
		c.SetTotalTokens(1) // takes no token away
		is(t, "borrowed", c.BorrowedTokens(), 3)
		is(t, "available", c.AvailableTokens(), 0)
		c.ReleaseOnBehalfOf(0)
		c.ReleaseOnBehalfOf(1)
		iterate(t, ctx, 1)
		equal(t, "too many are out", got, []int{0, 1, 2})
		c.ReleaseOnBehalfOf(2)
		iterate(t, ctx, 1)
		equal(t, "one", got, []int{0, 1, 2, 3})
		c.SetTotalTokens(math.MaxInt)
		await(t, ctx, tasks...)
		equal(t, "all", got, []int{0, 1, 2, 3, 4, 5})
		is(t, "total", c.TotalTokens(), math.MaxInt)
		return nil
	})
}

func TestCapacityLimiter_TokenOfACancelledWaiterGoesToTheNext(t *testing.T) {
	for name, act := range map[string]func(cancel func(...string) bool, release func()){
		"cancelled, then released": func(cancel func(...string) bool, release func()) { cancel(); release() },
		"released, then cancelled": func(cancel func(...string) bool, release func()) { release(); cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				c := asyncio.NewCapacityLimiter(1)
				must(t, c.Acquire(ctx))
				t1, t2 := start(ctx, c.Acquire), start(ctx, c.Acquire)
				iterate(t, ctx, 1)
				act(t1.Cancel, func() { c.Release(ctx) })
				endsCancelled(t, ctx, t1)
				await(t, ctx, t2)
				equal(t, "borrowers", c.Statistics().Borrowers, []any{t2})
				must(t, panicOf(func() { c.ReleaseOnBehalfOf(t2) }))
				must(t, c.AcquireOnBehalfOf(ctx, t1)) // does not count as a waiter
				return nil
			})
		})
	}
}

func TestCapacityLimiter_ContextEndsTheWait(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCapacityLimiter(1)
		must(t, c.AcquireOnBehalfOf(ctx, "other"))
		limited, cancel := asyncio.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := c.Acquire(limited); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Acquire = %v", err)
		}
		c.ReleaseOnBehalfOf("other")
		is(t, "available", c.AvailableTokens(), 1)
		return c.Acquire(ctx)
	})
}
