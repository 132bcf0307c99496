package asyncio_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
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

func TestLoop_EqualTimersFireInOrderOfSetting(t *testing.T) {
	l := newLoop(t)
	var got, want []int
	for i := range 100 {
		l.CallAt(5*time.Second, func() { got = append(got, i) })
		want = append(want, i)
	}
	l.CallAt(5*time.Second, l.Stop)
	must(t, l.RunForever())
	equal(t, "order", got, want)
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

func TestHandle_Cancel(t *testing.T) {
	l := newLoop(t)
	ran := 0
	h := l.CallSoon(func() { ran++ })
	h.Cancel()
	late := l.CallLater(time.Second, func() { ran++ })
	if late.When() != time.Second {
		t.Errorf("When() = %v", late.When())
	}
	late.Cancel()
	late.Cancel()
	if !h.Cancelled() || !late.Cancelled() {
		t.Error("Cancelled() = false")
	}
	// A timer that is due in the iteration in which it is cancelled does not run either.
	var due *asyncio.TimerHandle
	l.CallSoon(func() { due.Cancel() })
	due = l.CallLater(0, func() { ran++ })
	l.CallLater(2*time.Second, l.Stop)
	must(t, l.RunForever())
	if ran != 0 {
		t.Errorf("%d cancelled callbacks ran", ran)
	}
}

func TestLoop_CallbackPanicIsReportedAndTheLoopGoesOn(t *testing.T) {
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
		!errors.As(c.Exception, &p) || !strings.Contains(string(p.Stack), "loop_test.go") || c.Handle == nil {
		t.Errorf("report = %+v", c)
	}
}

func TestLoop_ExceptionHandlerThatPanics(t *testing.T) {
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
func TestLoop_ExceptionHandlerThatReports(t *testing.T) {
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
func TestLoop_DefaultExceptionHandlerFails(t *testing.T) {
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
				if got := stderr(); !ran || !strings.Contains(got, "the logger's own") {
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

func TestLoop_TimersNeverEarly(t *testing.T) {
	// Deadlines fall due one after the other on the real clock.
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l := loop(t, ctx)
		fired := 0
		for range 2000 {
			var h *asyncio.TimerHandle
			h = l.CallLater(time.Duration(rand.Int64N(int64(20*time.Millisecond))), func() {
				fired++
				if now := l.Time(); now < h.When() {
					t.Errorf("fired at %v, due at %v", now, h.When())
				}
			})
		}
		start := time.Now()
		if err := asyncio.Sleep(ctx, 25*time.Millisecond); err != nil {
			return err
		}
		if d := time.Since(start); d < 25*time.Millisecond {
			t.Errorf("slept %v, want at least 25ms", d)
		}
		if fired != 2000 {
			t.Errorf("%d of 2000 timers fired", fired)
		}
		return nil
	}))
	must(t, err)
}

// Timers are set and cancelled in every order. They fire in the order that sorting would give.
func TestLoop_TimersAgainstSorting(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		l := sim.NewEventLoop(t.Context())
		type timer struct {
			h    *asyncio.TimerHandle
			id   int
			dead bool
		}
		var set []*timer
		var fired []int
		for i := range 1 + rng.IntN(60) {
			tm := &timer{id: i}
			tm.h = l.CallAt(time.Duration(rng.IntN(8))*time.Second, func() { fired = append(fired, tm.id) })
			set = append(set, tm)
			if rng.IntN(3) == 0 {
				victim := set[rng.IntN(len(set))]
				victim.h.Cancel()
				victim.dead = true
			}
		}
		var want []int
		for when := range 8 {
			for _, tm := range set {
				if !tm.dead && tm.h.When() == time.Duration(when)*time.Second {
					want = append(want, tm.id)
				}
			}
		}
		l.CallAt(time.Minute, l.Stop)
		must(t, l.RunForever())
		equal(t, "fired", fired, want)
		must(t, l.Close())
	}
}

// A million timers are set and cancelled in every order that could be bad. The bound is a hundred
// times the usual time; quadratic behaviour would take hours.
func TestLoop_AMillionTimers(t *testing.T) {
	n := 1_000_000
	if raceEnabled {
		n = 100_000 // the race detector makes everything ten times slower
	}
	for _, order := range []string{"forwards", "backwards", "random", "fire"} {
		start := time.Now()
		l := sim.NewEventLoop(t.Context())
		hs := make([]*asyncio.TimerHandle, n)
		fired := 0
		for i := range hs {
			hs[i] = l.CallAt(time.Duration(rand.Int64N(int64(n)))*time.Microsecond+1, func() { fired++ })
		}
		switch order {
		case "random":
			rand.Shuffle(n, func(i, j int) { hs[i], hs[j] = hs[j], hs[i] })
		case "backwards":
			for i, j := 0, n-1; i < j; i, j = i+1, j-1 {
				hs[i], hs[j] = hs[j], hs[i]
			}
		}
		want := 0
		if order == "fire" {
			want = n
		} else {
			for _, h := range hs {
				h.Cancel()
			}
		}
		l.CallAt(time.Hour, l.Stop)
		must(t, l.RunForever())
		must(t, l.Close())
		if fired != want {
			t.Errorf("%s: %d fired, want %d", order, fired, want)
		}
		if d := time.Since(start); d > 2*time.Minute {
			t.Errorf("%s: took %v", order, d)
		}
	}
}

func TestLoop_DurationsAtTheEnds(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		if err := asyncio.Sleep(ctx, 10*time.Second); err != nil {
			return err
		}
		// now+MaxInt64 overflows. It must mean never, not a time long ago.
		for _, d := range []time.Duration{math.MaxInt64, math.MaxInt64 - time.Duration(1)} {
			h := l.CallLater(d, func() { t.Errorf("a timer set for %v from now fired", d) })
			if h.When() < l.Time() {
				t.Errorf("When() = %v", h.When())
			}
			sleeper := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asyncio.Sleep(ctx, d) }))
			if err := asyncio.Sleep(ctx, time.Hour); err != nil {
				return err
			}
			if sleeper.Done() {
				t.Errorf("Sleep(%v) has ended", d)
			}
			sleeper.Cancel()
			h.Cancel()
			tctx, cancel := asyncio.WithTimeout(ctx, d)
			if tctx.Err() != nil {
				t.Errorf("WithTimeout(%v) is done", d)
			}
			cancel()
			f := asyncio.CreateFuture[int](ctx)
			l.CallLater(time.Second, func() { must(t, f.SetResult(1)) })
			if done, _, err := asyncio.Wait(ctx, []*asyncio.Future[int]{f}, asyncio.WaitTimeout(d)); len(done) != 1 || err != nil {
				t.Errorf("Wait with timeout %v: %v, %v", d, done, err)
			}
		}
		// A delay that is not positive is due now, as in CPython.
		for _, d := range []time.Duration{0, -1, -time.Hour, math.MinInt64} {
			now := l.Time()
			fired := false
			l.CallLater(d, func() { fired = true })
			for range 2 { // the timer comes after this task in the next iteration's queue
				if err := asyncio.Sleep(ctx, d); err != nil {
					return err
				}
			}
			if !fired || l.Time() != now {
				t.Errorf("delay %v: fired %v, %v passed", d, fired, l.Time()-now)
			}
			tctx, cancel := asyncio.WithTimeout(ctx, d)
			if err := asyncio.Sleep(tctx, time.Second); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("under WithTimeout(%v): %v", d, err)
			}
			cancel()
			f := asyncio.CreateFuture[int](ctx)
			if _, pending, err := asyncio.Wait(ctx, []*asyncio.Future[int]{f}, asyncio.WaitTimeout(d)); len(pending) != 1 || err != nil {
				t.Errorf("Wait with timeout %v: %v, %v", d, pending, err)
			}
			if l.Time() != now {
				t.Errorf("delay %v: %v passed", d, l.Time()-now)
			}
		}
		return nil
	})
}

func TestLoop_VirtualTimeJumps(t *testing.T) {
	start := time.Now()
	run(t, func(ctx context.Context) error {
		if err := asyncio.Sleep(ctx, 1000*time.Hour); err != nil {
			return err
		}
		if now := loop(t, ctx).Time(); now != 1000*time.Hour {
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

// Closing the loop drops callbacks and timers, even those that are due.
func TestClose_DropsCallbacksAndTimers(t *testing.T) {
	l := sim.NewEventLoop(t.Context())
	l.CallLater(0, func() { t.Error("a timer fired") })
	l.CallLater(-1, func() { t.Error("a timer fired") })
	l.CallSoon(func() { t.Error("a callback ran") })
	ran := false
	_, err := l.CallSoonThreadsafe(func() {
		ran = true
		l.CallLater(0, func() { t.Error("a timer set while closing fired") })
		l.CallSoon(func() { t.Error("a callback scheduled while closing ran") })
	})
	must(t, err)
	must(t, l.Close())
	if !ran {
		t.Error("what was accepted from outside did not run")
	}
}

func TestLoop_String(t *testing.T) {
	l := newLoop(t)
	h := l.CallLater(1500*time.Millisecond, func() {})
	if s := h.String(); !strings.HasPrefix(s, "<TimerHandle when=1.5s asyncio_test.TestLoop_String.func1() at ") {
		t.Error(s)
	}
	h.Cancel()
	if s := h.String(); s != "<TimerHandle cancelled when=1.5s>" {
		t.Error(s)
	}
}
