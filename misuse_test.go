package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// Bad input results in an error that names the mistake. A function with an error result returns it;
// any other panics with it, as Python raises.
func TestMisuse_NilArguments(t *testing.T) {
	var noCoro asyncio.Coroutine[int]
	var nilCtx context.Context
	noHandler := func(context.Context, *asyncio.StreamReader, *asyncio.StreamWriter) error { return nil }
	noLoop := func(context.Context) *asyncio.EventLoop { return nil }
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		f := asyncio.CreateFuture[int](ctx)
		_, awaitErr := noCoro.Await(ctx)
		_, awaitNil := asyncio.Await[int](ctx, nil)
		_, threadErr := asyncio.ToThread[int](ctx, nil)
		//asynciovet:allow nestedrun it is refused, because there is no coroutine
		_, runErr := asyncio.Run(context.Background(), noCoro)
		//asynciovet:allow nestedrun it is refused, because there is no context
		_, runCtxErr := asyncio.Run(nilCtx, instant)
		_, threadsafeErr := l.CallSoonThreadsafe(nil)
		//asynciovet:allow blocking there is no coroutine to wait for
		_, concurrentErr := asyncio.RunCoroutineThreadsafe(noCoro, l).Result(ctx)
		//asynciovet:allow blocking there is no loop to wait for
		_, noLoopErr := asyncio.RunCoroutineThreadsafe(instant, nil).Result(ctx)
		_, ctxErr := f.Await(nilCtx)
		_, gatherErr := asyncio.Gather(nilCtx, f)
		_, _, waitErr := asyncio.Wait(nilCtx, []*asyncio.Future[int]{f})
		for name, err := range map[string]error{
			"CreateTask":                      panicOf(func() { asyncio.CreateTask(ctx, noCoro) }),
			"CreateTask of Do(nil)":           panicOf(func() { asyncio.CreateTask(ctx, asyncio.Do(nil)) }),
			"EnsureFuture of a nil coroutine": panicOf(func() { asyncio.EnsureFuture(ctx, noCoro) }),
			"EnsureFuture of nil":             panicOf(func() { asyncio.EnsureFuture[int](ctx, nil) }),
			"CallSoon":                        panicOf(func() { l.CallSoon(nil) }),
			"CallLater":                       panicOf(func() { l.CallLater(1, nil) }),
			"CallAt":                          panicOf(func() { l.CallAt(asyncio.Never, nil) }),
			"AddDoneCallback":                 panicOf(func() { f.AddDoneCallback(nil) }),
			"RunInExecutor":                   panicOf(func() { asyncio.RunInExecutor[int](ctx, nil, nil) }),
			"SetDefaultExecutor":              panicOf(func() { l.SetDefaultExecutor(nil) }),
			"NewThreadPoolExecutor":           panicOf(func() { asyncio.NewThreadPoolExecutor(0) }),
			"NewEventLoop":                    panicOf(func() { asyncio.NewEventLoop(nilCtx) }),
			"Await of a nil coroutine":        awaitErr,
			"Await of nil":                    awaitNil,
			"ToThread":                        threadErr,
			"Run":                             runErr,
			"Run with a nil ctx":              runCtxErr,
			"CallSoonThreadsafe":              threadsafeErr,
			"RunCoroutineThreadsafe":          concurrentErr,
			"RunCoroutineThreadsafe, no loop": noLoopErr,
			"Future.Await with a nil ctx":     ctxErr,
			"Gather with a nil ctx":           gatherErr,
			"Wait with a nil ctx":             waitErr,
			"Sleep with a nil ctx":            asyncio.Sleep(nilCtx, 1),
			"Server.Shutdown with a nil ctx":  new(asyncio.Server).Shutdown(nilCtx),
			"NewStreams":                      panicOf(func() { asyncio.NewStreams(nil) }),
			"NewServer of a nil listener":     panicOf(func() { asyncio.NewServer(ctx, []*asyncio.Listener{nil}, noHandler) }),
			"NewEventLoop of a nil loop":      panicOf(func() { asyncio.NewEventLoop(asyncio.WithLoopFactory(t.Context(), noLoop)) }),
			"NewRunner of a nil loop": panicOf(func() {
				_, _ = asyncio.NewRunner(t.Context(), asyncio.LoopFactory(noLoop)).GetLoop()
			}),
		} {
			if !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("%s: %v, want ErrInvalidArgument", name, err)
			}
		}
		return nil
	})
	l := newLoop(t)
	var noTask *asyncio.Task[int]
	for name, a := range map[string]asyncio.Awaitable[int]{"nil": nil, "nil coroutine": noCoro, "nil task": noTask} {
		if _, err := asyncio.RunUntilComplete(l, a); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("RunUntilComplete of %s: %v", name, err)
		}
	}
}

func TestMisuse_ContextWithoutALoop(t *testing.T) {
	ctx := t.Context()
	l := newLoop(t)
	f := asyncio.CreateFuture[int](l.Context())
	_, awaitErr := f.Await(ctx)
	_, gatherErr := asyncio.Gather(ctx, f)
	_, _, waitErr := asyncio.Wait(ctx, []*asyncio.Future[int]{f})
	_, threadErr := asyncio.ToThread(ctx, instant)
	_, loopErr := asyncio.GetRunningLoop(ctx)
	_, notRunning := asyncio.GetRunningLoop(l.Context())
	for name, err := range map[string]error{
		"Sleep":                asyncio.Sleep(ctx, 1),
		"Await":                awaitErr,
		"Gather":               gatherErr,
		"Wait":                 waitErr,
		"ToThread":             threadErr,
		"GetRunningLoop":       loopErr,
		"GetRunningLoop, idle": notRunning,
		"CreateTask":           panicOf(func() { asyncio.CreateTask(ctx, instant) }),
		"CreateFuture":         panicOf(func() { asyncio.CreateFuture[int](ctx) }),
		"EnsureFuture":         panicOf(func() { asyncio.EnsureFuture(ctx, asyncio.Coroutine[int](instant)) }),
		"RunInExecutor":        panicOf(func() { asyncio.RunInExecutor(ctx, nil, func() (int, error) { return 0, nil }) }),
		"WithTimeout":          panicOf(func() { _, cancel := asyncio.WithTimeout(ctx, 1); cancel() }),
		"WithDeadline":         panicOf(func() { _, cancel := asyncio.WithDeadline(ctx, asyncio.Never); cancel() }),
		"WithCancel":           panicOf(func() { _, cancel := asyncio.WithCancel(ctx); cancel() }),
	} {
		if !errors.Is(err, asyncio.ErrNoRunningLoop) {
			t.Errorf("%s: %v, want ErrNoRunningLoop", name, err)
		}
	}
	if asyncio.CurrentTask(ctx) != nil || asyncio.AllTasks(ctx) != nil {
		t.Error("CurrentTask, AllTasks")
	}
}

func TestMisuse_AwaitOutsideATask(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		var errs []error
		loop(t, ctx).CallSoon(func() {
			_, err := f.Await(ctx)
			_, _, waitErr := asyncio.Wait(ctx, []*asyncio.Future[int]{f})
			_, gatherErr := asyncio.Gather(ctx, f)
			errs = []error{err, waitErr, gatherErr, asyncio.Sleep(ctx, 1)}
		})
		settle(t, ctx)
		for i, err := range errs {
			if !errors.Is(err, asyncio.ErrNotInTask) {
				t.Errorf("%d: %v, want ErrNotInTask", i, err)
			}
		}
		if len(errs) != 4 {
			t.Error("the callback did not run")
		}
		return nil
	})
}

func TestMisuse_FutureOfAnotherLoop(t *testing.T) {
	other := newLoop(t)
	f := asyncio.CreateFuture[int](other.Context())
	run(t, func(ctx context.Context) error {
		tk := newTicker(t, ctx)
		must(t, asyncio.Sleep(ctx, 0))
		start := tk.n
		_, err := f.Await(ctx)
		// delivered in the next iteration, as an await that is refused fails (CPython 15)
		if tk.n-start != 1 {
			t.Errorf("%d ticks", tk.n-start)
		}
		tk.h.Cancel()
		_, _, waitErr := asyncio.Wait(ctx, []*asyncio.Future[int]{f})
		_, gatherErr := asyncio.Gather(ctx, f)
		for name, err := range map[string]error{"Await": err, "Wait": waitErr, "Gather": gatherErr} {
			if !errors.Is(err, asyncio.ErrDifferentLoop) {
				t.Errorf("%s: %v, want ErrDifferentLoop", name, err)
			}
		}
		return nil
	})
	mine := newLoop(t)
	if _, err := asyncio.RunUntilComplete(mine, f); !errors.Is(err, asyncio.ErrDifferentLoop) {
		t.Errorf("RunUntilComplete: %v", err)
	}
}

func TestMisuse_NestedRun(t *testing.T) {
	l := newLoop(t)
	_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
		_, nested := asyncio.Run(ctx, instant)
		_, again := asyncio.RunUntilComplete(l, asyncio.Coroutine[int](instant))
		for name, err := range map[string]error{
			"Run": nested, "RunUntilComplete": again, "RunForever": l.RunForever(), "Close": l.Close(),
		} {
			if !errors.Is(err, asyncio.ErrLoopRunning) {
				t.Errorf("%s: %v, want ErrLoopRunning", name, err)
			}
		}
		// On another goroutine, another loop may run.
		v, err := asyncio.ToThread(ctx, func(ctx context.Context) (int, error) { return asyncio.Run(ctx, instant) })
		if v != 1 {
			t.Errorf("Run in a thread function: %v", v)
		}
		return err
	}))
	must(t, err)

	r := asyncio.NewRunner(t.Context(), asyncio.LoopFactory(sim.NewEventLoop))
	if _, err := asyncio.RunIn(r, asyncio.Do(func(context.Context) error {
		_, nested := asyncio.RunIn(r, instant)
		for name, err := range map[string]error{"RunIn": nested, "Close": r.Close()} {
			if !errors.Is(err, asyncio.ErrLoopRunning) {
				t.Errorf("%s: %v, want ErrLoopRunning", name, err)
			}
		}
		return nil
	})); err != nil {
		t.Error(err)
	}
	must(t, r.Close())
}

func TestMisuse_AfterClose(t *testing.T) {
	l := sim.NewEventLoop(t.Context())
	ctx := l.Context()
	f := asyncio.CreateFuture[int](ctx)
	must(t, l.Close())
	_, runErr := asyncio.RunUntilComplete(l, asyncio.Coroutine[int](instant))
	_, threadsafeErr := l.CallSoonThreadsafe(func() {})
	_, concurrentErr := asyncio.RunCoroutineThreadsafe(instant, l).Result(t.Context())
	_, awaitErr := f.Await(ctx)
	for name, err := range map[string]error{
		"RunForever":             l.RunForever(),
		"RunUntilComplete":       runErr,
		"CallSoonThreadsafe":     threadsafeErr,
		"RunCoroutineThreadsafe": concurrentErr,
		"Await":                  awaitErr,
		"Sleep":                  asyncio.Sleep(ctx, 1),
		"SetResult":              f.SetResult(1),
		"CallSoon":               panicOf(func() { l.CallSoon(func() {}) }),
		"CallLater":              panicOf(func() { l.CallLater(1, func() {}) }),
		"CreateTask":             panicOf(func() { asyncio.CreateTask(ctx, instant) }),
		"CreateFuture":           panicOf(func() { asyncio.CreateFuture[int](ctx) }),
		"WithTimeout":            panicOf(func() { _, cancel := asyncio.WithTimeout(ctx, 1); cancel() }),
	} {
		if !errors.Is(err, asyncio.ErrLoopClosed) {
			t.Errorf("%s: %v, want ErrLoopClosed", name, err)
		}
	}
	if f.Cancel() {
		t.Error("Cancel = true")
	}
}

// While the loop waits, every caller is foreign and is refused. In debug mode a foreign caller is
// refused while the loop works, too (foreign 7).
func TestMisuse_ForeignGoroutine(t *testing.T) {
	attempts := func(ctx context.Context, l *asyncio.EventLoop, f *asyncio.Future[int], h *asyncio.TimerHandle) map[string]error {
		_, awaitErr := f.Await(ctx)
		return map[string]error{
			"Sleep":           asyncio.Sleep(ctx, 1),
			"Await":           awaitErr,
			"SetResult":       f.SetResult(1),
			"SetException":    f.SetException(errTest),
			"Cancel":          panicOf(func() { f.Cancel() }),
			"AddDoneCallback": panicOf(func() { f.AddDoneCallback(func(*asyncio.Future[int]) {}) }),
			"CreateTask":      panicOf(func() { asyncio.CreateTask(ctx, instant) }),
			"CallSoon":        panicOf(func() { l.CallSoon(func() {}) }),
			"CallLater":       panicOf(func() { l.CallLater(1, func() {}) }),
			"TimerHandle":     panicOf(h.Cancel),
			"Stop":            panicOf(l.Stop),
			"CurrentTask":     panicOf(func() { asyncio.CurrentTask(ctx) }),
			"AllTasks":        panicOf(func() { asyncio.AllTasks(ctx) }),
			"WithTimeout":     panicOf(func() { _, cancel := asyncio.WithTimeout(ctx, 1); cancel() }),
		}
	}
	check := func(t *testing.T, errs map[string]error) {
		for name, err := range errs {
			if !errors.Is(err, asyncio.ErrForeignGoroutine) {
				t.Errorf("%s: %v, want ErrForeignGoroutine", name, err)
			}
		}
	}
	t.Run("while the loop waits", func(t *testing.T) {
		_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
			l := loop(t, ctx)
			f := asyncio.CreateFuture[int](ctx)
			h := l.CallLater(time.Hour, func() {})
			errs, err := asyncio.ToThread(ctx, func(context.Context) (map[string]error, error) {
				for !asyncio.Parked(l) {
					runtime.Gosched()
				}
				return attempts(ctx, l, f, h), nil
			})
			check(t, errs)
			h.Cancel()
			return err
		}))
		must(t, err)
	})
	t.Run("debug", func(t *testing.T) {
		_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
			l := loop(t, ctx)
			if !l.GetDebug() {
				t.Error("GetDebug = false")
			}
			f := asyncio.CreateFuture[int](ctx)
			h := l.CallLater(time.Hour, func() {})
			errs := make(chan map[string]error)
			go func() { errs <- attempts(ctx, l, f, h) }()
			check(t, <-errs) // the loop is in the middle of this step
			h.Cancel()

			// The loop's own calls still work in tasks, eager tasks and callbacks.
			child := asyncio.CreateTask(ctx, sleeper(time.Microsecond), asyncio.EagerStart(true))
			l.CallSoon(func() { f.AddDoneCallback(func(*asyncio.Future[int]) {}) })
			settle(t, ctx)
			must(t, f.SetResult(1))
			for _, ctx := range []context.Context{ctx, context.Background()} {
				if _, err := asyncio.RunCoroutineThreadsafe(instant, l).Result(ctx); !errors.Is(err, asyncio.ErrLoopRunning) {
					t.Errorf("Result on the loop: %v", err)
				}
			}
			_, err := child.Await(ctx)
			return err
		}), asyncio.DebugMode(true))
		must(t, err)
	})
}

func TestMisuse_ZeroFuture(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var f asyncio.Future[int]
		_, err := f.Await(ctx)
		for name, err := range map[string]error{"Await": err, "SetResult": f.SetResult(1), "SetException": f.SetException(errTest)} {
			if !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err = f.Result()
		for name, err := range map[string]error{"Result": err, "Exception": f.Exception()} {
			if !errors.Is(err, asyncio.ErrInvalidState) {
				t.Errorf("%s: %v", name, err)
			}
		}
		is(t, "String", f.String(), "<Future pending>")
		return nil
	})
}

// On virtual time a deadline of the context package would never come; the loop warns of it.
func TestMisuse_StandardDeadlineOnVirtualTime(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		ours, cancel := asyncio.WithTimeout(ctx, time.Hour)
		defer cancel()
		below, cancelBelow := context.WithCancel(ours)
		defer cancelBelow()
		if err := asyncio.Sleep(below, time.Second); err != nil {
			return err
		}
		theirs, cancelTheirs := context.WithTimeout(ctx, time.Minute)
		defer cancelTheirs()
		return asyncio.Sleep(theirs, time.Second)
	})
	must(t, err)
	if len(r.all) != 1 || !strings.Contains(r.all[0].Message, "use asyncio.WithTimeout") {
		t.Errorf("%v", r.messages())
	}
}

func TestErrors_SayWhatToDo(t *testing.T) {
	for _, err := range []error{
		asyncio.ErrNoRunningLoop, asyncio.ErrForeignGoroutine, asyncio.ErrDifferentLoop, asyncio.ErrNotInTask,
	} {
		if s := err.Error(); len(s) < 40 || s[:9] != "asyncio: " {
			t.Errorf("%q", s)
		}
	}
	if s := fmt.Sprint(&asyncio.CancelledError{}); s != "asyncio: cancelled" {
		t.Error(s)
	}
}
