package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

func TestCall_RunsThereAndReturnsHere(t *testing.T) {
	withLoops(t, 3, func(ctx context.Context, g *asyncio.LoopGroup) error {
		ctx = context.WithValue(ctx, ctxKey{}, "mine")
		for i := range g.Len() {
			v, err := asyncio.Call(ctx, g.Loop(i), func(ctx context.Context) (string, error) {
				err := asyncio.Sleep(ctx, 0)
				name := asyncio.CurrentTask(ctx).GetName()
				return fmt.Sprint(where(t, ctx, g), ctx.Value(ctxKey{}), name, err), errTest
			}, asyncio.TaskName("called"))
			if want := fmt.Sprint(i, "mine", "called", nil); v != want || err != errTest {
				t.Errorf("Call = %q, %v; want %q, %v", v, err, want, errTest)
			}
			if where(t, ctx, g) != 0 {
				t.Error("the caller is on another loop")
			}
		}
		return nil
	})
}

// Each loop's task waits for the other's while the same happens in the other direction, a hundred
// calls deep: no call blocks a loop (call 1).
func TestCall_LoopsCallEachOther(t *testing.T) {
	withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
		var descend func(depth int) asyncio.Coroutine[int]
		descend = func(depth int) asyncio.Coroutine[int] {
			return func(ctx context.Context) (int, error) {
				if depth == 0 {
					return 1, nil
				}
				n, err := asyncio.Call(ctx, g.Loop(1-where(t, ctx, g)), descend(depth-1))
				return n + 1, err
			}
		}
		var both []asyncio.Coroutine[int]
		for i := range 20 {
			both = append(both, func(ctx context.Context) (int, error) { return asyncio.Call(ctx, g.Loop(i%2), descend(100)) })
		}
		got, err := asyncio.Gather(ctx, both...)
		for _, n := range got {
			if n != 101 {
				t.Errorf("%d calls, want 101", n)
			}
		}
		return err
	})
}

// A cancel of the caller goes to the coroutine. The coroutine cleans up, and only then does the
// caller go on (call 3).
func TestCall_CancelGoesThere(t *testing.T) {
	withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
		started := make(chan struct{})
		cleaned := false // written on the other loop before the result; read here after it
		task := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			return asyncio.Call(ctx, g.Loop(1), func(ctx context.Context) (int, error) {
				close(started)
				err := asyncio.Sleep(ctx, time.Hour)
				if e := asyncio.Sleep(ctx, time.Millisecond); e != nil {
					t.Errorf("cleaning up: %v", e)
				}
				cleaned = true
				return 0, err
			})
		})
		if _, _, err := asyncio.Recv(ctx, started); err != nil {
			return err
		}
		task.Cancel("enough")
		_, err := task.Await(ctx)
		var c *asyncio.CancelledError
		if !errors.As(err, &c) || c.Msg != "enough" || !task.Cancelled() || !cleaned {
			t.Errorf("err = %v, cancelled %v, cleaned up %v", err, task.Cancelled(), cleaned)
		}
		return nil
	})
}

// As with an awaited task, a coroutine that keeps the cancel to itself ends the wait with its
// result.
func TestCall_CoroutineMayRefuseTheCancel(t *testing.T) {
	withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
		started := make(chan struct{})
		task := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			v, err := asyncio.Call(ctx, g.Loop(1), func(ctx context.Context) (int, error) {
				close(started)
				if err := asyncio.Sleep(ctx, time.Hour); errors.Is(err, asyncio.ErrCancelled) {
					asyncio.CurrentTask(ctx).Uncancel()
					return 7, nil
				}
				return 0, nil
			})
			asyncio.CurrentTask(ctx).Uncancel() // the cancel was counted here, too
			return v, err
		})
		if _, _, err := asyncio.Recv(ctx, started); err != nil {
			return err
		}
		task.Cancel()
		v, err := task.Await(ctx)
		if v != 7 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		return nil
	})
}

// A cancel that arrives before the coroutine has begun keeps it from beginning (call 3).
func TestCall_CancelledBeforeItBegins(t *testing.T) {
	withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
		holding, release := make(chan struct{}), make(chan struct{})
		_, err := g.Loop(1).CallSoonThreadsafe(func() { close(holding); <-release })
		must(t, err)
		if _, _, err := asyncio.Recv(ctx, holding); err != nil {
			return err
		}
		task := start(ctx, func(ctx context.Context) error {
			_, err := asyncio.Call(ctx, g.Loop(1), func(context.Context) (int, error) {
				t.Error("entered")
				return 0, nil
			})
			return err
		})
		settle(t, ctx)
		task.Cancel()
		close(release) // the loop finds the start and the cancel together
		if err := ended(ctx, task); !errors.Is(err, asyncio.ErrCancelled) || !task.Cancelled() {
			t.Errorf("%v", err)
		}
		return nil
	})
}

// A cancel that arrives when the coroutine has ended is delivered to the caller, whatever became of
// earlier cancels (call 3).
func TestCall_CancelledWhenItHasEnded(t *testing.T) {
	for name, c := range map[string]struct {
		caught bool // the coroutine catches an earlier cancel
		result error
	}{"a value": {}, "an error": {result: errTest}, "after one that was caught": {caught: true}} {
		t.Run(name, func(t *testing.T) {
			withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
				begun, ending, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
				task := start(ctx, func(ctx context.Context) error {
					_, err := asyncio.Call(ctx, g.Loop(1), func(ctx context.Context) (int, error) {
						close(begun)
						if c.caught {
							if err := asyncio.Sleep(ctx, time.Hour); !errors.Is(err, asyncio.ErrCancelled) {
								t.Errorf("the cancel to be caught: %v", err)
							}
							asyncio.CurrentTask(ctx).Uncancel()
						}
						close(ending)
						<-release // keeps the loop from taking in the cancel
						return 1, c.result
					})
					return err
				})
				if _, _, err := asyncio.Recv(ctx, begun); err != nil {
					return err
				}
				if c.caught {
					task.Cancel("first")
				}
				if _, _, err := asyncio.Recv(ctx, ending); err != nil {
					return err
				}
				task.Cancel("late")
				close(release)
				err := ended(ctx, task)
				var e *asyncio.CancelledError
				if !errors.As(err, &e) || e.Msg != "late" || !task.Cancelled() {
					t.Errorf("%v, want the late cancel", err)
				}
				return nil
			})
		})
	}
}

func TestCall_CancelOnItsWay(t *testing.T) {
	withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
		task := start(ctx, func(ctx context.Context) error {
			asyncio.CurrentTask(ctx).Cancel() // delivered at the next wait
			// the result may arrive there before the cancel
			_, err := asyncio.Call(ctx, g.Loop(1), instant)
			return err
		})
		if err := ended(ctx, task); !errors.Is(err, asyncio.ErrCancelled) || !task.Cancelled() {
			t.Errorf("%v", err)
		}
		over, cancel := asyncio.WithCancel(ctx)
		cancel()
		_, err := asyncio.Call(over, g.Loop(1), instant)
		if err != context.Canceled {
			t.Errorf("with a done context: %v", err)
		}
		return nil
	})
}

// The end of the caller's context ends the coroutine's context with the same cause, and the clocks
// of both loops are told (call 4).
func TestCall_ContextGoesThere(t *testing.T) {
	withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
		why := errors.New("no more")
		for what, end := range map[string]func(ctx context.Context) (context.Context, error){
			"a cause": func(ctx context.Context) (context.Context, error) {
				ctx, cancel := context.WithCancelCause(ctx)
				loop(t, ctx).CallLater(time.Millisecond, func() { cancel(why) })
				return ctx, why
			},
			"a time limit": func(ctx context.Context) (context.Context, error) {
				ctx, cancel := asyncio.WithTimeout(ctx, time.Millisecond)
				t.Cleanup(cancel)
				return ctx, context.DeadlineExceeded
			},
		} {
			for i := range g.Len() {
				limited, want := end(ctx)
				_, err := asyncio.Call(limited, g.Loop(i), func(ctx context.Context) (int, error) {
					err := asyncio.Sleep(ctx, time.Hour)
					if ctx.Err() == nil {
						t.Error("the coroutine's context has not ended")
					}
					return 0, err
				})
				if err != want {
					t.Errorf("%s, loop %d: %v, want %v", what, i, err, want)
				}
			}
		}
		d, cancel := asyncio.WithTimeout(ctx, time.Hour)
		defer cancel()
		want, _ := d.Deadline()
		got, err := asyncio.Call(d, g.Loop(1), func(ctx context.Context) (time.Time, error) {
			d, ok := ctx.Deadline()
			if !ok {
				t.Error("no deadline")
			}
			return d, nil
		})
		if !got.Equal(want) {
			t.Errorf("deadline %v, want %v", got, want)
		}
		return err
	})
}

// When a call ends, so does the context of everything that its coroutine has left behind, whichever
// loop it ran on (call 4).
func TestCall_ContextEndsWithTheCall(t *testing.T) {
	withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
		for i := range g.Len() {
			var kept context.Context
			left, err := asyncio.Call(ctx, g.Loop(i), func(ctx context.Context) (*asyncio.Task[asyncio.None], error) {
				kept = ctx
				return start(ctx, func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) }), nil
			})
			if err != nil {
				return err
			}
			_, err = asyncio.Call(ctx, g.Loop(i), left.Await)
			if !errors.Is(err, context.Canceled) || kept.Err() == nil {
				t.Errorf("loop %d: what was left: %v; its context: %v", i, err, kept.Err())
			}
		}
		return nil
	})
}

// A coroutine is not run if its caller's context ends before its first step, however busy its loop
// is meanwhile (call 4).
func TestCall_ContextEndsBeforeItBegins(t *testing.T) {
	withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
		why := errors.New("too late")
		for i := range g.Len() {
			limited, end := context.WithCancelCause(ctx)
			ran := false
			coro := func(context.Context) (int, error) { ran = true; return 1, nil }
			begun := make(chan struct{})
			busy := func() { close(begun); end(why) }
			if i == 0 {
				g.Loop(0).CallSoon(busy) // its turn comes before the coroutine's first step
				_, err := asyncio.Call(limited, g.Loop(0), coro)
				if err != why || ran {
					t.Errorf("a call within the loop: %v, ran %v", err, ran)
				}
				continue
			}
			// The loop takes in both together: it makes the coroutine's task, then the context
			// ends, then the task's turn comes.
			hold := make(chan struct{})
			held := asyncio.StartCall(ctx, g.Loop(1), func(context.Context) (int, error) { <-hold; return 0, nil })
			c := asyncio.StartCall(limited, g.Loop(1), coro)
			if _, err := g.Loop(1).CallSoonThreadsafe(busy); err != nil {
				return err
			}
			close(hold)
			if _, err := c.Await(ctx); err != why || ran {
				t.Errorf("a call from loop to loop: %v, ran %v", err, ran)
			}
			if _, err := held.Await(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// A context whose methods panic fails the call, and does not end the program.
func TestCall_ContextThatPanics(t *testing.T) {
	for _, name := range []string{"Err", "Deadline"} {
		t.Run(name, func(t *testing.T) {
			var r reports
			_, err := asyncio.RunLoopGroup(t.Context(), 2, func(ctx context.Context, g *asyncio.LoopGroup) (int, error) {
				broken := &brokenHere{Context: ctx, err: name == "Err", deadline: name == "Deadline"}
				_, err := asyncio.StartCall(broken, g.Loop(1), instant).Await(ctx)
				var p *asyncio.PanicError
				if !errors.As(err, &p) || p.Value != name {
					t.Errorf("the call: %v", err)
				}
				return asyncio.Call(ctx, g.Loop(1), instant)
			}, asyncio.LoopFactory(func(ctx context.Context) *asyncio.EventLoop {
				l := asyncio.NewEventLoop(ctx)
				l.SetExceptionHandler(r.handle)
				return l
			}))
			must(t, err)
			is(t, "reports", len(r.messages()), 1)
		})
	}
}

// A brokenHere is a foreign context whose methods can be made to panic.
type brokenHere struct {
	context.Context
	err, deadline bool
}

func (c *brokenHere) Err() error {
	if c.err {
		panic("Err")
	}
	return c.Context.Err()
}

func (c *brokenHere) Deadline() (time.Time, bool) {
	if c.deadline {
		panic("Deadline")
	}
	return c.Context.Deadline()
}

func TestCall_PanicIsReportedThere(t *testing.T) {
	var r reports
	_, err := asyncio.RunLoopGroup(t.Context(), 2, func(ctx context.Context, g *asyncio.LoopGroup) (int, error) {
		for i := range 2 {
			_, err := asyncio.Call(ctx, g.Loop(i), func(context.Context) (int, error) { panic("boom") })
			var p *asyncio.PanicError
			if !errors.As(err, &p) || p.Value != "boom" {
				t.Errorf("loop %d: %v", i, err)
			}
		}
		return 0, nil
	}, asyncio.LoopFactory(func(ctx context.Context) *asyncio.EventLoop {
		l := asyncio.NewEventLoop(ctx)
		l.SetExceptionHandler(r.handle)
		return l
	}))
	must(t, err)
	if got := r.messages(); len(got) != 2 {
		t.Errorf("reports: %q, want one for each panic", got)
	}
}

// A goroutine's call blocks the goroutine, takes the context along, and leaves nothing behind.
func TestCall_FromGoroutines(t *testing.T) {
	withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
		_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
			ctx := context.WithValue(context.Background(), ctxKey{}, "mine")
			v, err := asyncio.Call(ctx, g.Loop(0), func(ctx context.Context) (any, error) {
				return ctx.Value(ctxKey{}), asyncio.Sleep(ctx, time.Millisecond)
			})
			if v != "mine" || err != nil {
				t.Errorf("%v, %v", v, err)
			}
			ctx, cancel := context.WithCancel(ctx)
			cleaned := false
			_, err = asyncio.Call(ctx, g.Loop(1), func(ctx context.Context) (int, error) {
				cancel()
				err := asyncio.Sleep(ctx, time.Hour)
				e := asyncio.Sleep(context.WithoutCancel(ctx), time.Millisecond)
				cleaned = e == nil
				return 0, err
			})
			if err != context.Canceled || !cleaned {
				t.Errorf("%v, cleaned up %v", err, cleaned)
			}
			if _, err := asyncio.Call(ctx, g.Loop(1), instant); err != context.Canceled {
				t.Errorf("with a done context: %v", err)
			}
			f := asyncio.StartCall(context.Background(), g.Loop(1), instant)
			<-f.Finished()
			if v, err := f.Result(context.Background()); !f.Done() || v != 1 || err != nil {
				t.Errorf("StartCall: %d, %v", v, err)
			}
			return asyncio.None{}, nil
		})
		return err
	})
}

// A thread function may call the loop that it came from. That works on virtual time too, whose
// clock it holds.
func TestCall_FromAThreadOfTheSameLoop(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		l := loop(t, ctx)
		v, err := asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
			return asyncio.Call(ctx, l, after(time.Millisecond, 5, nil))
		})
		if v != 5 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		return nil
	})
}

func TestCall_Misuse(t *testing.T) {
	withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
		for i, call := range []func() error{
			func() error { _, err := asyncio.Call[int](ctx, g.Loop(1), nil); return err },
			func() error { _, err := asyncio.Call(ctx, nil, instant); return err },
			func() error { _, err := asyncio.StartCall(ctx, nil, instant).Result(context.Background()); return err },
			func() error {
				_, err := asyncio.StartCall(nil, g.Loop(1), instant).Result(context.Background()) //nolint:staticcheck // that is the test
				return err
			},
		} {
			if err := call(); !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("call %d: %v", i, err)
			}
		}
		if _, err := asyncio.Call(context.Background(), g.Loop(0), instant); !errors.Is(err, asyncio.ErrLoopRunning) {
			t.Errorf("a call that would block its own loop: %v", err)
		}
		in := make(chan error, 1)
		g.Loop(0).CallSoon(func() { _, err := asyncio.Call(ctx, g.Loop(1), instant); in <- err })
		if err, _, _ := asyncio.Recv(ctx, in); !errors.Is(err, asyncio.ErrNotInTask) {
			t.Errorf("in a callback: %v", err)
		}
		return nil
	})
	closed := asyncio.NewEventLoop(t.Context())
	must(t, closed.Close())
	if _, err := asyncio.Call(t.Context(), closed, instant); !errors.Is(err, asyncio.ErrLoopClosed) {
		t.Errorf("a closed loop: %v", err)
	}
	run(t, func(ctx context.Context) error { // two virtual clocks do not call each other (call 6)
		other := sim.NewEventLoop(t.Context())
		defer other.Close()
		if _, err := asyncio.Call(ctx, other, instant); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("two virtual clocks: %v", err)
		}
		return nil
	})
}

// A loop that closes ends the calls that it was to run (call 5).
func TestCall_LoopClosesMeanwhile(t *testing.T) {
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		other := quietLoop(t.Context())
		ended := make(chan error)
		entered := make(chan struct{})
		go func() {
			err := other.RunForever()
			ended <- errors.Join(err, other.Close())
		}()
		task := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			return asyncio.Call(ctx, other, func(ctx context.Context) (int, error) {
				close(entered)
				return 0, asyncio.Sleep(ctx, time.Hour)
			})
		})
		if _, _, err := asyncio.Recv(ctx, entered); err != nil {
			return err
		}
		if _, err := other.CallSoonThreadsafe(other.Stop); err != nil {
			return err
		}
		if _, err := task.Await(ctx); !errors.Is(err, asyncio.ErrLoopClosed) {
			t.Errorf("err = %v", err)
		}
		return <-ended
	}))
	must(t, err)
}

// A loop that closes cancels the calls that its tasks wait for on other loops (call 5).
func TestCall_CallersLoopCloses(t *testing.T) {
	withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
		told := make(chan error, 1)
		_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
			caller := quietLoop(t.Context())
			asyncio.CreateTask(caller.Context(), func(ctx context.Context) (int, error) {
				return asyncio.Call(ctx, g.Loop(1), func(ctx context.Context) (int, error) {
					_, err := caller.CallSoonThreadsafe(caller.Stop)
					err = errors.Join(err, asyncio.Sleep(ctx, time.Hour))
					told <- err
					return 0, err
				})
			})
			return asyncio.None{}, errors.Join(caller.RunForever(), caller.Close())
		})
		if err != nil {
			return err
		}
		if err, _, _ := asyncio.Recv(ctx, told); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("there: %v", err)
		}
		return nil
	})
}

// Calls, cancels and ends of contexts come from everywhere at once. Each call ends, and its
// coroutine ends before it.
func TestCall_ConcurrentSafe(t *testing.T) {
	withLoops(t, 3, func(ctx context.Context, g *asyncio.LoopGroup) error {
		var working atomic.Int32
		coro := func(ctx context.Context) (int, error) {
			working.Add(1)
			defer working.Add(-1)
			err := asyncio.Sleep(ctx, time.Microsecond)
			return 1, err
		}
		err := g.Each(ctx, func(ctx context.Context, i int) error {
			var all []*asyncio.Task[int]
			for n := range 300 {
				task := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
					if n%5 == 0 {
						var cancel context.CancelFunc
						ctx, cancel = asyncio.WithTimeout(ctx, time.Microsecond)
						defer cancel()
					}
					return asyncio.Call(ctx, g.Next(), coro)
				})
				if n%3 == 0 {
					loop(t, ctx).CallLater(time.Duration(n)*time.Microsecond, func() { task.Cancel() })
				}
				all = append(all, task)
			}
			rs, err := asyncio.GatherResults(ctx, all...)
			for _, r := range rs {
				if r.Err != nil && !errors.Is(r.Err, asyncio.ErrCancelled) && !errors.Is(r.Err, context.DeadlineExceeded) {
					t.Errorf("%v", r.Err)
				}
			}
			return err
		})
		var goroutines sync.WaitGroup
		for range 8 {
			goroutines.Go(func() {
				for n := range 100 {
					ctx, cancel := context.WithCancel(context.Background())
					if n%2 == 0 {
						go cancel()
					}
					if _, err := asyncio.Call(ctx, g.Next(), coro); err != nil && err != context.Canceled {
						t.Errorf("from a goroutine: %v", err)
					}
					cancel()
				}
			})
		}
		if _, e := asyncio.ToThread(ctx, func(context.Context) (int, error) { goroutines.Wait(); return 0, nil }); e != nil {
			return e
		}
		if n := working.Load(); n != 0 {
			t.Errorf("%d coroutines work for nobody", n)
		}
		return err
	})
}
