package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
)

func TestFuture_States(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		if f.Done() || f.Cancelled() {
			t.Error("a new future is not pending")
		}
		if _, err := f.Result(); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("Result of a pending future: %v", err)
		}
		if err := f.Exception(); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("Exception of a pending future: %v", err)
		}
		must(t, f.SetResult(3))
		for what, err := range map[string]error{
			"SetResult": f.SetResult(4), "SetException": f.SetException(errTest),
		} {
			if !errors.Is(err, asyncio.ErrInvalidState) {
				t.Errorf("%s twice: %v", what, err)
			}
		}
		if f.Cancel() {
			t.Error("Cancel of a done future = true")
		}
		if v, err := f.Result(); v != 3 || err != nil || f.Exception() != nil {
			t.Errorf("Result() = %v, %v", v, err)
		}

		f = asyncio.CreateFuture[int](ctx)
		must(t, f.SetException(errTest))
		if _, err := f.Result(); err != errTest || f.Exception() != errTest || f.Cancelled() {
			t.Errorf("Result() = %v", err)
		}
		if err := f.SetException(nil); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("SetException(nil) = %v", err)
		}
		for what, err := range map[string]error{"SetResult": f.SetResult(4), "SetException": f.SetException(errTest)} {
			if !errors.Is(err, asyncio.ErrInvalidState) {
				t.Errorf("%s after SetException: %v", what, err)
			}
		}
		if f.Cancel() {
			t.Error("Cancel of a future with an error = true")
		}

		f = asyncio.CreateFuture[int](ctx)
		if !f.Cancel("why") || !f.Cancelled() || !f.Done() {
			t.Error("Cancel of a pending future")
		}
		_, err := f.Await(ctx)
		var c *asyncio.CancelledError
		if !errors.As(err, &c) || c.Msg != "why" || c.By != "Task-1" ||
			!errors.Is(err, asyncio.ErrCancelled) || !errors.Is(err, context.Canceled) {
			t.Errorf("Await of a cancelled future: %v", err)
		}
		if err := f.SetResult(1); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("SetResult of a cancelled future: %v", err)
		}
		return nil
	})
}

func TestFuture_CancelCause(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		f.CancelCause(errTest)
		if err := f.Exception(); !errors.Is(err, errTest) || !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("err = %v", err)
		}
		return nil
	})
}

func TestFuture_DoneCallbacks(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var got []string
		f := asyncio.CreateFuture[int](ctx)
		add := func(s string) *asyncio.DoneCallback {
			return f.AddDoneCallback(func(g *asyncio.Future[int]) {
				if g != f {
					t.Error("callback got another future")
				}
				got = append(got, s)
			})
		}
		add("a")
		b := add("b")
		add("c")
		d := add("d")
		if n := f.RemoveDoneCallback(b) + f.RemoveDoneCallback(d) + f.RemoveDoneCallback(b); n != 2 {
			t.Errorf("removed %d, want 2", n)
		}
		must(t, f.SetResult(1))
		equal(t, "inline", got, nil)
		e := add("e")
		if f.RemoveDoneCallback(e) != 0 {
			t.Error("removed a callback that is scheduled")
		}
		settle(t, ctx)
		equal(t, "order", got, []string{"a", "c", "e"})
		return nil
	})
}

func TestFuture_CallbacksHoweverItCompletes(t *testing.T) {
	for name, complete := range map[string]func(f *asyncio.Future[int]){
		"SetResult":    func(f *asyncio.Future[int]) { _ = f.SetResult(1) },
		"SetException": func(f *asyncio.Future[int]) { _ = f.SetException(errTest) },
		"Cancel":       func(f *asyncio.Future[int]) { f.Cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				f := asyncio.CreateFuture[int](ctx)
				var got []int
				var second *asyncio.DoneCallback
				f.AddDoneCallback(func(f *asyncio.Future[int]) {
					got = append(got, 1)
					is(t, "removed while it is scheduled", f.RemoveDoneCallback(second), 0)
				})
				second = f.AddDoneCallback(func(*asyncio.Future[int]) { got = append(got, 2) })
				complete(f)
				_ = f.Exception()
				equal(t, "at once", got, nil)
				must(t, yields(ctx, 1))
				equal(t, "in the next iteration", got, []int{1, 2})
				return nil
			})
		})
	}
}

// The remaining callbacks run in the order of adding, whichever callbacks were removed and
// whenever.
func TestFuture_RemovesInAnyOrder(t *testing.T) {
	for seed := range uint64(60) {
		run(t, func(ctx context.Context) error {
			choose := rand.New(rand.NewPCG(seed, 0))
			f := asyncio.CreateFuture[int](ctx)
			type added struct {
				n  int
				cb *asyncio.DoneCallback
			}
			var want []added
			var got []int
			most := 1 + choose.IntN(300)
			for n := range 1000 {
				if len(want) < most && choose.IntN(5) < 3 {
					want = append(want, added{n, f.AddDoneCallback(func(*asyncio.Future[int]) { got = append(got, n) })})
				} else if len(want) > 0 {
					at := [...]int{0, len(want) - 1, choose.IntN(len(want)), choose.IntN(len(want))}[choose.IntN(4)]
					is(t, "removed", f.RemoveDoneCallback(want[at].cb), 1)
					is(t, "removed again", f.RemoveDoneCallback(want[at].cb), 0)
					want = slices.Delete(want, at, at+1)
				}
			}
			must(t, f.SetResult(1))
			settle(t, ctx)
			left := []int{}
			for _, a := range want {
				left = append(left, a.n)
			}
			equal(t, fmt.Sprintf("seed %d: called", seed), append([]int{}, got...), left)
			return nil
		})
	}
}

// Removing a callback from a future takes constant time in any order, even if the callback is not
// there.
func TestFuture_RemovingIsCheap(t *testing.T) {
	const n = 5000
	for name, order := range map[string]func(i int) int{
		"as they came": func(i int) int { return i },
		"in reverse":   func(i int) int { return n - 1 - i },
		"any":          func(i int) int { return i * 1237 % n },
		"from the middle": func(i int) int {
			if i%2 == 0 {
				return n/2 + i/2
			}
			return n/2 - 1 - i/2
		},
	} {
		runFast(t, func(ctx context.Context) error {
			f, none := asyncio.CreateFuture[int](ctx), new(asyncio.DoneCallback)
			all := make([]*asyncio.DoneCallback, n)
			for i := range all {
				all[i] = f.AddDoneCallback(func(*asyncio.Future[int]) {})
			}
			looked := asyncio.PassedOver(func() {
				for i := range all {
					is(t, "removed", f.RemoveDoneCallback(all[order(i)]), 1)
				}
			})
			looked += asyncio.PassedOver(func() {
				for i := range all {
					all[i] = f.AddDoneCallback(func(*asyncio.Future[int]) {})
				}
				for range n {
					is(t, "removed", f.RemoveDoneCallback(none), 0)
				}
			})
			if looked > 4*n {
				t.Errorf("%s: %d were looked at for %d that left", name, looked, n)
			}
			return nil
		})
	}
}

// The exception handler is told which callback panicked.
func TestFuture_CallbackThatPanics(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		f.AddDoneCallback(func(*asyncio.Future[int]) { panic(errTest) })
		must(t, f.SetResult(1))
		settle(t, ctx)
		return nil
	})
	must(t, err)
	if len(r.all) != 1 || r.all[0].Handle == nil || !strings.Contains(r.all[0].Message, "TestFuture_CallbackThatPanics") ||
		!strings.HasPrefix(r.all[0].Handle.String(), "<Handle asyncio_test.TestFuture_CallbackThatPanics.") {
		t.Errorf("%+v", r.all)
	}
}

func TestFuture_SeveralWaiters(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[string](ctx)
		var got []string
		var tasks []*asyncio.Task[string]
		for i := range 4 {
			tasks = append(tasks, asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
				v, err := f.Await(ctx)
				got = append(got, fmt.Sprint(v, i))
				return v, err
			}))
		}
		settle(t, ctx)
		tasks[0].SetName("first")
		must(t, f.SetResult("x"))
		if _, err := asyncio.Gather(ctx, tasks...); err != nil {
			return err
		}
		equal(t, "order", got, []string{"x0", "x1", "x2", "x3"})
		return nil
	})
}

// A future can be awaited before and after it is done, as often as one likes.
func TestFuture_AwaitedTwice(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		loop(t, ctx).CallSoon(func() { must(t, f.SetResult(42)) })
		for _, ticks := range []string{"suspending", "at once", "at once"} {
			v, err := f.Await(ctx)
			is(t, ticks, v, 42)
			must(t, err)
		}
		return nil
	})
}
