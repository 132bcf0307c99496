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

// nestedExit makes a loop whose first task creates a second one and awaits it. The second calls
// Goexit, and that unwinds the first as well. The first task's last deferred function is last.
func nestedExit(t *testing.T, last func(ctx context.Context)) *asyncio.EventLoop {
	l := sim.NewEventLoop(context.Background())
	l.SetExceptionHandler(new(reports).handle)
	asyncio.CreateTask(l.Context(), func(ctx context.Context) (int, error) {
		defer last(ctx)
		return asyncio.CreateTask(ctx, func(context.Context) (int, error) { runtime.Goexit(); return 0, nil }).Await(ctx)
	}, asyncio.TaskName("lower"))
	if !exits(func() { _ = l.RunForever() }) {
		t.Error("RunForever returned")
	}
	return l
}

// A Goexit in a task also ends the task that waits beneath it. The deferred functions of both run,
// and may still await.
func TestGoexit_OnTopOfAnother(t *testing.T) {
	var got string
	var lower *asyncio.Task[int]
	l := nestedExit(t, func(ctx context.Context) {
		lower = asyncio.CurrentTask(ctx).(*asyncio.Task[int])
		began := loop(t, ctx).Time()
		err := asyncio.Sleep(ctx, time.Second)
		got = fmt.Sprint(err, " ", asyncio.CurrentTask(ctx).GetName(), " ", loop(t, ctx).Time().Sub(began))
	})
	if !exits(func() { _, _ = asyncio.RunUntilComplete(l, lower) }) {
		t.Error("RunUntilComplete returned")
	}
	must(t, l.Close())
	if !errors.Is(lower.Exception(), asyncio.ErrGoexit) {
		t.Errorf("%v", lower)
	}
	is(t, "the deferred function", got, "<nil> lower 1s")
}

// A task that is being unwound together with the task on top of it is still shown in its own
// coroutine.
func TestGoexit_TasksAreSeenWhileTheyUnwind(t *testing.T) {
	var during string
	l := nestedExit(t, func(ctx context.Context) {
		during = asyncio.FormatTasks(ctx)
		_ = asyncio.Sleep(ctx, time.Hour)
	})
	after := asyncio.FormatTasks(l.Context())
	must(t, l.Close())
	for _, text := range []string{during, after} {
		if !strings.Contains(text, "runtime.Goexit() at") && !strings.Contains(text, "TestGoexit_TasksAreSeenWhileTheyUnwind.func1() at") {
			t.Errorf("not seen in its coroutine:\n%s", text)
		}
	}
}

// A deferred function can close a circle while its task is unwound. A cancel breaks that circle
// too.
func TestGoexit_CircleWhileUnwinding(t *testing.T) {
	var lower *asyncio.Task[int]
	var got error
	l := nestedExit(t, func(ctx context.Context) {
		lower = asyncio.CurrentTask(ctx).(*asyncio.Task[int])
		_, got = asyncio.Gather(ctx, lower)
	})
	l.CallLater(time.Second, func() { lower.Cancel() })
	l.CallLater(time.Minute, l.Stop)
	if exits(func() { must(t, l.RunForever()) }) && !errors.Is(got, asyncio.ErrCancelled) || got == nil {
		t.Errorf("got %v", got)
	}
	must(t, l.Close())
}

// A deferred function that panics during a Goexit does not stop the Goexit.
func TestGoexit_PanicOnTheWay(t *testing.T) {
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

// A pending stop of a run that ended by Goexit does not end the next run.
func TestGoexit_AfterAStop(t *testing.T) {
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
