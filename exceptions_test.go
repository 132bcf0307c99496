package asyncio_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// An exception handler may exit its goroutine, like one that calls t.Fatal.
func TestExceptionHandler_MayExit(t *testing.T) {
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
func TestExceptionHandler_MayExitInAWait(t *testing.T) {
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

// If the log panics, a report loses its form and nothing else, even when another task lies
// underneath.
func TestExceptionHandler_LogPanics(t *testing.T) {
	for _, how := range []string{"alone", "on top"} {
		out, err := subprocess("TestExceptionHandler_LogPanicsSubprocess", "ASYNCIO_TEST_LOG="+how).CombinedOutput()
		if text := string(out); err != nil || !strings.Contains(text, "the log panics") || !strings.Contains(text, "came out false") {
			t.Errorf("%s: %v\n%s", how, err, text)
		}
	}
}

func TestExceptionHandler_LogPanicsSubprocess(t *testing.T) {
	how := os.Getenv("ASYNCIO_TEST_LOG")
	if how == "" {
		return // run by TestExceptionHandler_LogPanics
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
func TestExceptionHandler_LogExits(t *testing.T) {
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

type hostileError struct{}

func (*hostileError) Error() string   { panic("Error panics") }
func (*hostileError) Is(error) bool   { panic("Is panics") }
func (*hostileError) Unwrap() []error { panic("Unwrap panics") }

// The library guards its calls of methods of the user's errors.
func TestReports_OfHostileErrors(t *testing.T) {
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

// Wait does not count as retrieving an error, whatever it waits for.
func TestReports_WaitDoesNotRetrieve(t *testing.T) {
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
