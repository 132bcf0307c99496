package asyncio_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
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
		a := asyncio.CreateTask(ctx, sleeper(time.Second), asyncio.TaskName("a"))
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
		}, asyncio.EagerStart(true), asyncio.TaskName("eager"))
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

// A panic is reported at once, with its stack, and awaiting the task returns it as the error
// (design 4, task 6).
func TestPanic_InATask(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		for name, suspend := range map[string]bool{"at once": false, "after a suspension": true} {
			task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				if suspend {
					if err := asyncio.Sleep(ctx, time.Second); err != nil {
						return err
					}
				}
				panicDeep(errTest)
				return nil
			}))
			_, err := task.Await(ctx)
			var p *asyncio.PanicError
			if !errors.As(err, &p) || p.Value != errTest || !errors.Is(err, errTest) || !strings.Contains(string(p.Stack), "panicDeep") {
				t.Errorf("%s: %v", name, err)
			}
			if task.Cancelled() || asyncio.CurrentTask(ctx).GetName() != "Task-1" {
				t.Errorf("%s: %v", name, task)
			}
		}
		return nil
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"panic in task", "panic in task"})
	if len(r.all) > 0 && (r.all[0].Task == nil || r.all[0].Exception == nil) {
		t.Errorf("%+v", r.all[0])
	}
}

func panicDeep(v any) { panic(v) }

func TestPanic_OfMainAndOfNil(t *testing.T) {
	r, err := runReporting(t, func(context.Context) error { panic(nil) })
	var p *asyncio.PanicError
	var nilErr *runtime.PanicNilError
	if !errors.As(err, &p) || !errors.As(err, &nilErr) {
		t.Errorf("err = %v", err)
	}
	equal(t, "reports", r.messages(), []string{"panic in task"})
}

func TestPanic_InAnEagerTask(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { panic("x") }), asyncio.EagerStart(true))
		if !task.Done() || asyncio.CurrentTask(ctx).GetName() != "Task-1" {
			t.Error("after the eager start")
		}
		return nil
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"panic in task"})
}

func TestPanic_WhileBeingCancelled(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			asCancelled(t, asyncio.Sleep(ctx, time.Hour))
			panic("x")
		}))
		must(t, yields(ctx, 1))
		task.Cancel()
		is(t, "done", task.Done(), false)
		must(t, yields(ctx, 1))
		var p *asyncio.PanicError
		if !task.Done() || task.Cancelled() || !errors.As(task.Exception(), &p) {
			t.Error(task)
		}
		return nil
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"panic in task"})
}
