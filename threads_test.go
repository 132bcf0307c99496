package asyncio_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

func TestToThread(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		ctx = context.WithValue(ctx, ctxKey{}, "value")
		v, err := asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
			if err := asyncio.Sleep(ctx, 1); !errors.Is(err, asyncio.ErrNoRunningLoop) {
				t.Errorf("Sleep in a thread function: %v", err)
			}
			return ctx.Value(ctxKey{}).(string), errTest
		})
		if v != "value" || err != errTest {
			t.Errorf("%v, %v", v, err)
		}
		return nil
	})
}

// Virtual time stands still while a job is under way.
func TestToThread_HoldsVirtualTime(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		early := false
		l.CallLater(time.Second, func() { early = true })
		_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) {
			for range 1000 {
				runtime.Gosched()
			}
			return 0, nil
		})
		if early || l.Time().SinceStart() != 0 {
			t.Errorf("time went on to %v", l.Time())
		}
		return err
	})
}

func TestToThread_CancelEndsItsContext(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		ended := make(chan error, 1)
		started := make(chan struct{})
		task := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			return asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
				close(started)
				<-ctx.Done()
				ended <- context.Cause(ctx)
				return 0, nil
			})
		})
		settle(t, ctx)
		<-started
		task.Cancel("stop it")
		if _, err := task.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("err = %v", err)
		}
		if err := <-ended; !errors.Is(err, asyncio.ErrCancelled) || !strings.Contains(err.Error(), "stop it") {
			t.Errorf("cause = %v", err)
		}
		return nil
	})
}

func TestToThread_PanicAndGoexit(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) { panic("x") })
		var p *asyncio.PanicError
		if !errors.As(err, &p) || p.Value != "x" {
			t.Errorf("panic: %v", err)
		}
		_, err = asyncio.ToThread(ctx, func(context.Context) (int, error) { runtime.Goexit(); return 0, nil })
		if !errors.Is(err, asyncio.ErrGoexit) {
			t.Errorf("Goexit: %v", err)
		}
		_, err = asyncio.ToThread(ctx, instant) // the executor still works
		return err
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"panic in thread function"})
}

func TestRunCoroutineThreadsafe(t *testing.T) {
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l := loop(t, ctx)
		_, err := asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
			ok := asyncio.RunCoroutineThreadsafe(after(time.Microsecond, 5, nil), l)
			if v, err := ok.Result(ctx); v != 5 || err != nil || !ok.Done() || ok.Cancel() {
				t.Errorf("%v, %v", v, err)
			}
			if _, err := asyncio.RunCoroutineThreadsafe(after(0, 0, errTest), l).Result(ctx); err != errTest {
				t.Errorf("%v", err)
			}
			var r *asyncio.PanicError
			if _, err := asyncio.RunCoroutineThreadsafe(func(context.Context) (int, error) { panic("x") }, l).Result(ctx); !errors.As(err, &r) {
				t.Errorf("%v", err)
			}
			impatient, cancel := context.WithCancelCause(ctx)
			cancel(errTest)
			long := asyncio.RunCoroutineThreadsafe(after(time.Hour, 0, nil), l)
			if _, err := long.Result(impatient); err != errTest || long.Done() {
				t.Errorf("%v", err)
			}
			if !long.Cancel("bored") || long.Cancel() {
				t.Error("Cancel")
			}
			if _, err := long.Result(ctx); !errors.Is(err, asyncio.ErrCancelled) {
				t.Errorf("%v", err)
			}
			return 0, nil
		})
		settle(t, ctx)
		if n := len(asyncio.AllTasks(ctx)); n != 1 {
			t.Errorf("%d tasks left", n)
		}
		return err
	}), asyncio.LoopFactory(quietLoop))
	must(t, err)
}

// A task of one loop awaits a coroutine on another.
func TestConcurrentFuture_AwaitAcrossLoops(t *testing.T) {
	other := asyncio.NewEventLoop(t.Context())
	ended := make(chan error)
	go func() { ended <- other.RunForever() }()
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		v, err := asyncio.RunCoroutineThreadsafe(after(time.Microsecond, 9, errTest), other).Await(ctx)
		if v != 9 || err != errTest {
			t.Errorf("%v, %v", v, err)
		}
		cancelled := make(chan error, 1)
		far := asyncio.RunCoroutineThreadsafe(func(ctx context.Context) (int, error) {
			err := asyncio.Sleep(ctx, time.Hour)
			cancelled <- err
			return 0, err
		}, other)
		task := asyncio.CreateTask(ctx, far.Await)
		started := asyncio.RunCoroutineThreadsafe(instant, other) // far back in other's queue
		if _, err := started.Await(ctx); err != nil {
			return err
		}
		task.Cancel()
		if _, err := task.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("%v", err)
		}
		if err := <-cancelled; !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("far side: %v", err)
		}
		return nil
	}))
	must(t, err)
	_, err = other.CallSoonThreadsafe(other.Stop)
	must(t, err)
	must(t, <-ended)
	must(t, other.Close())
}

func TestRunCoroutineThreadsafe_CancelsItself(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		l := loop(t, ctx)
		_, err := asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
			return asyncio.RunCoroutineThreadsafe(func(ctx context.Context) (int, error) {
				self(ctx).Cancel("me")
				return 1, asyncio.Sleep(ctx, 0)
			}, l).Result(ctx)
		})
		asCancelled(t, err)
		return nil
	})
}

// The result and a cancel of the awaiting task come together. The task is cancelled, and the result
// stays.
func TestConcurrentFuture_CancelledAfterTheResult(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		c := asyncio.RunCoroutineThreadsafe(f.Await, loop(t, ctx))
		waiter := asyncio.CreateTask(ctx, c.Await)
		settle(t, ctx)
		must(t, f.SetResult(42))
		for !c.Done() {
			must(t, yields(ctx, 1))
		}
		is(t, "waiter done", waiter.Done(), false)
		waiter.Cancel()
		_, err := waiter.Await(ctx)
		asCancelled(t, err)
		v, err := c.Await(ctx)
		is(t, "result", v, 42)
		return err
	})
}

func TestConcurrentFuture_AwaitNeedsALoop(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.RunCoroutineThreadsafe(instant, loop(t, ctx))
		_, err := c.Await(t.Context())
		wantErr(t, "Await", err, asyncio.ErrNoRunningLoop)
		v, err := c.Await(ctx)
		is(t, "value", v, 1)
		return err
	})
}

func TestConcurrentFuture_OfTheSameLoop(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		c := asyncio.RunCoroutineThreadsafe(after(time.Minute, 4, nil), l)
		if v, err := c.Await(ctx); v != 4 || err != nil || l.Time().SinceStart() != time.Minute {
			t.Errorf("%v, %v at %v", v, err, l.Time())
		}
		over, cancel := context.WithCancelCause(ctx)
		cancel(errTest)
		if _, err := c.Await(over); err != errTest {
			t.Errorf("with a done context: %v", err)
		}
		hurried, cancelHurried := asyncio.WithTimeout(ctx, time.Second)
		defer cancelHurried()
		slow := asyncio.RunCoroutineThreadsafe(after(time.Hour, 4, nil), l)
		if _, err := slow.Await(hurried); !errors.Is(err, context.DeadlineExceeded) || slow.Done() {
			t.Errorf("with a deadline: %v", err)
		}
		slow.Cancel()
		return nil
	})
}

// An await that ends early leaves no waiter behind.
func TestConcurrentFuture_LeavesNoWaiter(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		slow := asyncio.RunCoroutineThreadsafe(after(time.Hour, 1, nil), l)
		f := asyncio.CreateFuture[int](ctx)
		for range 100 {
			hurried, cancel := asyncio.WithTimeout(ctx, time.Second)
			if _, err := slow.Await(hurried); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			if _, err := f.Await(hurried); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			cancel()
		}
		if n := asyncio.Waits(slow); n != 0 || f.String() != "<Future pending>" {
			t.Errorf("%d waits, %v", n, f)
		}
		slow.Cancel()
		return nil
	})
}

// The ctx of a thread function ends if the call fails in any way. Code that looks at the ctx only
// afterwards sees its end too.
func TestToThread_ContextEnds(t *testing.T) {
	asks := map[string]func(ctx context.Context) error{
		"Err":   func(ctx context.Context) error { return ctx.Err() },
		"Done":  func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"Cause": func(ctx context.Context) error { return context.Cause(ctx) },
		"child": func(ctx context.Context) error {
			child, cancel := context.WithCancel(context.WithValue(ctx, ctxKey{}, 1))
			defer cancel()
			<-child.Done()
			return child.Err()
		},
		"AfterFunc": func(ctx context.Context) error {
			called := make(chan struct{})
			context.AfterFunc(ctx, func() { close(called) })
			<-called
			return ctx.Err()
		},
	}
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		for name, ask := range asks {
			var kept context.Context
			_, err := asyncio.ToThread(context.WithValue(ctx, ctxKey{}, "value"), func(ctx context.Context) (int, error) {
				kept = ctx
				return 0, errTest
			})
			if err != errTest || ask(kept) != context.Canceled && ask(kept) != errTest || kept.Value(ctxKey{}) != "value" {
				t.Errorf("%s: %v, %v", name, err, kept.Err())
			}

			entered, answer := make(chan struct{}), make(chan error, 1)
			waiting := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
				return asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
					// nobody has asked whether it has ended yet
					if context.Cause(ctx) != nil || ctx.Value(ctxKey{}) != nil {
						t.Errorf("%s: %v", name, context.Cause(ctx))
					}
					close(entered)
					<-ctx.Done()
					answer <- ask(ctx)
					return 0, nil
				})
			})
			settle(t, ctx)
			<-entered
			waiting.Cancel("enough")
			if _, err := waiting.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
				t.Errorf("%s: %v", name, err)
			}
			if err := <-answer; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", name, err)
			}
		}
		return nil
	})
}

// A thread function may make something under its ctx and return it, such as a transaction. That
// goes on until the caller's ctx ends.
func TestToThread_SuccessDoesNotEndItsContext(t *testing.T) {
	why := errors.New("the caller's")
	for _, asks := range []string{"nobody", "Done", "AfterFunc", "child"} {
		onBothClocks(t, func(t *testing.T, ctx context.Context) error {
			caller, end := context.WithCancelCause(ctx)
			told := make(chan struct{})
			made, err := asyncio.ToThread(caller, func(ctx context.Context) (context.Context, error) {
				switch asks {
				case "Done":
					go func(done <-chan struct{}) { <-done; close(told) }(ctx.Done())
				case "AfterFunc":
					context.AfterFunc(ctx, func() { close(told) })
				case "child":
					child, cancel := context.WithCancel(ctx)
					t.Cleanup(cancel)
					context.AfterFunc(child, func() { close(told) })
					return child, nil
				}
				return ctx, nil
			})
			must(t, err)
			must(t, asyncio.Sleep(ctx, time.Millisecond))
			if made.Err() != nil || context.Cause(made) != nil {
				t.Errorf("%s: after success: %v, %v", asks, made.Err(), context.Cause(made))
			}
			end(why)
			if asks == "nobody" {
				//asynciovet:allow blocking end has just been called
				<-made.Done()
			} else {
				<-told
			}
			if asks == "child" {
				//asynciovet:allow blocking its parent has ended
				<-made.Done()
			}
			if made.Err() != context.Canceled || context.Cause(made) != why {
				t.Errorf("%s: after the caller's end: %v, %v", asks, made.Err(), context.Cause(made))
			}
			return nil
		})
	}
}

// A long-lived caller does not keep alive what its thread functions have dropped. A goroutine they
// left behind is released.
func TestToThread_ContextIsCollected(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
		var gone atomic.Int32
		const calls = 100
		for range calls {
			_, err := asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
				child, cancel := context.WithCancel(ctx)
				defer cancel()
				go func(done <-chan struct{}) { <-done; gone.Add(1) }(ctx.Done())
				return 0, child.Err()
			})
			if err != nil {
				return err
			}
		}
		// one may be in a register
		for limit := time.Now().Add(20 * time.Second); gone.Load() < calls-1; runtime.GC() {
			if time.Now().After(limit) {
				t.Fatalf("%d of %d have been let go", gone.Load(), calls)
			}
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, err)
}

// One goroutine of the default executor stays while the loop lasts, and is reused.
func TestToThread_Goroutines(t *testing.T) {
	before := runtime.NumGoroutine()
	seen := make(map[string]bool)
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		for range 100 {
			id, err := asyncio.ToThread(ctx, func(context.Context) (string, error) {
				var buf [32]byte
				id, _, _ := strings.Cut(string(buf[:runtime.Stack(buf[:], false)]), " [")
				return id, nil
			})
			if err != nil {
				return err
			}
			seen[id] = true
		}
		return nil
	}))
	if err != nil || len(seen) > 50 {
		t.Errorf("%v; %d goroutines", err, len(seen))
	}
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, before it were %d", runtime.NumGoroutine(), before)
		}
	}
}

// If the caller's ctx has ended, nobody waits for the result of the thread function any more. The
// result is dropped, and an error is not reported as unretrieved.
func TestToThread_ResultIsDropped(t *testing.T) {
	for name, factory := range map[string]func(context.Context) *asyncio.EventLoop{
		"virtual": sim.NewEventLoop,
		"real":    func(ctx context.Context) *asyncio.EventLoop { return asyncio.NewEventLoop(ctx) },
	} {
		var seen reports // also those that Close makes
		_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
			loop(t, ctx).SetExceptionHandler(seen.handle)
			limited, cancel := asyncio.WithCancel(ctx)
			entered := make(chan struct{})
			waiting := asyncio.CreateTask(limited, func(ctx context.Context) (int, error) {
				return asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
					close(entered)
					<-ctx.Done()
					return 0, ctx.Err()
				})
			})
			settle(t, ctx)
			<-entered
			cancel()
			if _, err := waiting.Await(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: ToThread returned %v", name, err)
			}
			return nil
		}), asyncio.LoopFactory(factory))
		must(t, err)
		if len(seen.all) > 0 {
			t.Errorf("%s: reported: %v", name, seen.messages())
		}
	}
}

// Close ends the context of a thread function when it unwinds the caller.
func TestToThread_LoopClosesMeanwhile(t *testing.T) {
	l := asyncio.NewEventLoop(t.Context())
	l.SetExceptionHandler(new(reports).handle)
	ended := make(chan error)
	asyncio.CreateTask(l.Context(), func(ctx context.Context) (int, error) {
		return asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
			_, err := l.CallSoonThreadsafe(l.Stop)
			must(t, err)
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return 0, nil
		})
	})
	must(t, l.RunForever())
	must(t, l.Close())
	if err := <-ended; !errors.Is(err, asyncio.ErrLoopClosed) {
		t.Errorf("cause = %v", err)
	}
}

// On virtual time too, a thread function may wait for a coroutine of the loop that waits for it.
func TestToThread_CallsBack(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		v, err := asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
			v, err := asyncio.RunCoroutineThreadsafe(after(time.Minute, 5, nil), l).Result(ctx)
			if now := l.Time().SinceStart(); now != time.Minute {
				t.Errorf("at %v", now) // the clock stands still again
			}
			impatient, cancel := context.WithCancelCause(ctx)
			cancel(errTest)
			never := asyncio.RunCoroutineThreadsafe(after(1000*time.Hour, 5, nil), l)
			if _, err := never.Result(impatient); err != errTest {
				t.Errorf("impatient: %v", err)
			}
			never.Cancel()
			return v, err
		})
		if v != 5 || err != nil || l.Time().SinceStart() != time.Minute {
			t.Errorf("%v, %v at %v", v, err, l.Time())
		}
		return nil
	})
}
