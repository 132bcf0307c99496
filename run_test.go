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
	"github.com/goasyncio/asyncio/internal/leaktest"
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
		is(t, "on", debug(asyncio.DebugMode(true)), true)
		is(t, "off", debug(asyncio.DebugMode(false)), false)
		for _, on := range []bool{false, true} {
			r := asyncio.NewRunner(t.Context(), asyncio.LoopFactory(factory), asyncio.DebugMode(on))
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

func TestRunner_SeveralRunsOnOneLoop(t *testing.T) {
	r := asyncio.NewRunner(t.Context(), asyncio.LoopFactory(sim.NewEventLoop))
	var background *asyncio.Task[asyncio.None]
	if _, err := asyncio.RunIn(r, asyncio.Do(func(ctx context.Context) error {
		background = asyncio.CreateTask(ctx, sleeper(3*time.Second))
		return asyncio.Sleep(ctx, time.Second)
	})); err != nil {
		t.Error(err)
	}
	l, err := r.GetLoop()
	must(t, err)
	if background.Done() || l.Time().SinceStart() != time.Second {
		t.Error("after the first run")
	}
	if _, err := asyncio.RunIn(r, background.Await); err != nil || l.Time().SinceStart() != 3*time.Second {
		t.Errorf("%v at %v", err, l.Time())
	}
	must(t, r.Close())
	must(t, asyncio.NewRunner(t.Context()).Close()) // a runner that was never used
}

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

// A run ends one iteration after its task, and the remaining callbacks wait for the next run
// (CPython 16).
func TestRunUntilComplete_LeavesTheRest(t *testing.T) {
	l := newLoop(t)
	var got []string
	task := asyncio.CreateTask(l.Context(), instant)
	l.CallSoon(func() {
		got = append(got, "1")
		l.CallSoon(func() {
			got = append(got, "2")
			l.CallSoon(func() { got = append(got, "3") })
		})
	})
	if v, err := asyncio.RunUntilComplete(l, task); v != 1 || err != nil {
		t.Errorf("RunUntilComplete = %v, %v", v, err)
	}
	equal(t, "when the run ends", got, []string{"1", "2"})
	l.Stop()
	must(t, l.RunForever())
	equal(t, "in the next run", got, []string{"1", "2", "3"})
}

func TestRunUntilComplete_Stopped(t *testing.T) {
	l := newLoop(t)
	f := asyncio.CreateFuture[int](l.Context())
	l.CallSoon(l.Stop)
	if _, err := asyncio.RunUntilComplete(l, f); !errors.Is(err, asyncio.ErrLoopStopped) {
		t.Errorf("err = %v, want ErrLoopStopped", err)
	}
	must(t, f.SetResult(3))
	if v, err := asyncio.RunUntilComplete(l, f); v != 3 || err != nil {
		t.Errorf("of a done future: %v, %v", v, err)
	}
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
	is(t, "time", l.Time().SinceStart(), 2*time.Second)
	task.Cancel()
	_, err = asyncio.RunUntilComplete(l, task)
	asCancelled(t, err)
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

// At the end of Run the tasks that are left are cancelled, oldest first, and waited for. Their
// failures are reported.
func TestRun_Shutdown(t *testing.T) {
	var got []string
	r, err := runReporting(t, func(ctx context.Context) error {
		for _, name := range []string{"a", "b"} {
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				err := asyncio.Sleep(ctx, time.Hour)
				got = append(got, name+" cancelled")
				_ = asyncio.Sleep(ctx, time.Second)
				got = append(got, name+" cleaned up")
				return err
			}), asyncio.TaskName(name))
		}
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			_ = asyncio.Sleep(ctx, time.Hour)
			return errTest
		}), asyncio.TaskName("fails"))
		return asyncio.Sleep(ctx, 0)
	})
	must(t, err)
	equal(t, "got", got, []string{"a cancelled", "b cancelled", "a cleaned up", "b cleaned up"})
	equal(t, "reports", r.messages(), []string{"unhandled exception during asyncio.Run shutdown"})
}

// A task that returns a result although the shutdown cancelled it is not reported.
func TestRun_ShutdownOfATaskThatReturnsAResult(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			_ = asyncio.Sleep(ctx, time.Hour)
			asyncio.CurrentTask(ctx).Uncancel()
			return nil
		}))
		return asyncio.Sleep(ctx, 0)
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string(nil))
}

func TestRun_LeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 50 {
		run(t, func(ctx context.Context) error {
			for range 100 {
				asyncio.CreateTask(ctx, sleeper(time.Hour))
			}
			settle(t, ctx)
			_, err := asyncio.ToThread(ctx, instant)
			return err
		})
	}
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines before, %d after:\n%s", before, n, leaktest.Goroutines())
	}
}
