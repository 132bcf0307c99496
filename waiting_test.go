package asyncio_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// Everything that is done by the time the waiter resumes counts as done, even if something else
// woke the waiter.
func TestWait_DoneWhenItResumes(t *testing.T) {
	run(t, func(ctx context.Context) error {
		a, b := asyncio.CreateTask(ctx, asyncio.Do(yielding(1))), asyncio.CreateTask(ctx, asyncio.Do(yielding(2)))
		done, pending, err := asyncio.Wait(ctx, []tasked{b, a}, asyncio.ReturnWhen(asyncio.FirstCompleted))
		equal(t, "done", done, []tasked{b, a})
		equal(t, "pending", pending, nil)
		must(t, err)

		// The timeout strikes in the iteration in which the first task wakes up.
		x, y := asyncio.CreateTask(ctx, asyncio.Do(sleeping(2*time.Second))), asyncio.CreateTask(ctx, asyncio.Do(sleeping(3*time.Second)))
		must(t, yields(ctx, 1))
		done, pending, err = asyncio.Wait(ctx, []tasked{y, x}, asyncio.WaitTimeout(2*time.Second))
		equal(t, "done at the timeout", done, []tasked{x})
		equal(t, "pending at the timeout", pending, []tasked{y})
		is(t, "time", loop(t, ctx).Time(), 2*time.Second)
		_, e := y.Await(ctx)
		return errors.Join(err, e)
	})
}

func TestWait_FirstExceptionThatIsThereAlready(t *testing.T) {
	run(t, func(ctx context.Context) error {
		slow := asyncio.CreateTask(ctx, asyncio.Do(sleeping(time.Hour)))
		bad := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { return errTest }))
		gone := asyncio.CreateTask(ctx, asyncio.Do(sleeping(time.Hour)))
		gone.Cancel() // a cancellation does not count as an exception here
		must(t, yields(ctx, 1))
		done, pending, err := asyncio.Wait(ctx, []tasked{slow, bad, gone}, asyncio.ReturnWhen(asyncio.FirstException))
		must(t, err)
		equal(t, "done", done, []tasked{bad, gone})
		equal(t, "pending", pending, []tasked{slow})
		is(t, "time", loop(t, ctx).Time(), 0*time.Second)
		is(t, "error", bad.Exception(), errTest)

		expired := false
		if _, _, err = asyncio.Wait(ctx, []tasked{slow, gone}, asyncio.ReturnWhen(asyncio.FirstException), asyncio.WaitTimeout(time.Minute)); err == nil {
			expired = loop(t, ctx).Time() == time.Minute
		}
		is(t, "went on waiting past a cancellation", expired, true)
		slow.Cancel()
		return err
	})
}

func TestGather_NothingNeedsALoopToo(t *testing.T) {
	_, err := asyncio.Gather[int, *asyncio.Task[int]](t.Context())
	wantErr(t, "Gather()", err, asyncio.ErrNoRunningLoop)
	run(t, func(ctx context.Context) error {
		got, err := asyncio.Gather[int, *asyncio.Task[int]](ctx)
		if got == nil || len(got) != 0 {
			t.Errorf("%v, want an empty slice", got)
		}
		return err
	})
}

// A coroutine given twice is run twice: it is a function, not an object that is used up.
func TestGather_TheSameCoroutineTwice(t *testing.T) {
	run(t, func(ctx context.Context) error {
		n := 0
		count := asyncio.Coroutine[int](func(context.Context) (int, error) { n++; return n, nil })
		got, err := asyncio.Gather(ctx, count, count, instant, count)
		equal(t, "results", got, []int{1, 2, 1, 3})
		return err
	})
}

func TestFuture_CallbacksHoweverItCompletes(t *testing.T) {
	for name, complete := range map[string]func(f *asyncio.Future[int]){
		"SetResult":    func(f *asyncio.Future[int]) { _ = f.SetResult(1) },
		"SetException": func(f *asyncio.Future[int]) { _ = f.SetException(errTest) },
		"Cancel":       func(f *asyncio.Future[int]) { f.Cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				f := asyncio.CreateFuture[int](ctx)
				var got []int
				var second *asyncio.DoneCallback
				f.AddDoneCallback(func(f *asyncio.Future[int]) {
					got = append(got, 1)
					is(t, "removed while it is scheduled", f.RemoveDoneCallback(second), 0)
				})
				second = f.AddDoneCallback(func(*asyncio.Future[int]) { got = append(got, 2) })
				complete(f)
				_ = f.Exception()
				equal(t, "at once", got, nil)
				must(t, yields(ctx, 1))
				equal(t, "in the next iteration", got, []int{1, 2})
				return nil
			})
		})
	}
}

func TestTask_Accessors(t *testing.T) {
	run(t, func(ctx context.Context) error {
		ctx = context.WithValue(ctx, ctxKey{}, 1)
		task := asyncio.CreateTask(ctx, instant)
		is(t, "loop", task.GetLoop(), loop(t, ctx))
		is(t, "loop of a future", asyncio.CreateFuture[int](ctx).GetLoop(), loop(t, ctx))
		is(t, "context", task.GetContext(), ctx)
		is(t, "main's context", self(ctx).GetContext().Value(ctxKey{}), nil)
		_, err := task.Await(ctx)
		must(t, err)
		v, err := task.GetCoro()(ctx) // it is a function, and can be called again
		is(t, "value of the coroutine", v, 1)
		return err
	})
}

// The table lists the ways to retrieve an error.
func TestReports_WhatCountsAsRetrieved(t *testing.T) {
	for name, look := range map[string]func(ctx context.Context, f *asyncio.Future[int]){
		"Result":    func(_ context.Context, f *asyncio.Future[int]) { _, _ = f.Result() },
		"Exception": func(_ context.Context, f *asyncio.Future[int]) { _ = f.Exception() },
		"Await":     func(ctx context.Context, f *asyncio.Future[int]) { _, _ = f.Await(ctx) },
		"Cancel":    func(_ context.Context, f *asyncio.Future[int]) { f.Cancel() },
		"nothing":   func(context.Context, *asyncio.Future[int]) {},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := runReporting(t, func(ctx context.Context) error {
				f := asyncio.CreateFuture[int](ctx)
				must(t, f.SetException(errTest))
				task := asyncio.CreateTask(ctx, func(context.Context) (int, error) { return 0, errTest })
				fine := asyncio.CreateFuture[int](ctx)
				must(t, fine.SetResult(1)) // a value need not be retrieved
				asyncio.CreateFuture[int](ctx)
				must(t, yields(ctx, 1))
				look(ctx, f)
				look(ctx, &task.Future)
				return nil
			})
			must(t, err)
			want := []string{"Future exception was never retrieved", "Task exception was never retrieved"}
			if name != "nothing" {
				want = nil
			}
			equal(t, "reports", r.messages(), want)
		})
	}
}

func TestRunCoroutineThreadsafe_CancelsItself(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		l := loop(t, ctx)
		_, err := asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
			return asyncio.RunCoroutineThreadsafe(func(ctx context.Context) (int, error) {
				self(ctx).Cancel("me")
				return 1, asyncio.Sleep(ctx, 0)
			}, l).Result(ctx)
		})
		asCancelled(t, err)
		return nil
	})
}

// The result and a cancel of the awaiting task come together. The task is cancelled, and the result
// stays.
func TestConcurrentFuture_CancelledAfterTheResult(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		c := asyncio.RunCoroutineThreadsafe(f.Await, loop(t, ctx))
		waiter := asyncio.CreateTask(ctx, c.Await)
		settle(t, ctx)
		must(t, f.SetResult(42))
		for !c.Done() {
			must(t, yields(ctx, 1))
		}
		is(t, "waiter done", waiter.Done(), false)
		waiter.Cancel()
		_, err := waiter.Await(ctx)
		asCancelled(t, err)
		v, err := c.Await(ctx)
		is(t, "result", v, 42)
		return err
	})
}

// Tasks that take turns keep their own values.
func TestContext_ValuesAreEachTasksOwn(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var tasks []tasked
		for i := range 100 {
			tasks = append(tasks, asyncio.CreateTask(context.WithValue(ctx, ctxKey{}, i), asyncio.Do(func(ctx context.Context) error {
				for j := range 10 {
					if v := ctx.Value(ctxKey{}); v != i+j || self(ctx).GetContext().Value(ctxKey{}) != i {
						t.Errorf("task %d: %v in round %d", i, v, j)
					}
					must(t, asyncio.Sleep(ctx, time.Duration((i*7+j*13)%5)*time.Millisecond))
					ctx = context.WithValue(ctx, ctxKey{}, i+j+1)
				}
				return nil
			})))
		}
		_, err := asyncio.Gather(ctx, tasks...)
		is(t, "outside", ctx.Value(ctxKey{}), nil)
		return err
	})
}

// The exception handler gets the context of the task concerned, with its values; otherwise the
// loop's.
func TestExceptionHandler_Context(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		named := context.WithValue(ctx, ctxKey{}, "bar")
		_, _ = asyncio.CreateTask(named, asyncio.Do(func(context.Context) error { panic("in task") })).Await(ctx)
		asyncio.CreateTask(named, asyncio.Do(func(context.Context) error { return errTest }))
		_, _ = asyncio.RunInExecutor(named, nil, func() (int, error) { panic("in thread") }).Await(ctx)
		loop(t, ctx).CallSoon(func() { panic("in callback") })
		// a callback belongs to the task that registered it
		_, err := asyncio.CreateTask(named, asyncio.Do(func(ctx context.Context) error {
			l, f := loop(t, ctx), asyncio.CreateFuture[int](ctx)
			l.CallSoon(func() { panic("in its callback") })
			l.CallLater(0, func() { panic("in its timer") })
			f.AddDoneCallback(func(*asyncio.Future[int]) { panic("in its done callback") })
			return f.SetResult(1)
		})).Await(ctx)
		must(t, err)
		must(t, asyncio.CreateFuture[int](named).SetException(errTest))
		loop(t, ctx).CallExceptionHandler(asyncio.ExceptionContext{Message: "by hand", Task: self(ctx)})
		loop(t, ctx).CallExceptionHandler(asyncio.ExceptionContext{Message: "by hand, with a context", Task: self(ctx), Context: named})
		return asyncio.Sleep(ctx, 0)
	})
	must(t, err)
	want := map[string]any{
		"panic in task": "bar", "Task exception was never retrieved": "bar", "panic in thread function": "bar", "by hand, with a context": "bar",
		"by hand": nil, "Future exception was never retrieved": nil,
	}
	if len(r.all) != 10 {
		t.Errorf("%v", r.messages())
	}
	for _, c := range r.all {
		want := want[c.Message]
		if c.Exception != nil && strings.Contains(c.Exception.Error(), "in its ") {
			want = "bar"
		}
		if c.Context == nil || c.Context.Value(ctxKey{}) != want {
			t.Errorf("%s: %v: %v", c.Message, c.Exception, c.Context)
		}
	}
}

func TestConcurrentFuture_AwaitNeedsALoop(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.RunCoroutineThreadsafe(instant, loop(t, ctx))
		_, err := c.Await(t.Context())
		wantErr(t, "Await", err, asyncio.ErrNoRunningLoop)
		v, err := c.Await(ctx)
		is(t, "value", v, 1)
		return err
	})
}

// A future can be awaited before and after it is done, as often as one likes.
func TestFuture_AwaitedTwice(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		loop(t, ctx).CallSoon(func() { must(t, f.SetResult(42)) })
		for _, ticks := range []string{"suspending", "at once", "at once"} {
			v, err := f.Await(ctx)
			is(t, ticks, v, 42)
			must(t, err)
		}
		return nil
	})
}
