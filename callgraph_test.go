package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// funcs returns the names of the functions of a call stack, innermost first.
func funcs(frames []runtime.Frame) []string {
	var all []string
	for _, f := range frames {
		all = append(all, f.Function[strings.LastIndexByte(f.Function, '/')+1:])
	}
	return all
}

//go:noinline
func graphInner(ctx context.Context, f *asyncio.Future[int]) error {
	_, err := f.Await(ctx)
	return err
}

//go:noinline
func graphOuter(ctx context.Context, f *asyncio.Future[int]) error { return graphInner(ctx, f) }

// Tasks suspended in every possible way report their own frames, to a task or to a callback. Then
// they go on as if nothing had happened.
func TestCallGraph_StacksOfSuspendedTasks(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		var lock asyncio.Lock
		must(t, lock.Acquire(ctx))
		want := map[string][]string{
			"future": {"asyncio.(*Future[...]).Await", "asyncio_test.graphInner", "asyncio_test.graphOuter"},
			"lock":   {"asyncio.(*Lock).Acquire"},
			"sleep":  {"asyncio.Sleep"},
			"eager":  {"asyncio.(*Future[...]).Await", "asyncio_test.graphInner"},
			"new":    nil,
		}
		ended := 0
		tasks := map[string]*asyncio.Task[asyncio.None]{}
		add := func(name string, fn func(ctx context.Context) error, opts ...asyncio.TaskOption) {
			tasks[name] = asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				defer func() { ended++ }()
				return fn(ctx)
			}), append(opts, asyncio.TaskName(name))...)
		}
		add("future", func(ctx context.Context) error { return graphOuter(ctx, f) })
		add("lock", func(ctx context.Context) error { return lock.Acquire(ctx) })
		add("sleep", func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) })
		add("eager", func(ctx context.Context) error { return graphInner(ctx, f) }, asyncio.EagerStart(true))
		settle(t, ctx)
		check := func(where string) {
			for name, want := range want {
				got := funcs(tasks[name].GetStack())
				if len(got) < len(want) || !slices.Equal(got[:len(want)], want) || len(want) == 0 && len(got) != 0 {
					t.Errorf("%s: %s = %v, want %v", where, name, got, want)
				}
				for _, f := range got {
					if strings.Contains(f, "begin") || strings.Contains(f, "dispatch") || strings.HasSuffix(f, ".run") {
						t.Errorf("%s: %s shows the machinery: %v", where, name, got)
					}
				}
			}
		}
		add("new", func(ctx context.Context) error { return nil })
		check("main")
		delete(want, "new")
		called := false
		loop(t, ctx).CallSoon(func() { called = true; check("callback") })
		asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { check("eager"); return nil }), asyncio.EagerStart(true))
		settle(t, ctx)
		settle(t, ctx)
		must(t, f.SetResult(1))
		lock.Release()
		if err := asyncio.Sleep(ctx, 2*time.Hour); err != nil {
			return err
		}
		if ended != len(tasks) || !called {
			t.Errorf("%d tasks ended of %d", ended, len(tasks))
		}
		if got := tasks["future"].GetStack(); got != nil {
			t.Errorf("a done task has a stack: %v", got)
		}
		return nil
	})
}

// The report names the sequence that a program ranges over, whichever function the compiler put the
// iterator into.
func TestCallGraph_Iterators(t *testing.T) {
	run(t, func(ctx context.Context) error {
		want := map[string]string{
			"lines":          "asyncio.(*StreamReader).ReadLine",
			"all":            "asyncio.(*Queue[...]).Get",
			"completed":      "asyncio.AsCompleted[...]",
			"groupcompleted": "asyncio.GroupCompleted[...]",
		}
		f := asyncio.CreateFuture[int](ctx)
		q := asyncio.NewQueue[int](0)
		r := asyncio.NewStreamReader(ctx)
		add := func(name string, fn func(ctx context.Context)) *asyncio.Task[asyncio.None] {
			return asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { fn(ctx); return nil }), asyncio.TaskName(name))
		}
		tasks := []*asyncio.Task[asyncio.None]{
			add("lines", func(ctx context.Context) {
				for range r.Lines(ctx) {
				}
			}),
			add("all", func(ctx context.Context) {
				for range q.All(ctx) {
				}
			}),
			add("completed", func(ctx context.Context) {
				for range asyncio.AsCompleted(ctx, []*asyncio.Future[int]{f}) {
				}
			}),
			add("groupcompleted", func(ctx context.Context) {
				_ = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
					asyncio.GroupTask(ctx, tg, f.Await)
					for range asyncio.GroupCompleted[int](ctx, tg) {
					}
					return nil
				})
			}),
		}
		settle(t, ctx)
		for _, task := range tasks {
			got := funcs(task.GetStack())
			if len(got) < 2 || got[0] != want[task.GetName()] || !strings.HasPrefix(got[1], "asyncio_test.TestCallGraph_Iterators.") {
				t.Errorf("%s: %v, want %s and the program's own", task.GetName(), got, want[task.GetName()])
			}
			for _, f := range task.GetStack()[1:] {
				if task.GetName() != "groupcompleted" && path.Base(f.File) != "callgraph_test.go" {
					t.Errorf("%s: %s is at %s", task.GetName(), f.Function, f.File)
				}
			}
		}
		return nil
	})
}

// A task that asks sees the tasks below it on the stack, even several deep and through eager
// starts.
func TestCallGraph_StacksBelow(t *testing.T) {
	run(t, func(ctx context.Context) error {
		main := asyncio.CurrentTask(ctx)
		var outer *asyncio.Task[int]
		asked := false
		ask := func(ctx context.Context) (int, error) {
			asked = true
			if got := funcs(main.GetStack()); len(got) == 0 || !strings.Contains(got[0], "Await") && !strings.Contains(got[0], "CreateTask") {
				t.Errorf("main = %v", got)
			}
			if got := funcs(outer.GetStack()); len(got) == 0 || !strings.Contains(strings.Join(got, " "), "StacksBelow") {
				t.Errorf("outer = %v", got)
			}
			if got := funcs(asyncio.CurrentTask(ctx).GetStack()); len(got) != 1 || !strings.Contains(got[0], "StacksBelow") {
				t.Errorf("asking = %v", got)
			}
			return 1, nil
		}
		for _, eager := range []bool{false, true} {
			asked = false
			outer = asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
				inner := asyncio.CreateTask(ctx, ask, asyncio.EagerStart(eager), asyncio.TaskName("inner"))
				return inner.Await(ctx)
			}, asyncio.TaskName("outer"))
			if v, err := outer.Await(ctx); v != 1 || err != nil || !asked {
				t.Errorf("outer = %v, %v", v, err)
			}
		}
		return nil
	})
}

// Every combinator has its awaited-by edges. (CPython: test_graph.py.)
func TestCallGraph_AwaitedBy(t *testing.T) {
	for name, wait := range map[string]func(ctx context.Context, f *asyncio.Task[int]) error{
		"await": func(ctx context.Context, f *asyncio.Task[int]) error { _, err := f.Await(ctx); return err },
		"Gather": func(ctx context.Context, f *asyncio.Task[int]) error {
			_, err := asyncio.Gather[int](ctx, f)
			return err
		},
		"Wait": func(ctx context.Context, f *asyncio.Task[int]) error {
			_, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{f})
			return err
		},
		"Gather2": func(ctx context.Context, f *asyncio.Task[int]) error {
			_, _, err := asyncio.Gather2(ctx, f, asyncio.Coroutine[string](func(context.Context) (string, error) { return "", nil }))
			return err
		},
		"Select": func(ctx context.Context, f *asyncio.Task[int]) error {
			_, err := asyncio.Select(ctx, asyncio.OnDone(f))
			return err
		},
		"WaitFor": func(ctx context.Context, f *asyncio.Task[int]) error {
			_, err := asyncio.WaitFor(ctx, f, time.Hour)
			return err
		},
		"Shield": func(ctx context.Context, f *asyncio.Task[int]) error {
			_, err := asyncio.Shield(ctx, f).Await(ctx)
			return err
		},
		"Timeout": func(ctx context.Context, f *asyncio.Task[int]) error {
			return asyncio.Timeout(ctx, time.Hour, func(ctx context.Context, _ *asyncio.TimeoutScope) error { _, err := f.Await(ctx); return err })
		},
		"AsCompleted": func(ctx context.Context, f *asyncio.Task[int]) error {
			for _, err := range asyncio.AsCompleted(ctx, []asyncio.AnyFuture{f}) {
				return err
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				gate := asyncio.CreateFuture[int](ctx)
				f := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return gate.Await(ctx) }, asyncio.TaskName("leaf"))
				waiter := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return wait(ctx, f) }), asyncio.TaskName("waiter"))
				root := asyncio.CreateTask(ctx, waiter.Await, asyncio.TaskName("root"))
				settle(t, ctx)
				g := asyncio.CaptureCallGraph(ctx, gate)
				var path []string
				for len(g.AwaitedBy) > 0 {
					if len(g.AwaitedBy) != 1 {
						t.Fatalf("%v is awaited by %d", g.Future, len(g.AwaitedBy))
					}
					g = g.AwaitedBy[0]
					path = append(path, g.Future.(asyncio.AnyTask).GetName())
					if len(g.CallStack) == 0 {
						t.Errorf("%v has no stack", g.Future)
					}
				}
				equal(t, "path", path, []string{"leaf", "waiter", "root"})
				must(t, gate.SetResult(1))
				_, err := root.Await(ctx)
				return err
			})
		})
	}
}

func TestCallGraph_TaskGroup(t *testing.T) {
	run(t, func(ctx context.Context) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			child := tg.CreateTask(ctx, func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Second) })
			g := asyncio.CaptureCallGraph(ctx, child)
			if len(g.AwaitedBy) != 1 || g.AwaitedBy[0].Future != asyncio.AnyFuture(asyncio.CurrentTask(ctx)) {
				t.Errorf("the child is awaited by %v", g.AwaitedBy)
			}
			return nil
		})
	})
}

// Each task is described once, however many paths lead to it, and a circle ends.
func TestCallGraph_Format(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		var mids []*asyncio.Task[int]
		for i := range 3 {
			mids = append(mids, asyncio.CreateTask(ctx, f.Await, asyncio.TaskName(fmt.Sprint("mid", i))))
		}
		top := asyncio.CreateTask(ctx, func(ctx context.Context) ([]int, error) { return asyncio.Gather[int](ctx, mids...) }, asyncio.TaskName("top"))
		settle(t, ctx)
		text := asyncio.FormatCallGraph(ctx, f)
		if n := strings.Count(text, "+ Call stack"); n != 4 {
			t.Errorf("%d stacks in\n%s", n, text)
		}
		text = regexp.MustCompile(`at \S+/(\w+\.go):\d+`).ReplaceAllString(text, "at $1")
		text = regexp.MustCompile(`(?m)^.*\|.*\n`).ReplaceAllString(text, "")
		want := `* Future, pending
  + Awaited by:
    * Task 'mid0', asyncio.(*Future).Await()
      + Call stack:
      + Awaited by:
        * Task 'top', asyncio_test.TestCallGraph_Format.func1.1()
          + Call stack:
    * Task 'mid1', asyncio.(*Future).Await()
      + Call stack:
      + Awaited by:
        * Task 'top', asyncio_test.TestCallGraph_Format.func1.1(), as above
    * Task 'mid2', asyncio.(*Future).Await()
      + Call stack:
      + Awaited by:
        * Task 'top', asyncio_test.TestCallGraph_Format.func1.1(), as above
`
		if text != want {
			t.Errorf("got\n%s\nwant\n%s", text, want)
		}
		must(t, f.SetResult(1))
		if _, err := top.Await(ctx); err != nil {
			return err
		}
		var b strings.Builder
		must(t, asyncio.PrintCallGraph(ctx, nil, &b))
		if !strings.HasPrefix(b.String(), "* Task 'Task-1', ") || !strings.Contains(b.String(), "|   asyncio_test.TestCallGraph_Format.func1() at ") || strings.Contains(b.String(), "PrintCallGraph") {
			t.Errorf("of the current task:\n%s", b.String())
		}
		loop(t, ctx).CallSoon(func() {
			if s := asyncio.FormatCallGraph(ctx, nil); s != "" {
				t.Errorf("in a callback: %q", s)
			}
		})
		settle(t, ctx)
		return nil
	})
}

// The graph of a task shows every way to wait for it.
func TestCallGraph_WaysToWait(t *testing.T) {
	for how, wait := range map[string]func(ctx context.Context, w *asyncio.Task[int]) error{
		"StaggeredRace": func(ctx context.Context, w *asyncio.Task[int]) error {
			_, _, _, err := asyncio.StaggeredRace(ctx, asyncio.Forever, w.Await)
			return err
		},
		"Select": func(ctx context.Context, w *asyncio.Task[int]) error {
			_, err := asyncio.Select(ctx, asyncio.OnDone(asyncio.Coro(w.Await)))
			return err
		},
		"GroupStart": func(ctx context.Context, w *asyncio.Task[int]) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
				_, err := asyncio.GroupStart(ctx, tg, func(ctx context.Context, _ *asyncio.TaskStatus[int]) error {
					_, err := w.Await(ctx)
					return err
				})
				return err
			})
		},
		"GroupCompleted": func(ctx context.Context, w *asyncio.Task[int]) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
				asyncio.GroupTask(ctx, tg, w.Await)
				for range asyncio.GroupCompleted[int](ctx, tg) {
				}
				return nil
			})
		},
		"Call": func(ctx context.Context, w *asyncio.Task[int]) error {
			_, err := asyncio.Call(ctx, w.GetLoop(), w.Await)
			return err
		},
	} {
		run(t, func(ctx context.Context) error {
			w := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return 0, asyncio.Sleep(ctx, time.Hour) })
			probe := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return wait(ctx, w) }), asyncio.TaskName("probe"))
			settle(t, ctx)
			settle(t, ctx)
			if g := asyncio.FormatCallGraph(ctx, w); !strings.Contains(g, "probe") {
				t.Errorf("%s: who waits is not in\n%s", how, g)
			}
			probe.Cancel()
			_, err := asyncio.GatherResults(ctx, probe)
			w.Cancel()
			settle(t, ctx)
			return err
		})
	}
}

// Asking for the graph changes neither what happens nor when.
func TestCallGraph_IsNotSeen(t *testing.T) {
	trace := func(ask bool) (events []string) {
		run(t, func(ctx context.Context) error {
			events = nil
			q := asyncio.NewQueue[int](1)
			var ts []*asyncio.Task[asyncio.None]
			for i := range 4 {
				ts = append(ts, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
					for n := range 5 {
						if ask {
							for _, u := range asyncio.AllTasks(ctx) {
								asyncio.CaptureCallGraph(ctx, u)
							}
						}
						if i%2 == 0 {
							if err := q.Put(ctx, n); err != nil {
								return err
							}
						} else if _, err := q.Get(ctx); err != nil {
							return err
						}
						events = append(events, fmt.Sprint(i, n))
						if n == 3 {
							_ = asyncio.Sleep(ctx, time.Duration(i)*time.Second)
						}
					}
					return nil
				})))
			}
			_, err := asyncio.Gather[asyncio.None](ctx, ts...)
			return err
		})
		return events
	}
	equal(t, "events", trace(true), trace(false))
}

// A stopped loop has stacks too; a closed loop has none.
func TestCallGraph_LoopNotRunning(t *testing.T) {
	var r reports
	ctx := onVirtualTime(t.Context(), &r)
	l := asyncio.NewEventLoop(ctx)
	f := asyncio.CreateFuture[int](l.Context())
	task := asyncio.CreateTask(l.Context(), func(ctx context.Context) (int, error) {
		defer func() {
			if s := asyncio.CurrentTask(ctx).GetStack(); s != nil {
				t.Errorf("while it is unwound: %v", funcs(s))
			}
		}()
		return 0, graphOuter(ctx, f)
	})
	l.CallSoon(l.Stop)
	must(t, l.RunForever())
	if got := funcs(task.GetStack()); len(got) < 3 || got[1] != "asyncio_test.graphInner" {
		t.Errorf("stack = %v", got)
	}
	must(t, l.Close())
	if got := task.GetStack(); got != nil {
		t.Errorf("of a closed loop: %v", funcs(got))
	}
	equal(t, "reports", r.messages(), []string{"Task was destroyed but it is pending!"})
}

// A deadlock report says which task waits for which, and where. It shows a circle if there is one.
func TestCallGraph_Deadlock(t *testing.T) {
	_, err := runReporting(t, func(ctx context.Context) error {
		var a, b asyncio.Lock
		both := func(first, second *asyncio.Lock) func(ctx context.Context) error {
			return func(ctx context.Context) error {
				if err := first.Acquire(ctx); err != nil {
					return err
				}
				defer first.Release()
				settle(t, ctx)
				if err := second.Acquire(ctx); err != nil {
					return err
				}
				defer second.Release()
				return nil
			}
		}
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			tg.CreateTask(ctx, both(&a, &b), asyncio.TaskName("ab"))
			tg.CreateTask(ctx, both(&b, &a), asyncio.TaskName("ba"))
			return nil
		})
	})
	if !errors.Is(err, asyncio.ErrDeadlock) {
		t.Fatalf("err = %v", err)
	}
	for _, want := range []string{
		"tasks that wait: 3",
		"task 'ab', asyncio_test.TestCallGraph_Deadlock.func1.1.1(), waits for <asyncio.Lock [locked, waiters:1]>, that is for task 'ba'",
		"asyncio.(*Lock).Acquire() at ",
		"that is for task 'ab' and task 'ba'",
		"in a circle: 'ab' -> 'ba' -> 'ab'",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
}

// The call graph of a deep chain is no longer than necessary.
func TestCallGraph_OfADeepChain(t *testing.T) {
	const n = 1000
	left, length := 0, 0
	run(t, func(ctx context.Context) error {
		_, err := deepChain(n, &left, func(ctx context.Context) error {
			length = len(asyncio.FormatCallGraph(ctx, nil))
			return nil
		}).Await(ctx)
		return err
	})
	if length > n*2000 {
		t.Errorf("%d bytes for %d tasks", length, n)
	}
}

// PrintTasks describes every task once, in the order of creation, whatever it is doing. It works
// from a callback too.
func TestPrintTasks(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var lock asyncio.Lock
		var event asyncio.Event
		must(t, lock.Acquire(ctx))
		f := asyncio.CreateFuture[int](ctx)
		child := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return graphOuter(ctx, f) }), asyncio.TaskName("child"))
		tasks := []asyncio.AnyTask{child,
			asyncio.CreateTask(ctx, child.Await, asyncio.TaskName("parent")),
			asyncio.CreateTask(ctx, asyncio.Do(lock.Acquire), asyncio.TaskName("locked out")),
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) }), asyncio.TaskName("asleep")),
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
					tg.CreateTask(ctx, func(ctx context.Context) error { _, err := f.Await(ctx); return err }, asyncio.TaskName("first"))
					tg.CreateTask(ctx, func(ctx context.Context) error { return nil }, asyncio.TaskName("second"))
					return nil
				}, asyncio.GroupLimit(1))
			}), asyncio.TaskName("group")),
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
					c := asyncio.GroupTask(ctx, tg, child.Await, asyncio.TaskName("third"))
					if err := event.Wait(ctx); err != nil {
						return err
					}
					_, err := c.Await(ctx)
					return err
				})
			}), asyncio.TaskName("in its body")),
		}
		iterate(t, ctx, 5)
		tasks = append(tasks, asyncio.CreateTask(ctx, instant, asyncio.TaskName("new")))
		check := func(got string, main string) {
			var said []string
			for line := range strings.Lines(got) {
				if !strings.HasPrefix(line, "\t") {
					name, _, _ := strings.Cut(line, ", ")
					_, doing, _ := strings.Cut(line, "(), ")
					said = append(said, strings.TrimSpace(name+": "+doing))
				}
			}
			for i, want := range []string{
				"task 'Task-1': " + main,
				"task 'child': waits for a future",
				"task 'parent': waits for task 'child'",
				"task 'locked out': waits for <asyncio.Lock [locked, waiters:1]>, that is for task 'Task-1'",
				"task 'asleep': waits for sleep until ",
				"task 'group': waits for <TaskGroup tasks=2 entered>, that is for task 'first' and task 'second'",
				"task 'in its body': waits for <asyncio.Event [unset, waiters:1]>",
				"task 'first': waits for a future",
				"task 'second': waits for its turn in a TaskGroup",
				"task 'third': waits for task 'child'",
				"task 'new': has not started",
			} {
				if i >= len(said) || !strings.HasPrefix(said[i], want) || said[i] != want && !strings.HasSuffix(want, " ") {
					t.Errorf("line %d of\n%swant %q", i, got, want)
				}
			}
			if len(said) != 11 || strings.Count(got, "asyncio_test.graphOuter() at ") != 1 {
				t.Errorf("tasks described: %d\n%s", len(said), got)
			}
		}
		check(asyncio.FormatTasks(ctx), "runs")
		called := asyncio.CreateFuture[asyncio.None](ctx)
		loop(t, ctx).CallSoon(func() {
			var b strings.Builder
			must(t, asyncio.PrintTasks(ctx, &b))
			said, _, _ := strings.Cut(b.String(), "\n")
			if !strings.HasSuffix(said, "waits for a future") {
				t.Errorf("in a callback: %q", said)
			}
			must(t, called.SetResult(asyncio.None{}))
		})
		_, err := called.Await(ctx)
		lock.Release()
		must(t, f.SetResult(1))
		for _, task := range tasks {
			_ = task.Cancel()
		}
		settle(t, ctx)
		return err
	})
	l := newLoop(t)
	if got := asyncio.FormatTasks(l.Context()); got != "" {
		t.Errorf("without tasks: %q", got)
	}
	wantErr(t, "without a loop", panicOf(func() { asyncio.FormatTasks(t.Context()) }), asyncio.ErrNoRunningLoop)
}

// A goroutine looks at a program that hangs by posting a callback to its loop.
func ExamplePrintTasks() {
	_, _ = asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		loop, _ := asyncio.GetRunningLoop(ctx)
		answer := asyncio.CreateFuture[int](ctx)
		asyncio.CreateTask(ctx, answer.Await, asyncio.TaskName("waiter"))
		asked := func() {
			var tasks strings.Builder
			_ = asyncio.PrintTasks(loop.Context(), &tasks)
			for line := range strings.Lines(tasks.String()) {
				if !strings.Contains(line, " at /") { // drops the files and lines
					fmt.Print(line)
				}
			}
			_ = answer.SetResult(1)
		}
		go loop.CallSoonThreadsafe(asked) // in a real program a signal would trigger this
		_, err := answer.Await(ctx)
		return err
	}))
	// Output:
	// task 'Task-1', asyncio_test.ExamplePrintTasks.func1(), waits for a future
	// task 'waiter', asyncio.(*Future).Await(), waits for a future
}

func ExampleFutureCallGraph() {
	_, _ = asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		fetch := asyncio.CreateTask(ctx, f.Await, asyncio.TaskName("fetch"))
		asyncio.CreateTask(ctx, func(ctx context.Context) ([]int, error) {
			return asyncio.Gather[int](ctx, fetch)
		}, asyncio.TaskName("page"))
		_ = asyncio.Sleep(ctx, 0)
		_ = asyncio.Sleep(ctx, 0)
		for g := asyncio.CaptureCallGraph(ctx, f); ; g = g.AwaitedBy[0] {
			if t, ok := g.Future.(asyncio.AnyTask); ok {
				top := g.CallStack[0].Function
				fmt.Println(t.GetName(), "is in", top[strings.LastIndexByte(top, '/')+1:])
			}
			if len(g.AwaitedBy) == 0 {
				return f.SetResult(1)
			}
		}
	}))
	// Output:
	// fetch is in asyncio.(*Future[...]).Await
	// page is in asyncio.Gather[...]
}

func ExamplePrintCallGraph() {
	_, _ = asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		asyncio.CreateTask(ctx, f.Await, asyncio.TaskName("waiter"))
		_ = asyncio.Sleep(ctx, 0)
		var graph strings.Builder
		_ = asyncio.PrintCallGraph(ctx, f, &graph)
		for line := range strings.Lines(graph.String()) {
			if !strings.Contains(line, " at /") { // drops the files and lines
				fmt.Print(line)
			}
		}
		return f.SetResult(1)
	}))
	// Output:
	// * Future, pending
	//   + Awaited by:
	//     * Task 'waiter', asyncio.(*Future).Await()
	//       + Call stack:
}
