package asyncio_test

import (
	"context"
	"errors"
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

func TestExceptionHandler_GetsPanicsOfCallbacks(t *testing.T) {
	l := newLoop(t)
	var r reports
	l.SetExceptionHandler(r.handle)
	ran := false
	l.CallSoon(func() { panic(errTest) })
	l.CallSoon(func() { ran = true })
	l.CallSoon(l.Stop)
	must(t, l.RunForever())
	if !ran || len(r.all) != 1 {
		t.Fatalf("ran = %v, reports = %v", ran, r.messages())
	}
	var p *asyncio.PanicError
	if c := r.all[0]; !strings.HasPrefix(c.Message, "exception in callback asyncio_test.") ||
		!errors.As(c.Exception, &p) || !strings.Contains(string(p.Stack), "exceptions_test.go") || c.Handle == nil {
		t.Errorf("report = %+v", c)
	}
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

// The exception handler gets the context of the task concerned, with its values; otherwise the
// loop's.
func TestExceptionHandler_Context(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		named := context.WithValue(ctx, ctxKey{}, "bar")
		_, _ = asyncio.CreateTask(named, asyncio.Do(func(context.Context) error { panic("in task") })).Await(ctx)
		asyncio.CreateTask(named, asyncio.Do(func(context.Context) error { return errTest }))
		_, _ = asyncio.RunInExecutor(named, nil, func() (int, error) { panic("in thread") }).Await(ctx)
		loop(t, ctx).CallSoon(func() { panic("in callback") })
		// a callback belongs to the task that registered it
		_, err := asyncio.CreateTask(named, asyncio.Do(func(ctx context.Context) error {
			l, f := loop(t, ctx), asyncio.CreateFuture[int](ctx)
			l.CallSoon(func() { panic("in its callback") })
			l.CallLater(0, func() { panic("in its timer") })
			f.AddDoneCallback(func(*asyncio.Future[int]) { panic("in its done callback") })
			return f.SetResult(1)
		})).Await(ctx)
		must(t, err)
		must(t, asyncio.CreateFuture[int](named).SetException(errTest))
		loop(t, ctx).CallExceptionHandler(asyncio.ExceptionContext{Message: "by hand", Task: self(ctx)})
		loop(t, ctx).CallExceptionHandler(asyncio.ExceptionContext{Message: "by hand, with a context", Task: self(ctx), Context: named})
		return asyncio.Sleep(ctx, 0)
	})
	must(t, err)
	want := map[string]any{
		"panic in task": "bar", "Task exception was never retrieved": "bar", "panic in thread function": "bar", "by hand, with a context": "bar",
		"by hand": nil, "Future exception was never retrieved": nil,
	}
	if len(r.all) != 10 {
		t.Errorf("%v", r.messages())
	}
	for _, c := range r.all {
		want := want[c.Message]
		if c.Exception != nil && strings.Contains(c.Exception.Error(), "in its ") {
			want = "bar"
		}
		if c.Context == nil || c.Context.Value(ctxKey{}) != want {
			t.Errorf("%s: %v: %v", c.Message, c.Exception, c.Context)
		}
	}
}

func TestExceptionHandler_ThatPanics(t *testing.T) {
	l := newLoop(t)
	l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) { panic("no") })
	logged := captureLog(t)
	l.CallSoon(func() { panic(errTest) })
	l.CallSoon(l.Stop)
	must(t, l.RunForever())
	if !strings.Contains(logged(), "unhandled error in exception handler") {
		t.Errorf("logged: %s", logged())
	}
}

// A report made by the exception handler does not go to that handler again, which would never end.
// The default handler gets it. If the program's logger reports or panics there, that goes to
// standard error.
func TestExceptionHandler_ThatReports(t *testing.T) {
	for name, closing := range map[string]bool{"in a run": false, "while the loop closes": true} {
		t.Run(name, func(t *testing.T) {
			logged := captureLog(t)
			calls := 0
			l := asyncio.NewEventLoop(t.Context())
			l.SetExceptionHandler(func(l *asyncio.EventLoop, c asyncio.ExceptionContext) {
				calls++
				l.CallExceptionHandler(c) // it meant to call DefaultExceptionHandler
			})
			fail := func() { panic(errTest) }
			if closing {
				asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
					defer l.CallExceptionHandler(asyncio.ExceptionContext{Message: "unwound", Exception: errTest})
					return asyncio.Sleep(ctx, time.Hour)
				}))
			} else {
				l.CallSoon(fail)
			}
			l.CallSoon(l.Stop)
			must(t, l.RunForever())
			must(t, l.Close())
			reported := strings.Count(logged(), "reported while the exception handler was at work: ")
			if want := 1 + btoi(closing); calls != want || reported != want || !strings.Contains(logged(), errTest.Error()) {
				t.Errorf("%d calls, logged: %s", calls, logged())
			}
		})
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// If the logger panics, or reports to the loop itself, the report loses its form and nothing else.
func TestExceptionHandler_DefaultFails(t *testing.T) {
	for name, log := range map[string]func(l *asyncio.EventLoop){
		"panics": func(*asyncio.EventLoop) { panic("the logger's own") },
		"reports": func(l *asyncio.EventLoop) {
			l.CallExceptionHandler(asyncio.ExceptionContext{Message: "the logger's own"})
		},
	} {
		for _, how := range []string{"callback", "task", "handler"} {
			t.Run(name+" for a "+how, func(t *testing.T) {
				l := newLoop(t)
				stderr := captureStderr(t)
				old := slog.Default()
				slog.SetDefault(slog.New(handlerFunc(func() { log(l) })))
				defer restoreLog(old)
				ran := false
				if how == "handler" {
					l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) { panic("no") })
				}
				if how == "task" {
					start(l.Context(), func(context.Context) error { panic(errTest) })
				} else {
					l.CallSoon(func() { panic(errTest) })
				}
				l.CallSoon(func() { ran = true })
				l.CallSoon(l.Stop)
				must(t, l.RunForever())
				reported := map[string]string{"callback": "exception in callback", "task": "panic in task", "handler": "unhandled error in exception handler"}[how]
				got := stderr()
				if name == "panics" && !strings.Contains(got, "asyncio: "+reported) {
					t.Errorf("standard error lacks the report itself: %s", got)
				}
				if !ran || !strings.Contains(got, "the logger's own") {
					t.Errorf("the loop went on: %v; standard error: %s", ran, got)
				}
			})
		}
	}
}

// A handlerFunc is a program's log handler.
type handlerFunc func()

func (handlerFunc) Enabled(context.Context, slog.Level) bool    { return true }
func (f handlerFunc) Handle(context.Context, slog.Record) error { f(); return nil }
func (f handlerFunc) WithAttrs([]slog.Attr) slog.Handler        { return f }
func (f handlerFunc) WithGroup(string) slog.Handler             { return f }

// captureStderr replaces standard error with a file during the test.
func captureStderr(t *testing.T) (printed func() string) {
	f, err := os.CreateTemp(t.TempDir(), "stderr")
	must(t, err)
	old := os.Stderr
	os.Stderr = f
	t.Cleanup(func() { os.Stderr = old; must(t, f.Close()) })
	return func() string {
		b, err := os.ReadFile(f.Name())
		must(t, err)
		return string(b)
	}
}

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

// If the log panics while another task lies underneath, that task does not notice. The test runs a
// subprocess, because the panic might end the program.
func TestExceptionHandler_LogPanics(t *testing.T) {
	out, err := subprocess("TestExceptionHandler_LogPanicsSubprocess", "ASYNCIO_TEST_LOG=1").CombinedOutput()
	if text := string(out); err != nil || !strings.Contains(text, "the log panics") || !strings.Contains(text, "came out false") {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestExceptionHandler_LogPanicsSubprocess(t *testing.T) {
	if os.Getenv("ASYNCIO_TEST_LOG") == "" {
		return // run by TestExceptionHandler_LogPanics
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		defer func() { println("came out", recover() != nil) }()
		slog.SetDefault(slog.New(handlerFunc(func() { panic("the log panics") })))
		return ended(ctx, start(ctx, func(context.Context) error { panic("child") }))
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

// An error that nobody retrieved is reported when the loop closes (design 3).
func TestReports_AtClose(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		lost := asyncio.CreateFuture[int](ctx)
		must(t, lost.SetException(errTest))
		seen := asyncio.CreateFuture[int](ctx)
		must(t, seen.SetException(errTest))
		_ = seen.Exception()
		asyncio.CreateTask(ctx, func(context.Context) (int, error) { return 0, errTest }, asyncio.TaskName("lost"))
		asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return 0, ctx.Err() })
		settle(t, ctx)
		return nil
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"Future exception was never retrieved", "Task exception was never retrieved"})
	if len(r.all) == 2 && (!errors.Is(r.all[1].Exception, errTest) || !strings.Contains(r.all[1].Source, "<Task finished name='lost' coro=<asyncio_test.TestReports_AtClose.func1.1() done, defined at ")) {
		t.Errorf("%+v", r.all[1])
	}
}

// On the real clock, the garbage collector notices an unretrieved error earlier.
func TestReports_Collected(t *testing.T) {
	var r reports
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		loop(t, ctx).SetExceptionHandler(r.handle)
		asyncio.CreateTask(ctx, func(context.Context) (int, error) { return 0, errTest })
		for end := time.Now().Add(10 * time.Second); len(r.messages()) == 0 && time.Now().Before(end); {
			runtime.GC()
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		equal(t, "before the end", r.messages(), []string{"Task exception was never retrieved"})
		return nil
	}))
	must(t, err)
	equal(t, "in all", r.messages(), []string{"Task exception was never retrieved"})
}

func TestReports_DefaultLogs(t *testing.T) {
	logged := captureLog(t)
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		asyncio.CreateTask(ctx, func(context.Context) (int, error) { return 0, errTest }, asyncio.TaskName("lost one"))
		return asyncio.Sleep(ctx, 0)
	}))
	must(t, err)
	for _, want := range []string{"level=ERROR", "asyncio: Task exception was never retrieved", "lost one", "exception=test"} {
		if !strings.Contains(logged(), want) {
			t.Errorf("logged %s\nwant %s", logged(), want)
		}
	}
}

// The table lists the ways to retrieve an error.
func TestReports_WhatCountsAsRetrieved(t *testing.T) {
	for name, look := range map[string]func(ctx context.Context, f *asyncio.Future[int]){
		"Result":    func(_ context.Context, f *asyncio.Future[int]) { _, _ = f.Result() },
		"Exception": func(_ context.Context, f *asyncio.Future[int]) { _ = f.Exception() },
		"Await":     func(ctx context.Context, f *asyncio.Future[int]) { _, _ = f.Await(ctx) },
		"Cancel":    func(_ context.Context, f *asyncio.Future[int]) { f.Cancel() },
		"nothing":   func(context.Context, *asyncio.Future[int]) {},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := runReporting(t, func(ctx context.Context) error {
				f := asyncio.CreateFuture[int](ctx)
				must(t, f.SetException(errTest))
				task := asyncio.CreateTask(ctx, func(context.Context) (int, error) { return 0, errTest })
				fine := asyncio.CreateFuture[int](ctx)
				must(t, fine.SetResult(1)) // a value need not be retrieved
				asyncio.CreateFuture[int](ctx)
				must(t, yields(ctx, 1))
				look(ctx, f)
				look(ctx, &task.Future)
				return nil
			})
			must(t, err)
			want := []string{"Future exception was never retrieved", "Task exception was never retrieved"}
			if name != "nothing" {
				want = nil
			}
			equal(t, "reports", r.messages(), want)
		})
	}
}

// The end of a task's context does not hide a failure that is joined to it.
func TestReports_FailureBesideTheEndOfTheContext(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		sub, cancel := asyncio.WithCancel(ctx)
		asyncio.CreateTask(sub, asyncio.Do(func(ctx context.Context) error {
			return errors.Join(asyncio.Sleep(ctx, time.Hour), errTest)
		}))
		must(t, asyncio.Sleep(ctx, 0))
		cancel()
		return asyncio.Sleep(ctx, time.Second)
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"Task exception was never retrieved"})
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
