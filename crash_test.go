package asyncio_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
	"github.com/goasyncio/asyncio/internal/leaktest"
	"github.com/goasyncio/asyncio/sim"
)

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

// FailNow is called in a task, a callback, an eager task and after a suspension. The test ends as
// failed, everything is cleaned up, and other tasks' deferred functions run. The test runs a
// subprocess that must fail.
func TestGoexit_FailNowEndsTheTest(t *testing.T) {
	for _, how := range []string{"main", "child", "suspended child", "eager child", "callback", "skip"} {
		t.Run(how, func(t *testing.T) {
			out, err := subprocess("TestGoexit_Subprocess", "ASYNCIO_TEST_GOEXIT="+how).CombinedOutput()
			text := string(out)
			if how == "skip" {
				if err != nil || !strings.Contains(text, "--- SKIP: TestGoexit_Subprocess") {
					t.Errorf("%v\n%s", err, text)
				}
				return
			}
			if err == nil || !strings.Contains(text, "--- FAIL: TestGoexit_Subprocess") || strings.Contains(text, "panic") {
				t.Errorf("%v\n%s", err, text)
			}
			for _, want := range []string{"the reason", "bystander cancelled", "deferred of the test"} {
				if !strings.Contains(text, want) {
					t.Errorf("output lacks %q:\n%s", want, text)
				}
			}
			for _, not := range []string{"went on", "left behind"} {
				if strings.Contains(text, not) {
					t.Errorf("output has %q:\n%s", not, text)
				}
			}
		})
	}
}

func TestGoexit_Subprocess(t *testing.T) {
	how := os.Getenv("ASYNCIO_TEST_GOEXIT")
	if how == "" {
		return // run by TestGoexit_FailNowEndsTheTest
	}
	defer fmt.Println("deferred of the test")
	fail := func() { t.Fatal("the reason") }
	_, _ = asyncio.Run(onVirtualTime(t.Context(), new(reports)), asyncio.Do(func(ctx context.Context) error {
		bystander := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			err := asyncio.Sleep(ctx, time.Hour)
			fmt.Println("bystander cancelled:", err)
			return err
		}))
		settle(t, ctx)
		switch how {
		case "main":
			fail()
		case "skip":
			t.Skip("skipped by the subprocess on purpose, which TestGoexit_FailNowEndsTheTest looks for")
		case "child":
			asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { fail(); return nil }))
		case "suspended child":
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				_ = asyncio.Sleep(ctx, time.Second)
				fail()
				return nil
			}))
		case "eager child":
			asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { fail(); return nil }), asyncio.EagerStart(true))
		case "callback":
			loop(t, ctx).CallSoon(fail)
		}
		_, err := bystander.Await(ctx)
		fmt.Println("main:", err)
		if err == nil {
			fmt.Println("went on")
		}
		return err
	}))
	fmt.Println("went on after Run")
}

// Awaiting a task that exited returns ErrGoexit. The exit ends the run first, so the next run sees
// the error.
func TestGoexit_IsTheTasksError(t *testing.T) {
	l := sim.NewEventLoop(t.Context())
	task := asyncio.CreateTask(l.Context(), asyncio.Do(func(context.Context) error {
		runtime.Goexit()
		return nil
	}))
	waiter := asyncio.CreateTask(l.Context(), task.Await)
	if !exits(func() { _, _ = asyncio.RunUntilComplete(l, waiter) }) {
		t.Error("RunUntilComplete returned")
	}
	if _, err := asyncio.RunUntilComplete(l, waiter); !errors.Is(err, asyncio.ErrGoexit) {
		t.Errorf("err = %v", err)
	}
	must(t, l.Close())
}

// Close unwinds what is suspended: deferred functions run, their awaits fail, and the goroutines
// end.
func TestClose_UnwindsSuspendedTasks(t *testing.T) {
	l := sim.NewEventLoop(t.Context())
	var r reports
	l.SetExceptionHandler(r.handle)
	ctx := l.Context()
	var got []string
	note := func(s string, err error) { got = append(got, fmt.Sprint(s, ": ", err)) }
	f := asyncio.CreateFuture[int](ctx)
	suspended := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
		defer note("outermost", nil)
		defer func() {
			err := asyncio.Sleep(ctx, time.Second)
			note("await in defer", err)
			if !errors.Is(err, asyncio.ErrLoopClosed) {
				t.Errorf("Sleep while closing: %v", err)
			}
			if err := panicOf(func() { asyncio.CreateTask(ctx, instant) }); !errors.Is(err, asyncio.ErrLoopClosed) {
				t.Errorf("CreateTask while closing: %v", err)
			}
			f.Cancel()
		}()
		for {
			_, err := f.Await(ctx)
			note("not reached", err)
		}
	}), asyncio.Name("suspended"))
	panics := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
		defer panic("while unwinding")
		return asyncio.Sleep(ctx, time.Hour)
	}), asyncio.Name("panics"))
	l.CallSoon(func() { l.CallSoon(l.Stop) })
	must(t, l.RunForever())
	notStarted := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
		note("not reached either", nil)
		return nil
	}), asyncio.Name("not started"))
	must(t, l.Close())
	must(t, l.Close())

	equal(t, "got", got[1:], []string{"outermost: <nil>"})
	for _, task := range []*asyncio.Task[asyncio.None]{suspended, notStarted} {
		if _, err := task.Result(); !task.Cancelled() || !errors.Is(err, asyncio.ErrLoopClosed) {
			t.Errorf("%v: %v", task, err)
		}
	}
	if _, err := panics.Result(); err == nil {
		t.Errorf("%v", panics)
	}
	equal(t, "reports", r.messages(), []string{
		"Task was destroyed but it is pending!", // suspended
		"Task was destroyed but it is pending!", // panics
		"Task was destroyed but it is pending!", // not started
		"panic in task",
	})
	if !l.IsClosed() || l.IsRunning() {
		t.Error("IsClosed, IsRunning")
	}
}

// Tasks on top of each other are unwound together, and each one's deferred functions run as that
// task.
func TestClose_UnwindsTasksOnTopOfEachOther(t *testing.T) {
	l := sim.NewEventLoop(context.Background())
	var r reports
	l.SetExceptionHandler(r.handle)
	var got []string
	var tasks []*asyncio.Task[asyncio.None]
	var nest func(depth int) asyncio.Coroutine[asyncio.None]
	nest = func(depth int) asyncio.Coroutine[asyncio.None] {
		return asyncio.Do(func(ctx context.Context) error {
			defer func() {
				got = append(got, fmt.Sprint(depth, " ", errors.Is(asyncio.Sleep(ctx, 1), asyncio.ErrLoopClosed)))
			}()
			if depth == 0 {
				return asyncio.Sleep(ctx, time.Hour)
			}
			task := asyncio.CreateTask(ctx, nest(depth-1))
			tasks = append(tasks, task)
			_, err := task.Await(ctx)
			return err
		})
	}
	tasks = append(tasks, asyncio.CreateTask(l.Context(), nest(2)))
	l.CallLater(time.Second, l.Stop)
	must(t, l.RunForever())
	must(t, l.Close())
	equal(t, "unwound", got, []string{"0 true", "1 true", "2 true"})
	for _, task := range tasks {
		if !task.Cancelled() {
			t.Error(task)
		}
	}
	if len(r.all) != 3 {
		t.Errorf("reports: %v", r.messages())
	}
}

// A Goexit in a task also ends the task that waits beneath it. The deferred functions of both run,
// and may still await.
func TestGoexit_OnTopOfAnother(t *testing.T) {
	l := sim.NewEventLoop(context.Background())
	var got []string
	exitsWith := func(a asyncio.Awaitable[asyncio.None]) bool {
		return exits(func() {
			_, err := asyncio.RunUntilComplete(l, a)
			got = append(got, fmt.Sprint(err))
		})
	}
	task := asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		defer func() {
			began := l.Time()
			err := asyncio.Sleep(ctx, time.Second)
			got = append(got, fmt.Sprint("deferred ", err, " ", asyncio.CurrentTask(ctx).GetName(), " ", l.Time()-began))
		}()
		_, err := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
			runtime.Goexit()
			return nil
		})).Await(ctx)
		return err
	}), asyncio.Name("lower"))
	if !exitsWith(task) {
		t.Error("the run returned")
	}
	exitsWith(task)
	must(t, l.Close())
	if !errors.Is(task.Exception(), asyncio.ErrGoexit) {
		t.Errorf("%v", task)
	}
	equal(t, "got", got, []string{"deferred <nil> lower 1s"})
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
			}), asyncio.Name(name))
		}
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			_ = asyncio.Sleep(ctx, time.Hour)
			return errTest
		}), asyncio.Name("fails"))
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
	if background.Done() || l.Time() != time.Second {
		t.Error("after the first run")
	}
	if _, err := asyncio.RunIn(r, background.Await); err != nil || l.Time() != 3*time.Second {
		t.Errorf("%v at %v", err, l.Time())
	}
	must(t, r.Close())
	must(t, r.Close())
	if _, err := asyncio.RunIn(r, instant); !errors.Is(err, asyncio.ErrLoopClosed) {
		t.Errorf("RunIn after Close: %v", err)
	}
	if _, err := r.GetLoop(); !errors.Is(err, asyncio.ErrLoopClosed) {
		t.Errorf("GetLoop after Close: %v", err)
	}
	must(t, asyncio.NewRunner(t.Context()).Close()) // a runner that was never used
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

// needsSignals skips t on systems where a process cannot be sent a signal.
func needsSignals(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("Windows: a program cannot send a process os.Interrupt")
	}
}

// SIGINT cancels main. A second SIGINT ends the process even if main does not give way.
func TestRun_SIGINT(t *testing.T) {
	needsSignals(t)
	for _, how := range []string{"gives way", "yields", "waits for a future", "cancelled already", "uncancels", "stubborn", "blocks"} {
		t.Run(how, func(t *testing.T) {
			cmd := subprocess("TestRun_SIGINTSubprocess", "ASYNCIO_TEST_SIGINT="+how)
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			var said []string
			for lines := bufio.NewScanner(out); lines.Scan(); {
				said = append(said, lines.Text())
				if strings.HasPrefix(lines.Text(), "send ") {
					// the process may have died of the one before
					_ = cmd.Process.Signal(os.Interrupt)
				}
			}
			err = cmd.Wait()
			text := strings.Join(said, "\n")
			switch how {
			case "cancelled already":
				if err != nil || !strings.Contains(text, "keyboard interrupt: false") || !strings.Contains(text, "Run = asyncio: cancelled") {
					t.Errorf("%v\n%s", err, text)
				}
			case "gives way", "yields", "waits for a future":
				if err != nil || !strings.Contains(text, "keyboard interrupt: true") || !strings.Contains(text, "cleaned up") {
					t.Errorf("%v\n%s", err, text)
				}
			case "uncancels":
				if err != nil || !strings.Contains(text, "Run = <nil>") {
					t.Errorf("%v\n%s", err, text)
				}
			default:
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
					t.Errorf("%v, want death by SIGINT\n%s", err, text)
				}
			}
		})
	}
}

// The first of the signals cancels main, and the second has its usual effect. The error names the
// first.
func TestRun_HandleSignals(t *testing.T) {
	needsSignals(t)
	for how, want := range map[string]string{
		"TERM":          "Run = asyncio: stopped by signal: terminated: asyncio: cancelled\nkeyboard interrupt: false, signal: terminated",
		"INT":           "Run = asyncio: interrupted: asyncio: cancelled\nkeyboard interrupt: true, signal: none",
		"TERM, no INT":  "signal: terminated",
		"TERM and TERM": "death: terminated",
		"TERM and INT":  "death: interrupt",
		"two runs":      "Run = asyncio: stopped by signal: terminated: asyncio: cancelled\nkeyboard interrupt: false, signal: terminated",
	} {
		t.Run(how, func(t *testing.T) {
			cmd := subprocess("TestRun_HandleSignalsSubprocess", "ASYNCIO_TEST_SIGNALS="+how)
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			var said []string
			for lines := bufio.NewScanner(out); lines.Scan(); {
				said = append(said, lines.Text())
				switch lines.Text() {
				case "send TERM":
					_ = cmd.Process.Signal(syscall.SIGTERM)
				case "send INT":
					_ = cmd.Process.Signal(os.Interrupt)
				}
			}
			var exit *exec.ExitError
			if errors.As(cmd.Wait(), &exit) {
				said = append(said, fmt.Sprintf("death: %v", exit.Sys().(syscall.WaitStatus).Signal()))
			}
			if text := strings.Join(said, "\n"); !strings.Contains(text, want) {
				t.Errorf("%s\nwant %s", text, want)
			}
		})
	}
}

func TestRun_HandleSignalsSubprocess(t *testing.T) {
	how := os.Getenv("ASYNCIO_TEST_SIGNALS")
	if how == "" {
		return // run by TestRun_HandleSignals
	}
	opts := []asyncio.RunOption{asyncio.HandleSignals(syscall.SIGTERM), asyncio.HandleSignals(hangup, nil)}
	if how == "TERM, no INT" {
		opts = append(opts, asyncio.HandleSIGINT(false))
	}
	first, second, _ := strings.Cut(how, " and ")
	first, _, _ = strings.Cut(first, ",")
	main := func(ctx context.Context) error {
		fmt.Println("send", first)
		err := asyncio.Sleep(ctx, time.Hour)
		if second != "" {
			fmt.Println("send", second)
			err = asyncio.Sleep(ctx, time.Hour)
		}
		return err
	}
	if how == "two runs" { // the outer run handles SIGINT, the inner one the other signals
		first = "TERM"
		inner := main
		main = func(ctx context.Context) error {
			_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
				return asyncio.Run(t.Context(), asyncio.Do(inner), opts...)
			})
			return err
		}
		_, err := asyncio.Run(t.Context(), asyncio.Do(main))
		reportRun(err)
		return
	}
	_, err := asyncio.Run(t.Context(), asyncio.Do(main), opts...)
	reportRun(err)
}

func reportRun(err error) {
	got := "none"
	var s *asyncio.SignalError
	if errors.As(err, &s) {
		got = s.Signal.String()
	}
	fmt.Printf("Run = %v\nkeyboard interrupt: %v, signal: %s\n", err, errors.Is(err, asyncio.ErrKeyboardInterrupt), got)
}

func TestRun_SIGINTSubprocess(t *testing.T) {
	how := os.Getenv("ASYNCIO_TEST_SIGINT")
	if how == "" {
		return // run by TestRun_SIGINT
	}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		fmt.Println("send 1")
		if how == "blocks" {
			// does not let the loop run; the second signal must not need the loop
			for i := 1; ; i++ {
				// the first signal was taken long ago; repeats in case it was not
				if i%100_000 == 0 {
					fmt.Println("send again")
				}
				runtime.Gosched()
			}
		}
		switch how {
		case "yields":
			err := asyncio.Sleep(ctx, 0)
			for err == nil {
				err = asyncio.Sleep(ctx, 0)
			}
			fmt.Println("cleaned up", err)
			return err
		case "waits for a future":
			f := asyncio.CreateFuture[int](ctx)
			_, err := f.Await(ctx)
			if f.Cancelled() {
				fmt.Println("cleaned up")
			}
			return err
		case "cancelled already":
			me := asyncio.CurrentTask(ctx)
			me.Cancel("by itself")
			err := asyncio.Sleep(ctx, time.Hour)
			for me.Cancelling() < 2 {
				_ = asyncio.Sleep(ctx, time.Millisecond)
			}
			return err
		}
		err := asyncio.Sleep(ctx, time.Hour)
		switch how {
		case "uncancels":
			asyncio.CurrentTask(ctx).Uncancel()
			return nil
		case "stubborn":
			fmt.Println("send 2")
			for {
				_ = asyncio.Sleep(ctx, time.Hour)
			}
		}
		fmt.Println("cleaned up", asyncio.Sleep(ctx, time.Millisecond))
		return err
	}))
	fmt.Println("keyboard interrupt:", errors.Is(err, asyncio.ErrKeyboardInterrupt))
	fmt.Println("Run =", err)
}

// brokenDriver is a driver whose Wait fails.
type brokenDriver struct{ driver.Driver }

func (brokenDriver) Wait(time.Duration) error { return errTest }

// If the loop cannot wait for events, the program ends and says why. A task that happens to be
// suspended on the same stack cannot recover that panic.
func TestCrash_OfTheDriver(t *testing.T) {
	out, err := subprocess("TestCrash_Subprocess", "ASYNCIO_TEST_CRASH=1").CombinedOutput()
	if text := string(out); err == nil || !strings.Contains(text, "asyncio: waiting for events: "+errTest.Error()) || strings.Contains(text, "recovered") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestCrash_Subprocess(t *testing.T) {
	if os.Getenv("ASYNCIO_TEST_CRASH") == "" {
		return // run by TestCrash_OfTheDriver
	}
	l := asyncio.NewEventLoop(t.Context(), asyncio.Driver(brokenDriver{driver.NewReal()}))
	_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
		defer func() { fmt.Println("recovered", recover()) }()
		return asyncio.Sleep(ctx, time.Second)
	}))
	t.Error("it went on:", err)
}

// hangup is SIGHUP; js has no name for it.
const hangup = syscall.Signal(1)
