package asyncio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestShield_Outcomes(t *testing.T) {
	run(t, func(ctx context.Context) error {
		start := func() (inner, outer *asyncio.Future[int]) {
			inner = asyncio.CreateFuture[int](ctx)
			outer = asyncio.Shield(ctx, inner)
			settle(t, ctx)
			return inner, outer
		}
		inner, outer := start()
		must(t, inner.SetResult(42))
		if v, err := outer.Await(ctx); v != 42 || err != nil {
			t.Error(v, err)
		}
		inner, outer = start()
		must(t, inner.SetException(errTest))
		settle(t, ctx)
		if outer.Exception() != errTest {
			t.Error(outer)
		}
		inner, outer = start()
		inner.Cancel("why")
		settle(t, ctx)
		var c *asyncio.CancelledError
		if !outer.Cancelled() || !errors.As(outer.Exception(), &c) || c.Msg != "why" {
			t.Error(outer)
		}
		inner, outer = start()
		outer.Cancel()
		settle(t, ctx)
		if !outer.Cancelled() || inner.Done() || outer.String() != "<Future cancelled>" {
			t.Error(outer, inner)
		}
		done := asyncio.CreateFuture[int](ctx)
		must(t, done.SetResult(42))
		if asyncio.Shield(ctx, done) != done {
			t.Error("a done future needs no shield")
		}
		v, err := asyncio.Shield(ctx, asyncio.Coroutine[int](instant)).Await(ctx)
		if v != 1 {
			t.Error(v)
		}
		return err
	})
}

func TestShield_CancelLeavesTheInnerAlone(t *testing.T) {
	run(t, func(ctx context.Context) error {
		proof := 0
		waiter := asyncio.CreateFuture[int](ctx)
		outer := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			_, err := asyncio.Shield(ctx, asyncio.Do(func(ctx context.Context) error {
				_, err := waiter.Await(ctx)
				proof++
				return err
			})).Await(ctx)
			return err
		}))
		settle(t, ctx)
		outer.Cancel()
		_, err := outer.Await(ctx)
		asCancelled(t, err)
		must(t, waiter.SetResult(1))
		settle(t, ctx)
		if proof != 1 {
			t.Error(proof)
		}
		return nil
	})
}

func TestShield_Gather(t *testing.T) {
	run(t, func(ctx context.Context) error {
		a, b := asyncio.CreateFuture[int](ctx), asyncio.CreateFuture[int](ctx)
		gather := asyncio.CreateTask(ctx, func(ctx context.Context) ([]int, error) { return asyncio.Gather(ctx, a, b) })
		outer := asyncio.Shield(ctx, gather)
		settle(t, ctx)
		outer.Cancel()
		settle(t, ctx)
		must(t, a.SetResult(1))
		must(t, b.SetResult(2))
		got, err := gather.Await(ctx)
		must(t, err)
		equal(t, "gathered", got, []int{1, 2})

		a, b = asyncio.CreateFuture[int](ctx), asyncio.CreateFuture[int](ctx)
		x, y := asyncio.Shield(ctx, a), asyncio.Shield(ctx, b)
		gather = asyncio.CreateTask(ctx, func(ctx context.Context) ([]int, error) { return asyncio.Gather(ctx, x, y) })
		settle(t, ctx)
		gather.Cancel()
		_, err = gather.Await(ctx)
		asCancelled(t, err)
		if !x.Cancelled() || !y.Cancelled() || a.Done() || b.Done() {
			t.Error(x, y, a, b)
		}
		return nil
	})
}

// An error that comes when nobody waits any more is reported once, unless somebody retrieves it.
func TestShield_LateError(t *testing.T) {
	start := func(ctx context.Context) (task tasked) {
		task = asyncio.CreateTask(ctx, asyncio.Do(failsAfter(time.Second, errTest)))
		for range 2 {
			outer := asyncio.Shield(ctx, task)
			loop(t, ctx).CallSoon(func() { outer.Cancel() })
		}
		return task
	}
	r, err := runReporting(t, func(ctx context.Context) error {
		start(ctx)
		return asyncio.Sleep(ctx, time.Minute)
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"Task exception was never retrieved"})
	if r.all[0].Exception != errTest {
		t.Errorf("%+v", r.all[0])
	}
	// Somebody waits again, in any way, before or after the task has failed.
	for _, before := range []bool{true, false} {
		for _, again := range []func(ctx context.Context, task tasked) error{
			func(ctx context.Context, task tasked) error { _, err := task.Await(ctx); return err },
			func(ctx context.Context, task tasked) error {
				_, err := asyncio.Shield(ctx, task).Await(ctx)
				return err
			},
			func(ctx context.Context, task tasked) error { _, err := asyncio.Gather(ctx, task); return err },
			func(ctx context.Context, task tasked) error {
				_, err := asyncio.WaitFor(ctx, task, time.Minute)
				return err
			},
			func(ctx context.Context, task tasked) error {
				_, _, err := asyncio.Wait(ctx, []tasked{task})
				must(t, err)
				return task.Exception()
			},
			func(ctx context.Context, task tasked) error {
				for done, err := range asyncio.AsCompleted(ctx, []tasked{task}) {
					must(t, err)
					return done.Exception()
				}
				return nil
			},
			func(ctx context.Context, task tasked) error {
				c := asyncio.OnDone(task)
				_, err := asyncio.Select(ctx, c)
				must(t, err)
				_, err = c.Result()
				return err
			},
		} {
			run(t, func(ctx context.Context) error {
				task := start(ctx)
				if !before {
					must(t, asyncio.Sleep(ctx, time.Minute))
				}
				if err := again(ctx, task); err != errTest {
					t.Error(err)
				}
				return asyncio.Sleep(ctx, time.Minute)
			})
		}
	}
	// The error is also reported if it and the cancel come together.
	r, err = runReporting(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		outer := asyncio.Shield(ctx, f)
		outer.Cancel()
		must(t, f.SetException(errTest))
		return asyncio.Sleep(ctx, time.Minute)
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"Future exception was never retrieved"})
}

// A shield that was cancelled leaves nothing behind at the future it shielded.
func TestShield_LeavesNothing(t *testing.T) {
	run(t, func(ctx context.Context) error {
		inner := asyncio.CreateFuture[int](ctx)
		for range 10 {
			_, err := asyncio.WaitFor(ctx, asyncio.Shield(ctx, inner), time.Second)
			if !errors.Is(err, asyncio.ErrTimeout) {
				t.Error(err)
			}
			settle(t, ctx)
			is(t, "inner", inner.String(), "<Future pending>")
		}
		return nil
	})
}

// A panic is reported when it happens, and not again for the shield that nobody awaits.
func TestShield_PanicIsReportedOnce(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		asyncio.Shield(ctx, asyncio.Do(func(context.Context) error { panic("x") }))
		return asyncio.Sleep(ctx, time.Minute)
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"panic in task"})
}

func TestShield_Misuse(t *testing.T) {
	if err := panicOf(func() { asyncio.Shield(t.Context(), asyncio.Coroutine[int](instant)) }); !errors.Is(err, asyncio.ErrNoRunningLoop) {
		t.Error(err)
	}
	run(t, func(ctx context.Context) error {
		if err := panicOf(func() { asyncio.Shield[int](ctx, nil) }); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Error(err)
		}
		return nil
	})
}
