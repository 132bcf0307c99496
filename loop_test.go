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
	"github.com/goasyncio/asyncio/internal/driver"
	"github.com/goasyncio/asyncio/sim"
)

func TestLoop_OrderWithinAnIteration(t *testing.T) {
	l := newLoop(t)
	var got []string
	note := func(s string) func() { return func() { got = append(got, s) } }
	l.CallLater(0, note("timer"))
	l.CallSoon(func() {
		got = append(got, "ready")
		l.CallSoon(note("next iteration"))
	})
	l.CallSoon(note("ready too"))
	l.CallSoon(func() { l.CallSoon(l.Stop) })
	must(t, l.RunForever())
	equal(t, "order", got, []string{"ready", "ready too", "timer", "next iteration"})
}

func TestLoop_StopBeforeRunGivesOneIteration(t *testing.T) {
	l := newLoop(t)
	var got []string
	l.CallSoon(func() {
		got = append(got, "first")
		l.CallSoon(func() { got = append(got, "second") })
	})
	l.Stop()
	must(t, l.RunForever())
	equal(t, "after one iteration", got, []string{"first"})
	l.Stop()
	must(t, l.RunForever())
	equal(t, "after two", got, []string{"first", "second"})
}

// Stopping a closed loop does nothing.
func TestLoop_StopOfAClosedLoop(t *testing.T) {
	l := asyncio.NewEventLoop(context.Background())
	must(t, l.Close())
	l.Stop()
	if !l.IsClosed() || l.IsRunning() {
		t.Error(l)
	}
}

// A stop made by the coroutine that a run is for ends that run, and not the next one as well.
func TestLoop_StopIsForOneRun(t *testing.T) {
	l := sim.NewEventLoop(context.Background())
	_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(context.Context) error { l.Stop(); return nil }))
	must(t, err)
	second := false
	l.CallSoon(func() { l.CallSoon(func() { second = true }) })
	l.CallLater(time.Second, l.Stop)
	must(t, l.RunForever())
	is(t, "the second iteration came", second, true)
	must(t, l.Close())
}

func TestLoop_StopFinishesTheIteration(t *testing.T) {
	l := newLoop(t)
	var got []string
	l.CallSoon(l.Stop)
	l.CallSoon(func() { got = append(got, "after stop") })
	must(t, l.RunForever())
	equal(t, "got", got, []string{"after stop"})
}

func TestLoop_VirtualTimeJumps(t *testing.T) {
	start := time.Now()
	run(t, func(ctx context.Context) error {
		if err := asyncio.Sleep(ctx, 1000*time.Hour); err != nil {
			return err
		}
		if now := loop(t, ctx).Time().SinceStart(); now != 1000*time.Hour {
			t.Errorf("Time() = %v", now)
		}
		return nil
	})
	if d := time.Since(start); d > time.Minute {
		t.Errorf("took %v", d)
	}
}

func TestLoop_DeadlockOnVirtualTime(t *testing.T) {
	_, err := runReporting(t, func(ctx context.Context) error {
		_, err := asyncio.CreateFuture[int](ctx).Await(ctx)
		return err
	})
	if !errors.Is(err, asyncio.ErrDeadlock) || !strings.Contains(err.Error(), "task 'Task-1', ") {
		t.Errorf("err = %v, want ErrDeadlock that names the task", err)
	}
}

func TestLoop_StartsFromALockedThread(t *testing.T) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
			_, err := asyncio.Gather(ctx, asyncio.Coroutine[int](instant), instant)
			return errors.Join(err, asyncio.Sleep(ctx, time.Microsecond))
		}))
		done <- err
	}()
	must(t, <-done)
}

// brokenDriver is a driver whose Wait fails.
type brokenDriver struct{ driver.Driver }

func (brokenDriver) Wait(time.Duration) error { return errTest }

// If the loop cannot wait for events, the program ends and says why. A task that happens to be
// suspended on the same stack cannot recover that panic.
func TestLoop_WaitFails(t *testing.T) {
	out, err := subprocess("TestLoop_WaitFailsSubprocess", "ASYNCIO_TEST_CRASH=1").CombinedOutput()
	if text := string(out); err == nil || !strings.Contains(text, "asyncio: waiting for events: "+errTest.Error()) || strings.Contains(text, "recovered") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestLoop_WaitFailsSubprocess(t *testing.T) {
	if os.Getenv("ASYNCIO_TEST_CRASH") == "" {
		return // run by TestLoop_WaitFails
	}
	l := asyncio.NewEventLoop(driver.With(t.Context(), brokenDriver{driver.NewReal()}))
	_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
		defer func() { fmt.Println("recovered", recover()) }()
		return asyncio.Sleep(ctx, time.Second)
	}))
	t.Error("it went on:", err)
}
