package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// Hostile programs, each of which has broken the library once.

// Tasks wait for each other in a circle: the error names the deadlock, and a cancel breaks the
// circle.
func TestAttack_Circle(t *testing.T) {
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

// A deferred function that panics during a Goexit does not stop the Goexit.
func TestAttack_GoexitThenPanic(t *testing.T) {
	die := func() {
		defer func() { panic("in defer") }()
		runtime.Goexit()
	}
	if !exits(func() {
		_, _ = asyncio.Run(context.Background(), asyncio.Do(func(context.Context) error { die(); return nil }),
			asyncio.LoopFactory(quietLoop))
	}) {
		t.Error("in a task: Run returned")
	}
	l := quietLoop(t.Context())
	l.CallSoon(die)
	l.CallSoon(l.Stop)
	if !exits(func() { _ = l.RunForever() }) {
		t.Error("in a callback: RunForever returned")
	}
	must(t, l.Close())
}

// An exception handler may exit its goroutine, like one that calls t.Fatal.
func TestAttack_HandlerExits(t *testing.T) {
	factory := func(ctx context.Context) *asyncio.EventLoop {
		l := asyncio.NewEventLoop(ctx)
		l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) { runtime.Goexit() })
		return l
	}
	if !exits(func() {
		_, _ = asyncio.Run(context.Background(), asyncio.Do(func(context.Context) error { panic("x") }), asyncio.LoopFactory(factory))
	}) {
		t.Error("for a task: Run returned")
	}
	l := factory(t.Context())
	l.CallSoon(func() { panic("x") })
	if !exits(func() { _ = l.RunForever() }) {
		t.Error("for a callback: RunForever returned")
	}
	for range 3 {
		asyncio.CreateTask(l.Context(), sleeper(time.Hour))
	}
	l.CallSoon(func() { l.CallSoon(l.Stop) })
	must(t, l.RunForever())
	if !exits(func() { _ = l.Close() }) || !l.IsClosed() {
		t.Errorf("in Close: returned, closed = %v", l.IsClosed())
	}
}

// A task begins to wait, and the loop reports something about it to an exception handler that
// exits. The task stays intact.
func TestAttack_HandlerExitsInAWait(t *testing.T) {
	l := sim.NewEventLoop(context.Background())
	l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) { runtime.Goexit() })
	f := asyncio.CreateFuture[int](l.Context())
	task := asyncio.CreateTask(l.Context(), func(ctx context.Context) (int, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Hour) // a loop on virtual time warns of this
		defer cancel()
		return f.Await(ctx)
	})
	if !exits(func() { _ = l.RunForever() }) {
		t.Error("RunForever returned")
	}
	must(t, f.SetResult(1))
	if v, err := asyncio.RunUntilComplete(l, task); v != 1 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
	must(t, l.Close())
}

type hostileError struct{}

func (*hostileError) Error() string   { panic("Error panics") }
func (*hostileError) Is(error) bool   { panic("Is panics") }
func (*hostileError) Unwrap() []error { panic("Unwrap panics") }

// The library guards its calls of methods of the user's errors.
func TestAttack_HostileErrors(t *testing.T) {
	for name, hostile := range map[string]error{"typed nil": (*fs.PathError)(nil), "panics": &hostileError{}} {
		logged := captureLog(t)
		_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
			inner, cancel := context.WithCancel(ctx)
			cancel()
			bad := asyncio.Do(func(context.Context) error { return hostile })
			task := asyncio.CreateTask(ctx, bad) // its error is never retrieved
			asyncio.CreateTask(inner, bad)       // its error is compared with the context's cause
			settle(t, ctx)
			if !task.Done() {
				t.Errorf("%s: %v", name, task)
			}
			return asyncio.Sleep(ctx, 0)
		}))
		if err != nil || !strings.Contains(logged(), "never retrieved") && !strings.Contains(logged(), "panic in task") {
			t.Errorf("%s: %v\n%s", name, err, logged())
		}
	}
}

func TestAttack_ReprOfItself(t *testing.T) {
	l := newLoop(t)
	f, g := asyncio.CreateFuture[any](l.Context()), asyncio.CreateFuture[any](l.Context())
	must(t, f.SetResult([]any{f}))
	must(t, g.SetResult(g))
	if f.String() != "<Future finished result=[...]>" || g.String() != "<Future finished result=...>" {
		t.Errorf("%v, %v", f, g)
	}
}

// A pending stop of a run that ended by Goexit does not end the next run.
func TestAttack_StopThenExit(t *testing.T) {
	l := newLoop(t)
	l.CallSoon(func() { l.Stop(); runtime.Goexit() })
	if !exits(func() { _ = l.RunForever() }) {
		t.Error("RunForever returned")
	}
	if _, err := asyncio.RunUntilComplete(l, sleeper(time.Second)); err != nil {
		t.Errorf("after Stop: %v", err)
	}
	done := asyncio.CreateFuture[int](l.Context())
	must(t, done.SetResult(1))
	l.CallSoon(runtime.Goexit) // runs before the callback of done that stops the loop
	if !exits(func() { _, _ = asyncio.RunUntilComplete(l, done) }) {
		t.Error("RunUntilComplete returned")
	}
	if _, err := asyncio.RunUntilComplete(l, sleeper(time.Second)); err != nil {
		t.Errorf("after RunUntilComplete: %v", err)
	}
}

func TestAttack_ConcurrentFutureOfTheSameLoop(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		c := asyncio.RunCoroutineThreadsafe(after(time.Minute, 4, nil), l)
		if v, err := c.Await(ctx); v != 4 || err != nil || l.Time() != time.Minute {
			t.Errorf("%v, %v at %v", v, err, l.Time())
		}
		over, cancel := context.WithCancelCause(ctx)
		cancel(errTest)
		if _, err := c.Await(over); err != errTest {
			t.Errorf("with a done context: %v", err)
		}
		hurried, cancelHurried := asyncio.WithTimeout(ctx, time.Second)
		defer cancelHurried()
		slow := asyncio.RunCoroutineThreadsafe(after(time.Hour, 4, nil), l)
		if _, err := slow.Await(hurried); !errors.Is(err, context.DeadlineExceeded) || slow.Done() {
			t.Errorf("with a deadline: %v", err)
		}
		slow.Cancel()
		return nil
	})
}

// Callbacks from one goroutine run in the order it sent them (inbox 1), even while the loop takes
// in the end of a context that thousands of tasks wait with.
func TestAttack_OrderOfPosts(t *testing.T) {
	n := 5000
	if raceEnabled {
		n = 1000
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		for range 5 {
			inner, cancel := asyncio.WithCancel(ctx)
			for range n {
				asyncio.CreateTask(inner, sleeper(time.Hour))
			}
			settle(t, ctx)
			l := loop(t, ctx)
			done := asyncio.CreateFuture[int](ctx)
			next := 0
			go func() {
				for i := range n {
					if i == 10 {
						cancel()
					}
					if _, err := l.CallSoonThreadsafe(func() {
						if i != next {
							t.Errorf("%d after %d", i, next-1)
						}
						if next = i + 1; next == n {
							must(t, done.SetResult(0))
						}
					}); err != nil {
						t.Error(err)
					}
				}
			}()
			if _, err := done.Await(ctx); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, err)
}

// Close ends the context of a thread function when it unwinds the caller.
func TestAttack_ToThreadWhileClosing(t *testing.T) {
	l := asyncio.NewEventLoop(t.Context())
	l.SetExceptionHandler(new(reports).handle)
	ended := make(chan error)
	asyncio.CreateTask(l.Context(), func(ctx context.Context) (int, error) {
		return asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
			_, err := l.CallSoonThreadsafe(l.Stop)
			must(t, err)
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return 0, nil
		})
	})
	must(t, l.RunForever())
	must(t, l.Close())
	if err := <-ended; !errors.Is(err, asyncio.ErrLoopClosed) {
		t.Errorf("cause = %v", err)
	}
}

func TestAttack_LongPastDeadlines(t *testing.T) {
	for _, when := range []time.Duration{math.MinInt64, math.MinInt64 + time.Second} {
		l := asyncio.NewEventLoop(t.Context())
		l.CallAt(when, l.Stop)
		must(t, l.RunForever()) // hangs if the wait is 292 years too long
		l.CallLater(when, l.Stop)
		must(t, l.RunForever())
		must(t, l.Close())
	}
}

// Deferred functions may clean up while the loop closes.
func TestAttack_CleanUpWhileClosing(t *testing.T) {
	l := sim.NewEventLoop(context.Background())
	var r reports
	l.SetExceptionHandler(r.handle)
	asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		h := l.CallLater(time.Hour, func() {})
		defer h.Cancel()
		f := asyncio.CreateFuture[int](ctx)
		c := f.AddDoneCallback(func(*asyncio.Future[int]) {})
		defer f.RemoveDoneCallback(c)
		defer f.Cancel()
		inner, cancel := asyncio.WithTimeout(ctx, time.Hour)
		defer cancel()
		return asyncio.Sleep(inner, time.Hour)
	}))
	l.CallLater(time.Second, l.Stop)
	must(t, l.RunForever())
	must(t, l.Close())
	equal(t, "reports", r.messages(), []string{"Task was destroyed but it is pending!"})
}

// Wait does not count as retrieving an error, whatever it waits for.
func TestAttack_WaitDoesNotRetrieve(t *testing.T) {
	for _, when := range []asyncio.ReturnCondition{asyncio.AllCompleted, asyncio.FirstCompleted, asyncio.FirstException} {
		r, err := runReporting(t, func(ctx context.Context) error {
			bad := asyncio.CreateTask(ctx, after(1, 0, errTest))
			slow := asyncio.CreateTask(ctx, after(2, 0, nil))
			_, _, err := asyncio.Wait(ctx, []*asyncio.Task[int]{bad, slow}, asyncio.ReturnWhen(when))
			return err
		})
		must(t, err)
		equal(t, fmt.Sprint(when), r.messages(), []string{"Task exception was never retrieved"})
	}
}

// Contexts with deadlines cost the virtual clock nothing until they fire.
func TestAttack_ManyDeadlines(t *testing.T) {
	n := 20_000
	if raceEnabled {
		n = 2_000
	}
	runFast(t, func(ctx context.Context) error {
		tasks := make([]*asyncio.Task[asyncio.None], n)
		for i := range tasks {
			tasks[i] = asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				inner, cancel := asyncio.WithTimeout(ctx, time.Duration(i)*time.Millisecond)
				defer cancel()
				if err := asyncio.Sleep(inner, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
					return fmt.Errorf("task %d: %w", i, err)
				}
				return nil
			}))
		}
		_, err := asyncio.Gather(ctx, tasks...)
		return err
	})
}

// A thread function that cancels a standard context wakes a task on virtual time too.
func TestAttack_ThreadCancelsAStandardContext(t *testing.T) {
	run(t, func(ctx context.Context) error {
		inner, cancel := context.WithCancel(ctx)
		f := asyncio.CreateFuture[int](ctx)
		woken := make(chan struct{})
		task := asyncio.CreateTask(ctx, func(context.Context) (int, error) {
			defer close(woken)
			return f.Await(inner)
		})
		settle(t, ctx)
		_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) {
			cancel()
			<-woken
			return 0, nil
		})
		if !errors.Is(task.Exception(), context.Canceled) {
			t.Errorf("%v", task)
		}
		return err
	})
}

// The end of a context reaches all its descendants in one iteration, however they were derived.
func TestAttack_ContextFamilies(t *testing.T) {
	run(t, func(ctx context.Context) error {
		outer, cancelOuter := asyncio.WithTimeout(ctx, time.Second)
		defer cancelOuter()
		type key struct{}
		valued := context.WithValue(outer, key{}, 1)
		child, cancelChild := asyncio.WithCancel(valued)
		defer cancelChild()
		grandchild, cancelGrandchild := asyncio.WithTimeout(child, time.Hour)
		defer cancelGrandchild()
		std, cancelStd := context.WithCancel(grandchild)
		defer cancelStd()
		belowStd, cancelBelow := asyncio.WithTimeout(std, time.Hour)
		defer cancelBelow()
		freed, cancelFreed := asyncio.WithTimeout(context.WithoutCancel(outer), 5*time.Second)
		defer cancelFreed()
		sibling, cancelSibling := asyncio.WithCancel(outer)
		cancelSibling() // leaves the family before it ends
		if err := asyncio.Sleep(sibling, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("sibling: %v", err)
		}
		var tasks []*asyncio.Task[asyncio.None]
		for _, c := range []context.Context{outer, valued, child, grandchild, std, belowStd, freed} {
			tasks = append(tasks, asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
				err := asyncio.Sleep(c, time.Hour)
				if now := loop(t, ctx).Time(); now != time.Second && c != freed || now != 5*time.Second && c == freed {
					t.Errorf("%v ended at %v", c, now)
				}
				return err
			})))
		}
		results, err := asyncio.GatherResults(ctx, tasks...)
		for _, r := range results {
			if !errors.Is(r.Err, context.DeadlineExceeded) {
				t.Errorf("%v", r.Err)
			}
		}
		return err
	})
}

// On virtual time too, a thread function may wait for a coroutine of the loop that waits for it.
func TestAttack_ThreadCallsBack(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		v, err := asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
			v, err := asyncio.RunCoroutineThreadsafe(after(time.Minute, 5, nil), l).Result(ctx)
			if now := l.Time(); now != time.Minute {
				t.Errorf("at %v", now) // the clock stands still again
			}
			impatient, cancel := context.WithCancelCause(ctx)
			cancel(errTest)
			never := asyncio.RunCoroutineThreadsafe(after(1000*time.Hour, 5, nil), l)
			if _, err := never.Result(impatient); err != errTest {
				t.Errorf("impatient: %v", err)
			}
			never.Cancel()
			return v, err
		})
		if v != 5 || err != nil || l.Time() != time.Minute {
			t.Errorf("%v, %v at %v", v, err, l.Time())
		}
		return nil
	})
}

// The loop factory in a context also makes the loops of nested runs.
func TestAttack_FactoryOfNestedRuns(t *testing.T) {
	began := time.Now()
	run(t, func(ctx context.Context) error {
		_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
			return asyncio.Run(ctx, sleeper(1000*time.Hour))
		})
		return err
	})
	if d := time.Since(began); d > time.Hour {
		t.Errorf("took %v", d)
	}
}

// A signal that arrives just as main ends is not lost. The test watches a subprocess.
func TestAttack_SIGINTAtTheEnd(t *testing.T) {
	needsSignals(t)
	out, err := subprocess("TestAttack_SIGINTAtTheEndSubprocess", "ASYNCIO_TEST_SIGINT_END=1").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "interrupted: true") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestAttack_SIGINTAtTheEndSubprocess(t *testing.T) {
	if os.Getenv("ASYNCIO_TEST_SIGINT_END") == "" {
		return // run by TestAttack_SIGINTAtTheEnd
	}
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, os.Interrupt)
	defer signal.Stop(heard)
	v, err := asyncio.Run(t.Context(), func(context.Context) (int, error) {
		p, err := os.FindProcess(os.Getpid())
		must(t, err)
		must(t, p.Signal(os.Interrupt))
		<-heard // by now it has been delivered to every listener
		return 1, nil
	})
	fmt.Println("interrupted:", errors.Is(err, asyncio.ErrKeyboardInterrupt), v)
}

// An await that ends early leaves no waiter behind.
func TestAttack_EarlyEndsLeaveNothing(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		slow := asyncio.RunCoroutineThreadsafe(after(time.Hour, 1, nil), l)
		f := asyncio.CreateFuture[int](ctx)
		for range 100 {
			hurried, cancel := asyncio.WithTimeout(ctx, time.Second)
			if _, err := slow.Await(hurried); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if _, err := f.Await(hurried); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
		}
		if n := asyncio.Waits(slow); n != 0 || f.String() != "<Future pending>" {
			t.Errorf("%d waits, %v", n, f)
		}
		slow.Cancel()
		return nil
	})
}

// A deferred function may block for longer than Close waits for it. Its task counts as ended, and
// letting the function go on afterwards does no harm: it once ended the process.
func TestAttack_UnwindsLate(t *testing.T) {
	defer asyncio.Impatient(time.Millisecond)()
	var r reports
	l := asyncio.NewEventLoop(onVirtualTime(context.Background(), &r))
	blocked, gone := make(chan struct{}), make(chan struct{})
	task := asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		defer close(gone)
		defer func() { <-blocked }()
		_, err := asyncio.CreateFuture[int](ctx).Await(ctx)
		return err
	}))
	if err := l.RunForever(); !errors.Is(err, asyncio.ErrDeadlock) {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if !task.Cancelled() || len(r.all) != 2 || !strings.Contains(r.all[1].Message, "does not unwind") {
		t.Errorf("cancelled %v; reports: %v", task.Cancelled(), r.all)
	}
	close(blocked)
	<-gone
}
