package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

func TestRun_ReturnsWhatMainReturns(t *testing.T) {
	onVirtual := asyncio.LoopFactory(sim.NewEventLoop)
	v, err := asyncio.Run(t.Context(), func(ctx context.Context) (int, error) { return 42, asyncio.Sleep(ctx, 0) }, onVirtual)
	if v != 42 || err != nil {
		t.Error(v, err)
	}
	_, err = asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		must(t, asyncio.Sleep(ctx, 0))
		return errTest
	}), onVirtual)
	is(t, "error", err, errTest)
}

func TestRun_Debug(t *testing.T) {
	for _, ofTheLoop := range []bool{false, true} {
		factory := func(ctx context.Context) *asyncio.EventLoop {
			l := sim.NewEventLoop(ctx)
			l.SetDebug(ofTheLoop)
			return l
		}
		debug := func(opts ...asyncio.RunOption) bool {
			v, err := asyncio.Run(t.Context(), func(ctx context.Context) (bool, error) { return loop(t, ctx).GetDebug(), nil },
				append(opts, asyncio.LoopFactory(factory))...)
			must(t, err)
			return v
		}
		is(t, "not said", debug(), ofTheLoop)
		is(t, "on", debug(asyncio.Debug(true)), true)
		is(t, "off", debug(asyncio.Debug(false)), false)
		for _, on := range []bool{false, true} {
			r := asyncio.NewRunner(t.Context(), asyncio.LoopFactory(factory), asyncio.Debug(on))
			l, err := r.GetLoop()
			must(t, err)
			is(t, "of a runner", l.GetDebug(), on)
			must(t, r.Close())
		}
	}
}

// The environment variable is read when the program starts. The test runs a subprocess.
func TestRun_DebugByEnvironment(t *testing.T) {
	for value, want := range map[string]string{"": "debug: false", "0": "debug: false", "1": "debug: true"} {
		out, err := subprocess("TestRun_DebugByEnvironmentSubprocess", "ASYNCIO_TEST_DEBUG=1", "ASYNCIODEBUG="+value).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("ASYNCIODEBUG=%s: %v\n%s", value, err, out)
		}
	}
}

func TestRun_DebugByEnvironmentSubprocess(t *testing.T) {
	if os.Getenv("ASYNCIO_TEST_DEBUG") == "" {
		return // run by TestRun_DebugByEnvironment
	}
	l := asyncio.NewEventLoop(t.Context())
	fmt.Println("debug:", l.GetDebug())
	must(t, l.Close())
}

func TestRunner_ClosesItsLoop(t *testing.T) {
	made := 0
	var l *asyncio.EventLoop
	r := asyncio.NewRunner(t.Context(), asyncio.LoopFactory(func(ctx context.Context) *asyncio.EventLoop {
		made++
		l = sim.NewEventLoop(ctx)
		return l
	}))
	is(t, "made before it is needed", made, 0)
	got, err := r.GetLoop()
	must(t, err)
	is(t, "loop", got, l)
	var shown counted
	for range 2 {
		v, err := asyncio.RunIn(r, func(ctx context.Context) (*counted, error) { return &shown, asyncio.Sleep(ctx, 0) })
		if v != &shown || err != nil {
			t.Error(v, err)
		}
	}
	is(t, "loops made", made, 1)
	is(t, "times that the result was shown", int(shown), 0)
	for range 2 {
		must(t, r.Close())
		is(t, "closed", l.IsClosed(), true)
	}
	_, err = r.GetLoop()
	wantErr(t, "GetLoop", err, asyncio.ErrLoopClosed)
	_, err = asyncio.RunIn(r, instant)
	wantErr(t, "RunIn", err, asyncio.ErrLoopClosed)
}

// counted counts how often it is formatted.
type counted int

func (c *counted) String() string { *c++; return "counted" }

func TestRun_LoopWithinALoop(t *testing.T) {
	outer, inner := newLoop(t), newLoop(t)
	_, err := asyncio.RunUntilComplete(outer, asyncio.Do(func(ctx context.Context) error {
		_, err := asyncio.Run(ctx, instant)
		wantErr(t, "Run", err, asyncio.ErrLoopRunning)
		is(t, "current task", self(ctx) != nil, true)
		is(t, "of the other loop", self(inner.Context()), nil)
		return nil
	}))
	must(t, err)
	is(t, "afterwards", self(outer.Context()), nil)
}

// Overdue timers run in the order in which they were due.
func TestLoop_OverdueTimers(t *testing.T) {
	l := newLoop(t)
	var got []string
	l.CallLater(-time.Second, func() {
		got = append(got, "a")
		l.CallSoon(func() { got = append(got, "scheduled by a") })
	})
	l.CallLater(-2*time.Second, func() { got = append(got, "b") })
	l.CallSoon(l.Stop)
	must(t, l.RunForever())
	equal(t, "in one iteration", got, []string{"b", "a"})
	l.CallSoon(l.Stop)
	must(t, l.RunForever())
	equal(t, "in the next", got, []string{"b", "a", "scheduled by a"})
}

// A cancelled timer neither holds up the clock nor keeps the loop alive.
func TestLoop_CancelledTimerIsNotWaitedFor(t *testing.T) {
	l := newLoop(t)
	l.CallLater(5*time.Second, func() { t.Error("it fired") }).Cancel()
	l.CallLater(10*time.Second, l.Stop)
	l.CallLater(time.Hour, func() {}).Cancel()
	must(t, l.RunForever())
	is(t, "time", l.Time(), 10*time.Second)
	wantErr(t, "with nothing left", l.RunForever(), asyncio.ErrDeadlock)
	is(t, "time", l.Time(), 10*time.Second)
}

func TestLoop_ClosedForGood(t *testing.T) {
	l := sim.NewEventLoop(t.Context())
	f := asyncio.CreateFuture[int](l.Context())
	is(t, "closed", l.IsClosed(), false)
	for range 3 {
		must(t, l.Close())
		is(t, "closed", l.IsClosed(), true)
	}
	wantErr(t, "RunForever", l.RunForever(), asyncio.ErrLoopClosed)
	_, err := asyncio.RunUntilComplete(l, f)
	wantErr(t, "RunUntilComplete", err, asyncio.ErrLoopClosed)
}

func TestExceptionHandler_SetGetReset(t *testing.T) {
	l := newLoop(t)
	logged := captureLog(t)
	fail := func() {
		t.Helper()
		h := l.CallSoon(func() { panic(errTest) })
		l.Stop()
		must(t, l.RunForever())
		is(t, "cancelled", h.Cancelled(), false)
	}
	is(t, "none at first", l.GetExceptionHandler() == nil, true)
	var r reports
	l.SetExceptionHandler(r.handle)
	is(t, "one", l.GetExceptionHandler() == nil, false)
	fail()
	if len(r.all) != 1 || !errors.Is(r.all[0].Exception, errTest) || r.all[0].Handle == nil || logged() != "" {
		t.Errorf("%+v, logged %s", r.all, logged())
	}
	l.SetExceptionHandler(nil)
	is(t, "none at last", l.GetExceptionHandler() == nil, true)
	fail()
	if len(r.all) != 1 || !strings.Contains(logged(), "asyncio: exception in callback asyncio_test.TestExceptionHandler_SetGetReset") || !strings.Contains(logged(), "exception=") {
		t.Errorf("%d reports, logged %s", len(r.all), logged())
	}
}

// The default handler names a callback that panics, whether it was due at once or later.
func TestExceptionHandler_DefaultLogsCallbacks(t *testing.T) {
	l := newLoop(t)
	for what, schedule := range map[string]func(fn func()){
		"<Handle ":      func(fn func()) { l.CallSoon(fn) },
		"<TimerHandle ": func(fn func()) { l.CallLater(time.Second, fn) },
	} {
		logged := captureLog(t)
		f := asyncio.CreateFuture[int](l.Context())
		schedule(func() {
			must(t, f.SetResult(1))
			panic("after the result")
		})
		v, err := asyncio.RunUntilComplete(l, f)
		is(t, "result", v, 1)
		must(t, err)
		for _, want := range []string{"level=ERROR", "exception in callback asyncio_test.TestExceptionHandler_DefaultLogsCallbacks", what, "after the result"} {
			if !strings.Contains(logged(), want) {
				t.Errorf("%s: logged %s\nwant %s", what, logged(), want)
			}
		}
	}
}

func TestHandle_String(t *testing.T) {
	l := newLoop(t)
	h := l.CallSoon(func() {})
	if s := h.String(); !strings.HasPrefix(s, "<Handle asyncio_test.TestHandle_String.func1() at ") {
		t.Error(s)
	}
	h.Cancel()
	is(t, "cancelled", h.String(), "<Handle cancelled>")
	is(t, "Cancelled", h.Cancelled(), true)
}

// A task that stops its own loop stays suspended, and another run can go on with it.
func TestRunUntilComplete_StoppedByItsTask(t *testing.T) {
	l := newLoop(t)
	x := 0
	task := asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		for x < 10 {
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			if x++; x == 2 {
				l.Stop()
			}
		}
		return nil
	}))
	_, err := asyncio.RunUntilComplete(l, task)
	wantErr(t, "stopped", err, asyncio.ErrLoopStopped)
	is(t, "done", task.Done(), false)
	is(t, "x", x, 2)
	is(t, "time", l.Time(), 2*time.Second)
	task.Cancel()
	_, err = asyncio.RunUntilComplete(l, task)
	asCancelled(t, err)
}

// A Goexit that ends a run has been noticed, so it is not reported as well.
func TestGoexit_IsNotReported(t *testing.T) {
	var r reports
	l := sim.NewEventLoop(t.Context())
	l.SetExceptionHandler(r.handle)
	if !exits(func() {
		_, _ = asyncio.RunUntilComplete(l, asyncio.Do(func(context.Context) error { runtime.Goexit(); return nil }))
	}) {
		t.Error("RunUntilComplete returned")
	}
	must(t, l.Close())
	equal(t, "reports", r.messages(), nil)
}

// The loop factory in a context also makes the loops of nested runs.
func TestRun_LoopFactoryOfNestedRuns(t *testing.T) {
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
