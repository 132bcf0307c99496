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

func TestGather_OrderOfArguments(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, after(time.Second, 2, nil))
		future := asyncio.CreateFuture[int](ctx)
		loop(t, ctx).CallLater(2*time.Second, func() { must(t, future.SetResult(3)) })
		got, err := asyncio.Gather(ctx, []asyncio.Awaitable[int]{after(3*time.Second, 1, nil), task, future, task}...)
		equal(t, "results", got, []int{1, 2, 3, 2})
		if now := loop(t, ctx).Time(); now != 3*time.Second {
			t.Errorf("took %v", now)
		}
		return err
	})
}

func TestGather_FirstErrorReturnsAndTheOthersGoOn(t *testing.T) {
	run(t, func(ctx context.Context) error {
		slow := asyncio.CreateTask(ctx, after(5*time.Second, 1, nil))
		late := asyncio.CreateTask(ctx, after(6*time.Second, 1, errors.New("late")))
		_, err := asyncio.Gather(ctx, slow, asyncio.CreateTask(ctx, after(time.Second, 0, errTest)), late)
		if err != errTest || loop(t, ctx).Time() != time.Second {
			t.Errorf("%v at %v", err, loop(t, ctx).Time())
		}
		v, err := slow.Await(ctx)
		if v != 1 {
			t.Errorf("slow = %v", v)
		}
		settle(t, ctx)
		return errors.Join(err, asyncio.Sleep(ctx, time.Minute)) // late's error is not reported
	})
}

func TestGatherResults(t *testing.T) {
	run(t, func(ctx context.Context) error {
		doomed := asyncio.CreateTask(ctx, after(time.Hour, 0, nil))
		loop(t, ctx).CallLater(time.Second, func() { doomed.Cancel("x") })
		got, err := asyncio.GatherResults(ctx, asyncio.CreateTask(ctx, after(2, 7, nil)), asyncio.CreateTask(ctx, after(1, 0, errTest)), doomed)
		if len(got) != 3 || got[0].Value != 7 || got[0].Err != nil || got[1].Err != errTest || !errors.Is(got[2].Err, asyncio.ErrCancelled) {
			t.Errorf("%v", got)
		}
		return err
	})
}

func TestGather_CancelledChildIsAnError(t *testing.T) {
	run(t, func(ctx context.Context) error {
		child := asyncio.CreateTask(ctx, sleeper(time.Hour))
		gather := asyncio.CreateTask(ctx, func(ctx context.Context) ([]asyncio.None, error) { return asyncio.Gather(ctx, child) })
		settle(t, ctx)
		child.Cancel()
		if _, err := gather.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) || gather.Cancelling() != 0 {
			t.Errorf("%v", err)
		}
		return nil
	})
}

// With return_exceptions, a cancelled gather still waits for all children and then reports the
// cancel.
func TestGatherResults_Cancelled(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var ended []int
		stubborn := func(i int, d time.Duration) *asyncio.Task[asyncio.None] {
			return asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				err := asyncio.Sleep(ctx, time.Hour)
				_ = asyncio.Sleep(ctx, d)
				ended = append(ended, i)
				return err
			}))
		}
		a, b := stubborn(1, 2*time.Second), stubborn(2, time.Second)
		gather := asyncio.CreateTask(ctx, func(ctx context.Context) ([]asyncio.Result[asyncio.None], error) {
			return asyncio.GatherResults(ctx, a, b)
		})
		settle(t, ctx)
		gather.Cancel()
		_, err := gather.Await(ctx)
		if !errors.Is(err, asyncio.ErrCancelled) || !gather.Cancelled() {
			t.Errorf("%v", err)
		}
		equal(t, "ended", ended, []int{2, 1})
		return nil
	})
}

func TestGather_BadArgumentsStartNothing(t *testing.T) {
	run(t, func(ctx context.Context) error {
		started := false
		ok := asyncio.Coroutine[int](func(context.Context) (int, error) { started = true; return 0, nil })
		var noFuture *asyncio.Future[int]
		for _, bad := range []asyncio.Awaitable[int]{nil, asyncio.Coroutine[int](nil), noFuture} {
			if _, err := asyncio.Gather[int, asyncio.Awaitable[int]](ctx, ok, bad); !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("%T: %v", bad, err)
			}
		}
		settle(t, ctx)
		if started {
			t.Error("a coroutine was started")
		}
		return nil
	})
}

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
			if err != nil || l.Time()-began != row.took {
				t.Errorf("%s: %v after %v", row.name, err, l.Time()-began)
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
		if l.Time()-began != time.Minute {
			t.Errorf("slept %v", l.Time()-began)
		}
		return err
	})
}

// Gather looks at each argument when it takes it. Here a later child, started eagerly, completes a
// future that was pending when Gather took it. So Gather ends by the future's callback, one
// iteration later, and not in the same step.
func TestGather_LooksAtEachArgumentWhenItTakesIt(t *testing.T) {
	for _, c := range []struct {
		childFirst bool
		want       []string
	}{{false, []string{"callback", "gathered"}}, {true, []string{"gathered", "callback"}}} {
		for _, gather := range []func(ctx context.Context, a, b asyncio.Awaitable[int]) error{
			func(ctx context.Context, a, b asyncio.Awaitable[int]) error {
				_, err := asyncio.Gather(ctx, a, b)
				return err
			},
			func(ctx context.Context, a, b asyncio.Awaitable[int]) error {
				_, err := asyncio.GatherResults(ctx, a, b)
				return err
			},
			func(ctx context.Context, a, b asyncio.Awaitable[int]) error {
				_, _, err := asyncio.Gather2(ctx, a, b)
				return err
			},
		} {
			run(t, func(ctx context.Context) error {
				loop(t, ctx).SetTaskFactory(asyncio.EagerTaskFactory)
				var order []string
				f := asyncio.CreateFuture[int](ctx)
				loop(t, ctx).CallSoon(func() { order = append(order, "callback") })
				args := []asyncio.Awaitable[int]{f, asyncio.Coro(func(context.Context) (int, error) { return 0, f.SetResult(7) })}
				if c.childFirst {
					slices.Reverse(args)
				}
				must(t, gather(ctx, args[0], args[1]))
				order = append(order, "gathered")
				settle(t, ctx)
				equal(t, "order", order, c.want)
				return nil
			})
		}
	}
}

// If a task factory panics in the middle, the tasks made so far are as if nobody had gathered them.
func TestGather_FactoryPanics(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		made := 0
		loop(t, ctx).SetTaskFactory(func(*asyncio.EventLoop, *asyncio.TaskRequest) {
			if made++; made == 2 {
				panic(errTest)
			}
		})
		fails := asyncio.Coroutine[int](func(context.Context) (int, error) { return 0, errTest })
		if err := panicOf(func() { _, _ = asyncio.Gather(ctx, fails, fails) }); err != errTest {
			t.Error(err)
		}
		settle(t, ctx)
		return nil
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"Task exception was never retrieved"})
}

// A cancel reaches each task once, however many paths lead to it (future 4). Here there are two to
// the power of the number of layers.
func TestGather_LatticeIsCancelledOnce(t *testing.T) {
	for what, wait := range map[string]func(ctx context.Context, below []*asyncio.Task[int]) error{
		"Gather": func(ctx context.Context, below []*asyncio.Task[int]) error {
			_, err := asyncio.Gather(ctx, below...)
			return err
		},
		"GatherResults": func(ctx context.Context, below []*asyncio.Task[int]) error {
			_, err := asyncio.GatherResults(ctx, below...)
			return err
		},
		"Gather of tasks that wait for them": func(ctx context.Context, below []*asyncio.Task[int]) error {
			_, err := asyncio.Gather(ctx, asyncio.Coroutine[int](below[0].Await), below[1].Await)
			return err
		},
		"a group of tasks that wait for them": func(ctx context.Context, below []*asyncio.Task[int]) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
				for _, b := range below {
					asyncio.GroupTask(tg, b.Await)
				}
				return nil
			})
		},
		"StaggeredRace": func(ctx context.Context, below []*asyncio.Task[int]) error {
			_, _, _, err := asyncio.StaggeredRace(ctx, 0, asyncio.Coroutine[int](below[0].Await), below[1].Await)
			return err
		},
	} {
		runFast(t, func(ctx context.Context) error {
			const layers = 16
			forever := func(ctx context.Context) (int, error) { return 0, asyncio.Sleep(ctx, asyncio.Forever) }
			below := []*asyncio.Task[int]{asyncio.CreateTask(ctx, forever), asyncio.CreateTask(ctx, forever)}
			bottom := below
			all := below
			for range layers {
				under := below
				layer := func(ctx context.Context) (int, error) { return 0, wait(ctx, under) }
				below = []*asyncio.Task[int]{asyncio.CreateTask(ctx, layer), asyncio.CreateTask(ctx, layer)}
				all = append(all, below...)
			}
			for range 4 * layers {
				must(t, asyncio.Sleep(ctx, 0))
			}
			below[0].Cancel()
			most := 0
			for _, task := range bottom {
				_, err := task.Await(ctx)
				asCancelled(t, err)
			}
			for _, task := range all {
				most = max(most, task.Cancelling())
			}
			if most > 4 {
				t.Errorf("%s: a task was cancelled %d times", what, most)
			}
			if strings.HasPrefix(what, "Gather") && most != 1 {
				t.Errorf("%s: a task was cancelled %d times, want once", what, most)
			}
			_, err := asyncio.GatherResults(ctx, all...)
			return err
		})
	}
}
