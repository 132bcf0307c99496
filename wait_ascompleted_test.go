package asyncio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

type intTask = *asyncio.Task[int]

func TestAsCompleted_InOrderOfCompletion(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var tasks []intTask
		for _, d := range []int{2, 3, 1, 1} {
			tasks = append(tasks, asyncio.CreateTask(ctx, returns(time.Duration(d)*time.Second, d)))
		}
		var got []intTask
		// a future given twice is yielded once
		for task, err := range asyncio.AsCompleted(ctx, append(tasks, tasks[0])) {
			must(t, err)
			if !task.Done() {
				t.Error(task)
			}
			got = append(got, task)
		}
		equal(t, "tasks", got, []intTask{tasks[2], tasks[3], tasks[0], tasks[1]})
		if loop(t, ctx).Time().SinceStart() != 3*time.Second {
			t.Error(loop(t, ctx).Time())
		}
		for range asyncio.AsCompleted(ctx, []intTask{}) {
			t.Error("something came of nothing")
		}
		return nil
	})
}

// Kinds of future can be mixed, and an error is the future's own.
func TestAsCompleted_AnyFuture(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[string](ctx)
		failing := asyncio.CreateTask(ctx, asyncio.Do(failsAfter(time.Second, errTest)))
		gone := asyncio.CreateTask(ctx, asyncio.Do(never))
		loop(t, ctx).CallLater(2*time.Second, func() { gone.Cancel() })
		loop(t, ctx).CallLater(3*time.Second, func() { must(t, f.SetResult("x")) })
		var got []asyncio.AnyFuture
		for f, err := range asyncio.AsCompleted(ctx, []asyncio.AnyFuture{f, gone, failing}) {
			must(t, err)
			_ = f.Exception()
			got = append(got, f)
		}
		equal(t, "futures", got, []asyncio.AnyFuture{failing, gone, f})
		return nil
	})
}

func TestAsCompleted_Timeout(t *testing.T) {
	run(t, func(ctx context.Context) error {
		began := loop(t, ctx).Time()
		a, b := asyncio.CreateTask(ctx, returns(10*time.Second, 1)), asyncio.CreateTask(ctx, returns(15*time.Second, 2))
		completed := asyncio.AsCompleted(ctx, []intTask{a, b}, asyncio.AsCompletedTimeout(12*time.Second))
		var got []intTask
		var last error
		for range 2 { // once over, it stays over
			for task, err := range completed {
				got, last = append(got, task), err
			}
			timedOut(t, last)
		}
		equal(t, "tasks", got, []intTask{a, nil, nil})
		if now := loop(t, ctx).Time().Sub(began); now != 12*time.Second || b.Done() {
			t.Error(now, b)
		}
		v, err := b.Await(ctx) // b was left alone
		if v != 2 {
			t.Error(v)
		}
		return err
	})
}

func TestAsCompleted_TimeoutNotNeeded(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, d := range []time.Duration{time.Minute, asyncio.Forever} {
			tasks := []intTask{asyncio.CreateTask(ctx, returns(time.Second, 1))}
			for task, err := range asyncio.AsCompleted(ctx, tasks, asyncio.AsCompletedTimeout(d)) {
				must(t, err)
				if task != tasks[0] {
					t.Error(task)
				}
			}
		}
		// The timeout counts from the call, and a task that was done in time is yielded before it
		// strikes.
		tasks := []intTask{asyncio.CreateTask(ctx, returns(time.Second, 1)), asyncio.CreateTask(ctx, returns(time.Hour, 1))}
		completed := asyncio.AsCompleted(ctx, tasks, asyncio.AsCompletedTimeout(time.Minute))
		must(t, asyncio.Sleep(ctx, 2*time.Minute))
		n := 0
		for _, err := range completed {
			if n++; n == 1 {
				must(t, err)
			} else {
				timedOut(t, err)
			}
		}
		tasks[1].Cancel()
		return nil
	})
}

// A for loop that was left can be resumed: it goes on where it was and misses nothing in between.
func TestAsCompleted_Resumed(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var tasks []intTask
		for i := range 4 {
			tasks = append(tasks, asyncio.CreateTask(ctx, returns(time.Duration(i)*time.Second, i)))
		}
		completed := asyncio.AsCompleted(ctx, tasks)
		var got []intTask
		for task, err := range completed {
			must(t, err)
			if got = append(got, task); len(got) == 2 {
				break
			}
		}
		must(t, asyncio.Sleep(ctx, time.Minute))
		for task, err := range completed {
			must(t, err)
			got = append(got, task)
		}
		equal(t, "tasks", got, tasks)
		return nil
	})
}

// Several tasks may range over the same sequence: each future goes to one of them, and all of their
// loops end.
func TestAsCompleted_Shared(t *testing.T) {
	run(t, func(ctx context.Context) error {
		tasks := []intTask{asyncio.CreateTask(ctx, returns(time.Second, 1)), asyncio.CreateTask(ctx, returns(time.Second, 2))}
		completed := asyncio.AsCompleted(ctx, tasks)
		n := 0
		return grouping(nil, func(ctx context.Context) error { return drain(completed, &n) }, func(ctx context.Context) error { return drain(completed, &n) },
			func(ctx context.Context) error {
				err := drain(completed, &n)
				if n != 2 {
					t.Error(n)
				}
				return err
			})(ctx)
	})
}

func drain(completed func(func(intTask, error) bool), n *int) error {
	for _, err := range completed {
		if err != nil {
			return err
		}
		*n++
	}
	return nil
}

func TestAsCompleted_Cancelled(t *testing.T) {
	run(t, func(ctx context.Context) error {
		tasks := []intTask{asyncio.CreateTask(ctx, returns(time.Minute, 1))}
		_, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
			n := 0
			return drain(asyncio.AsCompleted(ctx, tasks), &n)
		})
		asCancelled(t, err)
		expired, err := asyncio.MoveOnAfter(ctx, time.Second, func(ctx context.Context) error {
			n := 0
			return drain(asyncio.AsCompleted(ctx, tasks), &n)
		})
		if !expired || err != nil {
			t.Error(expired, err)
		}
		v, err := tasks[0].Await(ctx)
		if v != 1 {
			t.Error(v)
		}
		return err
	})
}

func TestAsCompleted_Misuse(t *testing.T) {
	one := func(seq func(func(intTask, error) bool), want error) {
		t.Helper()
		n := 0
		if err := drain(seq, &n); !errors.Is(err, want) || n > 0 {
			t.Error(err, n)
		}
	}
	one(asyncio.AsCompleted(t.Context(), []intTask{}), asyncio.ErrNoRunningLoop)
	run(t, func(ctx context.Context) error {
		one(asyncio.AsCompleted(nil, []intTask{}), asyncio.ErrInvalidArgument) // nil is the point
		one(asyncio.AsCompleted(ctx, []intTask{nil}), asyncio.ErrInvalidArgument)
		other := asyncio.NewEventLoop(context.WithoutCancel(background))
		foreign := asyncio.CreateTask(other.Context(), returns(0, 1))
		one(asyncio.AsCompleted(ctx, []intTask{foreign}), asyncio.ErrDifferentLoop)
		foreign.Cancel()
		if _, err := asyncio.RunUntilComplete(other, asyncio.Do(sleeping(1))); err != nil {
			return err
		}
		must(t, other.Close())
		completed := asyncio.AsCompleted(ctx, []intTask{asyncio.CreateTask(ctx, returns(time.Second, 1))})
		loop(t, ctx).CallSoon(func() { one(completed, asyncio.ErrNotInTask) })
		return asyncio.Sleep(ctx, time.Minute)
	})
}
