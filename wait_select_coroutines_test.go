package asyncio_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// Coroutines of a Select start eagerly and make another of its branches ready before Select waits.
func TestSelect_CoroutinesStartEagerly(t *testing.T) {
	var lock asyncio.Lock
	q, full := asyncio.NewQueue[int](0), asyncio.NewQueue[int](1)
	for name, c := range map[string]struct {
		before func(ctx context.Context)
		act    func()
		wins   asyncio.AnyCase
		after  func()
	}{
		"put": {func(context.Context) {}, func() { _ = q.PutNowait(1) }, asyncio.OnGet(q), func() {}},
		"get": {
			func(context.Context) { _ = full.PutNowait(1) }, func() { _, _ = full.GetNowait() }, asyncio.OnPut(full, 2),
			func() { _, _ = full.GetNowait() },
		},
		"release": {func(ctx context.Context) { must(t, lock.Acquire(ctx)) }, lock.Release, asyncio.OnAcquire(&lock), lock.Release},
	} {
		for _, coroutineFirst := range []bool{true, false} {
			run(t, func(ctx context.Context) error {
				l := loop(t, ctx)
				l.SetTaskFactory(asyncio.EagerTaskFactory)
				c.before(ctx)
				cases := []asyncio.AnyCase{c.wins, asyncio.OnDone(asyncio.Coroutine[int](func(ctx context.Context) (int, error) {
					c.act()
					return 0, asyncio.Sleep(ctx, time.Hour)
				}))}
				if coroutineFirst {
					slices.Reverse(cases)
				}
				won, err := asyncio.Select(ctx, cases...)
				if won != c.wins || l.Time().SinceStart() != 0 {
					t.Errorf("%s, coroutine first %v: won: %v, at %v", name, coroutineFirst, won == c.wins, l.Time())
				}
				c.after()
				return err
			})
		}
	}
}

// A task factory's wrapper also runs around the coroutines of a Select.
func TestSelect_CoroutinesHaveTheTaskFactory(t *testing.T) {
	run(t, func(ctx context.Context) error {
		wrapped := 0
		loop(t, ctx).SetTaskFactory(func(_ *asyncio.EventLoop, r *asyncio.TaskRequest) {
			r.Wrap(func(ctx context.Context, run func(context.Context) error) error {
				wrapped++
				return run(ctx)
			})
		})
		_, err := asyncio.Select(ctx, asyncio.OnDone(sleeper(time.Second)))
		if wrapped != 1 {
			t.Errorf("wrapped %d times", wrapped)
		}
		return err
	})
}

// A coroutine that ignores its cancel keeps Select waiting, and its result is kept (select 4). A
// cancel that comes meanwhile is passed on to the coroutine and later delivered to the task (select
// 5).
func TestSelect_CoroutineThatIsStubborn(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		var cancels int
		stubborn := asyncio.OnDone(asyncio.Coroutine[string](func(ctx context.Context) (string, error) {
			for cancels < 2 {
				if asyncio.Sleep(ctx, time.Hour) != nil {
					cancels++
				}
			}
			return "late", nil
		}))
		first := asyncio.OnDone(f)
		var won asyncio.AnyCase
		var err, next error
		task := start(ctx, func(ctx context.Context) error {
			won, err = asyncio.Select(ctx, stubborn, first)
			next = asyncio.Sleep(ctx, 0)
			return nil
		})
		settle(t, ctx)
		must(t, f.SetResult(1))
		settle(t, ctx)
		if won != nil || cancels != 1 {
			t.Errorf("won before the coroutine has ended: %v; cancels %d", won, cancels)
		}
		task.Cancel("again")
		settle(t, ctx)
		v, e := stubborn.Result()
		var c *asyncio.CancelledError
		if won != first || err != nil || cancels != 2 || v != "late" || e != nil || !errors.As(next, &c) || c.Msg != "again" {
			t.Errorf("%v, %v; %d cancels; %v, %v; next: %v", won == first, err, cancels, v, e, next)
		}
		if !task.Done() {
			t.Error("it does not end")
		}
		return nil
	})
}

// An error of a losing coroutine is reported if nobody retrieves it (select 4).
func TestSelect_LateErrorIsReported(t *testing.T) {
	for _, look := range []bool{false, true} {
		r, err := runReporting(t, func(ctx context.Context) error {
			c := asyncio.OnDone(asyncio.Do(func(ctx context.Context) error {
				_ = asyncio.Sleep(ctx, time.Hour)
				return errTest
			}))
			_, err := asyncio.Select(ctx, c, asyncio.OnTimeout(time.Second))
			if look {
				if _, e := c.Result(); !errors.Is(e, errTest) {
					t.Errorf("Result = %v", e)
				}
			}
			return err
		})
		must(t, err)
		if n := len(r.messages()); (n == 0) != look {
			t.Errorf("looked: %v, reports: %v", look, r.messages())
		}
	}
}

// A coroutine may wait for the very task that cancels it.
func TestSelect_CoroutineWaitsForItsSelect(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var task tasked
		task = start(ctx, func(ctx context.Context) error {
			_, err := asyncio.Select(ctx, asyncio.OnTimeout(time.Second), asyncio.OnDone(asyncio.Do(func(ctx context.Context) error {
				_, err := task.Await(ctx)
				return err
			})))
			return err
		})
		_, err := task.Await(ctx)
		if task.Cancelling() != 0 {
			t.Error("the task was asked to cancel itself")
		}
		return err
	})
}

// A call on another loop, or on this one for a goroutine, is left alone if it does not win, as a
// future is (select 4).
func TestSelect_ConcurrentFuture(t *testing.T) {
	withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
		for i := range g.Len() {
			goOn := make(chan struct{})
			f := asyncio.StartCall(ctx, g.Loop(i), func(ctx context.Context) (int, error) {
				_, _, err := asyncio.Recv(ctx, goOn)
				return 42, err
			})
			done, late := asyncio.OnDone(f), asyncio.OnTimeout(time.Millisecond)
			for range 3 { // it looks and does not wait for the result
				won, err := asyncio.Select(ctx, done, late)
				if err != nil || won != asyncio.AnyCase(late) || done.OK() {
					t.Errorf("loop %d: %v, %v", i, won, err)
				}
				_, err = done.Result()
				wantErr(t, "the result", err, asyncio.ErrInvalidState)
			}
			waiting := start(ctx, func(ctx context.Context) error {
				_, err := asyncio.Select(ctx, asyncio.OnDone(f))
				return err
			})
			settle(t, ctx)
			waiting.Cancel()
			wantErr(t, "a cancel of who waits", ended(ctx, waiting), asyncio.ErrCancelled)
			if n := asyncio.Waits(f); n != 0 {
				t.Errorf("%d are to be told of the result", n)
			}
			close(goOn)
			if _, err := asyncio.Select(ctx, done); err != nil {
				return err
			}
			v, err := done.Result()
			if v != 42 || err != nil || !done.OK() {
				t.Errorf("loop %d: %d, %v", i, v, err)
			}
			won, err := asyncio.Select(ctx, late, done) // the call is done, so Select need not wait
			if won != asyncio.AnyCase(done) {
				t.Errorf("%v, %v", won, err)
			}
		}
		_, err := asyncio.Select(ctx, asyncio.OnDone(new(asyncio.ConcurrentFuture[int])))
		wantErr(t, "one that nobody has made", err, asyncio.ErrInvalidArgument)
		return nil
	})
}
