package asyncio_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// nestedExit makes a loop whose first task creates a second one and awaits it. The second calls
// Goexit, and that unwinds the first as well. The first task's last deferred function is last.
func nestedExit(t *testing.T, last func(ctx context.Context)) *asyncio.EventLoop {
	l := sim.NewEventLoop(context.Background())
	l.SetExceptionHandler(new(reports).handle)
	asyncio.CreateTask(l.Context(), func(ctx context.Context) (int, error) {
		defer last(ctx)
		return asyncio.CreateTask(ctx, func(context.Context) (int, error) { runtime.Goexit(); return 0, nil }).Await(ctx)
	}, asyncio.Name("lower"))
	if !exits(func() { _ = l.RunForever() }) {
		t.Error("RunForever returned")
	}
	return l
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
