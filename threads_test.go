package asyncio_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
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
		if early || l.Time() != 0 {
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

func TestExecutor_BoundAndOrder(t *testing.T) {
	run(t, func(ctx context.Context) error {
		e := asyncio.NewThreadPoolExecutor(3)
		var running, most atomic.Int32
		var fs []*asyncio.Future[int]
		for i := range 50 {
			fs = append(fs, asyncio.RunInExecutor(ctx, e, func() (int, error) {
				n := running.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				runtime.Gosched()
				running.Add(-1)
				return i, nil
			}))
		}
		got, err := asyncio.Gather(ctx, fs...)
		for i, v := range got {
			if v != i {
				t.Errorf("%d: %d", i, v)
			}
		}
		if m := most.Load(); m > 3 || m < 1 {
			t.Errorf("%d at a time", m)
		}
		e.Shutdown(true)
		if _, err := asyncio.RunInExecutor(ctx, e, func() (int, error) { return 0, nil }).Await(ctx); !errors.Is(err, asyncio.ErrExecutorShutdown) {
			t.Errorf("after Shutdown: %v", err)
		}
		return err
	})
}

// Cancelling the future keeps a job that waits its turn from running.
func TestExecutor_CancelBeforeStart(t *testing.T) {
	run(t, func(ctx context.Context) error {
		e := asyncio.NewThreadPoolExecutor(1)
		block := make(chan struct{})
		first := asyncio.RunInExecutor(ctx, e, func() (int, error) { <-block; return 1, nil })
		ran := false
		second := asyncio.RunInExecutor(ctx, e, func() (int, error) { ran = true; return 2, nil })
		second.Cancel()
		settle(t, ctx)
		close(block)
		_, err := first.Await(ctx)
		e.Shutdown(true)
		if ran {
			t.Error("a cancelled job ran")
		}
		return err
	})
}

func TestExecutor_ShutdownDefault(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		done := false
		f := asyncio.RunInExecutor(ctx, nil, func() (int, error) { done = true; return 0, nil })
		if err := l.ShutdownDefaultExecutor(ctx, time.Minute); err != nil || !done {
			t.Errorf("%v, done = %v", err, done)
		}
		if _, err := asyncio.ToThread(ctx, instant); !errors.Is(err, asyncio.ErrExecutorShutdown) {
			t.Errorf("ToThread afterwards: %v", err)
		}
		_, err := f.Await(ctx)
		return err
	})
}

// A job that does not end is named with its stack, and Run returns all the same.
func TestExecutor_ShutdownGivesUp(t *testing.T) {
	logged := captureLog(t)
	release, gone := make(chan struct{}), make(chan struct{})
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		begun := make(chan struct{})
		asyncio.RunInExecutor(ctx, nil, func() (int, error) { return stuckJob(begun, release, gone) })
		<-begun
		return nil
	}), asyncio.ShutdownTimeout(time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(logged(), "stuckJob") {
		t.Errorf("%v\n%s", err, logged())
	}
	close(release)
	<-gone
}

func stuckJob(begun, release, gone chan struct{}) (int, error) {
	defer close(gone)
	close(begun)
	<-release
	return 0, nil
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

func TestConcurrentFuture_OfTheSameLoop(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		c := asyncio.RunCoroutineThreadsafe(after(time.Minute, 4, nil), l)
		if v, err := c.Await(ctx); v != 4 || err != nil || l.Time() != time.Minute {
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

// Callbacks sent from outside keep their place among those that the loop schedules afterwards, even
// if the loop sent them itself (loop 5).
func TestCallSoonThreadsafe_Order(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		var got []string
		note := func(s string) func() { return func() { got = append(got, s) } }
		l.CallSoon(note("1"))
		_, err := l.CallSoonThreadsafe(note("2"))
		must(t, err)
		l.CallSoon(note("3"))
		sent := make(chan struct{})
		go func() {
			_, err := l.CallSoonThreadsafe(note("4"))
			if err != nil {
				t.Error(err)
			}
			close(sent)
		}()
		<-sent
		l.CallSoon(note("5"))
		settle(t, ctx)
		equal(t, "order", got, []string{"1", "2", "3", "4", "5"})
		return nil
	})
}

func TestClose_RunsWhatWasAccepted(t *testing.T) {
	l := sim.NewEventLoop(t.Context())
	ran := 0
	for range 3 {
		_, err := l.CallSoonThreadsafe(func() { ran++ })
		must(t, err)
	}
	c := asyncio.RunCoroutineThreadsafe(instant, l)
	must(t, l.Close())
	if ran != 3 {
		t.Errorf("%d of 3 ran", ran)
	}
	if _, err := c.Result(t.Context()); !errors.Is(err, asyncio.ErrLoopClosed) {
		t.Errorf("err = %v", err)
	}
}

// Close also runs callbacks that an ended run took in and did not get to, even if one of them exits
// its goroutine (inbox 3).
func TestClose_RunsWhatWasAcceptedDespiteAll(t *testing.T) {
	l := sim.NewEventLoop(t.Context())
	ran := 0
	post := func(fn func()) {
		_, err := l.CallSoonThreadsafe(fn)
		must(t, err)
	}
	var results []*asyncio.ConcurrentFuture[int]
	l.CallSoon(l.Stop)
	l.CallSoon(func() {
		for range 3 {
			post(func() { ran++; runtime.Goexit() })
			results = append(results, asyncio.RunCoroutineThreadsafe(instant, l))
		}
		l.CallSoon(func() { t.Error("a dropped callback ran") }) // takes the inbox in
	})
	must(t, l.RunForever())
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		must(t, l.Close())
	}()
	<-exited
	if ran != 3 || !l.IsClosed() {
		t.Errorf("%d of 3 ran", ran)
	}
	for _, c := range results {
		if _, err := c.Result(t.Context()); !errors.Is(err, asyncio.ErrLoopClosed) {
			t.Errorf("err = %v", err)
		}
	}
}

// Eight goroutines call in while loops open, work and close. Everything accepted runs exactly once
// (inbox 1), every refusal is reported (inbox 2), every result arrives, and nothing blocks.
func TestThreadsafe_ConcurrentSafe(t *testing.T) {
	rounds, calls := 40, 250
	if raceEnabled {
		rounds, calls = 15, 100
	}
	for round := range rounds {
		l := asyncio.NewEventLoop(t.Context())
		l.SetExceptionHandler(new(reports).handle)
		var accepted, ran, refused, results, closedResults atomic.Int64
		var senders sync.WaitGroup
		for g := range 8 {
			senders.Go(func() {
				seen := make([]atomic.Int32, calls)
				for i := range calls {
					if (i+g)%2 == 0 {
						_, err := l.CallSoonThreadsafe(func() {
							ran.Add(1)
							if seen[i].Add(1) != 1 {
								t.Error("a callback ran twice")
							}
						})
						switch {
						case err == nil:
							accepted.Add(1)
						case errors.Is(err, asyncio.ErrLoopClosed):
							refused.Add(1)
						default:
							t.Error(err)
						}
						continue
					}
					c := asyncio.RunCoroutineThreadsafe(func(ctx context.Context) (int, error) {
						for range i % 3 {
							if err := asyncio.Sleep(ctx, 0); err != nil {
								return 0, err
							}
						}
						return i, nil
					}, l)
					if i%5 == 0 {
						c.Cancel()
					}
					v, err := c.Result(t.Context())
					switch {
					case err == nil && v == i, errors.Is(err, asyncio.ErrCancelled) && i%5 == 0:
						results.Add(1)
					case errors.Is(err, asyncio.ErrLoopClosed):
						closedResults.Add(1)
					default:
						t.Errorf("result %v, %v", v, err)
					}
				}
			})
		}
		steps := 0
		var step func()
		step = func() {
			if steps++; steps > round*20 {
				l.Stop()
				return
			}
			l.CallSoon(step)
		}
		l.CallSoon(step)
		must(t, l.RunForever())
		must(t, l.Close())
		senders.Wait()
		if accepted.Load() != ran.Load() {
			t.Fatalf("round %d: %d callbacks accepted, %d ran", round, accepted.Load(), ran.Load())
		}
		if n := accepted.Load() + refused.Load() + results.Load() + closedResults.Load(); n != int64(8*calls) {
			t.Fatalf("round %d: %d of %d calls accounted for", round, n, 8*calls)
		}
	}
}

// A handle that is kept also keeps the others of its batch, but nothing that their functions refer
// to (inbox 4).
func TestCallSoonThreadsafe_KeptHandle(t *testing.T) {
	const n = 100
	var freed atomic.Int32
	l := asyncio.NewEventLoop(t.Context())
	defer l.Close()
	kept := make([]*asyncio.Handle, n)
	for i := range kept {
		big := new([1 << 10]byte)
		runtime.AddCleanup(big, func(int) { freed.Add(1) }, 0)
		h, err := l.CallSoonThreadsafe(func() { big[0]++ })
		must(t, err)
		if i%2 == 0 {
			h.Cancel()
		}
		kept[i] = h
	}
	before := kept[1].String()
	l.Stop()
	must(t, l.RunForever())
	// one may be in a register
	for deadline := time.Now().Add(10 * time.Second); freed.Load() < n-1; runtime.Gosched() {
		if runtime.GC(); time.Now().After(deadline) {
			t.Fatalf("of what %d callbacks refer to, %d is gone", n, freed.Load())
		}
	}
	if after := kept[1].String(); after != before || !strings.Contains(after, "TestCallSoonThreadsafe_KeptHandle") {
		t.Errorf("before it ran %s, after it %s", before, after)
	}
	if s := kept[0].String(); s != "<Handle cancelled>" || !kept[0].Cancelled() || kept[1].Cancelled() {
		t.Errorf("the first is %s", s)
	}
}

// A goroutine that posts as fast as it can does not get far ahead of a loop on the same processor
// (inbox 5).
func TestCallSoonThreadsafe_Ahead(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const n = 100_000
	var posted atomic.Int64
	ahead, ran := int64(0), int64(0)
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l := loop(t, ctx)
		all := asyncio.CreateFuture[asyncio.None](ctx)
		go func() {
			for range n {
				posted.Add(1)
				_, err := l.CallSoonThreadsafe(func() {
					ahead = max(ahead, posted.Load()-ran)
					if ran++; ran == n {
						_ = all.SetResult(asyncio.None{})
					}
				})
				if err != nil {
					t.Error(err)
				}
			}
		}()
		_, err := all.Await(ctx)
		return err
	}))
	if err != nil || ahead > n/4 {
		t.Errorf("%v; of %d calls, %d waited at a time", err, n, ahead)
	}
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
				<-made.Done()
			} else {
				<-told
			}
			if asks == "child" {
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
			if now := l.Time(); now != time.Minute {
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
		if v != 5 || err != nil || l.Time() != time.Minute {
			t.Errorf("%v, %v at %v", v, err, l.Time())
		}
		return nil
	})
}
