package asyncio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestWait_Conditions(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		start := func() []*asyncio.Task[int] {
			return []*asyncio.Task[int]{
				asyncio.CreateTask(ctx, after(3*time.Second, 3, nil)),
				asyncio.CreateTask(ctx, after(1*time.Second, 1, nil)),
				asyncio.CreateTask(ctx, after(2*time.Second, 2, errTest)),
			}
		}
		for _, row := range []struct {
			name          string
			opts          []asyncio.WaitOption
			took          time.Duration
			done, pending []int // indexes
		}{
			{"all", nil, 3 * time.Second, []int{0, 1, 2}, nil},
			{"first completed", []asyncio.WaitOption{asyncio.ReturnWhen(asyncio.FirstCompleted)}, time.Second, []int{1}, []int{0, 2}},
			{"first exception", []asyncio.WaitOption{asyncio.ReturnWhen(asyncio.FirstException)}, 2 * time.Second, []int{1, 2}, []int{0}},
			{"timeout", []asyncio.WaitOption{asyncio.WaitTimeout(1500 * time.Millisecond)}, 1500 * time.Millisecond, []int{1}, []int{0, 2}},
			{"timeout unused", []asyncio.WaitOption{asyncio.WaitTimeout(time.Hour)}, 3 * time.Second, []int{0, 1, 2}, nil},
		} {
			began := l.Time()
			tasks := start()
			index := func(ts []*asyncio.Task[int]) (is []int) {
				for _, task := range ts {
					for i := range tasks {
						if tasks[i] == task {
							is = append(is, i)
						}
					}
				}
				return is
			}
			// A task given twice is returned once.
			done, pending, err := asyncio.Wait(ctx, append(tasks, tasks[1]), row.opts...)
			if err != nil || l.Time().Sub(began) != row.took {
				t.Errorf("%s: %v after %v", row.name, err, l.Time().Sub(began))
			}
			equal(t, row.name+": done", index(done), row.done)
			equal(t, row.name+": pending", index(pending), row.pending)
			if _, err := asyncio.GatherResults(ctx, tasks...); err != nil {
				return err
			}
		}
		return nil
	})
}

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
		is(t, "time", loop(t, ctx).Time().SinceStart(), 2*time.Second)
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
		is(t, "time", loop(t, ctx).Time().SinceStart(), 0*time.Second)
		is(t, "error", bad.Exception(), errTest)

		expired := false
		if _, _, err = asyncio.Wait(ctx, []tasked{slow, gone}, asyncio.ReturnWhen(asyncio.FirstException), asyncio.WaitTimeout(time.Minute)); err == nil {
			expired = loop(t, ctx).Time().SinceStart() == time.Minute
		}
		is(t, "went on waiting past a cancellation", expired, true)
		slow.Cancel()
		return err
	})
}

func TestWait_CancelLeavesTheFuturesAlone(t *testing.T) {
	run(t, func(ctx context.Context) error {
		child := asyncio.CreateTask(ctx, after(time.Second, 1, nil))
		waiter := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			_, _, err := asyncio.Wait(ctx, []*asyncio.Task[int]{child}, asyncio.WaitTimeout(time.Minute))
			return err
		}))
		settle(t, ctx)
		waiter.Cancel()
		if _, err := waiter.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			t.Error(err)
		}
		_, err := child.Await(ctx)
		return err
	})
}

func TestWait_BadArguments(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		for name, err := range map[string]error{
			"empty": func() error { _, _, err := asyncio.Wait(ctx, []*asyncio.Task[int]{}); return err }(),
			"nil":   func() error { _, _, err := asyncio.Wait(ctx, []*asyncio.Future[int]{f, nil}); return err }(),
			"condition": func() error {
				_, _, err := asyncio.Wait(ctx, []*asyncio.Future[int]{f}, asyncio.ReturnWhen(9))
				return err
			}(),
		} {
			if !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("%s: %v", name, err)
			}
		}
		return nil
	})
}

// A callback left over from a finished Wait must not wake the task from its next wait.
func TestWait_LateCallbacksDoNothing(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		f, g := asyncio.CreateFuture[int](ctx), asyncio.CreateFuture[int](ctx)
		l.CallLater(time.Second, func() {
			must(t, f.SetResult(1))
			must(t, g.SetResult(1))
		})
		if _, _, err := asyncio.Wait(ctx, []*asyncio.Future[int]{f, g}, asyncio.ReturnWhen(asyncio.FirstCompleted), asyncio.WaitTimeout(time.Second)); err != nil {
			return err
		}
		began := l.Time()
		err := asyncio.Sleep(ctx, time.Minute)
		if l.Time().Sub(began) != time.Minute {
			t.Errorf("slept %v", l.Time().Sub(began))
		}
		return err
	})
}
