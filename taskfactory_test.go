package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// withFactory runs body on a loop that has factory.
func withFactory(t *testing.T, factory asyncio.TaskFactory, body func(ctx context.Context) error) {
	t.Helper()
	run(t, func(ctx context.Context) error {
		loop(t, ctx).SetTaskFactory(factory)
		return body(ctx)
	})
}

func TestTaskFactory_SetAndGet(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		if l.GetTaskFactory() != nil {
			t.Error("a new loop has a factory")
		}
		asked := 0
		l.SetTaskFactory(func(of *asyncio.EventLoop, r *asyncio.TaskRequest) {
			asked++
			is(t, "loop", of, l)
			is(t, "context", r.Context, ctx)
		})
		if l.GetTaskFactory() == nil {
			t.Error("no factory")
		}
		_, err := asyncio.CreateTask(ctx, instant).Await(ctx)
		must(t, err)
		is(t, "asked", asked, 1)
		l.SetTaskFactory(nil)
		if l.GetTaskFactory() != nil {
			t.Error("the factory is still there")
		}
		_, err = asyncio.CreateTask(ctx, instant).Await(ctx)
		is(t, "asked", asked, 1)
		return err
	})
}

// Every way to make a task goes through the factory.
func TestTaskFactory_IsAskedByAll(t *testing.T) {
	var asked []string
	count := func(what string, want int) {
		t.Helper()
		if len(asked) != want {
			t.Errorf("%s: asked for %v, want %d", what, asked, want)
		}
		asked = nil
	}
	withFactory(t, func(_ *asyncio.EventLoop, r *asyncio.TaskRequest) { asked = append(asked, r.Name) }, func(ctx context.Context) error {
		one := asyncio.Coroutine[int](instant)
		_, err := asyncio.CreateTask(ctx, one, asyncio.TaskName("a")).Await(ctx)
		must(t, err)
		equal(t, "names", asked, []string{"a"})
		count("CreateTask", 1)
		_, err = asyncio.EnsureFuture(ctx, one).Await(ctx)
		must(t, err)
		count("EnsureFuture", 1)
		_, err = asyncio.Gather(ctx, one, one)
		must(t, err)
		_, err = asyncio.GatherResults(ctx, []asyncio.Awaitable[int]{one, asyncio.CreateTask(ctx, one), anAwaitable(1)}...)
		must(t, err)
		count("Gather", 5)
		must(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			tg.CreateTask(ctx, nothing)
			asyncio.GroupTask(ctx, tg, one)
			_, err := asyncio.GroupStart(ctx, tg, func(_ context.Context, s *asyncio.TaskStatus[int]) error { return s.Started(1) })
			return err
		}))
		count("RunTaskGroup", 3)
		_, err = asyncio.Shield(ctx, one).Await(ctx)
		must(t, err)
		count("Shield", 1)
		_, err = asyncio.RunCoroutineThreadsafe(one, loop(t, ctx)).Await(ctx)
		must(t, err)
		count("RunCoroutineThreadsafe", 1)
		_, err = asyncio.WaitFor(ctx, one, time.Second)
		count("WaitFor", 0) // runs it in the calling task
		return err
	})
	count("shutdown", 0) // the library's own tasks do not go through the factory
}

func TestTaskFactory_Changes(t *testing.T) {
	withFactory(t, func(_ *asyncio.EventLoop, r *asyncio.TaskRequest) {
		r.Name = "job/" + r.Name
		r.Context = context.WithValue(r.Context, ctxKey{}, "from the factory")
		r.EagerStart = true
	}, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, func(ctx context.Context) (any, error) { return ctx.Value(ctxKey{}), nil }, asyncio.TaskName("x"))
		v, err := task.Result()
		if v != "from the factory" || err != nil || task.GetName() != "job/x" || task.GetContext().Value(ctxKey{}) != v {
			t.Errorf("%v, %v, %v", v, err, task)
		}
		got, err := asyncio.Gather(ctx, asyncio.Coroutine[any](func(ctx context.Context) (any, error) { return ctx.Value(ctxKey{}), nil }))
		if len(got) != 1 || got[0] != v {
			t.Error(got)
		}
		return err
	})
}

func TestTaskFactory_Wrap(t *testing.T) {
	var got []string
	around := func(name string) func(ctx context.Context, run func(context.Context) error) error {
		return func(ctx context.Context, run func(context.Context) error) error {
			got = append(got, name+" begins")
			err := run(context.WithValue(ctx, ctxKey{}, name))
			got = append(got, name+" ends")
			if err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
			return err
		}
	}
	withFactory(t, func(_ *asyncio.EventLoop, r *asyncio.TaskRequest) {
		r.Wrap(around("inner"))
		r.Wrap(around("outer"))
	}, func(ctx context.Context) error {
		got = nil
		ok := asyncio.CreateTask(ctx, func(ctx context.Context) (any, error) {
			got = append(got, "runs")
			return ctx.Value(ctxKey{}), asyncio.Sleep(ctx, time.Second)
		})
		v, err := ok.Await(ctx)
		must(t, err)
		is(t, "value", v, "inner")
		equal(t, "order", got, []string{"outer begins", "inner begins", "runs", "inner ends", "outer ends"})

		bad := asyncio.CreateTask(ctx, asyncio.Do(reprError))
		if s := bad.String(); !strings.Contains(s, "coro=<asyncio_test.reprError() running, defined at ") {
			t.Error(s) // the wrapper does not hide the coroutine
		}
		_, err = bad.Await(ctx)
		if !errors.Is(err, errTest) || err.Error() != "outer: inner: test" {
			t.Error(err)
		}
		gone := asyncio.CreateTask(ctx, asyncio.Do(sleeping(time.Hour)))
		settle(t, ctx)
		gone.Cancel()
		endsCancelled(t, ctx, gone) // a wrapped cancellation is still one
		return nil
	})
	// The wrapper may leave the coroutine out, or run it again.
	tries := 0
	withFactory(t, func(_ *asyncio.EventLoop, r *asyncio.TaskRequest) {
		r.Wrap(func(ctx context.Context, run func(context.Context) error) error {
			if r.Name == "not at all" {
				return nil
			}
			for run(ctx) != nil {
			}
			return nil
		})
	}, func(ctx context.Context) error {
		tries = 0
		v, err := asyncio.CreateTask(ctx, func(context.Context) (int, error) {
			if tries++; tries < 3 {
				return 0, errTest
			}
			return tries, nil
		}).Await(ctx)
		must(t, err)
		is(t, "after two failures", v, 3)
		v, err = asyncio.CreateTask(ctx, func(context.Context) (int, error) { t.Error("entered"); return 1, nil }, asyncio.TaskName("not at all")).Await(ctx)
		is(t, "not run", v, 0)
		return err
	})
}

func reprError(context.Context) error { return errTest }

// If the factory panics, so does CreateTask, and no task was made.
func TestTaskFactory_Panics(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		l.SetTaskFactory(func(*asyncio.EventLoop, *asyncio.TaskRequest) { panic(errTest) })
		wantErr(t, "CreateTask", panicOf(func() { asyncio.CreateTask(ctx, instant) }), errTest)
		wantErr(t, "in a group", panicOf(func() {
			_ = asyncio.RunTaskGroup(ctx, func(_ context.Context, tg group) error { tg.CreateTask(ctx, nothing); return nil })
		}), errTest)
		_, err := asyncio.RunCoroutineThreadsafe(instant, l).Await(ctx)
		var p *asyncio.PanicError
		if !errors.As(err, &p) || p.Value != errTest {
			t.Errorf("RunCoroutineThreadsafe: %v", err)
		}
		is(t, "tasks", len(asyncio.AllTasks(ctx)), 1)
		return nil // the shutdown does not need it
	})
	must(t, err)
	if len(r.all) != 1 || !errors.Is(r.all[0].Exception, errTest) {
		t.Errorf("%+v", r.all)
	}
}

func TestTaskFactory_Misuse(t *testing.T) {
	other := newLoop(t)
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		for name, bad := range map[string]context.Context{"nil": nil, "no loop": t.Context(), "another loop": other.Context()} {
			l.SetTaskFactory(func(_ *asyncio.EventLoop, r *asyncio.TaskRequest) { r.Context = bad })
			wantErr(t, name, panicOf(func() { asyncio.CreateTask(ctx, instant) }), asyncio.ErrInvalidArgument)
		}
		l.SetTaskFactory(func(_ *asyncio.EventLoop, r *asyncio.TaskRequest) { r.Wrap(nil) })
		wantErr(t, "Wrap(nil)", panicOf(func() { asyncio.CreateTask(ctx, instant) }), asyncio.ErrInvalidArgument)
		l.SetTaskFactory(nil)
		return nil
	})
}

func TestEagerTaskFactory_Completion(t *testing.T) {
	withFactory(t, asyncio.EagerTaskFactory, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, instant)
		is(t, "done", task.Done(), true)
		is(t, "Cancel", task.Cancel(), false)
		v, err := task.Await(ctx)
		if v != 1 || err != nil || task.Cancelled() {
			t.Error(v, err)
		}
		f := asyncio.CreateFuture[string](ctx)
		setter := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { return f.SetResult("x") }))
		is(t, "done", setter.Done(), true)
		s, err := f.Await(ctx)
		is(t, "result", s, "x")
		// An explicit option overrides the factory.
		lazy := asyncio.CreateTask(ctx, instant, asyncio.EagerStart(false))
		is(t, "done", lazy.Done(), false)
		_, lazyErr := lazy.Await(ctx)
		return errors.Join(err, lazyErr)
	})
}

func TestEagerTaskFactory_Blocking(t *testing.T) {
	withFactory(t, asyncio.EagerTaskFactory, func(ctx context.Context) error {
		me := self(ctx)
		var during asyncio.AnyTask
		var all []asyncio.AnyTask
		f, g := asyncio.CreateFuture[int](ctx), asyncio.CreateFuture[int](ctx)
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			during, all = self(ctx), asyncio.AllTasks(ctx)
			_, err := f.Await(ctx)
			is(t, "current task after the wait", self(ctx), during)
			must(t, g.SetResult(1))
			return err
		}))
		is(t, "current task", self(ctx), me)
		is(t, "current task inside", during, asyncio.AnyTask(task))
		is(t, "among AllTasks inside", slices.Contains(all, during), true)
		is(t, "among AllTasks", slices.Contains(asyncio.AllTasks(ctx), during), true)
		is(t, "done", task.Done(), false)
		must(t, f.SetResult(1))
		_, err := g.Await(ctx)
		must(t, err)
		is(t, "among AllTasks at last", slices.Contains(asyncio.AllTasks(ctx), during), false)

		done := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { all = asyncio.AllTasks(ctx); return nil }))
		is(t, "among AllTasks inside", slices.Contains(all, asyncio.AnyTask(done)), true)
		is(t, "among AllTasks", slices.Contains(asyncio.AllTasks(ctx), asyncio.AnyTask(done)), false)

		gone := asyncio.CreateTask(ctx, asyncio.Do(sleeping(time.Hour)))
		is(t, "Cancel", gone.Cancel("enough"), true)
		is(t, "Cancelling", gone.Cancelling(), 1)
		_, err = gone.Await(ctx)
		var c *asyncio.CancelledError
		if !errors.As(err, &c) || c.Msg != "enough" {
			t.Error(err)
		}
		return nil
	})
}

// The context has its creator's values, in the first step and later. The creator's context does not
// change.
func TestEagerTaskFactory_Values(t *testing.T) {
	withFactory(t, asyncio.EagerTaskFactory, func(ctx context.Context) error {
		ctx = context.WithValue(ctx, ctxKey{}, 1)
		steps := 0
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			is(t, "first step", ctx.Value(ctxKey{}), 1)
			steps++
			ctx = context.WithValue(ctx, ctxKey{}, 2)
			must(t, asyncio.Sleep(ctx, time.Second))
			is(t, "second step", ctx.Value(ctxKey{}), 2)
			steps++
			return nil
		}))
		is(t, "steps", steps, 1)
		is(t, "creator", ctx.Value(ctxKey{}), 1)
		_, err := task.Await(ctx)
		is(t, "steps", steps, 2)
		is(t, "creator", ctx.Value(ctxKey{}), 1)
		return err
	})
}

// The main task does not start eagerly, because it is made before the loop runs.
func TestEagerTaskFactory_LoopNotRunning(t *testing.T) {
	l := newLoop(t)
	l.SetTaskFactory(asyncio.EagerTaskFactory)
	task := asyncio.CreateTask(l.Context(), instant)
	is(t, "done", task.Done(), false)
	v, err := asyncio.RunUntilComplete(l, task)
	is(t, "value", v, 1)
	must(t, err)
}

// A tree of tasks is made of as many tasks, and takes as many iterations, as in CPython.
func TestTaskFactory_Counting(t *testing.T) {
	const width, depth, all = 5, 4, 5 + 25 + 125 + 625
	var groups, gathers func(depth int) routine
	groups = func(depth int) routine {
		return func(ctx context.Context) error {
			if depth == 0 {
				return nil
			}
			return asyncio.RunTaskGroup(ctx, func(_ context.Context, tg group) error {
				for range width {
					tg.CreateTask(ctx, groups(depth-1))
				}
				return nil
			})
		}
	}
	gathers = func(depth int) routine {
		return func(ctx context.Context) error {
			if depth == 0 {
				return nil
			}
			_, err := asyncio.Gather(ctx, slices.Repeat([]asyncio.Coroutine[asyncio.None]{asyncio.Do(gathers(depth - 1))}, width)...)
			return err
		}
	}
	var chain func(depth int) routine
	chain = func(depth int) routine {
		return func(ctx context.Context) error {
			if depth == 0 {
				return nil
			}
			return chain(depth - 1)(ctx)
		}
	}
	for _, row := range []struct {
		name             string
		tree             routine
		made             int
		ticks, eagerTick int
	}{
		{"coroutines that await each other", chain(100), 0, 0, 0},
		{"gathers", gathers(depth), all, 3 * depth, 0},
		// started eagerly, none in CPython 3.13; later versions schedule the done callback
		{"groups", groups(depth), all, 3 * depth, 2 * depth},
	} {
		for _, eager := range []bool{false, true} {
			t.Run(row.name, func(t *testing.T) {
				made := 0
				withFactory(t, func(l *asyncio.EventLoop, r *asyncio.TaskRequest) {
					made++
					if eager {
						asyncio.EagerTaskFactory(l, r)
					}
				}, func(ctx context.Context) error {
					made = 0
					tk := newTicker(t, ctx)
					must(t, asyncio.Sleep(ctx, 0))
					cost := tk.cost(row.tree)
					tk.h.Cancel()
					is(t, "made", made, row.made)
					want := row.ticks
					if eager {
						want = row.eagerTick
					}
					is(t, fmt.Sprint("iterations, eager ", eager), cost, want)
					return nil
				})
			})
		}
	}
}

func ExampleEventLoop_SetTaskFactory() {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		l.SetTaskFactory(func(_ *asyncio.EventLoop, r *asyncio.TaskRequest) {
			name := r.Name
			r.Wrap(func(ctx context.Context, run func(context.Context) error) error {
				fmt.Println(name, "begins")
				defer fmt.Println(name, "ends")
				return run(ctx)
			})
		})
		_, err = asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
			fmt.Println("hello")
			return nil
		}), asyncio.TaskName("greeter")).Await(ctx)
		return err
	}))
	fmt.Println(err)
	// Output:
	// greeter begins
	// hello
	// greeter ends
	// <nil>
}

func ExampleTaskFactory() {
	numbered := func(prefix string) asyncio.TaskFactory {
		n := 0
		return func(_ *asyncio.EventLoop, r *asyncio.TaskRequest) {
			n++
			r.Name = fmt.Sprint(prefix, n)
		}
	}
	_, _ = asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		l.SetTaskFactory(numbered("worker-"))
		for range 2 {
			fmt.Println(asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { return nil })).GetName())
		}
		return nil
	}))
	// Output:
	// worker-1
	// worker-2
}

func ExampleTaskRequest() {
	type tenant struct{}
	_, _ = asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		l.SetTaskFactory(func(_ *asyncio.EventLoop, r *asyncio.TaskRequest) {
			r.Context = context.WithValue(r.Context, tenant{}, "acme")
			r.EagerStart = true
		})
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			fmt.Println("serving", ctx.Value(tenant{}))
			return nil
		}))
		fmt.Println("created")
		return nil
	}))
	// Output:
	// serving acme
	// created
}
