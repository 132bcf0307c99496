package asyncio_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestDebug_Switch(t *testing.T) {
	l := asyncio.NewEventLoop(t.Context())
	for _, on := range []bool{true, false, true} {
		if l.SetDebug(on); l.GetDebug() != on {
			t.Errorf("GetDebug() = %v after SetDebug(%v)", l.GetDebug(), on)
		}
	}
	if err := panicOf(func() { l.SetSlowCallbackDuration(0) }); !errors.Is(err, asyncio.ErrInvalidArgument) {
		t.Errorf("SetSlowCallbackDuration(0): %v", err)
	}
	must(t, l.Close())
}

// With a limit of one nanosecond on the real clock, every step is slow. The warnings name the task
// or callback and the place where the step ended. (CPython: test_run_once_logging in spirit.)
func TestDebug_SlowSteps(t *testing.T) {
	logged := captureLog(t)
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l := loop(t, ctx)
		l.SetSlowCallbackDuration(time.Nanosecond)
		settle(t, ctx)
		l.CallSoon(debugCallback)
		_, err := asyncio.CreateTask(ctx, asyncio.Do(debugSlow), asyncio.TaskName("slow")).Await(ctx)
		return err
	}), asyncio.DebugMode(true))
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"level=WARN", "asyncio: executing <Task pending name='slow' coro=<asyncio_test.debugSlow() running",
		"until=\"asyncio_test.debugSlow() at ", "asyncio: executing <Handle asyncio_test.debugCallback() at ", " seconds",
	} {
		if !strings.Contains(logged(), want) {
			t.Errorf("%q was not logged, but\n%s", want, logged())
		}
	}
}

func debugSlow(ctx context.Context) error {
	tick()
	return asyncio.Sleep(ctx, time.Millisecond)
}

func debugCallback() { tick() }

// tick returns when the clock has moved; some clocks move only once a millisecond.
func tick() {
	for began := time.Now(); time.Since(began) == 0; {
	}
}

// A bare number passed as a duration is in nanoseconds, which is almost always a mistake. Debug
// mode warns of it, once for each place.
func TestDebug_TinyDurations(t *testing.T) {
	logged := captureLog(t)
	tiny := func(ctx context.Context) error {
		body := func(context.Context) error { return nil }
		loop(t, ctx).CallLater(6, debugCallback)
		_, waitErr := asyncio.WaitFor(ctx, asyncio.Coro(instant), 3)
		_, moveErr := asyncio.MoveOnAfter(ctx, 4, body)
		return errors.Join(waitErr, moveErr,
			asyncio.Sleep(ctx, 1),
			asyncio.Timeout(ctx, 2, func(context.Context, *asyncio.TimeoutScope) error { return nil }),
			asyncio.FailAfter(ctx, 5, body),
			asyncio.Sleep(ctx, -1), asyncio.Sleep(ctx, 0), asyncio.Sleep(ctx, time.Microsecond))
	}
	twice := func(ctx context.Context) error { return errors.Join(tiny(ctx), tiny(ctx)) }
	run(t, twice) // on virtual time a nanosecond may be intended
	_, err := asyncio.Run(t.Context(), asyncio.Do(twice), asyncio.DebugMode(false))
	must(t, err)
	if logged() != "" {
		t.Errorf("logged %s", logged())
	}
	_, err = asyncio.Run(t.Context(), asyncio.Do(twice), asyncio.DebugMode(true))
	must(t, err)
	for _, d := range []string{"1ns", "2ns", "3ns", "4ns", "5ns", "6ns"} {
		want := "asyncio: a duration of " + d + ": a bare number counts nanoseconds; write time.Second"
		if n := strings.Count(logged(), want); n != 1 {
			t.Errorf("%q was logged %d times", want, n)
		}
	}
	if n := strings.Count(logged(), "at=\"asyncio_test.TestDebug_TinyDurations.func1() at "); n != 6 || strings.Count(logged(), "level=") != 6 {
		t.Errorf("%d places in\n%s", n, logged())
	}
}

// Nothing warns of quick steps, nor of slow ones outside debug mode or on virtual time (debug 4).
func TestDebug_NoWarning(t *testing.T) {
	logged := captureLog(t)
	for _, debug := range []bool{false, true} {
		_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
			if loop(t, ctx).SetSlowCallbackDuration(time.Hour); !debug {
				loop(t, ctx).SetSlowCallbackDuration(time.Nanosecond)
			}
			settle(t, ctx)
			return nil
		}), asyncio.DebugMode(debug))
		must(t, err)
	}
	run(t, func(ctx context.Context) error {
		loop(t, ctx).SetSlowCallbackDuration(time.Nanosecond)
		return asyncio.Sleep(ctx, time.Hour)
	})
	if logged() != "" {
		t.Error(logged())
	}
}

// Reports say where the task, future or handle was made (debug 3).
func TestDebug_SourceTraceback(t *testing.T) {
	r, _ := runReporting(t, func(ctx context.Context) error {
		asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { panic("task") }))
		asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { return errors.New("task") }))
		must(t, asyncio.CreateFuture[int](ctx).SetException(errors.New("future")))
		loop(t, ctx).CallSoon(func() { panic("handle") })
		loop(t, ctx).CallLater(time.Second, func() { panic("timer") })
		return asyncio.Sleep(ctx, 2*time.Second)
	})
	if len(r.all) != 5 {
		t.Errorf("reports: %v", r.messages())
	}
	for _, c := range r.all {
		if !strings.Contains(c.SourceTraceback, "asyncio_test.TestDebug_SourceTraceback.func1() at ") {
			t.Errorf("%s: made at %q", c.Message, c.SourceTraceback)
		}
	}
	logged := captureLog(t)
	l := asyncio.NewEventLoop(t.Context())
	l.DefaultExceptionHandler(asyncio.ExceptionContext{Message: "m", SourceTraceback: "here"})
	must(t, l.Close())
	if !strings.Contains(logged(), "created=here") {
		t.Errorf("logged %s", logged())
	}
}

// In debug mode the report outlives the error. An error that was retrieved still counts as
// retrieved (debug 3).
func TestDebug_RetrievedErrors(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, look := range []func(f *asyncio.Future[int]){
			func(f *asyncio.Future[int]) { _, _ = f.Result() },
			func(f *asyncio.Future[int]) { _ = f.Exception() },
			func(f *asyncio.Future[int]) { _, _ = f.Await(ctx) },
			func(f *asyncio.Future[int]) { f.Cancel() },
		} {
			f := asyncio.CreateFuture[int](ctx)
			must(t, f.SetException(errors.New("seen")))
			look(f)
			runtime.GC()
		}
		return nil
	})
}

func TestDebug_SwallowedCancel(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(ctx context.Context, err error) error
		want bool
	}{
		"returns nil":      {func(context.Context, error) error { return nil }, true},
		"goes on":          {func(ctx context.Context, _ error) error { return asyncio.Sleep(ctx, 1) }, true},
		"returns it":       {func(_ context.Context, err error) error { return err }, false},
		"another error":    {func(context.Context, error) error { return errors.New("cleanup failed") }, false},
		"uncancels":        {func(ctx context.Context, _ error) error { asyncio.CurrentTask(ctx).Uncancel(); return nil }, false},
		"is not cancelled": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			logged := captureLog(t)
			_, _ = runReporting(t, func(ctx context.Context) error {
				task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
					err := asyncio.Sleep(ctx, time.Second)
					if c.end != nil {
						return c.end(ctx, err)
					}
					return err
				}), asyncio.TaskName("stubborn"))
				settle(t, ctx)
				if c.end != nil {
					task.Cancel("time to go")
				}
				_, _ = task.Await(ctx)
				return nil
			})
			warned := strings.Contains(logged(), "task 'stubborn' was cancelled and returned a result")
			if warned != c.want {
				t.Errorf("logged %q", logged())
			}
			if c.want && (!strings.Contains(logged(), "time to go (by Task-1)") || !strings.Contains(logged(), "created=")) {
				t.Errorf("it does not say who and where: %s", logged())
			}
		})
	}
}

// Timeouts, groups and scopes take back the cancels they make. Debug mode gives no false alarm
// about these.
func TestDebug_NoSwallowedCancelByScopes(t *testing.T) {
	logged := captureLog(t)
	run(t, func(ctx context.Context) error {
		_, err := asyncio.WaitFor(ctx, asyncio.CreateFuture[int](ctx), time.Second)
		if !errors.Is(err, asyncio.ErrTimeout) {
			return err
		}
		_, _ = asyncio.MoveOnAfter(ctx, time.Second, func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) })
		_ = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			tg.CreateTask(ctx, func(context.Context) error { return errors.New("fails") })
			return asyncio.Sleep(ctx, time.Hour)
		})
		return nil
	})
	if logged() != "" {
		t.Error(logged())
	}
}

// A task swallows a cancel whose cause panics in its Error method. Debug mode still gives its
// warning.
func TestDebug_SwallowedCancelWithAHostileCause(t *testing.T) {
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
func TestDebug_NoSwallowedCancelByRaces(t *testing.T) {
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
