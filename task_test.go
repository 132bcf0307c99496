package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestTask_NamesCurrentAndAll(t *testing.T) {
	run(t, func(ctx context.Context) error {
		me := asyncio.CurrentTask(ctx)
		if me.GetName() != "Task-1" {
			t.Errorf("main is %s", me.GetName())
		}
		a := asyncio.CreateTask(ctx, sleeper(time.Second), asyncio.Name("a"))
		b := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			if cur := asyncio.CurrentTask(ctx); cur.GetName() != "bee" {
				t.Errorf("b is %s", cur.GetName())
			}
			return nil
		}))
		var names []string
		for _, task := range asyncio.AllTasks(ctx) {
			names = append(names, task.GetName())
		}
		// a given name uses up no number
		equal(t, "AllTasks", names, []string{"Task-1", "a", "Task-2"})
		b.SetName("bee")
		if b.GetName() != "bee" {
			t.Error(b.GetName())
		}
		l := loop(t, ctx)
		l.CallSoon(func() {
			if asyncio.CurrentTask(ctx) != nil {
				t.Error("a callback has a current task")
			}
		})
		if _, err := asyncio.Gather(ctx, a, b); err != nil {
			return err
		}
		if all := asyncio.AllTasks(ctx); len(all) != 1 || all[0] != me {
			t.Errorf("AllTasks = %v", all)
		}
		return nil
	})
}

func TestTask_ResultAndException(t *testing.T) {
	run(t, func(ctx context.Context) error {
		ok := asyncio.CreateTask(ctx, instant)
		bad := asyncio.CreateTask(ctx, func(context.Context) (string, error) { return "dropped?", errTest })
		if _, err := ok.Result(); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("Result before done: %v", err)
		}
		if v, err := ok.Await(ctx); v != 1 || err != nil {
			t.Errorf("Await = %v, %v", v, err)
		}
		if _, err := bad.Await(ctx); err != errTest {
			t.Errorf("Await = %v", err)
		}
		if err := ok.SetResult(2); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("SetResult of a task: %v", err)
		}
		if err := ok.SetException(errTest); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("SetException of a task: %v", err)
		}
		if ok.Cancel() || ok.Cancelling() != 0 {
			t.Error("Cancel of a done task")
		}
		return nil
	})
}

func TestTask_CancelCarriesMessageAndAsker(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, sleeper(time.Hour))
		settle(t, ctx)
		task.Cancel("enough")
		_, err := task.Await(ctx)
		var c *asyncio.CancelledError
		if !errors.As(err, &c) || c.Msg != "enough" || c.By != "Task-1" {
			t.Errorf("%#v", err)
		}
		if err.Error() != "asyncio: cancelled: enough (by Task-1)" {
			t.Error(err)
		}
		if now := loop(t, ctx).Time(); now != 0 {
			t.Errorf("took %v", now)
		}
		return nil
	})
}

// A task may catch a cancel, clean up, and go on.
func TestTask_CancelCaught(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var got []string
		task := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
			defer func() { got = append(got, "deferred") }()
			if err := asyncio.Sleep(ctx, time.Hour); errors.Is(err, asyncio.ErrCancelled) {
				got = append(got, "caught")
				if n := asyncio.CurrentTask(ctx).Uncancel(); n != 0 {
					t.Errorf("Uncancel() = %d", n)
				}
			}
			if err := asyncio.Sleep(ctx, time.Second); err != nil { // the clean-up is not disturbed
				return "", err
			}
			return "carried on", nil
		})
		settle(t, ctx)
		task.Cancel()
		v, err := task.Await(ctx)
		if v != "carried on" || err != nil || task.Cancelled() || task.Cancelling() != 0 {
			t.Errorf("%v, %v", v, err)
		}
		equal(t, "got", got, []string{"caught", "deferred"})
		return nil
	})
}

// A wrapped cancellation ends the task cancelled; a joined one does not.
func TestTask_CancelledByWhatItReturns(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, row := range []struct {
			wrap      func(error) error
			cancelled bool
		}{
			{func(err error) error { return err }, true},
			{func(err error) error { return fmt.Errorf("fetch: %w", err) }, true},
			{func(err error) error { return errors.Join(err, errTest) }, false},
			{func(error) error { return context.Canceled }, false},
		} {
			task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				return row.wrap(asyncio.Sleep(ctx, time.Hour))
			}))
			settle(t, ctx)
			task.Cancel()
			_, err := task.Await(ctx)
			if task.Cancelled() != row.cancelled {
				t.Errorf("%v: Cancelled() = %v", err, task.Cancelled())
			}
		}
		return nil
	})
}

// A cancel in the iteration in which a result arrives replaces the result (CPython 13).
func TestTask_CancelRacesResult(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[string](ctx)
		task := asyncio.CreateTask(ctx, f.Await)
		settle(t, ctx)
		must(t, f.SetResult("v"))
		if !task.Cancel() {
			t.Error("Cancel() = false")
		}
		if _, err := task.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) || !task.Cancelled() {
			t.Errorf("err = %v", err)
		}
		return nil
	})
}

// A task that returns with a cancel still to be delivered ends cancelled (CPython 14). If it waits
// for something new, the cancel goes to that at once.
func TestTask_CancelItself(t *testing.T) {
	run(t, func(ctx context.Context) error {
		returns := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			asyncio.CurrentTask(ctx).Cancel("me")
			return 1, nil
		})
		f := asyncio.CreateFuture[int](ctx)
		waits := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			asyncio.CurrentTask(ctx).Cancel()
			_, err := f.Await(ctx)
			return 2, err
		})
		sleeps := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			asyncio.CurrentTask(ctx).Cancel()
			return 3, asyncio.Sleep(ctx, time.Hour)
		})
		fails := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			asyncio.CurrentTask(ctx).Cancel()
			return 4, errTest
		})
		done := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			d := asyncio.CreateFuture[int](ctx)
			must(t, d.SetResult(5))
			asyncio.CurrentTask(ctx).Cancel()
			v, err := d.Await(ctx) // does not suspend, so the cancel is not delivered here
			asyncio.CurrentTask(ctx).Uncancel()
			return v, err
		})
		results, err := asyncio.GatherResults(ctx, returns, waits, sleeps, fails, done)
		if err != nil {
			return err
		}
		for i, want := range []error{asyncio.ErrCancelled, asyncio.ErrCancelled, asyncio.ErrCancelled, errTest, nil} {
			if !errors.Is(results[i].Err, want) {
				t.Errorf("%d: %v, want %v", i, results[i].Err, want)
			}
		}
		if !f.Cancelled() || results[4].Value != 5 {
			t.Errorf("f = %v, last = %v", f, results[4])
		}
		return nil
	})
}

func TestTask_UncancelDropsAPendingCancel(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, instant)
		task.Cancel()
		if task.Cancelling() != 1 || task.Uncancel() != 0 || task.Uncancel() != 0 {
			t.Error("Uncancel")
		}
		if v, err := task.Await(ctx); v != 1 || err != nil {
			t.Errorf("%v, %v", v, err)
		}
		return nil
	})
}

// A cancel goes to the innermost thing awaited and comes back up.
func TestTask_CancelTravelsDown(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var got []string
		inner := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			err := asyncio.Sleep(ctx, time.Hour)
			got = append(got, "inner")
			return err
		}))
		outer := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			_, err := inner.Await(ctx)
			got = append(got, "outer")
			return err
		}))
		settle(t, ctx)
		outer.Cancel()
		if _, err := outer.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) || !inner.Cancelled() {
			t.Errorf("%v, %v", err, inner)
		}
		equal(t, "got", got, []string{"inner", "outer"})
		return nil
	})
}

// If the inner task ignores the cancel, the outer one goes on too, and can be cancelled again.
func TestTask_InnerIgnoresCancel(t *testing.T) {
	run(t, func(ctx context.Context) error {
		inner := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			for {
				if err := asyncio.Sleep(ctx, time.Second); err == nil {
					return 7, nil
				}
			}
		})
		outer := asyncio.CreateTask(ctx, inner.Await)
		for range 3 {
			settle(t, ctx)
			if !outer.Cancel() {
				t.Error("Cancel() = false")
			}
		}
		v, err := outer.Await(ctx)
		if v != 7 || err != nil || outer.Cancelling() != 3 || inner.Cancelling() != 3 {
			t.Errorf("%v, %v, %v", v, err, outer)
		}
		return nil
	})
}

// Tasks wait for each other in a circle: the error names the deadlock, and a cancel breaks the
// circle.
func TestTask_ACancelBreaksACircle(t *testing.T) {
	circle := func(ctx context.Context, n int, await func(ctx context.Context, next *asyncio.Task[int]) error) []*asyncio.Task[int] {
		tasks := make([]*asyncio.Task[int], n)
		for i := range tasks {
			tasks[i] = asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return i, await(ctx, tasks[(i+1)%n]) })
		}
		return tasks
	}
	for name, await := range map[string]func(ctx context.Context, next *asyncio.Task[int]) error{
		"await": func(ctx context.Context, next *asyncio.Task[int]) error { _, err := next.Await(ctx); return err },
		"gather": func(ctx context.Context, next *asyncio.Task[int]) error {
			_, err := asyncio.Gather(ctx, next)
			return err
		},
	} {
		for n := 2; n <= 4; n++ {
			for entry := range n {
				run(t, func(ctx context.Context) error {
					tasks := circle(ctx, n, await)
					settle(t, ctx)
					tasks[entry].Cancel("break")
					for i, task := range tasks {
						if _, err := task.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
							t.Errorf("%s, %d tasks, cancelled at %d: task %d: %v", name, n, entry, i, err)
						}
					}
					return nil
				})
			}
		}
		for _, root := range []context.Context{t.Context(), context.Background()} {
			_, err := asyncio.Run(onVirtualTime(root, new(reports)), asyncio.Do(func(ctx context.Context) error {
				_, err := circle(ctx, 3, await)[0].Await(ctx)
				return err
			}))
			if !errors.Is(err, asyncio.ErrDeadlock) {
				t.Errorf("%s: %v, want ErrDeadlock", name, err)
			}
		}
	}
}

// A cancelled task awaits the task it lies on top of, which closes a circle. The cancel breaks it.
func TestTask_CancelledBeforeTheCircle(t *testing.T) {
	for name, wait := range map[string]func(ctx context.Context, u *asyncio.Task[int]) error{
		"await":  func(ctx context.Context, u *asyncio.Task[int]) error { _, err := u.Await(ctx); return err },
		"gather": func(ctx context.Context, u *asyncio.Task[int]) error { _, err := asyncio.Gather(ctx, u); return err },
	} {
		run(t, func(ctx context.Context) error {
			var u *asyncio.Task[int]
			var got error
			u = asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
				top := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
					asyncio.CurrentTask(ctx).Cancel()
					got = wait(ctx, u)
					return 0, got
				})
				return top.Await(ctx)
			})
			_, err := u.Await(ctx)
			settle(t, ctx)
			if !errors.Is(err, asyncio.ErrCancelled) || !errors.Is(got, asyncio.ErrCancelled) {
				t.Errorf("%s: %v, %v", name, err, got)
			}
			return nil
		})
	}
}

func TestTask_EagerStart(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var got []string
		me := asyncio.CurrentTask(ctx)
		task := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			got = append(got, asyncio.CurrentTask(ctx).GetName())
			nested := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				got = append(got, "nested")
				return asyncio.Sleep(ctx, 0)
			}), asyncio.EagerStart(true))
			got = append(got, "nested suspended")
			_, err := nested.Await(ctx)
			got = append(got, "nested done")
			return 1, err
		}, asyncio.EagerStart(true), asyncio.Name("eager"))
		if asyncio.CurrentTask(ctx) != me {
			t.Error("the starter is not current again")
		}
		equal(t, "inside CreateTask", got, []string{"eager", "nested", "nested suspended"})
		if v, err := task.Await(ctx); v != 1 || err != nil {
			t.Errorf("%v, %v", v, err)
		}
		equal(t, "in the end", got, []string{"eager", "nested", "nested suspended", "nested done"})

		lone := asyncio.CreateTask(ctx, sleeper(0), asyncio.EagerStart(true))
		if lone.Done() || !slices.Contains(asyncio.AllTasks(ctx), asyncio.AnyTask(lone)) {
			t.Error("a suspended eager task is not among AllTasks")
		}
		_, err := lone.Await(ctx)
		return err
	})
}

// An eager task that yields while nothing else is ready still lets its starter go on first.
func TestTask_EagerStartYields(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var got []string
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			got = append(got, "child")
			err := asyncio.Sleep(ctx, 0)
			got = append(got, "child again")
			return err
		}), asyncio.EagerStart(true))
		got = append(got, "starter")
		_, err := task.Await(ctx)
		equal(t, "order", got, []string{"child", "starter", "child again"})
		return err
	})
}

func TestTask_EagerStartInCallback(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		var task *asyncio.Task[asyncio.None]
		entered := false
		l.CallSoon(func() {
			task = asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				entered = true
				return asyncio.Sleep(ctx, time.Second)
			}), asyncio.EagerStart(true))
			if !entered || asyncio.CurrentTask(ctx) != nil {
				t.Error("in the callback")
			}
		})
		settle(t, ctx)
		_, err := task.Await(ctx)
		return err
	})
}

func TestCoroutine_MakingOneRunsNothing(t *testing.T) {
	run(t, func(ctx context.Context) error {
		ran := false
		coro := asyncio.Do(func(context.Context) error { ran = true; return nil })
		settle(t, ctx)
		if ran {
			t.Error("the coroutine ran")
		}
		_, err := asyncio.Await(ctx, coro)
		if !ran {
			t.Error("the coroutine did not run")
		}
		return err
	})
}

func TestEnsureFuture(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		if asyncio.EnsureFuture(ctx, f) != f {
			t.Error("of a future")
		}
		task := asyncio.CreateTask(ctx, instant)
		if asyncio.EnsureFuture(ctx, task) != &task.Future {
			t.Error("of a task")
		}
		g := asyncio.EnsureFuture(ctx, asyncio.Coroutine[int](instant))
		h := asyncio.EnsureFuture(ctx, anAwaitable(5))
		if v, err := g.Await(ctx); v != 1 || err != nil {
			t.Errorf("of a coroutine: %v, %v", v, err)
		}
		if v, err := h.Await(ctx); v != 5 || err != nil {
			t.Errorf("of an awaitable: %v, %v", v, err)
		}
		// A task seen as a future is still cancelled as a task.
		s := asyncio.EnsureFuture(ctx, sleeper(time.Hour))
		settle(t, ctx)
		s.Cancel()
		if s.Done() {
			t.Error("the task of EnsureFuture was cancelled like a future")
		}
		_, err := s.Await(ctx)
		if !errors.Is(err, asyncio.ErrCancelled) {
			t.Error(err)
		}
		return nil
	})
}

// Tasks that are created and awaited at once can share a stack (stack 5). Programs must not notice
// that.
func TestTask_OnTopOfEachOther(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var got []string
		note := func(s string) { got = append(got, s) }
		bystander := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			for i := range 4 {
				note(fmt.Sprint("bystander ", i))
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
			}
			return nil
		}))
		lower := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			note("lower")
			v, err := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
				note("middle")
				if asyncio.CurrentTask(ctx).GetName() != "middle" {
					t.Errorf("current is %v", asyncio.CurrentTask(ctx))
				}
				v, err := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
					note("upper")
					err := asyncio.Sleep(ctx, 0)
					note("upper again")
					return 1, err
				}).Await(ctx)
				note("middle again")
				return v + 1, err
			}, asyncio.Name("middle")).Await(ctx)
			note("lower again")
			if asyncio.CurrentTask(ctx).GetName() != "lower" {
				t.Errorf("current is %v", asyncio.CurrentTask(ctx))
			}
			return v + 1, err
		}, asyncio.Name("lower"))
		v, err := lower.Await(ctx)
		if v != 3 || err != nil {
			t.Errorf("%v, %v", v, err)
		}
		_, err = bystander.Await(ctx)
		equal(t, "order", got, []string{
			"bystander 0", "lower", "bystander 1", "middle", "bystander 2", "upper", "bystander 3",
			"upper again", "middle again", "lower again",
		})
		return err
	})
}

// A cancel of the lowest task reaches the uppermost, which may take its time.
func TestTask_OnTopOfEachOtherCancelled(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var got []string
		var nest func(depth int) asyncio.Coroutine[int]
		nest = func(depth int) asyncio.Coroutine[int] {
			return func(ctx context.Context) (int, error) {
				if depth == 0 {
					err := asyncio.Sleep(ctx, time.Hour)
					got = append(got, "cleaning up")
					_ = asyncio.Sleep(ctx, time.Second)
					return 0, err
				}
				_, err := asyncio.CreateTask(ctx, nest(depth-1)).Await(ctx)
				got = append(got, fmt.Sprint(depth))
				return depth, err
			}
		}
		task := asyncio.CreateTask(ctx, nest(3))
		settle(t, ctx)
		task.Cancel()
		// other tasks go on meanwhile
		other := asyncio.CreateTask(ctx, after(time.Second/2, 1, nil))
		if _, err := other.Await(ctx); err != nil || task.Done() {
			t.Errorf("%v, %v", err, task)
		}
		_, err := task.Await(ctx)
		if !errors.Is(err, asyncio.ErrCancelled) || loop(t, ctx).Time() != time.Second {
			t.Errorf("%v at %v", err, loop(t, ctx).Time())
		}
		equal(t, "order", got, []string{"cleaning up", "1", "2", "3"})
		return nil
	})
}

// The context of one await ends, while the tasks beneath it have contexts that cannot end.
func TestTask_OnTopWithAContextThatEnds(t *testing.T) {
	run(t, func(ctx context.Context) error {
		base := context.WithoutCancel(ctx)
		hurried, cancel := asyncio.WithTimeout(base, time.Second)
		defer cancel()
		var ended time.Duration
		stubborn := asyncio.Coroutine[int](func(ctx context.Context) (int, error) {
			err := asyncio.Sleep(base, time.Minute) // waits with a context that cannot end
			ended = loop(t, ctx).Time()
			return 1, err
		})
		task := asyncio.CreateTask(base, stubborn)
		if _, err := task.Await(hurried); !errors.Is(err, context.DeadlineExceeded) || loop(t, ctx).Time() != time.Second {
			t.Errorf("%v at %v", err, loop(t, ctx).Time())
		}
		v, err := task.Await(base)
		if v != 1 || ended != time.Minute {
			t.Errorf("%v, ended at %v", v, ended)
		}
		return err
	})
}

func TestTask_DeepChain(t *testing.T) {
	depth := 10_000
	if raceEnabled {
		depth = 1000
	}
	run(t, func(ctx context.Context) error {
		var nest func(depth int) asyncio.Coroutine[int]
		nest = func(depth int) asyncio.Coroutine[int] {
			return func(ctx context.Context) (int, error) {
				if depth == 0 {
					return 0, asyncio.Sleep(ctx, time.Second)
				}
				v, err := asyncio.CreateTask(ctx, nest(depth-1)).Await(ctx)
				return v + 1, err
			}
		}
		v, err := nest(depth)(ctx)
		if v != depth {
			t.Errorf("v = %d", v)
		}
		return err
	})
}

type anAwaitable int

func (a anAwaitable) Await(ctx context.Context) (int, error) {
	return int(a), asyncio.Sleep(ctx, time.Second)
}
