package asyncio_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

type ctxKey struct{}

func TestContext_ValuesReachTasks(t *testing.T) {
	var r reports
	ctx := context.WithValue(onVirtualTime(t.Context(), &r), ctxKey{}, "outer")
	_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
		if ctx.Value(ctxKey{}) != "outer" {
			t.Error("Run's ctx does not reach main")
		}
		_, err := asyncio.CreateTask(context.WithValue(ctx, ctxKey{}, "task"), asyncio.Do(func(ctx context.Context) error {
			if ctx.Value(ctxKey{}) != "task" {
				t.Error("CreateTask's ctx does not reach the task")
			}
			return asyncio.Sleep(ctx, 0)
		})).Await(ctx)
		return err
	}))
	must(t, err)
}

// Tasks that take turns keep their own values.
func TestContext_ValuesAreEachTasksOwn(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var tasks []tasked
		for i := range 100 {
			tasks = append(tasks, asyncio.CreateTask(context.WithValue(ctx, ctxKey{}, i), asyncio.Do(func(ctx context.Context) error {
				for j := range 10 {
					if v := ctx.Value(ctxKey{}); v != i+j || self(ctx).GetContext().Value(ctxKey{}) != i {
						t.Errorf("task %d: %v in round %d", i, v, j)
					}
					must(t, asyncio.Sleep(ctx, time.Duration((i*7+j*13)%5)*time.Millisecond))
					ctx = context.WithValue(ctx, ctxKey{}, i+j+1)
				}
				return nil
			})))
		}
		_, err := asyncio.Gather(ctx, tasks...)
		is(t, "outside", ctx.Value(ctxKey{}), nil)
		return err
	})
}

// The end of Run's context fails every await with its cause, until the code stops using that
// context (design 2).
func TestContext_ParentOfRunEnds(t *testing.T) {
	for name, factory := range map[string]func(context.Context) *asyncio.EventLoop{
		"virtual": sim.NewEventLoop, "real": nil,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			var r reports
			cleaned := false
			_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
				loop(t, ctx).SetExceptionHandler(r.handle)
				child := asyncio.CreateTask(ctx, sleeper(time.Hour))
				waits := asyncio.CreateTask(ctx, child.Await)
				loop(t, ctx).CallSoon(func() { cancel(errTest) })
				for range 3 {
					if err := asyncio.Sleep(ctx, time.Hour); err != errTest {
						t.Errorf("Sleep = %v, want the cause", err)
					}
				}
				if _, err := asyncio.Gather(ctx, waits); err != errTest {
					t.Errorf("Gather = %v", err)
				}
				if err := asyncio.Sleep(context.WithoutCancel(ctx), time.Microsecond); err != nil {
					t.Errorf("cleanup: %v", err)
				}
				cleaned = true
				if !child.Done() || child.Cancelled() {
					t.Errorf("child = %v", child)
				}
				return asyncio.Sleep(ctx, 0)
			}), asyncio.LoopFactory(factory))
			if err != errTest || !cleaned {
				t.Errorf("Run = %v, cleaned = %v", err, cleaned)
			}
			equal(t, "reports", r.messages(), nil) // the tasks ended as their context did
		})
	}
}

func TestContext_StandardCancelInATask(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		inner, cancel := context.WithCancelCause(ctx)
		first := asyncio.CreateTask(ctx, func(context.Context) (int, error) { return f.Await(inner) })
		second := asyncio.CreateTask(ctx, func(context.Context) (int, error) { return f.Await(inner) })
		other := asyncio.CreateTask(ctx, f.Await)
		settle(t, ctx)
		cancel(errTest)
		for _, task := range []*asyncio.Task[int]{first, second} {
			if _, err := task.Await(ctx); err != errTest {
				t.Errorf("err = %v, want the cause", err)
			}
		}
		// The future is left alone, and a task that waits with another context still gets its
		// result (context 2).
		must(t, f.SetResult(4))
		if v, err := other.Await(ctx); v != 4 || err != nil {
			t.Errorf("%v, %v", v, err)
		}
		// Even a done future cannot be awaited with a done context (context 2).
		if _, err := f.Await(inner); err != errTest {
			t.Errorf("err = %v", err)
		}
		return nil
	})
}

func TestContext_StandardTimeoutOnTheRealClock(t *testing.T) {
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		inner, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		if err := asyncio.Sleep(inner, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		return asyncio.Sleep(ctx, time.Microsecond)
	}))
	must(t, err)
}

// A thread function that cancels a standard context wakes a task on virtual time too.
func TestContext_CancelFromAThread(t *testing.T) {
	run(t, func(ctx context.Context) error {
		inner, cancel := context.WithCancel(ctx)
		f := asyncio.CreateFuture[int](ctx)
		woken := make(chan struct{})
		task := asyncio.CreateTask(ctx, func(context.Context) (int, error) {
			defer close(woken)
			return f.Await(inner)
		})
		settle(t, ctx)
		_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) {
			cancel()
			<-woken
			return 0, nil
		})
		if !errors.Is(task.Exception(), context.Canceled) {
			t.Errorf("%v", task)
		}
		return err
	})
}

// A cancel comes in the iteration in which the context ends. The cancel is not lost.
func TestContext_EndsWhileCancelled(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, cancelFirst := range []bool{true, false} {
			inner, cancel := asyncio.WithTimeout(ctx, time.Second)
			f := asyncio.CreateFuture[int](ctx)
			task := asyncio.CreateTask(ctx, func(context.Context) (int, error) { return f.Await(inner) })
			if cancelFirst {
				loop(t, ctx).CallLater(time.Second, func() { task.Cancel() })
				settle(t, ctx)
			} else {
				settle(t, ctx)
				loop(t, ctx).CallLater(time.Second, func() { task.Cancel() })
			}
			_, err := task.Await(ctx)
			if !errors.Is(err, asyncio.ErrCancelled) || !task.Cancelled() {
				t.Errorf("cancel first = %v: %v", cancelFirst, err)
			}
			cancel()
		}
		return nil
	})
}

// A task that was due to get a result when its context ended still gets it (context 3).
func TestContext_NothingThatArrivedIsLost(t *testing.T) {
	run(t, func(ctx context.Context) error {
		inner, cancel := asyncio.WithCancel(ctx)
		f := asyncio.CreateFuture[int](ctx)
		task := asyncio.CreateTask(ctx, func(context.Context) (int, error) {
			v, err := f.Await(inner)
			if next := asyncio.Sleep(inner, 0); next != context.Canceled {
				t.Errorf("next await: %v", next)
			}
			return v, err
		})
		settle(t, ctx)
		must(t, f.SetResult(8))
		cancel()
		v, err := task.Await(ctx)
		if v != 8 {
			t.Errorf("v = %v, %v", v, err)
		}
		return err
	})
}

// hostileContext is a foreign context with mistakes.
type hostileContext struct {
	context.Context
	done func() <-chan struct{}
}

func (c hostileContext) Done() <-chan struct{} { return c.done() }

// A context panics while an await is under way. That ends the await and nothing else, and does not
// leave its task half suspended (context 5).
func TestContext_PanicsInAnAwait(t *testing.T) {
	over := make(chan struct{})
	close(over)
	for name, done := range map[string]func() <-chan struct{}{
		"Done panics": func() <-chan struct{} { panic("Done panics") },
		// package context panics on this
		"done without an error": func() <-chan struct{} { return over },
	} {
		onBothClocks(t, func(t *testing.T, ctx context.Context) error {
			var r reports
			loop(t, ctx).SetExceptionHandler(r.handle)
			hostile := hostileContext{ctx, done}
			f := asyncio.CreateFuture[int](ctx)
			var event asyncio.Event
			for what, wait := range map[string]func(ctx context.Context) error{
				"Await":      func(ctx context.Context) error { _, err := f.Await(ctx); return err },
				"Sleep":      func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) },
				"Event.Wait": event.Wait,
				"Wait": func(ctx context.Context) error {
					_, _, err := asyncio.Wait(ctx, []*asyncio.Future[int]{f})
					return err
				},
			} {
				for range 2 {
					r.all = nil
					var p *asyncio.PanicError
					if err := wait(hostile); !errors.As(err, &p) {
						t.Errorf("%s: %s: %v, want a PanicError", name, what, err)
					}
					settle(t, ctx)
					equal(t, what, r.messages(), []string{"panic in a method of a context"})
				}
			}
			first, second := asyncio.CreateTask(ctx, f.Await), asyncio.CreateTask(ctx, f.Await)
			settle(t, ctx)
			must(t, f.SetResult(1))
			_, err := asyncio.Gather(ctx, first, second)
			must(t, err)
			must(t, asyncio.Sleep(ctx, time.Millisecond))
			return nil
		})
	}
}

// Many tasks wait with a few contexts in turn. The end of one context wakes its own tasks and no
// others, again and again.
func TestContext_ManyTasksFewContexts(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		for range 3 {
			const each = 500 // in all more than there are spare links
			contexts := make([]context.Context, 4)
			cancels := make([]context.CancelFunc, 4)
			contexts[0], cancels[0] = context.WithCancel(ctx)
			contexts[1], cancels[1] = asyncio.WithCancel(ctx)
			contexts[2], cancels[2] = context.WithCancel(context.WithValue(contexts[0], t, 1))
			contexts[3], cancels[3] = context.WithCancel(ctx)
			var event asyncio.Event
			woken := make([]int, len(contexts))
			var tasks []*asyncio.Task[asyncio.None]
			for range each {
				for i, c := range contexts {
					tasks = append(tasks, asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
						err := event.Wait(c)
						woken[i]++
						return err
					})))
				}
			}
			settle(t, ctx)
			for _, step := range []struct {
				cancel int
				want   []int
			}{{1, []int{0, each, 0, 0}}, {0, []int{each, each, each, 0}}, {3, []int{each, each, each, each}}} {
				cancels[step.cancel]()
				for deadline := 0; !slices.Equal(woken, step.want) && deadline < 1000; deadline++ {
					// the end comes from another goroutine
					must(t, asyncio.Sleep(ctx, time.Millisecond))
				}
				equal(t, "woken", woken, step.want)
			}
			results, err := asyncio.GatherResults(ctx, tasks...)
			must(t, err)
			for _, result := range results {
				wantErr(t, "waiting", result.Err, context.Canceled)
			}
			cancels[2]()
		}
		return nil
	})
}
