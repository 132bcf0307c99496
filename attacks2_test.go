package asyncio_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// More hostile programs, and some that anyone might write.

// A job that is submitted just as the only worker is about to end still runs. Each round submits
// while the previous worker looks at its empty queue.
func TestAttack_SubmitAsTheWorkerEnds(t *testing.T) {
	e := asyncio.NewThreadPoolExecutor(1)
	late := time.NewTimer(time.Hour)
	for i := range 300_000 {
		ran := make(chan struct{})
		must(t, e.Submit(func() { close(ran) }))
		late.Reset(20 * time.Second)
		select {
		case <-ran:
		case <-late.C:
			t.Fatalf("job %d was accepted and did not run", i)
		}
	}
	e.Shutdown(true)
}

// panickyExecutor is an Executor that panics.
type panickyExecutor struct{}

func (panickyExecutor) Submit(func()) error { panic("Submit panics") }
func (panickyExecutor) Shutdown(bool)       {}

// eagerRefuser is an Executor that runs the job and then refuses it.
type eagerRefuser struct{}

func (eagerRefuser) Submit(job func()) error { job(); return asyncio.ErrExecutorShutdown }
func (eagerRefuser) Shutdown(bool)           {}

// An executor that fails in odd ways does not stop the virtual clock.
func TestAttack_OddExecutors(t *testing.T) {
	run(t, func(ctx context.Context) error {
		job := func() (int, error) { return 1, nil }
		if err := panicOf(func() { asyncio.RunInExecutor(ctx, panickyExecutor{}, job) }); err == nil {
			t.Error("the panic of Submit did not come through")
		}
		if _, err := asyncio.RunInExecutor(ctx, eagerRefuser{}, job).Await(ctx); !errors.Is(err, asyncio.ErrExecutorShutdown) {
			t.Errorf("refused: %v", err)
		}
		return asyncio.Sleep(ctx, time.Hour)
	})
}

// errorList is an error that cannot be compared, such as a validator's list of errors.
type errorList []error

func (errorList) Error() string   { return "several" }
func (l errorList) Unwrap() error { return l[0] }

// A group's body may return an error that cannot be compared: one that wraps the end of the
// context, or the cause of that end.
func TestAttack_IncomparableErrorsInGroups(t *testing.T) {
	run(t, func(ctx context.Context) error {
		ended, cancel := asyncio.WithCancel(ctx)
		err := asyncio.RunTaskGroup(ended, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			cancel()
			return errorList{asyncio.Sleep(ctx, time.Hour)}
		})
		if l, ok := err.(errorList); !ok || !errors.Is(l, context.Canceled) {
			t.Errorf("the end of the context: %T %v", err, err)
		}

		caused, cancelCause := context.WithCancelCause(ctx)
		err = asyncio.RunTaskGroup(caused, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			tg.CreateTask(never)
			settle(t, ctx)
			cancelCause(errorList{io.EOF})
			return context.Cause(ctx)
		})
		if !errors.Is(err, io.EOF) {
			t.Errorf("the cause: %T %v", err, err)
		}
		return nil
	})
}

// hostileUnwrap is an error that panics when it is unwrapped.
type hostileUnwrap struct{}

func (*hostileUnwrap) Error() string { return "hostile" }
func (*hostileUnwrap) Unwrap() error { panic("Unwrap panics") }

// A child panics with an error whose Unwrap panics, at the end of its context. The group reports it
// like any other panic.
func TestAttack_PanicWithHostileError(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		ended, cancel := asyncio.WithCancel(ctx)
		return asyncio.RunTaskGroup(ended, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			tg.CreateTask(func(ctx context.Context) error {
				if asyncio.Sleep(ctx, time.Hour) != nil {
					panic(&hostileUnwrap{})
				}
				return nil
			})
			settle(t, ctx)
			cancel()
			return asyncio.Sleep(ctx, time.Hour)
		})
	})
	var g *asyncio.GroupError
	if !errors.As(err, &g) || len(g.Exceptions) != 1 {
		t.Errorf("%T", err)
	}
	equal(t, "reports", r.messages(), []string{"panic in task"})
}

// A task swallows a cancel whose cause panics in its Error method. Debug mode still gives its
// warning.
func TestAttack_SwallowedHostileCause(t *testing.T) {
	logged := captureLog(t)
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			_ = asyncio.Sleep(ctx, time.Hour)
			return nil
		}))
		settle(t, ctx)
		task.CancelCause(&hostileError{})
		_, err := task.Await(ctx)
		return err
	})
	// run has debug mode on in one of its two runs
	if n := strings.Count(logged(), "swallowed the cancellation"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, logged())
	}
}

// Debug mode does not accuse losers of a race that returned an error. It does warn of a loser that
// swallowed its cancel and returned a result.
func TestAttack_RaceIsNotSwallowing(t *testing.T) {
	fast := func(ctx context.Context) (int, error) { return 2, asyncio.Sleep(ctx, time.Second) }
	for name, loser := range map[string]struct {
		coro asyncio.Coroutine[int]
		want int
	}{
		"returns the cancel": {func(ctx context.Context) (int, error) { return 1, asyncio.Sleep(ctx, time.Hour) }, 0},
		"returns an error":   {func(ctx context.Context) (int, error) { _ = asyncio.Sleep(ctx, time.Hour); return 1, io.EOF }, 0},
		"returns a result":   {func(ctx context.Context) (int, error) { _ = asyncio.Sleep(ctx, time.Hour); return 1, nil }, 1},
	} {
		logged := captureLog(t)
		run(t, func(ctx context.Context) error {
			v, i, _, err := asyncio.StaggeredRace(ctx, time.Second, loser.coro, fast)
			if v != 2 || i != 1 {
				t.Errorf("%s: %d of %d won", name, v, i)
			}
			return err
		})
		if n := strings.Count(logged(), "swallowed the cancellation"); n != loser.want {
			t.Errorf("%s: %d warnings, want %d:\n%s", name, n, loser.want, logged())
		}
	}
}

// Coroutines of a Select start eagerly and make another of its branches ready before Select waits.
func TestAttack_SelectStartsEagerly(t *testing.T) {
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
				if won != c.wins || l.Time() != 0 {
					t.Errorf("%s, coroutine first %v: won: %v, at %v", name, coroutineFirst, won == c.wins, l.Time())
				}
				c.after()
				return err
			})
		}
	}
}

// A task factory's wrapper also runs around the coroutines of a Select.
func TestAttack_SelectAndFactory(t *testing.T) {
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

// A watchdog that was switched off and on again does not mistake the current step for the last one
// it saw.
func TestAttack_WatchdogSwitchedOnAgain(t *testing.T) {
	stalls := make(chan asyncio.Stall, 1)
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l := loop(t, ctx)
		watch := func(limit time.Duration) {
			l.SetStallWatchdog(limit, func(s asyncio.Stall) {
				select {
				case stalls <- s:
				default:
				}
			})
		}
		watch(10 * time.Millisecond)
		innocent := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			watch(0)
			return asyncio.Sleep(ctx, time.Hour)
		}), asyncio.Name("innocent"))
		settle(t, ctx)
		guilty := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
			watch(10 * time.Millisecond)
			s := <-stalls // the watchdog reports this step while it blocks here
			if s.Task != "guilty" || !strings.Contains(string(s.Stack), "TestAttack_WatchdogSwitchedOnAgain") {
				t.Errorf("task %s:\n%s", s.Task, s.Stack)
			}
			return nil
		}), asyncio.Name("guilty"))
		_, err := guilty.Await(ctx)
		innocent.Cancel()
		return err
	}))
	must(t, err)
}

// stalls blocks the loop until report has called enough.
func stalls(t *testing.T, report func(s asyncio.Stall, enough func())) {
	t.Helper()
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		enough := make(chan struct{})
		once := sync.OnceFunc(func() { close(enough) })
		loop(t, ctx).SetStallWatchdog(5*time.Millisecond, func(s asyncio.Stall) { report(s, once) })
		<-enough
		loop(t, ctx).SetStallWatchdog(0, nil)
		return nil
	}))
	must(t, err)
}

// A panic of the report function is logged, and the watchdog goes on.
func TestAttack_StallReportPanics(t *testing.T) {
	logged := captureLog(t)
	n := 0
	stalls(t, func(_ asyncio.Stall, enough func()) {
		if n++; n == 2 {
			enough()
		}
		panic("report panics")
	})
	if got := strings.Count(logged(), "report panics"); got < n {
		t.Errorf("%d reports:\n%s", n, logged())
	}
}

// A context whose cause cannot be compared ends a group like any other context (group 5).
func TestAttack_IncomparableCauseEndsTheGroup(t *testing.T) {
	run(t, func(ctx context.Context) error {
		ended, cancel := context.WithCancelCause(ctx)
		err := asyncio.RunTaskGroup(ended, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			tg.CreateTask(never)
			settle(t, ctx)
			cancel(errorList{io.EOF})
			return asyncio.Sleep(ctx, time.Hour)
		})
		if _, ok := err.(errorList); !ok {
			t.Errorf("%T %v, want the cause itself", err, err)
		}
		return nil
	})
}

// brokenShutdown is an executor whose Shutdown panics.
type brokenShutdown struct{ *asyncio.ThreadPoolExecutor }

func (b brokenShutdown) Shutdown(wait bool) {
	b.ThreadPoolExecutor.Shutdown(wait)
	panic("Shutdown panics")
}

// A loop whose executor panics at its shutdown can be closed all the same.
func TestAttack_ExecutorShutdownPanics(t *testing.T) {
	l := quietLoop(t.Context())
	l.SetDefaultExecutor(brokenShutdown{asyncio.NewThreadPoolExecutor(1)})
	asyncio.CreateTask(l.Context(), asyncio.Do(never))
	l.CallSoon(func() { l.CallSoon(l.Stop) })
	must(t, l.RunForever())
	if err := panicOf(func() { must(t, l.Close()) }); err != nil || !l.IsClosed() {
		t.Errorf("Close: %v, closed: %v", err, l.IsClosed())
	}
}

// exitingShutdown is an executor whose Shutdown calls runtime.Goexit, as one that calls t.Fatal
// would.
type exitingShutdown struct{ *asyncio.ThreadPoolExecutor }

func (e exitingShutdown) Shutdown(wait bool) {
	e.ThreadPoolExecutor.Shutdown(wait)
	runtime.Goexit()
}

// An executor whose Shutdown exits its goroutine does not hang Close, which does not wait for it,
// nor Run, which does.
func TestAttack_ExecutorShutdownExits(t *testing.T) {
	var r reports
	factory := func(ctx context.Context) *asyncio.EventLoop {
		l := asyncio.NewEventLoop(ctx)
		l.SetExceptionHandler(r.handle)
		l.SetDefaultExecutor(exitingShutdown{asyncio.NewThreadPoolExecutor(1)})
		return l
	}
	l := factory(t.Context())
	if exits(func() { must(t, l.Close()) }) || !l.IsClosed() {
		t.Errorf("Close exited, closed: %v", l.IsClosed())
	}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) { return 1, nil })
		return err
	}), asyncio.LoopFactory(factory))
	must(t, err)
	for _, c := range r.all {
		if c.Exception != asyncio.ErrGoexit {
			t.Errorf("%s: %v", c.Message, c.Exception)
		}
	}
	if len(r.all) != 3 { // Run waits for Shutdown, and then closes the loop
		t.Errorf("%d reports", len(r.all))
	}
}

// An executor whose Shutdown panics does not end the program: Run calls Shutdown on a goroutine of
// its own.
func TestAttack_ExecutorShutdownPanicsInRun(t *testing.T) {
	_, _ = asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		loop(t, ctx).SetDefaultExecutor(brokenShutdown{asyncio.NewThreadPoolExecutor(1)})
		return nil
	}), asyncio.LoopFactory(quietLoop))
}
