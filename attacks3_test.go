package asyncio_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// Attacks on the switching of stacks: tasks lie on top of one another when something goes wrong.

// A cancelled task awaits the task it lies on top of, which closes a circle. The cancel breaks it.
func TestAttack_CancelledBeforeTheCircle(t *testing.T) {
	for name, wait := range map[string]func(ctx context.Context, u *asyncio.Task[int]) error{
		"await":  func(ctx context.Context, u *asyncio.Task[int]) error { _, err := u.Await(ctx); return err },
		"gather": func(ctx context.Context, u *asyncio.Task[int]) error { _, err := asyncio.Gather(ctx, u); return err },
	} {
		run(t, func(ctx context.Context) error {
			var u *asyncio.Task[int]
			var got error
			u = asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
				top := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
					asyncio.CurrentTask(ctx).Cancel()
					got = wait(ctx, u)
					return 0, got
				})
				return top.Await(ctx)
			})
			_, err := u.Await(ctx)
			settle(t, ctx)
			if !errors.Is(err, asyncio.ErrCancelled) || !errors.Is(got, asyncio.ErrCancelled) {
				t.Errorf("%s: %v, %v", name, err, got)
			}
			return nil
		})
	}
}

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
func TestAttack_LookedAtWhileUnwinding(t *testing.T) {
	var during string
	l := nestedExit(t, func(ctx context.Context) {
		during = asyncio.FormatTasks(ctx)
		_ = asyncio.Sleep(ctx, time.Hour)
	})
	after := asyncio.FormatTasks(l.Context())
	must(t, l.Close())
	for _, text := range []string{during, after} {
		if !strings.Contains(text, "runtime.Goexit() at") && !strings.Contains(text, "TestAttack_LookedAtWhileUnwinding.func1() at") {
			t.Errorf("not seen in its coroutine:\n%s", text)
		}
	}
}

// A deferred function can close a circle while its task is unwound. A cancel breaks that circle
// too.
func TestAttack_CircleWhileUnwinding(t *testing.T) {
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

// While the loop closes, deferred functions run as their own task, even if that task lies on top of
// another.
func TestAttack_WhoIsUnwound(t *testing.T) {
	l := sim.NewEventLoop(context.Background())
	var r reports
	l.SetExceptionHandler(r.handle)
	limiter := asyncio.NewCapacityLimiter(3)
	var names []string
	var nest func(names string) asyncio.Coroutine[int]
	nest = func(rest string) asyncio.Coroutine[int] {
		return func(ctx context.Context) (int, error) {
			if err := limiter.Acquire(ctx); err != nil {
				return 0, err
			}
			defer limiter.Release(ctx)
			defer func() { names = append(names, asyncio.CurrentTask(ctx).GetName()) }()
			if len(rest) == 1 {
				return 0, asyncio.Sleep(ctx, time.Hour)
			}
			return asyncio.CreateTask(ctx, nest(rest[1:]), asyncio.Name(rest[1:2])).Await(ctx)
		}
	}
	asyncio.CreateTask(l.Context(), nest("abc"), asyncio.Name("a"))
	l.CallLater(time.Second, l.Stop)
	must(t, l.RunForever())
	must(t, l.Close())
	equal(t, "unwound as", names, []string{"c", "b", "a"})
	if n := limiter.BorrowedTokens(); n != 0 {
		t.Errorf("%d tokens are still borrowed", n)
	}
	for _, c := range r.all {
		if c.Exception != nil {
			t.Errorf("%s: %v", c.Message, c.Exception)
		}
	}
}

// If the log panics, a report loses its form and nothing else, even when another task lies
// underneath.
func TestAttack_PanicOfTheLog(t *testing.T) {
	for _, how := range []string{"alone", "on top"} {
		out, err := subprocess("TestAttack_PanicOfTheLogSubprocess", "ASYNCIO_TEST_LOG="+how).CombinedOutput()
		if text := string(out); err != nil || !strings.Contains(text, "the log panics") || !strings.Contains(text, "came out false") {
			t.Errorf("%s: %v\n%s", how, err, text)
		}
	}
}

func TestAttack_PanicOfTheLogSubprocess(t *testing.T) {
	how := os.Getenv("ASYNCIO_TEST_LOG")
	if how == "" {
		return // run by TestAttack_PanicOfTheLog
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		defer func() { println("came out", recover() != nil) }()
		slog.SetDefault(slog.New(handlerFunc(func() { panic("the log panics") })))
		child := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { panic("child") }))
		if how == "alone" {
			return asyncio.Sleep(ctx, time.Second)
		}
		_, err := child.Await(ctx)
		return err
	}), asyncio.HandleSIGINT(false))
	println("came out", err)
}

// A log that exits, like one that calls t.Fatal, ends the run wherever it is called.
func TestAttack_LogExits(t *testing.T) {
	old := slog.Default()
	defer restoreLog(old)
	for name, scene := range map[string]func(l *asyncio.EventLoop){
		"task": func(l *asyncio.EventLoop) {
			asyncio.CreateTask(l.Context(), asyncio.Do(func(context.Context) error { panic("x") }))
		},
		"callback": func(l *asyncio.EventLoop) { l.CallSoon(func() { panic("x") }) },
	} {
		l := sim.NewEventLoop(context.Background())
		slog.SetDefault(slog.New(handlerFunc(runtime.Goexit)))
		scene(l)
		l.CallLater(time.Minute, l.Stop)
		if !exits(func() { _ = l.RunForever() }) {
			t.Errorf("%s: RunForever returned", name)
		}
		restoreLog(old)
		must(t, l.Close())
	}
}

// Close waits for a blocking deferred function once for all tasks on its stack. It reports the
// function once, as that of the task it belongs to.
func TestAttack_BlocksOnTop(t *testing.T) {
	for blocks, want := range map[string][]string{"lower": {"upper", "lower"}, "upper": {"upper"}} {
		func() {
			// long enough for the one that does not block to unwind on a machine that is slow
			defer asyncio.Impatient(300 * time.Millisecond)()
			l := sim.NewEventLoop(context.Background())
			var r reports
			l.SetExceptionHandler(r.handle)
			blocked, gone := make(chan struct{}), make(chan struct{})
			var unwound []string
			cleanUp := func(name string) {
				unwound = append(unwound, name)
				if name == blocks {
					<-blocked
				}
				if name == "lower" {
					close(gone)
				}
			}
			lower := asyncio.CreateTask(l.Context(), func(ctx context.Context) (int, error) {
				defer cleanUp("lower")
				return asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
					defer cleanUp("upper")
					return 0, asyncio.Sleep(ctx, time.Hour)
				}, asyncio.Name("upper")).Await(ctx)
			}, asyncio.Name("lower"))
			l.CallLater(time.Second, l.Stop)
			must(t, l.RunForever())
			must(t, l.Close())
			var blamed []string
			for _, c := range r.all {
				if strings.Contains(c.Message, "does not unwind") {
					blamed = append(blamed, c.Task.GetName())
				}
			}
			equal(t, "blamed", blamed, []string{blocks})
			if !lower.Cancelled() {
				t.Errorf("%v", lower)
			}
			close(blocked)
			<-gone
			equal(t, "unwound", unwound[:len(want)], want)
		}()
	}
}
